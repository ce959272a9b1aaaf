"""`ptycho replay`: a scan comes again, and the command says how to follow it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ptycho.cli.command import main

SIMULATE = ["simulate", "--N", "32", "--size", "64", "--step", "8", "--quiet", "-o", "scan.npz"]


@pytest.fixture
def scan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    assert main(SIMULATE) == 0
    return tmp_path / "scan.npz"


def test_every_frame_and_position_comes(scan: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", "scan.npz", "--to", "feed", "--rate", "1000"]) == 0
    told = capsys.readouterr().err
    assert "Follow it: ptycho live feed --like scan.npz --unit px -o live" in told and "All has come" in told
    with np.load(scan) as stored:
        patterns, x = stored["diff3d"], stored["xcoords"]
    frames = sorted((scan.parent / "feed").glob("*.npy"))
    assert len(frames) == len(patterns)
    np.testing.assert_array_equal(np.load(frames[3]), patterns[3])
    rows = np.loadtxt(scan.parent / "feed" / "positions.csv", delimiter=",", skiprows=1)
    np.testing.assert_array_equal(rows[:, 1], x)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--drop", "2"], "drop: expected a share"),
        (["--rate", "0"], "a number above 0"),
        (["--to", "."], "nothing there"),
    ],
)
def test_what_cannot_be_is_one_line(
    scan: Path, flags: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["replay", "scan.npz", "--to", "feed", *flags]) == 2
    assert words in capsys.readouterr().err.splitlines()[-1]
