"""Choices of a network beyond the shared configuration: normalisation, attention, decoders, edges, the probe's mask."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from ptycho.config.config import ModelConfig
from ptycho.config.files import config_from_dict
from ptycho.config.schema import Doc, check_settings, settings_of
from ptycho.core.physics.probes import probe_mask
from ptycho.errors import ConfigError

__all__ = ["NEUTRAL", "NetworkOptions", "options_from_dict", "options_to_dict", "probe_support"]

MASK_OPTIONS = ("mask_array", "mask_diameter", "mask_sigma")
"""Options of the probe's mask, which every network takes; the registry says which networks take the others."""


@dataclass(frozen=True, eq=False)
class NetworkOptions:
    """What a network has beside its configuration; with every default it is the network of the configuration alone.

    An attention multiplies features by numbers in (0, 2) that start at 1. It follows the second convolution of a block;
    where a block has several, channels come first: ECA, CBAM, spatial. The encoder's deepest level is the bottleneck.

    Raises:
        ConfigError: a value that an option may not hold.
    """

    batch_norm: Annotated[bool, Doc("normalise over the batch after each convolution of a block")] = False
    eca_encoder: Annotated[bool, Doc("efficient channel attention in every level of the encoder")] = False
    eca_decoder: Annotated[bool, Doc("efficient channel attention in every level of the decoders")] = False
    cbam_encoder: Annotated[bool, Doc("channel and spatial attention in the encoder above its deepest level")] = False
    cbam_bottleneck: Annotated[bool, Doc("channel and spatial attention in the encoder's deepest level")] = False
    cbam_decoder: Annotated[bool, Doc("channel and spatial attention in every level of the decoders")] = False
    spatial_decoder: Annotated[bool, Doc("spatial attention in every level of the decoders")] = False
    decoder_spatial_kernel: Annotated[int, Doc("kernel of spatial_decoder, odd, pixels", at_least=1)] = 7
    use_shared_decoder: Annotated[bool, Doc("one decoder with two heads for amplitude and phase")] = False
    outer_fraction: Annotated[
        float, Doc("part of its level's channels that the border branch reads", at_least=0, at_most=1)
    ] = 1.0
    edge_pad: Annotated[
        int, Doc("pixels of mirrored input around the encoder, rounded up to whole pixels of every level", at_least=0)
    ] = 0
    amplitude_channels: Annotated[
        int | None, Doc("channels of the amplitude head: gridsize^2 (none), or 1 for the whole group", at_least=1)
    ] = None
    mask_array: Annotated[object | None, Doc("the mask of the probe itself, N x N numbers from 0 to 1")] = None
    mask_diameter: Annotated[float | None, Doc("diameter of the probe's mask, pixels (none: N/2)", above=0)] = None
    mask_sigma: Annotated[float, Doc("soft edge of the probe's mask, pixels", at_least=0)] = 1.0

    def __post_init__(self) -> None:
        check_settings(self)
        if self.decoder_spatial_kernel % 2 == 0:
            raise ConfigError(
                f"decoder_spatial_kernel must be odd, so that it has a middle, found {self.decoder_spatial_kernel}"
            )
        if self.mask_array is None:
            return
        if self.mask_diameter is not None:
            raise ConfigError(f"mask_diameter={self.mask_diameter} is of a disk: give it or the mask itself, not both")
        object.__setattr__(self, "mask_array", _mask(self.mask_array))

    def __eq__(self, other: object) -> bool:
        """Whether every option is the same."""
        if not isinstance(other, NetworkOptions):
            return NotImplemented
        return all(np.array_equal(getattr(self, f.name), getattr(other, f.name)) for f in fields(self))

    def __hash__(self) -> int:
        return hash(tuple(getattr(self, f.name) for f in fields(self) if f.name != "mask_array"))

    @property
    def changed(self) -> tuple[str, ...]:
        """Names of the options that are not at their defaults."""
        defaults = {name: declared.default for name, declared in settings_of(NetworkOptions).items()}
        return tuple(name for name, value in defaults.items() if not np.array_equal(getattr(self, name), value))


def _mask(values: Any) -> NDArray[np.float32]:
    """A mask as float32, after a look at its shape and its values."""
    mask = np.asarray(values, np.float32).copy()
    if mask.ndim != 2 or mask.shape[0] != mask.shape[1]:
        raise ConfigError(f"mask_array must be N x N, found shape {mask.shape}")
    if not ((mask >= 0) & (mask <= 1)).all() or not mask.any():
        raise ConfigError(
            f"mask_array must hold numbers from 0 to 1, some above 0, found {mask.min():g} to {mask.max():g}"
        )
    mask.setflags(write=False)
    return mask


NEUTRAL = NetworkOptions()
"""The options that change nothing."""


def probe_support(config: ModelConfig, options: NetworkOptions = NEUTRAL) -> NDArray[np.float32] | None:
    """The mask `(N, N)` that multiplies the probe: the array of the options or else a disk; None without `probe_mask`.

    The disk is `ptycho.core.physics.probes.probe_mask` of `mask_diameter` and `mask_sigma`.

    Raises:
        ConfigError: options of a mask without `probe_mask`, or an array of another size.
    """
    asked = [name for name in options.changed if name in MASK_OPTIONS]
    if not config.probe_mask:
        if asked:
            raise ConfigError(f"{', '.join(asked)} is of the probe's mask, which is off: set probe_mask=True")
        return None
    if options.mask_array is None:
        return probe_mask(config.N, options.mask_diameter, options.mask_sigma)
    mask = np.array(options.mask_array)
    if mask.shape != (config.N, config.N):
        raise ConfigError(f"mask_array must be {config.N} x {config.N} as N says, found shape {mask.shape}")
    return mask


def options_to_dict(options: NetworkOptions) -> dict[str, Any]:
    """The options that are not at their defaults, as plain values; the array of a mask is left out."""
    values = asdict(options)
    return {name: values[name] for name in options.changed if name != "mask_array"}


def options_from_dict(values: Mapping[str, Any], mask_array: NDArray[Any] | None, source: str) -> NetworkOptions:
    """Options back from plain values and the array of a mask.

    Raises:
        ConfigError: naming `source`, where a name is unknown or a value is not allowed.
    """
    return config_from_dict(NetworkOptions, {**values, "mask_array": mask_array}, source)
