"""What the PyTorch command lines share: the execution settings of their arguments, and their paths."""

import warnings
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest

from ptycho.config.config import PyTorchExecutionConfig
from ptycho.config.schema import Setting, settings_of
from ptycho.errors import ConfigError, MissingFileError, OutputError
from ptycho_torch.cli import shared
from ptycho_torch.cli.shared import build_execution_config_from_args, validate_paths


def other(setting: Setting) -> Any:
    """A value that the field may hold and that is not its default."""
    if bool in setting.kinds:
        return not setting.default
    if setting.choices:
        return next(value for value in setting.choices if value != setting.default)
    return {int: 3, float: 0.25, str: "train_loss", tuple: (0, 5)}[setting.kinds[0]]


@pytest.mark.parametrize("prefix", ["", "execution."])
@pytest.mark.parametrize("name", settings_of(PyTorchExecutionConfig))
def test_every_field(name: str, prefix: str) -> None:
    value = other(settings_of(PyTorchExecutionConfig)[name])
    found = build_execution_config_from_args(Namespace(**{prefix + name: value}))
    assert found == PyTorchExecutionConfig(**{name: value}) != PyTorchExecutionConfig()


def test_what_was_not_given_keeps_its_default() -> None:
    assert build_execution_config_from_args(Namespace(train_data_file="a")) == PyTorchExecutionConfig()


def test_quiet_hides_the_progress_bar_unless_it_is_asked_for() -> None:
    bars = [{}, {"quiet": True}, {"quiet": True, "enable_progress_bar": True}]
    found = [build_execution_config_from_args(Namespace(**given)).enable_progress_bar for given in bars]
    assert found == [True, False, True]


@pytest.mark.parametrize(
    ("given", "message", "expected"),
    [
        ({"device": "cpu"}, "--device is deprecated: use --accelerator cpu; removed in 1.0", {"accelerator": "cpu"}),
        (
            {"disable_mlflow": True},
            "--disable_mlflow is deprecated: use --logger none; removed in 1.0",
            {"logger_backend": None},
        ),
    ],
)
def test_deprecated_flags_warn_once(given: dict[str, Any], message: str, expected: dict[str, Any]) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = build_execution_config_from_args(Namespace(**given))
    assert [(entry.category, str(entry.message)) for entry in caught] == [(DeprecationWarning, message)]
    assert found == PyTorchExecutionConfig(**expected)


def test_a_deprecated_flag_gives_way_and_its_absence_is_silent() -> None:
    with pytest.warns(DeprecationWarning, match="--device"):
        found = build_execution_config_from_args(Namespace(device="cuda", accelerator="cpu"))
    assert found.accelerator == "cpu"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        build_execution_config_from_args(Namespace(device=None, disable_mlflow=False))


def test_a_value_that_is_not_allowed() -> None:
    with pytest.raises(ConfigError, match=r"^command line: num_workers=-1: expected a whole number at least 0"):
        build_execution_config_from_args(Namespace(num_workers=-1))


def test_paths(tmp_path: Path) -> None:
    scan = tmp_path / "scan.npz"
    scan.write_bytes(b"")
    validate_paths(scan, None, tmp_path / "a" / "b")
    validate_paths(str(scan), Path(), None)
    assert [path.name for path in tmp_path.iterdir()] == ["scan.npz"]
    with pytest.raises(MissingFileError, match=r"no\.npz: expected the scan to train on \(NPZ\), found no such file"):
        validate_paths(tmp_path / "no.npz", None, tmp_path)
    with pytest.raises(MissingFileError, match=r"expected the test scan \(NPZ\)"):
        validate_paths(scan, tmp_path / "no.npz", tmp_path)
    validate_paths(scan, tmp_path, tmp_path)  # a folder may be a scan map
    with pytest.raises(OutputError, match=r"out: expected a folder to write to, found the file .*scan\.npz"):
        validate_paths(scan, None, scan / "out")


def test_a_folder_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared.os, "access", lambda path, mode: False)  # root may write anywhere
    with pytest.raises(OutputError, match=r"found .* read-only; choose another one"):
        validate_paths(None, None, tmp_path / "out")
