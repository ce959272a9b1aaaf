"""Choices of a network beyond the shared configuration: normalisation, attention, decoders, edges, the probe's mask."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.config.config import ModelConfig
from ptycho.config.files import config_from_dict
from ptycho.config.options import NEUTRAL, NetworkOptions, changed_options
from ptycho.core.physics.probes import probe_mask
from ptycho.errors import ConfigError

__all__ = ["options_from_dict", "options_to_dict", "probe_support"]

MASK_OPTIONS = ("mask_array", "mask_diameter", "mask_sigma")
"""Options of the probe's mask, which every network takes; the registry says which networks take the others."""


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
    return {name: value for name, value in changed_options(options).items() if name != "mask_array"}


def options_from_dict(values: Mapping[str, Any], mask_array: NDArray[Any] | None, source: str) -> NetworkOptions:
    """Options back from plain values and the array of a mask.

    Raises:
        ConfigError: naming `source`, where a name is unknown or a value is not allowed.
    """
    return config_from_dict(NetworkOptions, {**values, "mask_array": mask_array}, source)
