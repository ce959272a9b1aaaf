"""What only the PyTorch dataclasses have: options of groups, scales, network, loss, stages, stitching, statistics.

`ptycho_torch.config_routes.OPTIONS` says which field becomes which option. The options with every default are what the
shared configuration alone does.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from ptycho.config.schema import settings_of
from ptycho.core.groups.options import NEUTRAL_GROUPS, GroupOptions
from ptycho.core.quality.patch_stats import NEUTRAL_PATCH_STATS, PatchStatsOptions
from ptycho.core.stitching.options import NEUTRAL_STITCHING, StitchOptions
from ptycho.core.training.objective_options import ObjectiveOptions
from ptycho.core.training.scales import NEUTRAL_SCALES, ScaleOptions
from ptycho.networks.options import NEUTRAL, NetworkOptions
from ptycho.networks.registry import network_entry
from ptycho_torch.config_params import DataConfig, InferenceConfig, ModelConfig, TrainingConfig
from ptycho_torch.config_routes import MEMBERS_OF_A_GROUP, OPTIONS, mask_array_of
from ptycho_torch.lightning.staging import StageOptions

__all__ = ["NEUTRAL_OPTIONS", "TorchOptions", "neutral_settings", "options_of"]

_NEUTRAL_OBJECTIVE, _NEUTRAL_STAGES = ObjectiveOptions(), StageOptions()


@dataclass(frozen=True)
class TorchOptions:
    """Every option of a run."""

    groups: GroupOptions = NEUTRAL_GROUPS
    scales: ScaleOptions = NEUTRAL_SCALES
    network: NetworkOptions = NEUTRAL
    objective: ObjectiveOptions = _NEUTRAL_OBJECTIVE
    stages: StageOptions = _NEUTRAL_STAGES
    stitching: StitchOptions = NEUTRAL_STITCHING
    patch_stats: PatchStatsOptions = NEUTRAL_PATCH_STATS


NEUTRAL_OPTIONS = TorchOptions()
"""What the shared configuration alone does."""


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
            if option.to == "network" and not shaped and _same(value, declared[name].default):
                continue
            if option.neutral == MEMBERS_OF_A_GROUP and value == members:
                continue
            found.setdefault(option.to, {}).update(option.read(value))
    if not (model.probe_mask is None or isinstance(model.probe_mask, bool)):
        found.setdefault("network", {}).update(mask_array_of(model.probe_mask))
    kinds = {field.name: type(getattr(NEUTRAL_OPTIONS, field.name)) for field in fields(TorchOptions)}
    return TorchOptions(**{name: kinds[name](**values) for name, values in found.items()})


def neutral_settings(cls: type, members: int) -> Mapping[str, Any]:
    """Values of the fields of a PyTorch dataclass, by name, that ask for nothing beyond the shared configuration.

    `members` is gridsize^2.
    """
    neutral = {name: option.neutral for name, option in OPTIONS[cls].items()}
    return {name: members if value == MEMBERS_OF_A_GROUP else value for name, value in neutral.items()}


def _same(value: Any, default: Any) -> bool:
    """Whether a value is the default; an array never is."""
    return value is default or (isinstance(value, (bool, int, float, str)) and value == default)
