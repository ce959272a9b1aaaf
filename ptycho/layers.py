"""What networks are built of: convolution blocks, decoders and heads, from the specs of `ptycho.architecture`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from ptycho.architecture import KERNEL, SWISH_MINIMUM, Block, CnnSpec, Head

__all__ = [
    "CnnNetwork",
    "ConvBlock",
    "Decoder",
    "DirectLayer",
    "amplitude_activation",
    "central_half",
    "doubled",
    "linear_head",
    "named_convolution",
]


class DirectLayer(keras.layers.Layer):
    """A layer whose `call` is called as it is: Keras neither casts its arguments nor adds lines to its errors."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run `call`."""
        return self.call(*args, **kwargs)


def amplitude_activation(values: tf.Tensor, name: str) -> tf.Tensor:
    """The non-negative function of the amplitude head: sigmoid, swish (raised by its minimum), softplus or relu."""
    if name == "sigmoid":
        return tf.sigmoid(values)
    if name == "swish":
        return tf.nn.silu(values) + SWISH_MINIMUM
    return tf.nn.softplus(values) if name == "softplus" else tf.nn.relu(values)


def central_half(images: tf.Tensor) -> tf.Tensor:
    """The central half of each image axis: `(B, n, n, C)` -> `(B, n/2, n/2, C)`."""
    margin = images.shape[-2] // 4
    return images[:, margin : images.shape[-3] - margin, margin : images.shape[-2] - margin]


def doubled(images: tf.Tensor) -> tf.Tensor:
    """Nearest-neighbour doubling of both image axes."""
    return tf.repeat(tf.repeat(images, 2, axis=1), 2, axis=2)


def _convolution(in_channels: int, out_channels: int, initializer: Any, dtype: str) -> keras.layers.Conv2D:
    """A 3x3 convolution with zero padding, its kernel made at once."""
    conv = keras.layers.Conv2D(out_channels, KERNEL, padding="same", kernel_initializer=initializer, dtype=dtype)
    conv.build((None, None, None, in_channels))
    return conv


class ConvBlock(DirectLayer):
    """Two 3x3 convolutions, each followed by SiLU; kernels start He-normal, biases at 0."""

    def __init__(self, spec: Block, dtype: str = "float32", seed: Any = None) -> None:
        super().__init__(dtype=dtype)
        self.spec = spec

        def he_normal(in_channels: int) -> Any:
            return keras.initializers.RandomNormal(stddev=math.sqrt(2 / (KERNEL**2 * in_channels)), seed=seed)

        self.conv1 = _convolution(spec.in_channels, spec.out_channels, he_normal(spec.in_channels), dtype)
        self.conv2 = _convolution(spec.out_channels, spec.out_channels, he_normal(spec.out_channels), dtype)
        self.built = True

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """`(B, n, n, in)` -> `(B, n, n, out)`."""
        return tf.nn.silu(self.conv2(tf.nn.silu(self.conv1(x))))

    def named_parameters(self) -> dict[str, keras.Variable]:
        """Trained variables by canonical name."""
        return {
            **named_convolution(f"{self.spec.name}/conv1", self.conv1),
            **named_convolution(f"{self.spec.name}/conv2", self.conv2),
        }


def linear_head(spec: Head, dtype: str = "float32") -> keras.layers.Conv2D:
    """A 3x3 convolution whose first output is the constant `spec.bias`."""
    conv = _convolution(spec.in_channels, spec.out_channels, "zeros", dtype)
    conv.bias.assign(spec.bias)
    return conv


class Decoder(DirectLayer):
    """Doubling, joining with the encoder's level, convolving; from the deepest level to the first."""

    def __init__(self, blocks: Sequence[Block], dtype: str = "float32", seed: Any = None) -> None:
        super().__init__(dtype=dtype)
        self.blocks = [ConvBlock(block, dtype, seed) for block in blocks]
        self.built = True

    def call(self, deepest: tf.Tensor, skips: Sequence[tf.Tensor]) -> tf.Tensor:
        """`deepest (B, m, m, w)` and the encoder's levels, finest first -> features of the finest level."""
        x = deepest
        for block, skip in zip(self.blocks, reversed(skips), strict=True):
            x = block(tf.concat([doubled(x), skip], axis=-1))
        return x


