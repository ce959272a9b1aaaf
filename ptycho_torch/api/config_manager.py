"""The PyTorch dataclasses together: what a program configures, and what a checkpoint keeps of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import PurePath
from typing import Any, Protocol, TypeVar

import numpy as np
import torch

from ptycho.config import config as shared
from ptycho.config.schema import nearest
from ptycho.errors import ConfigError
from ptycho_torch.config.options import section_settings
from ptycho_torch.config.routes import MEMBERS, ROUTES
from ptycho_torch.config_bridge import to_model_config
from ptycho_torch.config_params import DataConfig, DatagenConfig, InferenceConfig, ModelConfig, TrainingConfig

__all__ = ["ConfigManager", "Configs", "configs_from", "configs_of", "plain_configs"]

Configs = tuple[DataConfig, ModelConfig, TrainingConfig, InferenceConfig]
Config = TypeVar("Config", DataConfig, ModelConfig, TrainingConfig, InferenceConfig)

_KEPT: dict[str, type[Any]] = {
    "data_config": DataConfig,
    "model_config": ModelConfig,
    "training_config": TrainingConfig,
    "inference_config": InferenceConfig,
}
"""What a checkpoint keeps, in the order of `Configs`."""


class Configured(Protocol):
    """A network with its settings, `ptycho_torch.api.models.PtychoModel`."""

    data_config: DataConfig
    model_config: ModelConfig
    training_config: TrainingConfig
    inference_config: InferenceConfig

    @property
    def module(self) -> Any:
        """The trained Lightning module."""


@dataclass
class ConfigManager:
    """Data, model, training, inference and simulated data; nothing is checked before it is used or updated."""

    data_config: DataConfig = field(default_factory=DataConfig)
    model_config: ModelConfig = field(default_factory=ModelConfig)
    training_config: TrainingConfig = field(default_factory=TrainingConfig)
    inference_config: InferenceConfig = field(default_factory=InferenceConfig)
    datagen_config: DatagenConfig = field(default_factory=DatagenConfig)

    def update(self, **changes: Any) -> None:
        """Change settings: `update(training_config={"epochs": 3})`, or hand over a whole dataclass.

        Raises:
            ConfigError: an unknown name (with the nearest valid ones), or a value that the field may not have;
                nothing is changed then.
        """
        found: dict[str, Any] = {}
        for name, change in changes.items():
            if name not in vars(self):
                raise ConfigError(f"update: unknown configuration {name!r}{nearest(name, vars(self))}")
            current = getattr(self, name)
            whole = isinstance(change, type(current))
            found[name] = change if whole else _changed(current, change, name)
        vars(self).update(found)

    @classmethod
    def from_loaded_model(cls, model: Configured) -> ConfigManager:
        """The settings that came with a model, as copies."""
        return cls(**{name: replace(getattr(model, name)) for name in _KEPT})

    def validate_arch_compatibility(self, model: Configured) -> None:
        """Raise ConfigError, naming the first setting and both values, unless the network is of these settings."""
        ours, theirs = vars(to_model_config(self.data_config, self.model_config)), vars(model.module.model.config)
        for name, value in ours.items():
            if value != theirs[name]:
                raise ConfigError(
                    f"{name}={value!r} in the configuration, {theirs[name]!r} in the network: take the settings of the "
                    "model with ConfigManager.from_loaded_model, or train again"
                )


def plain_configs(configs: Configs) -> dict[str, dict[str, Any]]:
    """Configurations as tensors and plain values, by the names of ConfigManager's fields; `configs_from` reads them."""
    return {
        name: {key: _plain(value) for key, value in vars(config).items()}
        for name, config in zip(_KEPT, configs, strict=True)
    }


def configs_from(plain: Mapping[str, Mapping[str, Any]], source: str) -> Configs:
    """The configurations that `plain_configs` wrote.

    Raises:
        ConfigError: naming `source`, and what is missing or not known here.
    """
    missing = [name for name in _KEPT if name not in plain]
    if missing:
        raise ConfigError(f"{source}: expected {', '.join(_KEPT)}, found no {missing[0]}; train again")
    found = [shared.config_from_dict(cls, plain[name], f"{source}: {name}") for name, cls in _KEPT.items()]
    return tuple(found)


def configs_of(training: shared.TrainingConfig) -> Configs:
    """The PyTorch dataclasses that say what a shared configuration says."""
    values, members = {**vars(training), **vars(training.model)}, training.model.gridsize**2
    found = []
    for cls in _KEPT.values():
        said = {name: route.write(values[route.to]) for name, route in ROUTES[cls].items() if route.to in values}
        said |= dict.fromkeys(MEMBERS.get(cls, ()), members)
        found.append(cls(**section_settings(cls, values, members), **said))
    return tuple(found)


def _changed(current: Config, change: Mapping[str, Any], name: str) -> Config:
    if not isinstance(change, Mapping):
        expected = type(current).__name__
        raise ConfigError(f"{name}: expected a {expected} or names and values, found {type(change).__name__}")
    return shared.config_from_dict(type(current), {**vars(current), **change}, name)


def _plain(value: Any) -> Any:
    if isinstance(value, PurePath):
        return value.as_posix()
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, (np.ndarray, torch.Tensor)):
        return torch.as_tensor(value).detach().cpu().clone()
    return value
