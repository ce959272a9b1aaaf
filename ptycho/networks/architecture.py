"""The networks as data: blocks, filter ladders, heads and canonical parameter names; both backends build from it.

`cnn` is an encoder with two decoders (amplitude, phase) over C = gridsize^2 members of a group:

    amplitudes (C) -> projection from vacuum -> Re, Im (2C) -> encoder -> amplitude decoder -> |O_net| = h act(.)
                                                         \\-> phase decoder     -> arg O_net = pi tanh(.)

*Projection from vacuum* (`ptycho.core.physics.projection`) gives every measured amplitude the phases of the far field
of the bare probe and carries it back to the sample: a fixed, linear change of basis that loses nothing, after which a
convolution looks at neighbouring pixels of the *object* instead of neighbouring detector pixels. Levels are joined
by 2x2 averages on the way down, nearest-neighbour doubling on the way up, and skip connections.

With `pad_object` the decoders compute only the central N/2 x N/2 pixels of a patch, where a probe has its light;
`probe_big` adds a border branch, which fills the rest from the second encoder level at half resolution; without it the
border is vacuum (1). `pad_object=False`: the decoders fill the whole patch. `ptycho.networks.options` says what else a
caller may choose.

`unrolled` is a short iteration with learned corrections, on the canvas of a group of any number of members. The canvas
starts flat, `O = 1`. Where a group has several members, whose overlaps hold the slow phase, `DESCENT` steps of plain
descent with a large momentum come first, through which nothing is learned; one pattern alone would only fit itself.
Then each of `STAGES` stages takes the exact gradient of the amplitude likelihood (`ptycho.core.physics.group_gradient`)
and lets a small U-Net add what a gradient cannot know:

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
from ptycho.networks.options import MASK_OPTIONS, NEUTRAL, NetworkOptions
from ptycho.networks.parts import (
    KERNEL,
    SWISH_MINIMUM,
    Block,
    ChannelGate,
    EfficientGate,
    Gate,
    Head,
    SpatialGate,
    amplitude_head,
)

__all__ = [
    "ARCHITECTURES",
    "KERNEL",
    "NEUTRAL",
    "SWISH_MINIMUM",
    "Block",
    "CnnSpec",
    "Correction",
    "Head",
    "NetworkOptions",
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
class Recipe:
    """How a network trains best; what the settings say explicitly comes first."""

    learning_rate: float
    one_cycle: bool
    """Whether the rate rises and falls (`ptycho.core.training.schedules.one_cycle`) or is constant."""
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
    phase_decoder: tuple[Block, ...] | None
    """None: the amplitude's decoder serves both heads."""
    amplitude_head: Head
    """One channel for each member, or one for the group, from which the members are cut."""
    phase_head: Head
    border_head: Head | None
    """Reads the first channels of the second level; gives those of the amplitude, then those of the phase."""
    central: bool
    padding: int
    """Mirrored pixels around the encoder's input, cut off each of its levels again."""
    amp_activation: str
    amp_range: float

    @property
    def blocks(self) -> tuple[Block, ...]:
        """Every convolution block."""
        return (*self.encoder, *self.amplitude_decoder, *(self.phase_decoder or ()))

    def parameters(self) -> dict[str, tuple[int, ...]]:
        """Canonical name -> shape of every trained array, in the order of the network."""
        parts: list[Block | Head] = [*self.encoder, *self.amplitude_decoder, self.amplitude_head]
        parts += [*(self.phase_decoder or ()), self.phase_head]
        if self.border_head is not None:
            parts.append(self.border_head)
        return {name: shape for part in parts for name, shape in part.parameters()}

    def statistics(self) -> dict[str, tuple[int, ...]]:
        """Canonical name -> shape of every running statistic."""
        return {name: shape for block in self.blocks for name, shape in block.statistics()}


