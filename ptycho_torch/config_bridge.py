"""From the PyTorch dataclasses to the shared ones; `ptycho_torch.config.routes` holds the mapping table.

    PyTorch dataclass -> to_*_config -> shared dataclass -> update_legacy_dict -> params.cfg

The functions here have no side effects. What the caller gives in `overrides` wins over everything; it may be spelled
as a field of the shared dataclass or of a PyTorch dataclass, and a name that both have means the shared one.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, NamedTuple

from ptycho.config import config as shared
from ptycho.config.deprecation import warn_deprecated
from ptycho.config.schema import nearest, settings_of
from ptycho.errors import ConfigError
from ptycho_torch.config.options import TorchOptions, options_of
from ptycho_torch.config.routes import (
    COUNTS,
    LABELS,
    MEMBERS,
    OPTIONS,
    OTHER_NAMES,
    REFUSED,
    ROUTES,
    shared_spelling,
)
from ptycho_torch.config_params import DataConfig, InferenceConfig, ModelConfig, TrainingConfig

__all__ = [
    "Stated",
    "labels_of",
    "stated_settings",
    "to_execution_config",
    "to_inference_config",
    "to_model_config",
    "to_training_config",
]

Overrides = Mapping[str, Any] | None

SHARED_WITH_EXECUTION = ("gradient_clip_val", "gradient_clip_algorithm", "scheduler")
"""Fields of TrainingConfig that PyTorchExecutionConfig repeats; None there is as the training configuration says."""


class Stated(NamedTuple):
    """Settings that a caller stated."""

    settings: dict[str, Any]
    """By the names of the shared dataclasses."""
    own: dict[type, dict[str, Any]]
    """What only a PyTorch dataclass has: labels, and what is refused."""


def to_model_config(data: DataConfig, model: ModelConfig, overrides: Overrides = None) -> shared.ModelConfig:
    """The shared model configuration.

    Raises:
        ConfigError: a value that is not allowed, that nothing acts on yet, or that does not fit the others.
    """
    stated = stated_settings(overrides, (DataConfig, ModelConfig), (shared.ModelConfig,))
    data, model = _with_own(data, stated), _with_own(model, stated)
    _refuse(data, model)
    values = _bridged(shared.ModelConfig, data, model)
    if model.probe_mask is None and model.probe_mask_tensor is not None:
        values["probe_mask"] = True  # a mask is given to be used
    values |= stated.settings
    found = shared.config_from_dict(shared.ModelConfig, values, "model")
    _check_members(found.gridsize, data, model)
    return found


def to_training_config(
    model: shared.ModelConfig,
    data: DataConfig,
    pt_model: ModelConfig,
    training: TrainingConfig,
    overrides: Overrides = None,
    inference: InferenceConfig | None = None,
) -> shared.TrainingConfig:
    """The shared training configuration, `backend='pytorch'`, its sections of options included.

    Args:
        model: what `to_model_config` made.
        data, pt_model, training: the PyTorch dataclasses.
        inference: brings the sections `stitching` and `patch_stats`, for after the training.
        overrides: has to bring `train_data_file`, `n_groups` (None: the library's number) and `nphotons`, unless the
            dataclasses do.

    Raises:
        ConfigError: as `to_model_config`, and naming what is missing.
    """
    sources = (DataConfig, ModelConfig, TrainingConfig)
    stated = stated_settings(overrides, sources, (shared.TrainingConfig, shared.ModelConfig))
    data, pt_model, training = (_with_own(config, stated) for config in (data, pt_model, training))
    _refuse(data, pt_model, training)
    values = _bridged(shared.TrainingConfig, data, pt_model, training)
    values |= _fields_in(shared.TrainingConfig, stated.settings)
    _require_file(values, "train_data_file", "the scan to train on")
    if "n_groups" not in stated.settings and training.n_groups is None:
        _missing_groups()
    if "nphotons" not in stated.settings and data.nphotons == DataConfig.nphotons:
        raise ConfigError(
            f"nphotons default divergence: DataConfig has {DataConfig.nphotons:g}, TrainingConfig "
            f"{shared.TrainingConfig.nphotons:g}; say which in overrides, for example nphotons=1e9"
        )
    if _no_file(values.get("test_data_file")):
        warnings.warn("test_data_file is missing: training goes without evaluation", UserWarning, stacklevel=2)
    values |= _sections(shared.TrainingConfig, options_of(data, pt_model, training, inference), values)
    return shared.config_from_dict(
        shared.TrainingConfig, values | _backend(values) | {"model": _changed(model, stated)}, "training"
    )


def to_inference_config(
    model: shared.ModelConfig, data: DataConfig, inference: InferenceConfig, overrides: Overrides = None
) -> shared.InferenceConfig:
    """The shared inference configuration, `backend='pytorch'`.

    `overrides` has to bring `model_path`, `test_data_file` and `n_groups` (None: all).

    Raises:
        ConfigError: as `to_model_config`, and naming what is missing.
    """
    targets = (shared.InferenceConfig, shared.ModelConfig)
    stated = stated_settings(overrides, (DataConfig, InferenceConfig), targets)
    data, inference = _with_own(data, stated), _with_own(inference, stated)
    _refuse(data, inference)
    values = _bridged(shared.InferenceConfig, data, inference)
    values |= _fields_in(shared.InferenceConfig, stated.settings)
    _require_file(values, "model_path", "the trained model")
    _require_file(values, "test_data_file", "the scan to reconstruct")
    if "n_groups" not in values:
        _missing_groups()
    values |= _sections(shared.InferenceConfig, options_of(data, ModelConfig(), inference=inference), values)
    return shared.config_from_dict(
        shared.InferenceConfig, values | _backend(values) | {"model": _changed(model, stated)}, "inference"
    )


def to_execution_config(
    training: TrainingConfig | None = None,
    inference: InferenceConfig | None = None,
    overrides: Overrides = None,
) -> shared.PyTorchExecutionConfig:
    """How PyTorch runs, from the fields that the PyTorch dataclasses have for it.

    The default device `cuda` is `auto`; so is `ddp_spawn` with one device, whose run stays in its process.

    Raises:
        ConfigError: a value that is not allowed, or that nothing acts on yet.
    """
    configs = [config for config in (training, inference) if config is not None]
    stated = stated_settings(overrides, tuple(map(type, configs)), (shared.PyTorchExecutionConfig,))
    configs = [_with_own(config, stated) for config in configs]
    _refuse(*configs)
    values = _bridged(shared.PyTorchExecutionConfig, *configs) | stated.settings
    if training is not None and training.scheduler == "MultiStage":
        values.setdefault("scheduler", "MultiStage")  # the shared configuration has no such schedule
    if values.get("strategy") == "ddp_spawn" and values.get("devices", 1) == 1:
        values["strategy"] = "auto"
    return shared.config_from_dict(shared.PyTorchExecutionConfig, values, "execution")


def labels_of(*configs: ModelConfig | TrainingConfig) -> dict[str, str | int]:
    """The words and numbers of the user that are kept with a model, those that are not at their defaults."""
    return {
        name: getattr(config, name)
        for config in configs
        for name in LABELS[type(config)]
        if getattr(config, name) != settings_of(type(config))[name].default
    }


def stated_settings(overrides: Overrides, sources: tuple[type, ...], targets: tuple[type, ...]) -> Stated:
    """What a caller stated, under the names of the shared dataclasses.

    Args:
        overrides: values by field name, in either spelling.
        sources: the PyTorch dataclasses whose fields may be named.
        targets: the shared dataclasses whose fields may be named.

    Raises:
        ConfigError: an unknown name (with the nearest valid ones), a value that the field may not have, or a setting
            that is given twice.
    """
    allowed = {name for target in targets for name in settings_of(target)} - {"model"}
    declared = {name: (cls, setting) for cls in reversed(sources) for name, setting in settings_of(cls).items()}
    found = Stated({}, {})
    for key, value in (overrides or {}).items():
        name = OTHER_NAMES.get(key, key)
        cls, setting = declared.get(name, (None, None))
        route = ROUTES.get(cls, {}).get(name) if cls else None
        if name in allowed and (route is None or route.to != name or route.unsaid):
            to, value = name, shared_spelling(name, value)
        elif route is not None and setting is not None and route.to in allowed:
            to, value = route.to, route.read(setting.from_value(value))
        elif cls is not None and route is None:
            found.own.setdefault(cls, {})[name] = value
            continue
        else:
            raise ConfigError(f"overrides: unknown key {name!r}{nearest(name, allowed | declared.keys())}")
        if to in found.settings and found.settings[to] != value:
            raise ConfigError(f"overrides: {key}={value!r} and {to}={found.settings[to]!r} are the same setting")
        found.settings[to] = value
    _adopt_n_images(found.settings)
    return found


def _adopt_n_images(settings: dict[str, Any]) -> None:
    """The deprecated n_images is n_groups, which wins."""
    images = settings.pop("n_images", None)
    if images is not None:
        groups = settings.setdefault("n_groups", images)
        warn_deprecated("n_images", f"n_groups={groups} is used", stacklevel=4)


def _with_own(config: Any, stated: Stated) -> Any:
    return replace(config, **stated.own.get(type(config), {}))


def _refuse(*configs: Any) -> None:
    """Raise ConfigError where a configuration asks for something that nothing acts on, or holds what it may not."""
    for config in configs:
        kind, declared = type(config), settings_of(type(config))
        for name, entry in REFUSED[kind].items():
            setting, value = declared[name], getattr(config, name)
            setting.check(value)
            if value != setting.default:
                raise ConfigError(
                    f"{name}={value!r} is not supported: leave it at {setting.default!r}; {entry.instead}"
                )
        for name in (*LABELS.get(kind, ()), *COUNTS.get(kind, ()), *OPTIONS[kind]):
            declared[name].check(getattr(config, name))


def _bridged(target: type, *configs: Any) -> dict[str, Any]:
    """What the table makes of the configurations for one shared dataclass; of two spellings, the changed one counts."""
    names = {field.name for field in fields(target)}
    if target is shared.PyTorchExecutionConfig:
        names -= set(SHARED_WITH_EXECUTION)
    found: dict[str, Any] = {}
    changed: dict[str, str] = {}
    for config in configs:
        declared = settings_of(type(config))
        for name, route in ROUTES[type(config)].items():
            if route.to not in names:
                continue
            value = getattr(config, name)
            declared[name].check(value)
            value, default = route.read(value), route.read(declared[name].default)
            if route.unsaid and value == default:
                continue
            first = changed.get(route.to)
            if value == default:
                found.setdefault(route.to, value)
            elif first is None or found[route.to] == value:
                found[route.to], changed[route.to] = value, name
            else:
                raise ConfigError(
                    f"{first} and {name} are the same setting, found {found[route.to]!r} and {value!r}: give one"
                )
    return found


def _check_members(gridsize: int, *configs: Any) -> None:
    for config in configs:
        declared = settings_of(type(config))
        for name in MEMBERS[type(config)]:
            setting, value = declared[name], getattr(config, name)
            setting.check(value)
            if value not in (setting.default, gridsize**2):
                raise ConfigError(
                    f"{name}={value} does not fit grid_size ({gridsize}, {gridsize}): expected {gridsize**2}, "
                    "change one of them"
                )


def _fields_in(target: type, settings: Mapping[str, Any]) -> dict[str, Any]:
    names = {field.name for field in fields(target)}
    return {name: value for name, value in settings.items() if name in names}


def _changed(model: shared.ModelConfig, stated: Stated) -> shared.ModelConfig:
    """The model configuration itself, or with what the overrides say about it a new one."""
    changes = _fields_in(shared.ModelConfig, stated.settings)
    return shared.config_from_dict(shared.ModelConfig, vars(model) | changes, "model") if changes else model


def _sections(target: type, asked: TorchOptions, stated: Mapping[str, Any]) -> dict[str, Any]:
    """The sections of a shared dataclass: what the PyTorch dataclasses ask for, or what was stated in its place.

    A section that was stated as a mapping changes the options that it names.
    """
    made: dict[str, Any] = {}
    for name, declared in settings_of(target).items():
        if declared.section is None:
            continue
        section = getattr(asked, name)
        changes = stated.get(name, {})
        whole = isinstance(changes, declared.section)
        made[name] = changes if whole else shared.config_from_dict(type(section), {**vars(section), **changes}, name)
    return made


def _no_file(path: Any) -> bool:
    return path is None or Path(path) == Path()


def _require_file(values: Mapping[str, Any], name: str, meaning: str) -> None:
    if _no_file(values.get(name)):
        raise ConfigError(f"{name} is required in overrides: name {meaning}")


def _missing_groups() -> None:
    raise ConfigError("n_groups is missing: give n_groups=512, say, in overrides (n_groups=None: as many as suit)")


def _backend(values: Mapping[str, Any]) -> dict[str, str]:
    if values.get("backend", "pytorch") != "pytorch":
        raise ConfigError(f"backend={values['backend']!r}: this interface runs pytorch, leave it out of overrides")
    return {"backend": "pytorch"}
