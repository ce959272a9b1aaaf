"""The `unrolled` network: gradient steps on a group's canvas, each followed by a learned correction.

`ptycho.core.physics.group_gradient` in TensorFlow, and the U-Nets between; from the spec of
`ptycho.networks.architecture`. Members are the second axis of everything, as in the physics; pictures of the U-Nets are
channel-last.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import keras
import tensorflow as tf

from ptycho.core.physics.group_gradient import FIELD_FLOOR, ILLUMINATION_FLOOR
from ptycho.networks.architecture import DESCENT_MOMENTUM, DESCENT_STEP, UNSHUFFLE, Correction, UnrolledSpec
from ptycho.tf.layers import ConvBlock, DirectLayer, doubled, linear_head, named_convolution
from ptycho.tf.physics import fourier_shift, smooth, squared_modulus, to_complex
from ptycho.tf.reassembly import cut_whole, place_whole

__all__ = [
    "CorrectionUNet",
    "SeenGroup",
    "UnrolledNetwork",
    "amplitude_step",
    "group_illumination",
    "shifted_probes",
    "split_positions",
]


def split_positions(positions: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Whole pixels and remainders of members seen from the canvas' middle, `(B, C, 2)`, from minus their positions."""
    whole = tf.round(-positions)
    return whole, -positions - whole


def shifted_probes(probe: tf.Tensor, remainder: tf.Tensor) -> tf.Tensor:
    """The probe `(M, N, N)` at the remainders `(B, C, 2)` of its members: `(B, C, M, N, N)`."""
    return fourier_shift(probe, remainder[..., 0, None], remainder[..., 1, None])


def group_illumination(probes: tf.Tensor, whole: tf.Tensor, size: int) -> tf.Tensor:
    """`w = sum_c place(sum_m |P_cm|^2)`, real `(B, size, size)`, for probes `(B, C, M, N, N)` at whole pixels."""
    return place_whole(tf.reduce_sum(squared_modulus(probes), axis=2), whole[..., 0], whole[..., 1], size)


class SeenGroup:
    """The patterns that a group's canvas has to explain: what every step needs of them, made once.

    Arguments as of `UnrolledNetwork.call`; `light` is the illumination over its maximum, `(B, size, size)`.
    """

    def __init__(
        self,
        amplitudes: tf.Tensor,
        probes: tf.Tensor,
        whole: tf.Tensor,
        size: int,
        mask: tf.Tensor | None = None,
        sigma_px: float = 0.0,
    ) -> None:
        # zero frequency first, so that no field has to be shifted
        self.amplitudes = tf.signal.ifftshift(amplitudes, axes=(-2, -1))
        self.mask = None if mask is None else tf.signal.ifftshift(mask, axes=(-2, -1))
        self.probes, self.conjugate, self.sigma_px = probes, tf.math.conj(probes), sigma_px
        self.dx, self.dy = whole[..., 0], whole[..., 1]
        illumination = group_illumination(probes, whole, size)
        peak = tf.reduce_max(illumination, axis=(-2, -1), keepdims=True)
        self.divisor, self.light = to_complex(illumination + ILLUMINATION_FLOOR * peak), illumination / peak

    def step(self, canvas: tf.Tensor) -> tf.Tensor:
        """One preconditioned gradient step of the canvas, complex `(B, S, S)`."""
        n = self.amplitudes.shape[-1]
        patches = cut_whole(canvas, self.dx, self.dy, n)
        fields = tf.signal.fft2d(smooth(self.probes * patches[:, :, None], self.sigma_px)) / n
        power = tf.reduce_sum(squared_modulus(fields), axis=2)
        excess = 1 - self.amplitudes * tf.math.rsqrt(power + FIELD_FLOOR)
        if self.mask is not None:
            excess = tf.where(self.mask, excess, tf.zeros_like(excess))
        residual = smooth(tf.signal.ifft2d(fields * to_complex(excess)[:, :, None]) * n, self.sigma_px)
        pulls = tf.reduce_sum(residual * self.conjugate, axis=2)
        return -place_whole(pulls, self.dx, self.dy, canvas.shape[-1]) / self.divisor