@dataclass(frozen=True)
class Correction:
    """The U-Net of one stage: down three levels, up again, and a head that starts at 0."""

    down: tuple[Block, ...]
    up: tuple[Block, ...]
    head: Head

    def parameters(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Yield canonical names and shapes."""
        parts: tuple[Block | Head, ...] = (*self.down, *self.up, self.head)
        for part in parts:
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

    def statistics(self) -> dict[str, tuple[int, ...]]:
        """Canonical name -> shape of every running statistic: there are none."""
        return {}


NetworkSpec = CnnSpec | UnrolledSpec


def _members(config: ModelConfig) -> int:
    """C = gridsize^2, of a configuration whose N is possible."""
    if config.N not in LADDERS:
        raise ConfigError(f"N must be one of {sorted(LADDERS)}, found {config.N}: crop or bin the patterns")
    return config.gridsize**2


def cnn_spec(config: ModelConfig, options: NetworkOptions = NEUTRAL) -> CnnSpec:
    """Describe the `cnn` network of a configuration and its options.

    Raises:
        ConfigError: N is not one of 64, 128, 256, the amplitude head cannot reach 1, or an option does not fit.
    """
    members = _members(config)
    widths = [step * FILTERS_PER_SCALE * config.n_filters_scale for step in LADDERS[config.N]]
    inputs = [2 * members, *widths[:-1]]
    span, bias = amplitude_head(config.amp_activation, config.probe_scale)
    amplitudes = _amplitude_channels(options, members)

    def encoded(level: int) -> Block:
        name, deepest = f"encoder/{level}", level == len(widths) - 1
        cbam = options.cbam_bottleneck if deepest else options.cbam_encoder
        gates = _gates(name, widths[level], options.eca_encoder, cbam)
        return Block(name, inputs[level], widths[level], options.batch_norm, gates)

    def decoded(name: str, level: int) -> Block:
        spatial = options.decoder_spatial_kernel if options.spatial_decoder else None
        gates = _gates(name, widths[level], options.eca_decoder, options.cbam_decoder, spatial)
        return Block(name, widths[level + 1] + widths[level], widths[level], options.batch_norm, gates)

    def decoder(name: str) -> tuple[Block, ...]:
        return tuple(decoded(f"{name}/{level}", level) for level in reversed(range(len(widths) - 1)))

    border = None
    if config.pad_object and config.probe_big:
        seen = max(1, math.floor(options.outer_fraction * widths[1] + 0.5))
        biases = (bias,) * amplitudes + (0.0,) * members
        border = Head("border/head", seen, amplitudes + members, biases)
    return CnnSpec(
        N=config.N,
        members=members,
        encoder=tuple(encoded(level) for level in range(len(widths))),
        amplitude_decoder=decoder("amplitude"),
        phase_decoder=None if options.use_shared_decoder else decoder("phase"),
        amplitude_head=Head("amplitude/head", widths[0], amplitudes, (bias,) * amplitudes),
        phase_head=Head("phase/head", widths[0], members, (0.0,) * members),
        border_head=border,
        central=config.pad_object,
        padding=_padding(config.N, len(widths), options.edge_pad),
        amp_activation=config.amp_activation,
        amp_range=span,
    )


def _gates(name: str, channels: int, eca: bool, cbam: bool, spatial: int | None = None) -> tuple[Gate, ...]:
    """The attention of a block; `spatial` is a kernel."""
    gates: list[Gate] = [EfficientGate(f"{name}/eca", channels)] if eca else []
    if cbam:
        gates += [ChannelGate(f"{name}/cbam_channel", channels), SpatialGate(f"{name}/cbam_spatial")]
    if spatial is not None:
        gates.append(SpatialGate(f"{name}/spatial", spatial))
    return tuple(gates)


def _amplitude_channels(options: NetworkOptions, members: int) -> int:
    """Channels of the amplitude head: as many as members, or one for all."""
    if options.amplitude_channels not in (None, 1, members):
        raise ConfigError(
            f"amplitude_channels must be 1 or gridsize^2 = {members}, found {options.amplitude_channels}: leave it out"
        )
    return members if options.amplitude_channels is None else options.amplitude_channels


def _padding(N: int, levels: int, edge_pad: int) -> int:
    """`edge_pad` rounded up, so that every level has whole pixels of it."""
    unit = 2 ** (levels - 1)
    padding = unit * math.ceil(edge_pad / unit)
    if padding >= N:
        raise ConfigError(f"edge_pad must be at most {N - unit} with N={N}, found {edge_pad}: a mirror ends there")
    return padding


def unrolled_spec(config: ModelConfig, options: NetworkOptions = NEUTRAL) -> UnrolledSpec:
    """Describe the `unrolled` network of a configuration.

    Raises:
        ConfigError: N is not one of 64, 128, 256, or options other than those of the probe's mask are asked for.
    """
    refused = [name for name in options.changed if name not in MASK_OPTIONS]
    if refused:
        raise ConfigError(
            f"{', '.join(refused)}: expected the defaults with architecture='unrolled', which has no such choice; "
            "leave them out or use architecture='cnn'"
        )
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


ARCHITECTURES: dict[str, Callable[[ModelConfig, NetworkOptions], NetworkSpec]] = {
    "cnn": cnn_spec,
    "unrolled": unrolled_spec,
}
"""The registry: what `ModelConfig.architecture` names."""


def network_spec(config: ModelConfig, options: NetworkOptions = NEUTRAL) -> NetworkSpec:
    """Describe the network that a configuration names.

    Raises:
        ConfigError: the name is not in the registry, or the settings cannot be built.
    """
    if config.architecture not in ARCHITECTURES:
        raise ConfigError(f"architecture must be one of {sorted(ARCHITECTURES)}, found {config.architecture!r}")
    return ARCHITECTURES[config.architecture](config, options)
