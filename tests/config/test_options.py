"""Every option of every section: through its flag, a file, a PyTorch dataclass, and into both backends or refused."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from ptycho.cli.commands.init import settings_file
from ptycho.cli.console import FlagParser
from ptycho.cli.programs import INFERENCE, RECONSTRUCTION, TRAINING
from ptycho.cli.settings import Command
from ptycho.config import config as shared
from ptycho.config.config import (
    InferenceConfig,
    ModelConfig,
    TrainingConfig,
    config_from_dict,
    load_config_file,
    validate_training_config,
)
from ptycho.config.files import config_to_dict
from ptycho.config.options import (
    GroupOptions,
    NetworkOptions,
    ObjectiveOptions,
    PatchStatsOptions,
    ScaleOptions,
    StageOptions,
    StitchOptions,
    changed_options,
)
from ptycho.config.schema import Setting, settings_of
from ptycho.core.archive import to_json
from ptycho.errors import ConfigError, MissingFileError
from ptycho.raw_data import RawData
from ptycho_torch import config_params
from ptycho_torch.config.options import neutral_settings
from ptycho_torch.config.routes import OPTIONS
from ptycho_torch.config_bridge import to_model_config, to_training_config

SECTIONS = {name: one.section for name, one in settings_of(TrainingConfig).items() if one.section}
FIELDS = [
    pytest.param(section, one, id=f"{section}.{name}")
    for section, cls in SECTIONS.items()
    for name, one in settings_of(cls).items()
]
BESIDE = {"patch_stats_limit": {"log_patch_stats": True}}
"""What has to be said along with an option."""
OTHER = {
    "amplitude_channels": 1,
    "decoder_spatial_kernel": 5,
    "max_neighbor_distance": 7.5,
    "x_bounds": (0.1, 0.8),
    "y_bounds": (0.2, 0.9),
}
REQUIRED = {"train_data_file": "a.npz", "test_data_file": "b.npz", "n_groups": 8, "nphotons": 1e6}

MASK = np.eye(64, dtype=np.float32)


def other_value(one: Setting, folder: Path) -> Any:
    """A value that is not the default."""
    if one.name in OTHER:
        return OTHER[one.name]
    if one.name == "mask_array":
        np.save(folder / "mask.npy", MASK)
        return str(folder / "mask.npy")
    if bool in one.kinds:
        return not one.default
    if one.choices:
        return next(value for value in one.choices if value != one.default)
    return {int: 4, float: 0.25}[one.kinds[0]]


def as_text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def settled(command: Command, *flags: str, table: dict[str, Any] | None = None) -> Any:
    parser = FlagParser(prog="p")
    command.add_flags(parser)
    return command.settle(parser.parse_flags(flags), table or {})


def assert_says(config: Any, section: str, name: str, value: Any) -> None:
    """The option has the value, and but for what goes with it nothing else is changed."""
    found = getattr(config, section)
    expected = MASK if name == "mask_array" else value
    np.testing.assert_array_equal(getattr(found, name), expected)
    assert set(changed_options(found)) == {name, *BESIDE.get(name, ())}
    assert replace(config, **{section: SECTIONS[section]()}) == type(config)()


@pytest.mark.parametrize(("section", "one"), FIELDS)
@pytest.mark.parametrize("dashes", [True, False])
def test_flag(section: str, one: Setting, dashes: bool, tmp_path: Path) -> None:
    value = other_value(one, tmp_path)
    given = {**BESIDE.get(one.name, {}), one.name: value}
    words = [(f"--{name.replace('_', '-') if dashes else name}", as_text(said)) for name, said in given.items()]
    flags = [word for pair in words for word in pair]
    assert_says(settled(TRAINING, *flags).config, section, one.name, value)
    if section in settings_of(InferenceConfig):
        assert_says(settled(INFERENCE, *flags).config, section, one.name, value)


@pytest.mark.parametrize(("section", "one"), FIELDS)
def test_file(section: str, one: Setting, tmp_path: Path) -> None:
    value = other_value(one, tmp_path)
    said = {**BESIDE.get(one.name, {}), one.name: list(value) if isinstance(value, tuple) else value}
    path = tmp_path / "settings.yaml"
    path.write_text(yaml.safe_dump({section: said}))
    table = load_config_file(path)
    assert_says(config_from_dict(TrainingConfig, table), section, one.name, value)
    assert_says(settled(TRAINING, table=table).config, section, one.name, value)


@pytest.mark.parametrize(("section", "one"), FIELDS)
def test_pytorch_dataclass(section: str, one: Setting, tmp_path: Path) -> None:
    """One field of the PyTorch dataclasses says it; the others ask for nothing."""
    ((cls, field),) = [
        (cls, field)
        for cls, inside in OPTIONS.items()
        for field, option in inside.items()
        if (option.section, option.name) == (section, one.name)
    ]
    value = MASK if one.name == "mask_array" else other_value(one, tmp_path)
    kinds = (config_params.DataConfig, config_params.ModelConfig, config_params.TrainingConfig)
    configs = {kind: kind(**neutral_settings(kind, 4)) for kind in (*kinds, config_params.InferenceConfig)}
    configs[cls] = replace(configs[cls], **{field: value, **BESIDE.get(one.name, {})})
    data, model, training, inference = configs.values()
    found = to_training_config(to_model_config(data, model), data, model, training, REQUIRED, inference)
    np.testing.assert_array_equal(getattr(getattr(found, section), one.name), value)
    assert {name for name in SECTIONS if changed_options(getattr(found, name))} == {section}


CHANGED = {
    "groups": GroupOptions("Min_dist", "Rectangular", 20, 0.5, 40.0, 2, (0.1, 1.0), (0.0, 0.9)),
    "scales": ScaleOptions("Max", "Group", True, 3.0),
    "network": NetworkOptions(cbam_encoder=True, edge_pad=8, outer_fraction=0.5, amplitude_channels=1),
    "objective": ObjectiveOptions(False, "Total_Variation", "Mean_Deviation", 0.5, 0.25, 0.125, True, 0.5),
    "stages": StageOptions(stage_1_epochs=1, stage_2_epochs=2, stage_3_epochs=1, epochs_fine_tune=1),
    "stitching": StitchOptions("uniform", 32, 2, False),
    "patch_stats": PatchStatsOptions(True, 1),
}


class Arrived(Exception):
    """Carries an option to the test."""


def stop(options: Any) -> None:
    raise Arrived(options)


def watch(monkeypatch: pytest.MonkeyPatch, section: str, backend: str) -> None:
    """Stop where the backend uses the section."""
    from ptycho.workflows import reconstruct

    if backend == "pytorch":
        from ptycho_torch import backend as chain
        from ptycho_torch import fit
    else:
        from ptycho.tf import backend as chain
        from ptycho.tf import fit

    if section == "groups":
        monkeypatch.setattr(RawData, "generate_grouped_data", lambda *_, options, **__: stop(options))
    elif section == "scales":
        monkeypatch.setattr(RawData, "scales", lambda _self, _photons, options: stop(options))
    elif section == "network":
        monkeypatch.setattr(chain, "PtychoPINN", lambda *_, options, **__: stop(options))
    elif section == "objective":
        monkeypatch.setattr(fit, "Objective", lambda _config, options, _model: stop(options))
    elif section == "stages":
        monkeypatch.setattr(fit, "_callbacks", lambda _module, _report, _folder, options, *_: stop(options))
    elif section == "stitching":
        monkeypatch.setattr(fit, "fit", lambda *_, **__: {})
        monkeypatch.setattr(reconstruct, "stitch_scan", lambda *args, **_: stop(args[-1]))
    else:
        monkeypatch.setattr(fit, "fit", lambda *_, **__: {})
        monkeypatch.setattr("ptycho.workflows.diagnostics.Diagnostics.trained", lambda self, _batches: stop(self.stats))


@pytest.mark.parametrize("backend", ["tensorflow", "pytorch"])
@pytest.mark.parametrize("section", SECTIONS)
def test_it_acts_in_the_backend_or_is_refused_by_name(
    section: str, backend: Any, fixture_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = ModelConfig(gridsize=2, n_filters_scale=1)
    asked = {section: CHANGED[section]}
    config = TrainingConfig(model=model, nepochs=1, n_groups=8, backend=backend, output_dir=tmp_path, **asked)
    if (backend, section) == ("tensorflow", "stages"):
        with pytest.raises(ConfigError, match=r"^stages: stage_1_epochs, .* backend=pytorch only, .*: leave it out"):
            validate_training_config(config)
        return
    scan = RawData.from_file(fixture_file)
    watch(monkeypatch, section, backend)
    with pytest.raises(Arrived) as caught:
        if backend == "pytorch":
            from ptycho_torch.workflows.components import run_cdi_example_torch

            execution = shared.PyTorchExecutionConfig(accelerator="cpu", logger_backend=None)
            run_cdi_example_torch(scan, None, config, do_stitching=True, execution_config=execution)
        else:
            from ptycho.workflows.components import run_cdi_example

            run_cdi_example(scan, None, config, do_stitching=True)
    assert caught.value.args[0] == CHANGED[section]


def test_an_archived_configuration_holds_what_is_changed_and_comes_back() -> None:
    plain = to_json(config_to_dict(TrainingConfig()))
    assert not SECTIONS.keys() & plain.keys()
    changed = replace(TrainingConfig(), **CHANGED)
    kept = to_json(config_to_dict(changed))
    assert SECTIONS.keys() - kept.keys() == {"network"}, "which is kept with the weights"
    assert config_from_dict(TrainingConfig, kept) == replace(changed, network=NetworkOptions())


def test_a_mask_from_a_file_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"mask_array='.*no.npy': expected an array or a .npy file"):
        NetworkOptions(mask_array=str(tmp_path / "no.npy"))
    (tmp_path / "text.npy").write_text("no array")
    np.savez(tmp_path / "archive.npz", np.ones((8, 8)))
    np.save(tmp_path / "cut.npy", np.ones((8, 8)))
    (tmp_path / "cut.npy").write_bytes((tmp_path / "cut.npy").read_bytes()[:100])
    for name in ("text.npy", "archive.npz", "cut.npy"):
        with pytest.raises(ConfigError, match=rf"{name}: expected mask_array, a .npy file, found: "):
            NetworkOptions(mask_array=str(tmp_path / name))
    np.save(tmp_path / "words.npy", np.full((8, 8), "a"))
    with pytest.raises(ConfigError, match="mask_array must hold numbers, found <U1"):
        NetworkOptions(mask_array=str(tmp_path / "words.npy"))


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"K_quadrant": 8}, "unknown key 'K_quadrant'; put it under 'groups'"),
        ({"groups": {"nepochs": 3}}, "groups: unknown key 'nepochs'; put it at the top level"),
        ({"groups": {"K_quadrand": 3}}, "groups: unknown key 'K_quadrand'; did you mean K_quadrant?"),
        ({"K_quadrand": 3}, "unknown key 'K_quadrand'; did you mean K_quadrant, under 'groups'?"),
        ({"num_workers": 3}, "unknown key 'num_workers'; put it under 'execution'"),
        ({"do_stiching": True}, "unknown key 'do_stiching'; did you mean do_stitching or stitching?"),
        ({"refine": 3}, "unknown key 'refine'"),
        ({"execution": {"num_workers": 2}}, "execution: num_workers needs backend: pytorch, found backend=tensorflow"),
        ({"stitching": {"window": -1}}, "stitching: window=-1: expected a whole number at least 0"),
        ({"max_seconds": "soon"}, "max_seconds='soon': expected a finite number above 0 or none"),
    ],
)
def test_keys_that_are_wrong(table: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        settled(TRAINING, table=table)


def test_all_that_a_command_takes_can_stand_in_its_file() -> None:
    run = {"do_stitching": True, "resume": "last.ckpt", "max_seconds": 9, "simulated_objects": 2, "find_probe": 3}
    more = {"learning_rate": 0.1, "units": "counts", "memory_map": "never", "quiet": True, "debug_dump": "dump"}
    found = settled(TRAINING, table={**run, **more, "backend": "pytorch", "execution": {"num_workers": 2}})
    assert (found.run.resume, found.run.max_seconds, found.run.find_probe) == (Path("last.ckpt"), 9.0, 3)
    assert (found.run.units, found.run.memory_map, found.run.debug_dump) == ("counts", "never", Path("dump"))
    assert (found.execution.num_workers, found.execution.enable_progress_bar) == (2, False)
    table = {"refine": 5, "refinement": {"refine_probe": False, "beyond_noise": True}}
    assert settled(INFERENCE, table=table).refinement == {"refine_probe": False, "noise": 0.0}
    assert settled(INFERENCE, "--refine-probe", table=table).refinement == {"refine_probe": True, "noise": 0.0}


def test_a_flag_wins_over_the_file_option_by_option() -> None:
    table = {"groups": {"K_quadrant": 8, "groups_per_seed": 3}, "learning_rate": 0.1, "do_stitching": True}
    found = settled(TRAINING, "--K-quadrant", "9", "--learning-rate", "0.2", "--no-do-stitching", table=table)
    assert found.config.groups == GroupOptions(K_quadrant=9, groups_per_seed=3)
    assert (found.run.learning_rate, found.run.do_stitching) == (0.2, False)


@pytest.mark.parametrize(("command", "skip"), [(TRAINING, ()), (INFERENCE, ("refinement",)), (RECONSTRUCTION, ())])
def test_the_settings_file_has_every_key_and_its_defaults(command: Command, skip: tuple[str, ...]) -> None:
    text = settings_file(command, "title")
    as_written, live = yaml.safe_load(text), yaml.safe_load(re.sub(r"(?m)^( *)# ", r"\1", text))
    plain = settled(command)
    assert settled(command, table=as_written) == plain
    top = [*command.top_level(command.config), *command.top_level(command.run), *command.sections]
    assert set(live) == set(top) - {"n_images"}
    assert {name: set(live[name]) for name in command.sections} == {
        name: set(command.members(name)) for name in command.sections
    }
    found = settled(command, table={name: value for name, value in live.items() if name != "execution"})
    assert (found.config, found.run) == (plain.config, plain.run)
    said = {"refine_probe": True, "refine_positions": False, "likelihood": "amplitude", "holdout": 0.0}
    assert found.refinement == (said if command.refines else {})
    comments = [line for line in text.splitlines() if line.lstrip().startswith("## ")]
    assert len(comments) >= sum(len(command.members(name)) for name in command.sections)


def test_not_said_is_none() -> None:
    execution = shared.PyTorchExecutionConfig()
    names = ("learning_rate", "scheduler", "gradient_clip_val", "gradient_clip_algorithm", "inference_batch_size")
    assert [getattr(execution, name) for name in names] == [None] * 5
