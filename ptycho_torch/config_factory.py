"""Everything a run needs to know, from two paths and what the caller states, in one step.

A setting comes from the first of these that states it:

1. `overrides`: what the caller gives, under the name of a shared or of a PyTorch field;
2. the execution config: all of it that is not None, where that is its default: None says nothing;
3. the scan file: N, from the header of its probe, and the dose that its metadata record;
4. the command line: the defaults that its help shows;
5. the PyTorch dataclasses;
6. the shared dataclasses.

A payload says under `sources` which of the first four decided, and `params.cfg` is written once, before any data are
read. Nothing here loads a framework.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

from ptycho import params
from ptycho.config import config as shared
from ptycho.config.schema import settings_of
from ptycho.core.archive import find_archive
from ptycho.core.formats.opening import is_npz, open_scan
from ptycho.core.scan.npz_file import scan_metadata
from ptycho.core.scan.npz_mapped import member_shape
from ptycho.errors import ConfigError, DataError
from ptycho_torch.cli.shared import validate_paths
from ptycho_torch.config.options import TorchOptions, neutral_settings, options_in, section_settings
from ptycho_torch.config.routes import MEMBERS, ROUTES
from ptycho_torch.config_bridge import (
    SHARED_WITH_EXECUTION,
    labels_of,
    stated_settings,
    to_execution_config,
    to_inference_config,
    to_model_config,
    to_training_config,
)
from ptycho_torch.config_params import DataConfig, InferenceConfig, ModelConfig, TrainingConfig

__all__ = [
    "InferencePayload",
    "TrainingPayload",
    "create_inference_payload",
    "create_training_payload",
    "infer_probe_size",
    "populate_legacy_params",
]

Overrides = Mapping[str, Any] | None
Execution = shared.PyTorchExecutionConfig


@dataclass(frozen=True, kw_only=True)
class _Payload:
    """What every run has."""

    pt_data_config: DataConfig
    pt_model_config: ModelConfig
    pt_inference_config: InferenceConfig
    execution_config: Execution
    overrides_applied: dict[str, Any] = field(default_factory=dict)
    """What overrides, execution config, scan file and command line stated, by shared name where there is one."""
    sources: dict[str, str] = field(default_factory=dict)
    """Where each of those comes from."""


@dataclass(frozen=True, kw_only=True)
class TrainingPayload(_Payload):
    """A training run, in both spellings."""

    tf_training_config: shared.TrainingConfig
    pt_training_config: TrainingConfig

    @property
    def options(self) -> TorchOptions:
        """The sections of the shared configuration."""
        return options_in(self.tf_training_config)


@dataclass(frozen=True, kw_only=True)
class InferencePayload(_Payload):
    """A reconstruction, in both spellings; the model's own settings come with its archive."""

    tf_inference_config: shared.InferenceConfig

    @property
    def options(self) -> TorchOptions:
        """The sections of the shared configuration."""
        return options_in(self.tf_inference_config)


def create_training_payload(
    train_data_file: Path | str,
    output_dir: Path | str,
    overrides: Overrides = None,
    execution_config: Execution | None = None,
    *,
    command_line: Overrides = None,
    neutral: bool = False,
) -> TrainingPayload:
    """Settle the settings of a training run and write `params.cfg`.

    Args:
        train_data_file: scan to train on (NPZ).
        output_dir: folder for everything the run writes; it is not made here.
        overrides: has to bring `n_groups`, and `nphotons` where the scan does not record it.
        execution_config: how PyTorch runs.
        command_line: the defaults of a command line.
        neutral: whether what only the PyTorch dataclasses have begins at values that ask for nothing, as on the command
            lines, instead of at its defaults.

    Raises:
        ConfigError: settings that are not allowed, missing, contradictory or not supported.
        MissingFileError, DataError: the scan is not there, or has no probe of a side.
        OutputError: `output_dir` cannot be written.
    """
    given = {"train_data_file": train_data_file, "output_dir": output_dir, **(overrides or {})}
    validate_paths(given["train_data_file"], given.get("test_data_file"), given["output_dir"])
    own = (DataConfig, ModelConfig, TrainingConfig, InferenceConfig)
    settled = _settle(
        given, execution_config, command_line, given["train_data_file"], own, shared.TrainingConfig, neutral
    )
    data, model, training, inference = settled.configs
    execution = settled.of(Execution)
    tf_model = to_model_config(data, model, settled.of(shared.ModelConfig))
    tf_training = to_training_config(tf_model, data, model, training, settled.of(shared.TrainingConfig), inference)
    shared.validate_training_config(tf_training)
    for name in SHARED_WITH_EXECUTION:
        execution.pop(name, None)
        if settled.sources.get(name, "command line") != "command line":
            execution[name] = getattr(tf_training, name)
    payload = TrainingPayload(
        tf_training_config=tf_training,
        pt_data_config=data,
        pt_model_config=model,
        pt_training_config=training,
        pt_inference_config=inference,
        execution_config=_execution(execution_config or to_execution_config(training), execution),
        overrides_applied=settled.values,
        sources=settled.sources,
    )
    populate_legacy_params(tf_training, labels_of(model, training))
    return payload


