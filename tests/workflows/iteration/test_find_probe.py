"""A probe from optics and from files, on the pixels and in the unit of the scan."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ptycho
from ptycho.core.formats import registry
from ptycho.core.formats.record import ScanRecord
from ptycho.core.physics.beamline import Window, parse_optics
from ptycho.core.physics.probes import gaussian_probe, probe_diameter, probe_overlap
from ptycho.core.refinement.run import refine_scan
from ptycho.core.units import object_pixel_size_m, wavelength_m
from ptycho.errors import ConfigError, DataError, MissingFileError
from ptycho.raw_data import RawData
from ptycho.workflows.iteration.find_probe import FoundProbe, find_probe

N = 32
GEOMETRY = {"photon_energy_eV": 8000.0, "detector_distance_m": 2.0, "detector_pixel_size_m": 172e-6}
PIXEL = object_pixel_size_m(8000.0, 2.0, 172e-6, N)


def scan(**metadata: Any) -> RawData:
    """Six dim patterns, each of 3 * 32^2 counts; nothing is reconstructed of them."""
    place = np.arange(6.0)
    return RawData(place, place, None, None, np.full((6, N, N), 3), None, metadata=metadata or None, units="counts")


def found(source: str | Path, data: RawData | None = None) -> FoundProbe:
    def refine(*_: Any, **__: Any) -> Any:
        raise AssertionError("the patterns were asked")

    made = find_probe(scan(**GEOMETRY) if data is None else data, refine, source)
    assert made.probe.dtype == np.complex64 and made.probe.shape[1:] == (N, N)
    assert np.sum(np.abs(made.probe) ** 2) == pytest.approx(3 * N**2, rel=1e-5)
    assert made.tried == () and "\n" not in made.sentence
    return made


def test_optics_are_laid_on_the_pixels_of_the_scan() -> None:
    text = "gaussian:fwhm=400nm,defocus=2mm"
    made = found(text)
    expected = parse_optics(text).wave(Window(N, PIXEL, wavelength_m(8000.0)))
    assert probe_overlap(made.probe, expected) == pytest.approx(1, abs=1e-6)
    assert made.sentence.startswith("Probe of the optics: Gaussian focus of 400 nm full width, sample 2 mm behind the")
    assert f"on object pixels of {1e9 * PIXEL:.4g} nm" in made.sentence


def test_a_geometry_that_is_missing_is_named_with_its_flags() -> None:
    with pytest.raises(
        DataError, match=r"the energy of the beam and .*sample to detector.*--energy-keV --distance-m --det"
    ):
        found("aperture:size=1um", scan())
    with pytest.raises(DataError, match=r"expected the size of a detector pixel in the scan.*give --detector-pixel-um"):
        found("aperture:size=1um", scan(photon_energy_eV=8e3, detector_distance_m=2.0))
    with pytest.raises(ConfigError, match="aperture"):
        found("aperture:width=1um")


def npy(path: Path, probe: np.ndarray) -> Path:
    np.save(path.with_suffix(".npy"), probe)
    return path.with_suffix(".npy")


def npz(path: Path, probe: np.ndarray) -> Path:
    np.savez(path.with_suffix(".npz"), probeGuess=probe)
    return path.with_suffix(".npz")


def other_scan(path: Path, probe: np.ndarray) -> Path:
    place, side = np.arange(3.0), probe.shape[-1]
    patterns = np.ones((3, side, side), np.uint16)
    RawData(place, place, None, None, patterns, probe, units="counts").to_file(path.with_suffix(".npz"))
    return path.with_suffix(".npz")


def product(path: Path, probe: np.ndarray) -> Path:
    place = np.arange(3.0)
    record = ScanRecord(
        xcoords=place,
        ycoords=place,
        probe=probe[None],
        object=np.ones((40, 40), complex),
        energy_eV=8000.0,
        distance_m=2.0,
        object_pixel_m=PIXEL,
    )
    registry.write(path.with_suffix(".h5"), record, "ptychodus-product")
    return path.with_suffix(".h5")


@pytest.mark.parametrize("write", [npy, npz, other_scan, product])
def test_a_probe_of_the_same_side_is_taken_as_it_is(write: Callable[..., Path], tmp_path: Path) -> None:
    probe = gaussian_probe(N, 9.0)
    made = found(write(tmp_path / "beam", probe))
    assert probe_overlap(made.probe, probe) == pytest.approx(1, abs=1e-6)
    assert made.sentence.startswith(f"Probe of beam.{'h5' if write is product else 'npy' if write is npy else 'npz'}")


def test_modes_stay(tmp_path: Path) -> None:
    modes = np.stack([gaussian_probe(N, 9.0), 0.5 * gaussian_probe(N, 14.0)])
    assert found(npy(tmp_path / "beam", modes)).probe.shape == (2, N, N)


def test_a_probe_on_other_pixels_is_brought_to_those_of_the_scan(tmp_path: Path) -> None:
    """A beam of nine of the scan's pixels, known on 48 pixels of two thirds their size."""
    path = tmp_path / "beam.npz"
    np.savez(path, probeGuess=gaussian_probe(48, 13.5), object_pixel_size_m=PIXEL / 1.5)
    made = found(path)
    assert probe_overlap(made.probe, gaussian_probe(N, 9.0)) > 0.9999
    assert "48 to 32 pixels a side, pixels of" in made.sentence


def test_pixels_that_nobody_tells_are_taken_for_the_same_window(tmp_path: Path) -> None:
    made = found(npy(tmp_path / "beam", gaussian_probe(64, 18.0)))
    assert probe_diameter(made.probe) == pytest.approx(probe_diameter(gaussian_probe(N, 9.0)), rel=0.02)
    assert "pixel sizes not known: taken for the same window" in made.sentence


@pytest.mark.slow
def test_the_folder_of_a_result_stands_for_the_result(tmp_path: Path, fixture_file: Path) -> None:
    result = ptycho.reconstruct(fixture_file, iterations=1, modes=None, refine_probe=False)
    result.save(tmp_path / "run")
    of_folder, of_file = found(tmp_path / "run"), found(tmp_path / "run" / "reconstruction.npz")
    assert np.array_equal(of_folder.probe, of_file.probe)


def test_files_that_have_none(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"nowhere\.npy: .*or optics, found neither; .*fzp:diameter=,outer="):
        found(tmp_path / "nowhere.npy")
    np.savez(tmp_path / "other.npz", speed=3)
    with pytest.raises(DataError, match=r"other\.npz: expected an array probeGuess or probe"):
        found(tmp_path / "other.npz")
    np.save(tmp_path / "dark.npy", np.zeros((N, N)))
    with pytest.raises(DataError, match=r"dark\.npy: expected a probe with light"):
        found(tmp_path / "dark.npy")


def test_without_a_source_the_patterns_are_asked() -> None:
    rng = np.random.default_rng(0)
    data = scan()
    data = RawData(
        data.xcoords, data.ycoords, None, None, rng.poisson(data.diff3d * np.hanning(N)[:, None]), None, units="counts"
    )
    made = find_probe(data, refine_scan)
    assert made.sentence.startswith("Probe found in the patterns: ")
    assert len(made.tried) > 20
    assert np.sum(np.abs(made.probe) ** 2) == pytest.approx(data.mean_energy, rel=1e-5)
