"""`ptycho doctor`: sentences, JSON and the exit status."""

import json
import shlex
from pathlib import Path

import numpy as np
import pytest

from ptycho.cli.command import main
from ptycho.core.scan.npz_file import read_scan


@pytest.fixture
def spoilt(fixture_file: Path, tmp_path: Path) -> Path:
    """The fixture scan with a hot pixel."""
    arrays = dict(np.load(fixture_file))
    arrays["diff3d"][:, 10, 50] = 500
    np.savez(tmp_path / "spoilt.npz", **arrays)
    return tmp_path / "spoilt.npz"


@pytest.mark.slow
def test_a_sound_scan_exits_0(fixture_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", str(fixture_file)]) == 0
    out = capsys.readouterr().out
    assert "FAULT" not in out
    assert "orientation: The axes are right" in " ".join(out.split())
    assert out.rstrip().endswith("nothing wrong found.")
    assert max(map(len, out.splitlines()[:-1])) <= 100


def test_a_spoilt_scan_exits_1_and_says_why(spoilt: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", str(spoilt), "--no-trials", "--brief"]) == 1
    out = capsys.readouterr().out
    assert out.startswith("FAULT     hot pixels: 1 hot pixel")
    assert "[10, 50]" in out
    assert out.rstrip().endswith("spoilt.npz: 1 fault.")


def test_json_has_every_finding_with_its_numbers(spoilt: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", str(spoilt), "--no-trials", "--json", "--quiet"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["healthy"] is False
    assert found["command"].startswith(
        f"ptycho dataset mask {spoilt} -o spoilt-mended.npz --hot && ptycho reconstruct "
    )
    names = [finding["name"] for finding in found["findings"]]
    assert len(names) == len(set(names)) > 12
    hot = found["findings"][names.index("hot pixels")]
    assert hot["severity"] == "fault"
    assert hot["numbers"]["pixels_y_x"] == [[10, 50]]


@pytest.mark.slow
def test_the_line_that_mends_does_what_it_says(
    fixture_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A hot pixel, a dark pattern, axes exchanged, a frame off centre: typed as printed, nothing is left of it."""
    arrays = dict(np.load(fixture_file))
    arrays["diff3d"][:, 10, 50] = 500
    arrays["diff3d"][5] = 0
    arrays["diff3d"] = np.roll(arrays["diff3d"].swapaxes(1, 2), 4, axis=1)
    np.savez(tmp_path / "spoilt.npz", **arrays)
    monkeypatch.chdir(tmp_path)
    assert main(["doctor", "spoilt.npz", "--quiet"]) == 1
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("Mend it: ")]
    *steps, last = line.removeprefix("Mend it: ").split(" && ")
    assert [step.split()[2] for step in steps] == ["mask", "subsample", "recentre", "turn"]
    for step in steps:
        assert main([*shlex.split(step)[1:], "--quiet"]) == 0
    made = read_scan(tmp_path / "spoilt-mended.npz")
    whole = read_scan(fixture_file)
    assert made.mask is not None
    kept = np.delete(np.arange(len(whole.xcoords)), 5)
    np.testing.assert_array_equal(np.where(made.mask, made.diff3d, 0), np.where(made.mask, whole.diff3d[kept], 0))
    assert main(["doctor", "spoilt-mended.npz", "--no-trials", "--quiet"]) == 0
    assert "Mend it" not in capsys.readouterr().out
    assert main([*shlex.split(last)[1:], "--iterations", "2", "--modes", "none", "--quiet"]) == 0


@pytest.mark.slow
def test_wrong_positions_exit_1_with_their_numbers(
    fixture_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arrays = dict(np.load(fixture_file))
    arrays.pop("objectGuess", None)
    for key in ("xcoords", "ycoords"):
        arrays[key] = 1.25 * arrays[key]
    np.savez(tmp_path / "large.npz", **arrays)
    assert main(["doctor", str(tmp_path / "large.npz"), "--json", "--quiet"]) == 1
    found = {finding["name"]: finding for finding in json.loads(capsys.readouterr().out)["findings"]}
    assert found["position scale"]["severity"] == "fault"
    assert found["position scale"]["numbers"]["scale"] == pytest.approx(0.8, rel=0.04)
    assert found["frame shift"]["numbers"]["frames"] == 0
    assert found["orientation"]["severity"] == "ok"


def test_what_is_no_scan_exits_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text.npz").write_text("no scan")
    assert main(["doctor", str(tmp_path / "text.npz")]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "text.npz: expected an NPZ archive" in err
    assert main(["doctor", str(tmp_path / "none.npz")]) == 2
    assert "none.npz" in capsys.readouterr().err