def create_inference_payload(
    model_path: Path | str,
    test_data_file: Path | str,
    output_dir: Path | str,
    overrides: Overrides = None,
    execution_config: Execution | None = None,
    *,
    command_line: Overrides = None,
    neutral: bool = False,
) -> InferencePayload:
    """Settle the settings of a reconstruction and write `params.cfg`.

    Args:
        model_path: the folder with wts.h5.zip, or the archive itself; it is found here, and not opened.
        test_data_file: scan to reconstruct (NPZ).
        output_dir: folder for everything the run writes; it is not made here.
        overrides: has to bring `n_groups` (None: all).
        execution_config: how PyTorch runs.
        command_line: the defaults of a command line.
        neutral: whether what only the PyTorch dataclasses have begins at values that ask for nothing, as on the command
            lines, instead of at its defaults.

    Raises:
        ConfigError: settings that are not allowed, missing, contradictory or not supported.
        MissingFileError, DataError: the model or the scan is not there, or the scan has no probe of a side.
        OutputError: `output_dir` cannot be written.
    """
    named = {"model_path": model_path, "test_data_file": test_data_file, "output_dir": output_dir}
    given = {**named, **(overrides or {})}
    find_archive(Path(given["model_path"]))
    validate_paths(None, given["test_data_file"], given["output_dir"])
    own = (DataConfig, ModelConfig, InferenceConfig)
    settled = _settle(
        given, execution_config, command_line, given["test_data_file"], own, shared.InferenceConfig, neutral
    )
    data, model, inference = settled.configs
    tf_model = to_model_config(data, model, settled.of(shared.ModelConfig))
    tf_inference = to_inference_config(tf_model, data, inference, settled.of(shared.InferenceConfig))
    shared.validate_inference_config(tf_inference)
    execution = _execution(execution_config or to_execution_config(inference=inference), settled.of(Execution))
    payload = InferencePayload(
        tf_inference_config=tf_inference,
        pt_data_config=data,
        pt_model_config=model,
        pt_inference_config=inference,
        execution_config=execution,
        overrides_applied=settled.values,
        sources=settled.sources,
    )
    populate_legacy_params(tf_inference)
    return payload


def infer_probe_size(data_file: Path | str) -> int:
    """N, the side of the probe in a scan, else of its patterns; of an NPZ from a header, and no pattern is read of any.

    Raises:
        MissingFileError: there is no such file.
        DataError: no scan of a format that is known, or no square probe.
    """
    path = Path(data_file)
    shape = member_shape(path, "probeGuess") if is_npz(path) else None
    if shape is None:
        return open_scan(path).frames.shape[-1]
    if len(shape) < 2 or shape[-1] != shape[-2]:
        raise DataError(f"{data_file}: probeGuess: expected (N, N) or (M, N, N), found {shape}; cut it to a square")
    return int(shape[-1])


def _recorded_photons(data_file: Path) -> dict[str, float]:
    """`nphotons` of the metadata of a scan, by its name; nothing where they do not say."""
    metadata = scan_metadata(data_file) if is_npz(data_file) else open_scan(data_file).fields.metadata
    recorded = (metadata or {}).get("nphotons")
    return {} if recorded is None else {"nphotons": recorded}


def populate_legacy_params(
    config: shared.TrainingConfig | shared.InferenceConfig, labels: Mapping[str, str | int] | None = None
) -> None:
    """Write a shared configuration, and the user's labels, into `params.cfg`; values that are None leave theirs."""
    params.mirror(config, **labels or {})


class _Settled(NamedTuple):
    """What the callers state together."""

    values: dict[str, Any]
    sources: dict[str, str]
    configs: list[Any]
    """The PyTorch dataclasses, saying the same."""

    def of(self, target: type) -> dict[str, Any]:
        """The values that a shared dataclass has fields for."""
        return {f.name: self.values[f.name] for f in fields(target) if f.name in self.values}


def _settle(
    overrides: Mapping[str, Any],
    execution: Execution | None,
    command_line: Overrides,
    data_file: Path | str,
    own: tuple[type, ...],
    target: type,
    neutral: bool,
) -> _Settled:
    """Put the four levels on top of each other, and the PyTorch dataclasses under them."""
    targets = (target, shared.ModelConfig, Execution)
    stated = stated_settings(overrides, own, targets)
    N = infer_probe_size(data_file)
    if stated.settings.get("N", N) != N:
        raise ConfigError(
            f"N={stated.settings['N']} in overrides, but {data_file} has a probe of {N} pixels: leave N out"
        )
    levels = {
        "overrides": stated.settings,
        "execution config": _stated_execution(execution),
        "scan file": {"N": N, **_recorded_photons(Path(data_file))},
        "command line": stated_settings(command_line, own, targets).settings,
    }
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for source, settings in levels.items():
        for name, value in settings.items():
            if name not in values:
                values[name], sources[name] = value, source
    members = values.get("gridsize", DataConfig.grid_size[0]) ** 2
    base = {cls: neutral_settings(cls, members) if neutral else {} for cls in own}
    configs = [_mirrored(cls, {**base[cls], **stated.own.get(cls, {})}, values) for cls in own]
    for alone in stated.own.values():
        values |= alone
        sources |= dict.fromkeys(alone, "overrides")
    return _Settled(values, sources, configs)


def _stated_execution(execution: Execution | None) -> dict[str, Any]:
    """What an execution config states: every field but those that are None by default, and are."""
    if execution is None:
        return {}
    declared = settings_of(Execution)
    return {
        name: value
        for name, value in vars(execution).items()
        if value is not None or declared[name].default is not None
    }


def _mirrored(cls: type, own: Mapping[str, Any], values: Mapping[str, Any]) -> Any:
    """A PyTorch dataclass that says what `values` say, so far as it has the fields, and what is its own."""
    said = {name: route.write(values[route.to]) for name, route in ROUTES[cls].items() if route.to in values}
    if "gridsize" in values:
        said |= dict.fromkeys(MEMBERS.get(cls, ()), values["gridsize"] ** 2)
    said |= section_settings(cls, values, values.get("gridsize", DataConfig.grid_size[0]) ** 2)
    return cls(**{**own, **said})


def _execution(base: Execution, values: Mapping[str, Any]) -> Execution:
    made = replace(base, **values)
    shared.validate_execution_config(made)
    return made
