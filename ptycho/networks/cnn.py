"""The `cnn` network as data: blocks, filter ladders, heads and canonical parameter names; both backends build from it.

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
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ptycho.config.config import ModelConfig
from ptycho.config.options import NEUTRAL, NetworkOptions
from ptycho.errors import ConfigError
from ptycho.networks.parts import (
    FILTERS_PER_SCALE,
    Block,
    ChannelGate,
    EfficientGate,
    Gate,
    Head,
    SpatialGate,
    amplitude_head,
)
from ptycho.networks.spec import NetworkSpec, group_members

__all__ = ["CnnSpec", "cnn_spec"]

LADDERS: dict[int, tuple[int, ...]] = {
    64: (1, 2, 4, 4),
    128: (1, 2, 4, 4, 4),
    256: (1, 2, 4, 4, 4, 4),
}
"""Filters per encoder level, in units of `8 n_filters_scale`; the last level sees 8 x 8 pixels at every N."""


@dataclass(frozen=True)
class CnnSpec(NetworkSpec):
    """Everything a backend needs to build the `cnn` network."""

    name = "cnn"

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


def cnn_spec(config: ModelConfig, options: NetworkOptions = NEUTRAL) -> CnnSpec:
    """Describe the `cnn` network of a configuration and its options.

    Raises:
        ConfigError: N is not one of 64, 128, 256, the amplitude head cannot reach 1, or an option does not fit.
    """
    members = group_members(config)
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
