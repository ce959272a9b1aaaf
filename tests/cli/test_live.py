"""`ptycho live`: what has come is shown, and in the end the result is that of the whole scan."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import ptycho
from ptycho.cli.command import main
from ptycho.core.live.replay import play, writer_to
from ptycho.core.live.schedule import Faults, schedule
from ptycho.core.scan.stream import ScanStream
from ptycho.raw_data import RawData

QUICK = ["--iterations", "4", "--modes", "none", "--refine-probe", "true"]
SIMULATE = ["simulate", "--N", "32", "--size", "64", "--step", "4", "--no-truth", "--quiet"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def scan(folder: Path) -> RawData:
    """A scan of 64 patterns there."""
    assert main([*SIMULATE, "-o", "scan.npz"]) == 0
    return RawData.from_file("scan.npz")


def fed(scan: RawData, name: str, faults: Faults = Faults()) -> list[int]:  # noqa: B008
    """Bring it, all at once; the numbers that have a frame and a position."""
    stream, arrivals = ScanStream.of(scan.scan_file()), schedule(len(scan), 1e9, faults)
    with writer_to(Path(name), scan.diff3d[0]) as writer:
        play(stream, [due._replace(seconds=0.0) for due in arrivals], writer)
    frames, positions = ({due.number for due in arrivals if due.kind == kind} for kind in ("frame", "position"))
    return sorted(frames & positions)


def live(*arguments: str) -> int:
    return main(["live", *arguments, "--like", "scan.npz", "--unit", "px", "--quiet", *QUICK])


def offline(scan: RawData, numbers: list[int]) -> ptycho.Reconstruction:
    """Of these patterns alone, from a file."""
    scan.part(np.array(numbers)).to_file("part.npz")
    assert main(["reconstruct", "part.npz", "-o", "offline", "--overwrite", "--quiet", *QUICK]) == 0
    return ptycho.load_reconstruction("offline")


def assert_equal(name: str, expected: ptycho.Reconstruction) -> None:
    found = ptycho.load_reconstruction(name)
    np.testing.assert_array_equal(found.object, expected.object)
    np.testing.assert_array_equal(found.probe, expected.probe)
    np.testing.assert_array_equal(found.xcoords, expected.xcoords)


@pytest.mark.parametrize("source", ["feed", "feed.h5"])
def test_the_end_is_the_reconstruction_of_the_whole_scan(scan: RawData, source: str, tmp_path: Path) -> None:
    numbers = fed(scan, source, Faults(shuffled=True, drop=0.1, double=0.2, seed=4))
    assert 40 < len(numbers) < len(scan)
    assert live(source, "-o", "out", "--count", str(len(numbers)), "--no-page") == 0
    assert_equal("out", offline(scan, numbers))
    left = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"report.html", "summary.png", "trust.png", "scan.npz", "run.json", "run.log"} <= left
    assert not {"state", "so_far.npz", "preview.png"} & left
    stored = RawData.from_file(tmp_path / "out" / "scan.npz")
    np.testing.assert_array_equal(stored.diff3d, scan.diff3d[numbers])


def test_positions_come_from_elsewhere_in_their_own_unit_and_count(scan: RawData, tmp_path: Path) -> None:
    fed(scan, "feed")
    numbers = np.arange(len(scan)) + 5
    table = np.stack([0.01 * scan.ycoords, numbers, 0.01 * scan.xcoords], 1)
    np.savetxt("stage.txt", table, "%.17g", ";", header="stage_y;trigger;stage_x")
    (tmp_path / "feed" / "positions.csv").unlink()
    flags = ["--positions-from", "stage.txt:stage_x,stage_y,trigger", "--frame-offset", "5", "--unit", "um"]
    told = ["--object-pixel-nm", "10", "--like", "scan.npz", "--count", str(len(scan)), "--no-page", "--quiet"]
    assert main(["live", "feed", "-o", "out", *flags, *told, *QUICK]) == 0
    found = RawData.from_file(tmp_path / "out" / "scan.npz")
    np.testing.assert_allclose(np.diff(found.xcoords), np.diff(scan.xcoords), atol=1e-6)
    np.testing.assert_allclose(np.diff(found.ycoords), np.diff(scan.ycoords), atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "SOURCE is required"),
        (["feed", "--near-field"], "--near-field: expected its magnification"),
        (["feed", "--like", "none.npz"], "--like none.npz: no such file"),
        (["none/feed"], "expected the folder none"),
        (["feed", "--port", "99999"], "port"),
        (["feed", "--patterns", "x"], "unknown argument --patterns"),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_waited_for(
    arguments: list[str], words: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["live", *arguments]) == 2
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1
    assert list(folder.iterdir()) == []


def test_a_unit_that_nobody_says_ends_it_in_a_line(scan: RawData, capsys: pytest.CaptureFixture[str]) -> None:
    fed(scan, "feed")
    assert main(["live", "feed", "-o", "out", "--like", "scan.npz", "--no-page", "--quiet"]) == 2
    assert "expected positions with a unit" in capsys.readouterr().err


def test_frames_that_find_no_position_are_counted(scan: RawData, capsys: pytest.CaptureFixture[str]) -> None:
    fed(scan, "feed")
    assert live("feed", "-o", "out", "--idle", "0.3", "--frame-offset", "1000", "--no-page") == 2
    assert f"found {len(scan)} frames and {len(scan)} positions of other numbers" in capsys.readouterr().err


def started(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """The command in a process of its own, which heeds Ctrl-C."""
    command = [sys.executable, "-m", "ptycho", "live", "feed", "-o", "out", "--like", "scan.npz", "--unit", "px"]
    return subprocess.Popen([*command, *QUICK, *arguments], cwd=folder, stderr=subprocess.PIPE, text=True)


def until(holds: object, seconds: float = 90.0) -> None:
    end = time.monotonic() + seconds
    while not holds():  # type: ignore[operator]
        assert time.monotonic() < end
        time.sleep(0.1)


@pytest.mark.slow
def test_killed_it_goes_on_and_ctrl_c_ends_the_scan(scan: RawData, tmp_path: Path) -> None:
    numbers = fed(scan, "feed", Faults(drop=0.2, seed=1))
    first = started(tmp_path, "--idle", "600", "--no-page")
    until((tmp_path / "out" / "so_far.npz").exists)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    second = started(tmp_path, "--idle", "600", "--no-page")
    until(lambda: "what was joined is read again" in (tmp_path / "out" / "run.log").read_text())
    log = tmp_path / "out" / "run.log"
    until(lambda: f"{len(numbers)} joined" in log.read_text().partition("read again")[2])
    second.send_signal(signal.SIGINT)
    told = second.communicate(timeout=120)[1]
    assert second.returncode == 0, told
    assert "going on with the run that was cut off" in told and "The scan is over: Ctrl-C" in told
    assert_equal("out", offline(scan, numbers))


@pytest.mark.slow
def test_terminated_it_stops_at_once_and_says_how_to_go_on(scan: RawData, tmp_path: Path) -> None:
    fed(scan, "feed")
    run = started(tmp_path, "--idle", "20", "--no-page")
    until((tmp_path / "out" / "preview.png").exists)
    run.send_signal(signal.SIGTERM)
    told = run.communicate(timeout=60)[1]
    assert run.returncode == 143 and told.splitlines()[-1].endswith("go on with ptycho live --resume out")
    assert (tmp_path / "out" / "so_far.npz").exists()
    assert main(["live", "--resume", "out", "--quiet"]) == 0
    assert json.loads((tmp_path / "out" / "run.json").read_text())["program"] == "ptycho live"
    assert ptycho.load_reconstruction("out").trust is not None


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_twenty_whole_runs_with_faults(scan: RawData, seed: int, tmp_path: Path) -> None:
    faults = Faults(shuffled=seed % 2 == 0, late=0.3 * (seed % 3), drop=0.05 * (seed % 4), double=0.3, seed=seed)
    target = "feed" if seed % 2 else "feed.h5"
    arrivals = schedule(len(scan), 300, faults)
    frames, positions = ({due.number for due in arrivals if due.kind == kind} for kind in ("frame", "position"))
    numbers = sorted(frames & positions)
    command = [sys.executable, "-m", "ptycho", "replay", "scan.npz", "--to", target, "--rate", "300", "--quiet"]
    flags = ["--late", str(faults.late), "--drop", str(faults.drop), "--double", "0.3"]
    shuffle = ["--shuffle", str(seed)] if faults.shuffled else []
    if not faults.shuffled:  # the seed goes with the order
        numbers = _of_seed_0(scan, faults)
    with subprocess.Popen([*command, *flags, *shuffle], env=os.environ) as replay:
        assert live(target, "-o", "out", "--count", str(len(numbers)), "--no-page", "--idle", "30") == 0
        assert replay.wait() == 0
    assert_equal("out", offline(scan, numbers))


def _of_seed_0(scan: RawData, faults: Faults) -> list[int]:
    arrivals = schedule(len(scan), 300, Faults(False, faults.late, faults.drop, faults.double, 0))
    frames, positions = ({due.number for due in arrivals if due.kind == kind} for kind in ("frame", "position"))
    return sorted(frames & positions)