def amplitude_step(
    canvas: tf.Tensor,
    amplitudes: tf.Tensor,
    probes: tf.Tensor,
    whole: tf.Tensor,
    mask: tf.Tensor | None = None,
    sigma_px: float = 0.0,
) -> tuple[tf.Tensor, tf.Tensor]:
    """One preconditioned gradient step `(B, S, S)` of a group's canvas, and the illumination over its maximum."""
    group = SeenGroup(amplitudes, probes, whole, canvas.shape[-1], mask, sigma_px)
    return group.step(canvas), group.light


def _unshuffled(pictures: tf.Tensor) -> tf.Tensor:
    """Blocks of pixels as channels: `(B, s, s, c)` -> `(B, s/2, s/2, 4c)`, the pixels of a channel side by side."""
    side, channels = pictures.shape[1] // UNSHUFFLE, pictures.shape[-1]
    blocks = tf.reshape(pictures, (-1, side, UNSHUFFLE, side, UNSHUFFLE, channels))
    return tf.reshape(tf.transpose(blocks, (0, 1, 3, 5, 2, 4)), (-1, side, side, channels * UNSHUFFLE**2))


def _shuffled(pictures: tf.Tensor) -> tf.Tensor:
    """Inverse of `_unshuffled`."""
    side, channels = pictures.shape[1], pictures.shape[-1] // UNSHUFFLE**2
    blocks = tf.reshape(pictures, (-1, side, side, channels, UNSHUFFLE, UNSHUFFLE))
    return tf.reshape(tf.transpose(blocks, (0, 1, 4, 2, 5, 3)), (-1, side * UNSHUFFLE, side * UNSHUFFLE, channels))


class CorrectionUNet(DirectLayer):
    """What a gradient cannot know: `(B, s, s, 7)` of the canvas -> `(B, s, s, 2)`, real and imaginary part; s by 8."""

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


class UnrolledNetwork(DirectLayer):
    """Amplitudes of a group's members -> its canvas O_net; `named_parameters` are those of the spec."""

    def __init__(self, spec: UnrolledSpec, dtype: str = "float32", seed: int | None = None) -> None:
        super().__init__(name="unrolled", dtype=dtype)
        draws = keras.random.SeedGenerator(seed)
        count = len(spec.corrections)
        self.spec = spec
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
    ) -> tf.Tensor:
        """The canvas, complex `(B, size, size)`.

        Args:
            amplitudes: `(B, C, N, N)` in the unit of the probes, any C.
            probes: `(B, C, M, N, N)`, each at its member's remainder.
            whole: `(B, C, 2)` whole pixels (x, y) of the members from the canvas' middle.
            size: side of the canvas, a multiple of 8.
            margin: pixels at each edge that the corrections leave alone.
            mask: bool, broadcasts to the amplitudes, True where valid.
            sigma_px: smoothing of the exit waves.
        """
        canvas = tf.ones((tf.shape(amplitudes)[0], size, size), probes.dtype)
        velocity = tf.zeros_like(canvas)
        group = SeenGroup(amplitudes, probes, whole, size, mask, sigma_px)
        if self.spec.descent:
            found = tf.while_loop(
                lambda *_: True,
                partial(_descended, group),
                (canvas, velocity),
                maximum_iterations=self.spec.descent,
                parallel_iterations=1,
            )
            canvas, velocity = (tf.stop_gradient(field) for field in found)
        inner = slice(margin, size - margin)
        steps, momenta = tf.unstack(self.step.value), tf.unstack(self.momentum.value)
        for step, momentum, correction in zip(steps, momenta, self.stages, strict=True):
            gradient = group.step(canvas)
            velocity = to_complex(momentum) * velocity + to_complex(step) * gradient
            parts = [part for field in (canvas - 1, gradient, velocity) for part in _parts(field)]
            seen = tf.stack([*parts, group.light], axis=-1)
            change = correction(seen[:, inner, inner])
            change = tf.pad(change, [[0, 0], [margin, margin], [margin, margin], [0, 0]])
            velocity += tf.complex(change[..., 0], change[..., 1])
            canvas += velocity
        return canvas

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
