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

`unrolled` is a short iteration with learned corrections, on the canvas of a group of any number of members. The canvas
starts flat, `O = 1`. Where a group has several members, whose overlaps hold the slow phase, `DESCENT` steps of plain
descent with a large momentum come first, through which nothing is learned; one pattern alone would only fit itself.
Then each of `STAGES` stages takes the exact gradient of the amplitude likelihood (`ptycho.core.group_gradient`) and
lets a small U-Net add what a gradient cannot know:

    V <- momentum V + step gradient + correction(O, gradient, V, illumination),    O <- O + V

The U-Net works at half resolution (four pixels become four channels) on the part of the canvas where the probe has
its light. The physics is in the gradient, so the weights know nothing of N, of the probe's shape or of the members.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar

from ptycho.config.config import ModelConfig
from ptycho.errors import ConfigError

__all__ = [
    "ARCHITECTURES",
    "Block",
    "CnnSpec",
    "Correction",
    "Head",
    "NetworkSpec",
    "UnrolledSpec",
    "amplitude_head",
    "cnn_spec",
    "network_spec",
    "unrolled_spec",
]

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

STAGES = 4
"""Gradient steps, each with its correction, of the `unrolled` network."""
CANVAS_CHANNELS = 7
"""What a correction sees: real and imaginary part of object, gradient and momentum, and the illumination."""
DESCENT = 32
"""Plain steps before the first stage, in groups of more than one member."""
DESCENT_STEP, DESCENT_MOMENTUM = 0.7, 0.9
"""Of the plain steps, in units of the preconditioned gradient."""
FIRST_MOMENTUM = 0.7
"""Momentum of every stage before training; the step is that of the preconditioned gradient, 1."""
JUDGED = 7
"""Patterns that judge a group of `unrolled`, those it sees and the held-out ones together: at least 3 are held out."""
UNSHUFFLE = 2
"""A correction sees blocks of so many by so many pixels as channels of one."""


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
class Recipe:
    """How a network trains best; what the settings say explicitly comes first."""

    learning_rate: float
    one_cycle: bool
    """Whether the rate rises and falls over the training (`ptycho.core.schedules.one_cycle`) or is constant."""
    held_out: int
    """Neighbours that judge a group without being shown to the network."""
    clip: float | None
    """Limit of the gradient's norm; the loss is in units of the mean count."""


@dataclass(frozen=True)
class CnnSpec:
    """Everything a backend needs to build the `cnn` network; `members` is C."""

    recipe: ClassVar[Recipe] = Recipe(learning_rate=1e-3, one_cycle=False, held_out=0, clip=None)

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


@dataclass(frozen=True)
class Correction:
    """The U-Net of one stage: down three levels, up again, and a head that starts at 0."""

    down: tuple[Block, ...]
    up: tuple[Block, ...]
    head: Head

    def parameters(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Yield canonical names and shapes."""
        for part in (*self.down, *self.up, self.head):
            yield from part.parameters()


@dataclass(frozen=True)
class UnrolledSpec:
    """Everything a backend needs to build the `unrolled` network; `members` is C, the patterns that it sees."""

    N: int
    members: int
    corrections: tuple[Correction, ...]
    descent: int
    """Plain steps before the first stage."""
    first_momentum: float
    recipe: Recipe

    def parameters(self) -> dict[str, tuple[int, ...]]:
        """Canonical name -> shape of every trained array; `step` and `momentum` have one number per stage."""
        stages = len(self.corrections)
        names = {"step": (stages,), "momentum": (stages,)}
        return names | {name: shape for part in self.corrections for name, shape in part.parameters()}


NetworkSpec = CnnSpec | UnrolledSpec


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


def _members(config: ModelConfig) -> int:
    """C = gridsize^2, of a configuration whose N is possible."""
    if config.N not in LADDERS:
        raise ConfigError(f"N must be one of {sorted(LADDERS)}, found {config.N}: crop or bin the patterns")
    return config.gridsize**2


def cnn_spec(config: ModelConfig) -> CnnSpec:
    """Describe the `cnn` network of a configuration.

    Raises:
        ConfigError: N is not one of 64, 128, 256, or the amplitude head cannot reach 1.
    """
    members = _members(config)
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


def unrolled_spec(config: ModelConfig) -> UnrolledSpec:
    """Describe the `unrolled` network of a configuration; ConfigError where N is not one of 64, 128, 256."""
    width = FILTERS_PER_SCALE * config.n_filters_scale
    inputs, outputs = CANVAS_CHANNELS * UNSHUFFLE**2, 2 * UNSHUFFLE**2

    def correction(stage: int) -> Correction:
        name = f"stages/{stage}"
        return Correction(
            down=(
                Block(f"{name}/down/0", inputs, width),
                Block(f"{name}/down/1", width, 2 * width),
                Block(f"{name}/down/2", 2 * width, 2 * width),
            ),
            up=(Block(f"{name}/up/1", 4 * width, 2 * width), Block(f"{name}/up/0", 3 * width, width)),
            head=Head(f"{name}/head", width, outputs, (0.0,) * outputs),
        )

    members = _members(config)
    return UnrolledSpec(
        N=config.N,
        members=members,
        corrections=tuple(correction(stage) for stage in range(STAGES)),
        descent=DESCENT if members > 1 and config.object_big else 0,
        first_momentum=FIRST_MOMENTUM,
        recipe=Recipe(learning_rate=4e-3, one_cycle=True, held_out=max(3, JUDGED - members), clip=0.02),
    )


ARCHITECTURES: dict[str, Callable[[ModelConfig], NetworkSpec]] = {"cnn": cnn_spec, "unrolled": unrolled_spec}
"""The registry: what `ModelConfig.architecture` names."""


def network_spec(config: ModelConfig) -> NetworkSpec:
    """Describe the network that a configuration names.

    Raises:
        ConfigError: the name is not in the registry, or the settings cannot be built.
    """
    if config.architecture not in ARCHITECTURES:
        raise ConfigError(f"architecture must be one of {sorted(ARCHITECTURES)}, found {config.architecture!r}")
    return ARCHITECTURES[config.architecture](config)
