"""The sections of options that PyTorch dataclasses ask for, and back again.

`ptycho_torch.config.routes.OPTIONS` says which field becomes which option of `ptycho.config.options`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from ptycho.config import config as shared
from ptycho.config.options import (
    NEUTRAL,
    NEUTRAL_GROUPS,
    NEUTRAL_OBJECTIVE,
    NEUTRAL_PATCH_STATS,
    NEUTRAL_SCALES,
    NEUTRAL_STAGES,
    NEUTRAL_STITCHING,
    GroupOptions,
    NetworkOptions,
    ObjectiveOptions,
    PatchStatsOptions,
    ScaleOptions,
    StageOptions,
    StitchOptions,
)
from ptycho.config.schema import settings_of
from ptycho.networks.registry import network_entry
from ptycho_torch.config.routes import OPTIONS, mask_array_of
from ptycho_torch.config_params import DataConfig, InferenceConfig, ModelConfig, TrainingConfig

__all__ = ["NEUTRAL_OPTIONS", "TorchOptions", "neutral_settings", "options_in", "options_of", "section_settings"]


@dataclass(frozen=True)
class TorchOptions:
    """The sections of a configuration, together."""

    groups: GroupOptions = NEUTRAL_GROUPS
    scales: ScaleOptions = NEUTRAL_SCALES
    network: NetworkOptions = NEUTRAL
    objective: ObjectiveOptions = NEUTRAL_OBJECTIVE
    stages: StageOptions = NEUTRAL_STAGES
    stitching: StitchOptions = NEUTRAL_STITCHING
    patch_stats: PatchStatsOptions = NEUTRAL_PATCH_STATS


NEUTRAL_OPTIONS = TorchOptions()
"""What a configuration without options does."""


def options_in(config: shared.TrainingConfig | shared.InferenceConfig) -> TorchOptions:
    """The sections that a shared configuration has."""
    names = [field.name for field in fields(TorchOptions)]
    return TorchOptions(**{name: getattr(config, name) for name in names if hasattr(config, name)})


def options_of(
    data: DataConfig,
    model: ModelConfig,
    training: TrainingConfig | None = None,
    inference: InferenceConfig | None = None,
) -> TorchOptions:
    """The options that PyTorch dataclasses ask for.

    The defaults of the fields that shape a network ask for nothing where the network takes no options.

    Raises:
        ConfigError: a value that an option may not hold.
    """
    found: dict[str, dict[str, Any]] = {}
    members, shaped = math.prod(data.grid_size), network_entry(model.architecture).options
    for config in (data, model, training, inference):
        if config is None:
            continue
        declared = settings_of(type(config))
        for name, option in OPTIONS[type(config)].items():
            value = getattr(config, name)
            declared[name].check(value)
            if option.section == "network" and not shaped and _same(value, declared[name].default):
                continue
            if option.name == "amplitude_channels" and value == members:
                continue
            found.setdefault(option.section, {})[option.name] = option.read(value)
    mask = mask_array_of(model.probe_mask)
    if mask is not None:
        found.setdefault("network", {})["mask_array"] = mask
    made = {name: replace(getattr(NEUTRAL_OPTIONS, name), **values) for name, values in found.items()}
    return TorchOptions(**made)


def section_settings(cls: type, sections: Mapping[str, Any], members: int) -> dict[str, Any]:
    """Values of the fields of a PyTorch dataclass, by name, that say what sections of options do.

    Args:
        cls: the dataclass.
        sections: by name, whole ones or mappings with some of their options; others are passed over.
        members: gridsize^2.
    """
    said: dict[str, Any] = {}
    for name, option in OPTIONS[cls].items():
        section = sections.get(option.section, {})
        inside = section if isinstance(section, Mapping) else vars(section)
        if option.name in inside:
            said[name] = option.write(inside[option.name])
    if said.get("decoder_last_amp_channels", members) is None:
        said["decoder_last_amp_channels"] = members
    return said


def neutral_settings(cls: type, members: int) -> Mapping[str, Any]:
    """Values of the fields of a PyTorch dataclass, by name, that ask for nothing special; `members` is gridsize^2."""
    return section_settings(cls, vars(NEUTRAL_OPTIONS), members)


def _same(value: Any, default: Any) -> bool:
    """Whether a value is the default; an array never is."""
    return value is default or (isinstance(value, (bool, int, float, str)) and value == default)
