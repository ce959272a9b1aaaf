"""Which runs a command goes on with, and what is said of the others."""

import json
from pathlib import Path

import pytest

from ptycho.cli.programs import FOURIER, RECONSTRUCTION
from ptycho.cli.resuming import begin, is_finished, meant_by, resumable
from ptycho.errors import ConfigError, MissingFileError, OutputError


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_run_goes_on_with_its_arguments(here: Path) -> None:
    asked = ["scan.npz", "--iterations", "3"]
    assert meant_by(RECONSTRUCTION, asked) == asked
    begin(RECONSTRUCTION, here / "run", asked)
    assert (here / "run" / "state").is_dir() and not is_finished(here / "run")
    assert meant_by(RECONSTRUCTION, ["--resume", "run"]) == [*asked, "--resume", "run"]


def test_other_flags_than_it_was_begun_with_are_not_passed_over(here: Path) -> None:
    """They would change nothing, and nobody would be told."""
    asked = ["scan.npz", "--iterations", "3"]
    begin(RECONSTRUCTION, here / "run", asked)
    assert meant_by(RECONSTRUCTION, [*asked, "--resume", "run", "--quiet"]) == [*asked, "--resume", "run"]
    assert meant_by(RECONSTRUCTION, ["--resume=run"]) == [*asked, "--resume", "run"]
    with pytest.raises(ConfigError, match=r"found --modes 2 beside; leave it out, or begin another$"):
        meant_by(RECONSTRUCTION, ["--resume", "run", "--modes", "2"])
    (here / "run" / "so_far.npz").touch()
    with pytest.raises(ConfigError, match=r"begin another with --start run/so_far.npz"):
        meant_by(RECONSTRUCTION, ["scan.npz", "--resume", "run", "--iterations", "60"])


def test_a_full_disk_says_how_to_go_on(here: Path) -> None:
    with (
        pytest.raises(OutputError, match=r"free some space; go on with ptycho reconstruct --resume run$"),
        resumable(RECONSTRUCTION, Path("run"), False),
    ):
        begin(RECONSTRUCTION, Path("run"), ["scan.npz"])
        (here / "run" / "state" / "step_1.npz").touch()
        raise OutputError("cannot write run/object.npz: No space left on device; free some space")


def test_resume_needs_a_run_begun_here(here: Path) -> None:
    """Of this command, in this folder, whole, and not finished."""
    folder = here / "run"
    with pytest.raises(MissingFileError, match=r"--resume run: expected a run \(run.json\), found none"):
        meant_by(RECONSTRUCTION, ["--resume", "run"])
    folder.mkdir()
    (folder / "run.json").write_text(json.dumps({"arguments": ["scan.npz"], "working_directory": "/elsewhere"}))
    with pytest.raises(ConfigError, match="the run was begun in /elsewhere; go there"):
        meant_by(RECONSTRUCTION, ["--resume", "run"])
    (folder / "run.json").write_text("{}")
    with pytest.raises(ConfigError, match="expected the arguments of a run"):
        meant_by(RECONSTRUCTION, ["--resume", "run"])
    begin(FOURIER, folder, ["images.npy"])
    with pytest.raises(ConfigError, match="found one of ptycho fourier; go on with ptycho fourier --resume run"):
        meant_by(RECONSTRUCTION, ["--resume", "run"])
    (folder / "state").rmdir()
    (folder / "reconstruction.npz").touch()
    with pytest.raises(ConfigError, match="this run is finished; begin another"):
        meant_by(FOURIER, ["--resume", "run"])
