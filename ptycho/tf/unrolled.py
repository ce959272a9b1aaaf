"""The `unrolled` network: gradient steps on a group's canvas, each followed by a learned correction.

The steps are `ptycho.tf.group_gradient`, the U-Nets between come from the spec of `ptycho.networks.unrolled`.
Members are the second axis of everything, as in the physics; pictures of the U-Nets are channel-last.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from ptycho.networks.spec import ScanStages
from ptycho.networks.unrolled import DESCENT_MOMENTUM, DESCENT_STEP, UNSHUFFLE, Correction, UnrolledSpec
from ptycho.tf.direct_layer import DirectLayer
from ptycho.tf.group_gradient import SeenGroup
from ptycho.tf.layers import ConvBlock, doubled, linear_head, named_convolution
from ptycho.tf.network import CanvasNetwork
from ptycho.tf.physics import to_complex
from ptycho.tf.precision import full_float32

__all__ = ["CorrectionUNet", "UnrolledNetwork"]


def _unshuffled(pictures: tf.Tensor) -> tf.Tensor:
    """Blocks of pixels as channels: `(B, h, w, c)` -> `(B, h/2, w/2, 4c)`, the pixels of a channel side by side."""
    height, width, channels = pictures.shape[1] // UNSHUFFLE, pictures.shape[2] // UNSHUFFLE, pictures.shape[-1]
    blocks = tf.reshape(pictures, (-1, height, UNSHUFFLE, width, UNSHUFFLE, channels))
    return tf.reshape(tf.transpose(blocks, (0, 1, 3, 5, 2, 4)), (-1, height, width, channels * UNSHUFFLE**2))


def _shuffled(pictures: tf.Tensor) -> tf.Tensor:
    """Inverse of `_unshuffled`."""
    height, width, channels = pictures.shape[1], pictures.shape[2], pictures.shape[-1] // UNSHUFFLE**2
    blocks = tf.reshape(pictures, (-1, height, width, channels, UNSHUFFLE, UNSHUFFLE))
    blocks = tf.transpose(blocks, (0, 1, 4, 2, 5, 3))
    return tf.reshape(blocks, (-1, height * UNSHUFFLE, width * UNSHUFFLE, channels))


class CorrectionUNet(DirectLayer):
    """What a gradient cannot know: `(B, h, w, 7)` of the canvas -> `(B, h, w, 2)`, as parts; sides by 8."""

    def __init__(self, spec: Correction, dtype: str = "float32", seed: Any = None) -> None:
        super().__init__(dtype=dtype)
        self.spec = spec
        self.down = [ConvBlock(block, dtype, seed) for block in spec.down]
        self.up = [ConvBlock(block, dtype, seed) for block in spec.up]
        self.head = linear_head(spec.head, dtype)
        self.built = True

    def call(self, pictures: tf.Tensor) -> tf.Tensor:
        """At half resolution: blocks of pixels as channels, three levels down and up, and blocks as pixels again."""
        x, levels = _unshuffled(pictures), []
        for depth, block in enumerate(self.down):
            x = block(tf.nn.avg_pool2d(x, 2, 2, "VALID") if depth else x)
            levels.append(x)
        for block, skip in zip(self.up, reversed(levels[:-1]), strict=True):
            x = block(tf.concat([doubled(x), skip], axis=-1))
        return _shuffled(self.head(x))

    def named_parameters(self) -> dict[str, keras.Variable]:
        """Trained variables by canonical name."""
        found = named_convolution(self.spec.head.name, self.head)
        for block in (*self.down, *self.up):
            found |= block.named_parameters()
        return found


class UnrolledNetwork(CanvasNetwork):
    """Amplitudes of a group's members -> its canvas O_net; `named_parameters` are those of the spec."""

    spec: UnrolledSpec

    def __init__(self, spec: UnrolledSpec, dtype: str = "float32", seed: int | None = None) -> None:
        super().__init__(spec, dtype)
        draws = keras.random.SeedGenerator(seed)
        count = len(spec.corrections)
        self.step = self.add_weight(shape=(count,), initializer="ones", name="step")
        self.momentum = self.add_weight(shape=(count,), initializer="zeros", name="momentum")
        self.momentum.assign([spec.first_momentum] * count)
        self.stages = [CorrectionUNet(correction, dtype, draws) for correction in spec.corrections]
        self.built = True

    def call(
        self,
        amplitudes: tf.Tensor,
        probes: tf.Tensor,
        whole: tf.Tensor,
        size: int,
        margin: int,
        mask: tf.Tensor | None = None,
        sigma_px: float = 0.0,
        flux: tf.Tensor | None = None,
        blur: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """The canvas, complex `(B, size, size)`; arguments as in `CanvasNetwork`."""
        canvas = tf.ones((tf.shape(amplitudes)[0], size, size), probes.dtype)
        velocity = tf.zeros_like(canvas)
        group = SeenGroup(amplitudes, probes, whole, size, mask, sigma_px, flux, blur)
        if self.spec.descent:
            found = tf.while_loop(
                lambda *_: True,
                partial(_descended, group),
                (canvas, velocity),
                maximum_iterations=self.spec.descent,
                parallel_iterations=1,
            )
            # plain steps have nothing to learn, and their gradients would fill the memory
            canvas, velocity = (tf.stop_gradient(field) for field in found)
        return self.corrected(group, canvas, velocity, margin)

    def corrected(self, group: SeenGroup, canvas: tf.Tensor, velocity: tf.Tensor, margin: int) -> tf.Tensor:
        """A canvas, complex `(B, size, size)`, after the stages, which begin with a velocity of its shape."""
        # no light reaches the margin: corrections there would have nothing to learn from
        inner = slice(margin, canvas.shape[-1] - margin)
        steps, momenta = tf.unstack(self.step.value), tf.unstack(self.momentum.value)
        for step, momentum, correction in zip(steps, momenta, self.stages, strict=True):
            gradient = group.step(canvas)
            velocity = to_complex(momentum) * velocity + to_complex(step) * gradient
            # less the vacuum, which is then 0, as is the padding of the convolutions
            parts = [part for field in (canvas - 1, gradient, velocity) for part in _parts(field)]
            seen = tf.stack([*parts, group.light], axis=-1)
            change = correction(seen[:, inner, inner])
            change = tf.pad(change, [[0, 0], [margin, margin], [margin, margin], [0, 0]])
            velocity += tf.complex(change[..., 0], change[..., 1])
            canvas += velocity
        return canvas

    def scan_stages(self) -> ScanStages | None:
        """See `Network`; None without the plain descent, which a pass over a scan begins with."""
        if not self.spec.descent:
            return None
        steps, momenta = (tuple(each.numpy().tolist()) for each in (self.step, self.momentum))
        return ScanStages(steps, momenta, self._corrected)

    def _corrected(self, stage: int, pictures: NDArray[np.float32]) -> NDArray[np.float32]:
        """What a stage adds `(2, h, w)` to the canvas that it sees `(7, h, w)`."""
        with full_float32():
            change = self.stages[stage](tf.constant(np.moveaxis(pictures, 0, -1)[None]))
        return np.moveaxis(change[0].numpy(), -1, 0)

    def named_parameters(self) -> dict[str, keras.Variable]:
        """Trained variables by canonical name, in the order of the spec."""
        found = {"step": self.step, "momentum": self.momentum}
        for correction in self.stages:
            found |= correction.named_parameters()
        return {name: found[name] for name in self.spec.parameters()}


def _descended(group: SeenGroup, canvas: tf.Tensor, velocity: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Canvas and velocity after one plain step."""
    velocity = DESCENT_MOMENTUM * velocity + DESCENT_STEP * group.step(canvas)
    return canvas + velocity, velocity


def _parts(field: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    return tf.math.real(field), tf.math.imag(field)
