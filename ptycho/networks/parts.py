"""Parts of networks as data: gates (attention), convolution blocks and heads, with canonical names and shapes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from ptycho.errors import ConfigError

__all__ = ["Block", "ChannelGate", "EfficientGate", "Gate", "Head", "SpatialGate", "amplitude_head"]

KERNEL = 3
FILTERS_PER_SCALE = 8
"""Filters of a first level, times `n_filters_scale`."""
SWISH_MINIMUM = 0.2784645427610738
"""`-min(x sigmoid(x))`: added to swish, so that an amplitude is never negative."""
NORM_MOMENTUM, NORM_FLOOR = 0.1, 1e-5
"""Share of a batch in the running statistics, and what is added to a variance."""
CBAM_KERNEL = 7
"""Of the spatial half of CBAM, pixels."""
CBAM_REDUCTION, CBAM_LEAST = 16, 4
"""The hidden layer of CBAM's channel half has so many times fewer channels, but never fewer than the second number."""

Shapes = Iterator[tuple[str, tuple[int, ...]]]
"""Canonical names and shapes; kernels are `(row, column, in, out)`, matrices `(in, out)`."""


@dataclass(frozen=True)
class EfficientGate:
    """Efficient channel attention: `x_c 2 sigmoid(sum_j w_j mean(x_(c+j)))`, a short kernel along the channels.

    Its length is the odd number nearest to `(log2(channels) + 1) / 2`, the larger of two. The kernel starts at 0 and
    the channels beyond the ends are 0. Wang et al., ECA-Net, CVPR 2020; the factor 2 is ours: it starts the gate at 1.
    """

    name: str
    channels: int

    @property
    def kernel(self) -> int:
        """Length of the kernel."""
        return 2 * math.floor((math.log2(self.channels) + 1) / 4) + 1

    def parameters(self) -> Shapes:
        """Yield canonical names and shapes."""
        yield f"{self.name}/kernel", (self.kernel,)


@dataclass(frozen=True)
class ChannelGate:
    """The channel half of CBAM: `x 2 sigmoid(M(mean x) + M(max x))`, `M(v) = W_out relu(W_in v)`.

    Mean and maximum over the pixels; `W_in` starts He-normal and `W_out` at 0. Woo et al., CBAM, ECCV 2018; the factor
    2 is ours: it starts the gate at 1.
    """

    name: str
    channels: int

    @property
    def hidden(self) -> int:
        """Channels of the hidden layer."""
        return max(CBAM_LEAST, self.channels // CBAM_REDUCTION)

    def parameters(self) -> Shapes:
        """Yield canonical names and shapes."""
        yield f"{self.name}/inner", (self.channels, self.hidden)
        yield f"{self.name}/outer", (self.hidden, self.channels)


@dataclass(frozen=True)
class SpatialGate:
    """Spatial attention: `x 2 sigmoid(f([mean x, max x]))`, f a convolution without bias that starts at 0.

    Mean and maximum over the channels, zero padding. Woo et al., CBAM, ECCV 2018; the factor 2 is ours: it starts the
    gate at 1.
    """

    name: str
    kernel: int = CBAM_KERNEL

    def parameters(self) -> Shapes:
        """Yield canonical names and shapes."""
        yield f"{self.name}/kernel", (self.kernel, self.kernel, 2, 1)


Gate = EfficientGate | ChannelGate | SpatialGate


@dataclass(frozen=True)
class Block:
    """Two 3x3 convolutions with zero padding, each followed by a normalisation if it is on and SiLU; then the gates.

    The normalisation, `scale (x - mean) / sqrt(variance + NORM_FLOOR) + bias`, is by the statistics of the batch over
    its groups and pixels in training, and by the running ones otherwise; `running <- (1 - NORM_MOMENTUM) running +
    NORM_MOMENTUM batch`, the variance there as of a sample. Ioffe & Szegedy, Batch Normalization, ICML 2015.
    """

    name: str
    in_channels: int
    out_channels: int
    normalised: bool = False
    gates: tuple[Gate, ...] = ()

    def parameters(self) -> Shapes:
        """Yield canonical names and shapes of what is trained."""
        for index, channels in enumerate((self.in_channels, self.out_channels), 1):
            yield f"{self.name}/conv{index}/kernel", (KERNEL, KERNEL, channels, self.out_channels)
            yield f"{self.name}/conv{index}/bias", (self.out_channels,)
            if self.normalised:
                yield f"{self.name}/norm{index}/scale", (self.out_channels,)
                yield f"{self.name}/norm{index}/bias", (self.out_channels,)
        for gate in self.gates:
            yield from gate.parameters()

    def statistics(self) -> Shapes:
        """Yield canonical names and shapes of the running statistics."""
        for index in (1, 2) if self.normalised else ():
            yield f"{self.name}/norm{index}/mean", (self.out_channels,)
            yield f"{self.name}/norm{index}/variance", (self.out_channels,)


@dataclass(frozen=True)
class Head:
    """One linear 3x3 convolution, kernel initialised to 0 and bias to `bias`: the first prediction is a flat object."""

    name: str
    in_channels: int
    out_channels: int
    bias: tuple[float, ...]

    def parameters(self) -> Shapes:
        """Yield canonical names and shapes."""
        yield f"{self.name}/kernel", (KERNEL, KERNEL, self.in_channels, self.out_channels)
        yield f"{self.name}/bias", (self.out_channels,)


def amplitude_head(activation: str, probe_scale: float) -> tuple[float, float]:
    """Range h and initial bias b of the amplitude head, `|O_net| = h act(b) = 1` at the start.

    `sigmoid`: h = 2 probe_scale / 4, so that absorbers and |O| up to h are in reach; `swish` (shifted up by its
    minimum, so that it is never negative), `softplus` and `relu`: h = probe_scale / 4. Raises ConfigError where the
    range does not reach above 1.
    """
    if activation == "sigmoid":
        span = 2 * probe_scale / 4
        if span <= 1:
            raise ConfigError(
                f"probe_scale must be above 2 with amp_activation='sigmoid' (|O| reaches probe_scale / 2), found "
                f"{probe_scale}: raise it, the default is 4"
            )
        return span, -math.log(span - 1)
    span = probe_scale / 4
    if span <= 0:
        raise ConfigError(f"probe_scale must be positive, found {probe_scale}: the default is 4")
    if activation == "softplus":
        return span, math.log(math.expm1(1 / span))
    if activation == "relu":
        return span, 1 / span
    if activation == "swish":
        return span, _solve_swish(1 / span)
    raise ConfigError(f"amp_activation must be sigmoid, swish, softplus or relu, found {activation!r}")


def _solve_swish(value: float) -> float:
    """The positive x with `x sigmoid(x) + SWISH_MINIMUM = value`, by bisection: one number, made once a model."""
    low, high = -1.2784645427610738, value + 2.0
    for _ in range(200):
        middle = (low + high) / 2
        if middle / (1 + math.exp(-middle)) + SWISH_MINIMUM < value:
            low = middle
        else:
            high = middle
    return (low + high) / 2
