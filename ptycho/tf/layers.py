"""What networks are built of: convolution blocks, decoders, heads, by the specs of `ptycho.networks`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from ptycho.errors import DataError
from ptycho.networks.cnn import CnnSpec
from ptycho.networks.parts import KERNEL, NORM_FLOOR, NORM_MOMENTUM, SWISH_MINIMUM, Block, Head
from ptycho.tf.attention import attention
from ptycho.tf.direct_layer import DirectLayer
from ptycho.tf.network import PatchNetwork
from ptycho.tf.reassembly import cut

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
    rows, columns, channels = images.shape[1:]
    tall = tf.reshape(tf.stack([images, images], axis=2), (-1, 2 * rows, columns, channels))
    return tf.reshape(tf.stack([tall, tall], axis=3), (-1, 2 * rows, 2 * columns, channels))


def _convolution(in_channels: int, out_channels: int, initializer: Any, dtype: str) -> keras.layers.Conv2D:
    """A 3x3 convolution with zero padding, its kernel made at once."""
    conv = keras.layers.Conv2D(
        out_channels, KERNEL, padding="same", kernel_initializer=initializer, dtype=dtype, data_format="channels_last"
    )
    conv.build((None, None, None, in_channels))
    return conv


class Normalisation(DirectLayer):
    """Normalises the output of a convolution, as `ptycho.networks.parts.Block` says.

    `of_batch` says by which statistics: those of the batch, which are noted, or the running ones.
    """

    def __init__(self, name: str, channels: int, dtype: str = "float32") -> None:
        super().__init__(dtype=dtype)
        self.canonical, self.of_batch = name, False
        start = {"scale": "ones", "bias": "zeros", "mean": "zeros", "variance": "ones"}
        self.scale, self.bias, self.mean, self.variance = (
            self.add_weight(shape=(channels,), initializer=values, trainable=part in ("scale", "bias"), name=part)
            for part, values in start.items()
        )
        self.built = True

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """`(B, n, n, C)` -> the same."""
        mean, variance = self.mean.value, self.variance.value
        if self.of_batch:
            mean, variance = tf.nn.moments(x, (0, 1, 2))
            count = tf.cast(tf.reduce_prod(tf.shape(x)[:3]), x.dtype)
            self._note(self.mean, mean)
            self._note(self.variance, variance * count / (count - 1))
        return tf.nn.batch_normalization(x, mean, variance, self.bias.value, self.scale.value, NORM_FLOOR)

    def _note(self, running: keras.Variable, found: tf.Tensor) -> None:
        running.assign((1 - NORM_MOMENTUM) * running.value + NORM_MOMENTUM * tf.stop_gradient(found))

    def named_parameters(self) -> dict[str, keras.Variable]:
        """Trained variables by canonical name."""
        return {f"{self.canonical}/scale": self.scale, f"{self.canonical}/bias": self.bias}

    def named_statistics(self) -> dict[str, keras.Variable]:
        """Running statistics by canonical name."""
        return {f"{self.canonical}/mean": self.mean, f"{self.canonical}/variance": self.variance}


class ConvBlock(DirectLayer):
    """Two 3x3 convolutions, each normalised if the spec says so and followed by SiLU; then the spec's attention.

    Kernels start He-normal, biases at 0.
    """

    def __init__(self, spec: Block, dtype: str = "float32", seed: Any = None) -> None:
        super().__init__(dtype=dtype)
        self.spec = spec

        def he_normal(in_channels: int) -> Any:
            return keras.initializers.RandomNormal(stddev=math.sqrt(2 / (KERNEL**2 * in_channels)), seed=seed)

        self.conv1 = _convolution(spec.in_channels, spec.out_channels, he_normal(spec.in_channels), dtype)
        self.conv2 = _convolution(spec.out_channels, spec.out_channels, he_normal(spec.out_channels), dtype)
        numbers = (1, 2) if spec.normalised else ()
        self.norms = [Normalisation(f"{spec.name}/norm{index}", spec.out_channels, dtype) for index in numbers]
        self.gates = [attention(gate, dtype, seed) for gate in spec.gates]
        self.built = True

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """`(B, n, n, in)` -> `(B, n, n, out)`."""
        for index, conv in enumerate((self.conv1, self.conv2)):
            x = conv(x)
            x = tf.nn.silu(self.norms[index](x) if self.norms else x)
        for gate in self.gates:
            x = gate(x)
        return x

    def named_parameters(self) -> dict[str, keras.Variable]:
        """Trained variables by canonical name."""
        found = {
            **named_convolution(f"{self.spec.name}/conv1", self.conv1),
            **named_convolution(f"{self.spec.name}/conv2", self.conv2),
        }
        for part in (*self.norms, *self.gates):
            found |= part.named_parameters()
        return found


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


class CnnNetwork(PatchNetwork):
    """The `cnn` network: pictures of the members `(B, N, N, 2C)` (all real parts, then all imaginary parts) -> O_net.

    `named_parameters` gives its variables by the canonical names of the spec. `seed` is that of the first kernels.
    """

    spec: CnnSpec

    def __init__(self, spec: CnnSpec, dtype: str = "float32", seed: int | None = None) -> None:
        super().__init__(spec, dtype)
        draws = keras.random.SeedGenerator(seed)
        self.encoder = [ConvBlock(block, dtype, draws) for block in spec.encoder]
        self.amplitude = Decoder(spec.amplitude_decoder, dtype, draws)
        self.phase = None if spec.phase_decoder is None else Decoder(spec.phase_decoder, dtype, draws)
        self.amplitude_head = linear_head(spec.amplitude_head, dtype)
        self.phase_head = linear_head(spec.phase_head, dtype)
        self.border_head = None if spec.border_head is None else linear_head(spec.border_head, dtype)
        self.built = True

    def call(self, pictures: tf.Tensor, positions: tf.Tensor | None = None) -> tf.Tensor:
        """Object patches O_net, complex `(B, N, N, C)`.

        `positions (B, 1, 2, C)`, minus the members' positions, are needed where the members share one amplitude.
        """
        levels = self._encoded(pictures)
        inner = [central_half(level) for level in levels] if self.spec.central else levels
        features = self.amplitude(inner[-1], inner[:-1])
        amplitude = self.amplitude_head(features)
        phase = self.phase_head(features if self.phase is None else self.phase(inner[-1], inner[:-1]))
        if self.spec.central:
            amplitude, phase = self._with_border(amplitude, phase, levels[1])
        if amplitude.shape[-1] != phase.shape[-1]:
            amplitude = self._of_members(amplitude, positions)
        modulus = self.spec.amp_range * amplitude_activation(amplitude, self.spec.amp_activation)
        angle = math.pi * tf.tanh(phase)
        return tf.complex(modulus * tf.cos(angle), modulus * tf.sin(angle))

    def _encoded(self, pictures: tf.Tensor) -> list[tf.Tensor]:
        """The encoder's levels, finest first, without the mirrored edge that it may have seen."""
        edge, levels = self.spec.padding, []
        x = tf.pad(pictures, [[0, 0], [edge, edge], [edge, edge], [0, 0]], "REFLECT") if edge else pictures
        for depth, block in enumerate(self.encoder):
            x = block(tf.nn.avg_pool2d(x, 2, 2, "VALID") if depth else x)
            inside = slice(edge >> depth, x.shape[1] - (edge >> depth))
            levels.append(x[:, inside, inside] if edge else x)
        return levels

    def _of_members(self, amplitude: tf.Tensor, positions: tf.Tensor | None) -> tf.Tensor:
        """Cut the members `(B, N, N, C)` from the group's one amplitude `(B, N, N, 1)`, vacuum beyond it."""
        if positions is None:
            raise DataError("the members share one amplitude, expected their positions, found none: give positions")
        vacuum, image = self.spec.amplitude_head.bias[0], tf.transpose(amplitude, (0, 3, 1, 2))
        members = cut(image - vacuum, -positions[:, 0, 0, :], -positions[:, 0, 1, :], self.spec.N)
        return vacuum + tf.transpose(members, (0, 2, 3, 1))

    def _with_border(
        self, amplitude: tf.Tensor, phase: tf.Tensor, second_level: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Put the central half into the whole patch; the border comes from its own branch, or is vacuum."""
        if self.border_head is None or self.spec.border_head is None:
            border_amplitude = tf.constant(self.spec.amplitude_head.bias[0], amplitude.dtype)
            border_phase = tf.zeros_like(border_amplitude)
        else:
            border = doubled(self.border_head(second_level[..., : self.spec.border_head.in_channels]))
            channels = [amplitude.shape[-1], phase.shape[-1]]
            border_amplitude, border_phase = tf.split(border, channels, axis=-1)
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
        for block in self._blocks():
            found |= block.named_parameters()
        for head, spec in (
            (self.amplitude_head, self.spec.amplitude_head),
            (self.phase_head, self.spec.phase_head),
            (self.border_head, self.spec.border_head),
        ):
            if head is not None and spec is not None:
                found |= named_convolution(spec.name, head)
        return {name: found[name] for name in self.spec.parameters()}

    def normalisations(self) -> list[Normalisation]:
        """Every normalisation, in the order of the network."""
        return [norm for block in self._blocks() for norm in block.norms]

    def _blocks(self) -> list[ConvBlock]:
        return [*self.encoder, *self.amplitude.blocks, *([] if self.phase is None else self.phase.blocks)]


def named_convolution(name: str, conv: keras.layers.Conv2D) -> dict[str, keras.Variable]:
    """Kernel and bias by canonical name."""
    return {f"{name}/kernel": conv.kernel, f"{name}/bias": conv.bias}