class CnnNetwork(DirectLayer):
    """The `cnn` network: pictures of the members `(B, N, N, 2C)` (all real parts, then all imaginary parts) -> O_net.

    `named_parameters` gives its variables by the canonical names of the spec. `seed` is that of the first kernels.
    """

    def __init__(self, spec: CnnSpec, dtype: str = "float32", seed: int | None = None) -> None:
        super().__init__(name="cnn", dtype=dtype)
        draws = keras.random.SeedGenerator(seed)
        self.spec = spec
        self.encoder = [ConvBlock(block, dtype, draws) for block in spec.encoder]
        self.amplitude = Decoder(spec.amplitude_decoder, dtype, draws)
        self.phase = Decoder(spec.phase_decoder, dtype, draws)
        self.amplitude_head = linear_head(spec.amplitude_head, dtype)
        self.phase_head = linear_head(spec.phase_head, dtype)
        self.border_head = None if spec.border_head is None else linear_head(spec.border_head, dtype)
        self.built = True

    def call(self, pictures: tf.Tensor) -> tf.Tensor:
        """Object patches O_net, complex `(B, N, N, C)`."""
        x, levels = pictures, []
        for depth, block in enumerate(self.encoder):
            x = block(tf.nn.avg_pool2d(x, 2, 2, "VALID") if depth else x)
            levels.append(x)
        inner = [central_half(level) for level in levels] if self.spec.central else levels
        amplitude = self.amplitude_head(self.amplitude(inner[-1], inner[:-1]))
        phase = self.phase_head(self.phase(inner[-1], inner[:-1]))
        if self.spec.central:
            amplitude, phase = self._with_border(amplitude, phase, levels[1])
        modulus = self.spec.amp_range * amplitude_activation(amplitude, self.spec.amp_activation)
        angle = math.pi * tf.tanh(phase)
        return tf.complex(modulus * tf.cos(angle), modulus * tf.sin(angle))

    def _with_border(
        self, amplitude: tf.Tensor, phase: tf.Tensor, second_level: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Put the central half into the whole patch; the border comes from its own branch, or is vacuum."""
        if self.border_head is None:
            border_amplitude = tf.constant(self.spec.amplitude_head.bias[0], amplitude.dtype)
            border_phase = tf.zeros_like(border_amplitude)
        else:
            border_amplitude, border_phase = tf.split(doubled(self.border_head(second_level)), 2, axis=-1)
        margin = [self.spec.N // 4] * 2
        padding = [[0, 0], margin, margin, [0, 0]]
        inside = tf.pad(tf.ones((1, self.spec.N // 2, self.spec.N // 2, 1), tf.bool), padding)
        return (
            tf.where(inside, tf.pad(amplitude, padding), border_amplitude),
            tf.where(inside, tf.pad(phase, padding), border_phase),
        )

    def named_parameters(self) -> dict[str, keras.Variable]:
        """Trained variables by canonical name, in the order of the spec."""
        found: dict[str, keras.Variable] = {}
        for block in (*self.encoder, *self.amplitude.blocks, *self.phase.blocks):
            found |= block.named_parameters()
        for head, spec in (
            (self.amplitude_head, self.spec.amplitude_head),
            (self.phase_head, self.spec.phase_head),
            (self.border_head, self.spec.border_head),
        ):
            if head is not None and spec is not None:
                found |= named_convolution(spec.name, head)
        return {name: found[name] for name in self.spec.parameters()}


def named_convolution(name: str, conv: keras.layers.Conv2D) -> dict[str, keras.Variable]:
    """Kernel and bias by canonical name."""
    return {f"{name}/kernel": conv.kernel, f"{name}/bias": conv.bias}
