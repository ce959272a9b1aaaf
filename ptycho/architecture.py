"""The networks as data: blocks, filter ladders, heads and canonical parameter names; both backends build from it.

`cnn` is an encoder with two decoders (amplitude, phase) over C = gridsize^2 members of a group:

    amplitudes (C) -> projection from vacuum -> Re, Im (2C) -> encoder -> amplitude decoder -> |O_net| = h act(.)
                                                         \\-> phase decoder     -> arg O_net = pi tanh(.)

*Projection from vacuum* (`ptycho.core.projection`) gives every measured amplitude the phases of the far field of the
bare probe and carries it back to the sample: a fixed, linear change of basis that loses nothing, after which a
convolution looks at neighbouring pixels of the *object* instead of neighbouring detector pixels. Levels are joined
by 2x2 averages on the way down, nearest-neighbour doubling on the way up, and skip connections.

With `pad_object` the decoders compute only the central N/2 x N/2 pixels of a patch, where a probe has its light;
`probe_big` adds a border branch, which fills the rest from the second encoder level at half resolution; without it the
border is vacuum (1). `pad_object=False`: the decoders fill the whole patch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from ptycho.config.config import ModelConfig
from ptycho.errors import ConfigError

__all__ = ["Block", "CnnSpec", "Head", "amplitude_head", "cnn_spec"]

LADDERS: dict[int, tuple[int, ...]] = {
    64: (1, 2, 4, 4),
    128: (1, 2, 4, 4, 4),
    256: (1, 2, 4, 4, 4, 4),
}
"""Filters per encoder level, in units of `8 n_filters_scale`; the last level sees 8 x 8 pixels at every N."""

FILTERS_PER_SCALE = 8
KERNEL = 3
SWISH_MINIMUM = 0.2784645427610738
"""`-min(x sigmoid(x))`: added to swish, so that an amplitude is never negative."""


@dataclass(frozen=True)
class Block:
    """Two 3x3 convolutions, each followed by SiLU, with zero padding."""

    name: str
    in_channels: int
    out_channels: int

    def parameters(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Yield canonical names and shapes; kernels are `(row, column, in, out)`."""
        for conv, channels in (("conv1", self.in_channels), ("conv2", self.out_channels)):
            yield f"{self.name}/{conv}/kernel", (KERNEL, KERNEL, channels, self.out_channels)
            yield f"{self.name}/{conv}/bias", (self.out_channels,)


@dataclass(frozen=True)
class Head:
    """One linear 3x3 convolution, kernel initialised to 0 and bias to `bias`: the first prediction is a flat object."""

    name: str
    in_channels: int
    out_channels: int
    bias: tuple[float, ...]

    def parameters(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Yield canonical names and shapes; kernels are `(row, column, in, out)`."""
        yield f"{self.name}/kernel", (KERNEL, KERNEL, self.in_channels, self.out_channels)
        yield f"{self.name}/bias", (self.out_channels,)


@dataclass(frozen=True)
class CnnSpec:
    """Everything a backend needs to build the `cnn` network; `members` is C."""

    N: int
    members: int
    encoder: tuple[Block, ...]
    amplitude_decoder: tuple[Block, ...]
    phase_decoder: tuple[Block, ...]
    amplitude_head: Head
    phase_head: Head
    border_head: Head | None
    central: bool
    amp_activation: str
    amp_range: float

    def parameters(self) -> dict[str, tuple[int, ...]]:
        """Canonical name -> shape of every trained array, in the order of the network."""
        parts: list[Block | Head] = [*self.encoder, *self.amplitude_decoder, self.amplitude_head]
        parts += [*self.phase_decoder, self.phase_head]
        if self.border_head is not None:
            parts.append(self.border_head)
        return {name: shape for part in parts for name, shape in part.parameters()}


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


def cnn_spec(config: ModelConfig) -> CnnSpec:
    """Describe the `cnn` network of a configuration.

    Raises:
        ConfigError: N is not one of 64, 128, 256, or the amplitude head cannot reach 1.
    """
    if config.N not in LADDERS:
        raise ConfigError(f"N must be one of {sorted(LADDERS)}, found {config.N}: crop or bin the patterns")
    members = config.gridsize**2
    widths = [step * FILTERS_PER_SCALE * config.n_filters_scale for step in LADDERS[config.N]]
    inputs = [2 * members, *widths[:-1]]
    span, bias = amplitude_head(config.amp_activation, config.probe_scale)
    border = config.pad_object and config.probe_big

    def decoder(name: str) -> tuple[Block, ...]:
        levels = reversed(range(len(widths) - 1))
        return tuple(Block(f"{name}/{level}", widths[level + 1] + widths[level], widths[level]) for level in levels)

    return CnnSpec(
        N=config.N,
        members=members,
        encoder=tuple(Block(f"encoder/{level}", inputs[level], width) for level, width in enumerate(widths)),
        amplitude_decoder=decoder("amplitude"),
        phase_decoder=decoder("phase"),
        amplitude_head=Head("amplitude/head", widths[0], members, (bias,) * members),
        phase_head=Head("phase/head", widths[0], members, (0.0,) * members),
        border_head=Head("border/head", widths[1], 2 * members, (bias,) * members + (0.0,) * members)
        if border
        else None,
        central=config.pad_object,
        amp_activation=config.amp_activation,
        amp_range=span,
    )
