"""`ptycho probe`: what it writes can be gone on with, and it writes over nothing unasked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ptycho.cli.command import main
from ptycho.core.physics.probes import probe_diameter, probe_overlap
from ptycho.core.units import object_pixel_size_m
from ptycho.raw_data import RawData

GEOMETRY = ("--energy-keV", "8", "--distance-m", "2", "--detector-pixel-um", "172")


@pytest.fixture
def bare(fixture_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The small scan of the tests without its probe, in the folder of work."""
    monkeypatch.chdir(tmp_path)
    with np.load(fixture_file) as file:
        np.savez("bare.npz", **{key: file[key] for key in file if key != "probeGuess"})
    return tmp_path / "bare.npz"


@pytest.mark.slow
def test_a_probe_from_the_patterns(bare: Path, fixture_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["probe", "bare.npz", "--quiet"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].startswith("Probe found in the patterns: mean modulus, out of focus by +0.3")
    assert shown[-2:] == ["probe: bare_probe.npz", "picture: bare_probe.png"]
    with np.load("bare_probe.npz") as file:
        assert file.files == ["probeGuess"]
        found = file["probeGuess"]
    truth = RawData.from_file(fixture_file).probeGuess
    assert probe_overlap(found, truth.reshape(-1, 64, 64)) > 0.95
    assert Path("bare_probe.png").read_bytes().startswith(b"\x89PNG")


def test_a_probe_of_the_optics_carries_its_geometry(bare: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = ("--probe", "gaussian:fwhm=0.5um")
    assert main(["probe", "bare.npz", *source, "-o", "beam.npz", *GEOMETRY, "--quiet"]) == 0
    assert "Probe of the optics: Gaussian focus of 500 nm" in capsys.readouterr().out
    pixel = object_pixel_size_m(8e3, 2.0, 172e-6, 64)
    with np.load("beam.npz") as file:
        assert file["object_pixel_size_m"] == pytest.approx(pixel)
        assert file["photon_energy_eV"] == 8000
        # 90 % of a Gaussian lies within 1.823 of its full width at half maximum
        assert probe_diameter(file["probeGuess"]) * pixel == pytest.approx(1.823 * 500e-9, rel=0.1)
    assert main(["probe", "bare.npz", "--probe", "beam.npz", "-o", "again.npy", "--quiet"]) == 0
    assert np.load("again.npy").shape == (1, 64, 64)
    assert Path("again.png").is_file()


def test_a_picture_alone(bare: Path) -> None:
    assert main(["probe", "bare.npz", "--probe", "kb:width=40um,height=30um,focal=0.1m", "-o", "a.png", *GEOMETRY]) == 0
    assert sorted(path.name for path in bare.parent.iterdir()) == ["a.png", "bare.npz"]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["-o", "probe.tif"], "expected a file .npz, .npy or .png, found '.tif'"),
        (
            ["-o", "taken.npy"],
            "taken.png: expected nothing there, found a file; choose another name or say --overwrite",
        ),
        (["--probe", "fzp:diameter=100um,outer=50nm"], "give --energy-keV --distance-m --detector-pixel-um"),
        (["--probe", "missing.npz"], "missing.npz: expected a file with a probe, or optics, found neither"),
    ],
)
def test_complaints_are_one_line(bare: Path, flags: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("taken.png").write_bytes(b"mine")
    assert main(["probe", "bare.npz", "--quiet", *flags]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("ptycho probe: error: ") and words in error
    assert Path("taken.png").read_bytes() == b"mine"
    assert len(list(bare.parent.iterdir())) == 2
