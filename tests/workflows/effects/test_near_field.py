"""Near-field scans from their file to an object: the magnification, the pixels, the truth."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import ptycho
from ptycho.core.formats import registry
from ptycho.core.formats.assembled import as_near_field
from ptycho.core.formats.record import ScanRecord, completed, in_pixels
from ptycho.core.formats.scan_npz import record_of
from ptycho.core.physics.near_field import NearField, fresnel_number
from ptycho.core.quality.score import score
from ptycho.core.refinement.run import refine_scan
from ptycho.core.refinement.trust import ON_HOST
from ptycho.core.scan.stream import Frames, ScanStream
from ptycho.core.scan_edit.detector import bin_detector, crop_detector
from ptycho.core.units import object_pixel_size_m, wavelength_m
from ptycho.errors import ConfigError, DataError
from ptycho.raw_data import RawData
from ptycho.workflows.effects.near_field import with_magnification
from ptycho.workflows.iteration.find_probe import find_probe
from ptycho.workflows.scan_part import telling_part
from ptycho.workflows.trust import scan_trust

N = 48
ENERGY, DISTANCE, PIXEL, MAGNIFICATION = 9e3, 1.5, 50e-6, 120.0
SETTINGS = {"probe": "diffuser", "seed": 1, "N": N, "shape": (96, 96), "step": 6.0, "photons": 1e6}
SAMPLE = {"kind": "siemens_star", "amplitude": (0.7, 1.0), "phase": (-0.8, 0.8)}


@pytest.fixture(scope="module")
def simulated() -> RawData:
    return ptycho.simulate(fresnel_number=0.3, **SETTINGS, **SAMPLE)


def recorded(scan: RawData) -> ScanRecord:
    """The same behind a point source: positions in metres, the geometry as a far field has it."""
    pixel = PIXEL / MAGNIFICATION
    x, y = ((values - 40) * pixel for values in (scan.xcoords, scan.ycoords))
    known = {"energy_eV": ENERGY, "distance_m": DISTANCE, "detector_pixel_m": PIXEL}
    return ScanRecord(
        patterns=Frames.of(scan.diff3d), units="amplitude", xcoords=x, ycoords=y, position_unit="m", **known
    )


def test_pixels_are_those_of_the_detector_seen_from_the_source(simulated: RawData) -> None:
    record = as_near_field(recorded(simulated), MAGNIFICATION)
    made = in_pixels(record, "test")
    near = NearField.of(made.metadata)
    assert made.object_pixel_m == pytest.approx(PIXEL / MAGNIFICATION)
    assert near is not None
    assert near.fresnel_number == pytest.approx(fresnel_number(wavelength_m(ENERGY), DISTANCE, PIXEL, MAGNIFICATION))
    assert near.wavelength_px == pytest.approx(wavelength_m(ENERGY) / (PIXEL / MAGNIFICATION))
    for found, true in ((made.xcoords, simulated.xcoords), (made.ycoords, simulated.ycoords)):
        np.testing.assert_allclose(found - found[0], true - true[0], atol=1e-9)
    assert completed(made) is made


def test_pixels_of_a_far_field_become_those_of_the_near(simulated: RawData, tmp_path: Path) -> None:
    """A scan file that was written as a far field, with a probe that belongs to other pixels."""
    far = replace(recorded(simulated), probe=np.ones((1, N, N), complex))
    path = tmp_path / "scan.npz"
    registry.write(path, far)
    written = registry.read(path)
    assert written.position_unit == "px"
    assert written.object_pixel_m == pytest.approx(object_pixel_size_m(ENERGY, DISTANCE, PIXEL, N))
    scan = ptycho.load_scan(path, near_field=MAGNIFICATION)
    assert not scan.has_probe
    np.testing.assert_allclose(scan.xcoords - scan.xcoords[0], simulated.xcoords - simulated.xcoords[0], atol=1e-6)
    assert scan.known_metadata["object_pixel_m"] == pytest.approx(PIXEL / MAGNIFICATION)
    # what is near field stays that in a scan file, and goes into no other
    scan.to_file(path)
    again = ptycho.load_scan(path)
    assert again.near_field == scan.near_field
    np.testing.assert_array_equal(again.xcoords, scan.xcoords)
    with pytest.raises(DataError, match="found near field, which CXI would not say; write a scan NPZ"):
        registry.write(tmp_path / "scan.cxi", registry.read(path))


def test_what_needs_a_far_field_says_so(simulated: RawData) -> None:
    stream = ScanStream.of(simulated.scan_file())
    with pytest.raises(ConfigError, match="expected patterns of the far field, found near field"):
        crop_detector(stream, 32)
    with pytest.raises(ConfigError, match="expected patterns of the far field, found near field"):
        bin_detector(stream, 2, "amplitude")
    with pytest.raises(DataError, match="which networks are for, found near field"):
        simulated.generate_grouped_data(N)


def test_the_patterns_tell_the_magnification(simulated: RawData) -> None:
    made = with_magnification(recorded(simulated), "scan.cxi")
    assert made.magnification == pytest.approx(MAGNIFICATION, rel=0.03)
    known = record_of(simulated.scan_file(), {})
    assert with_magnification(known, "scan.npz") is known


def test_what_cannot_be_is_one_line(simulated: RawData) -> None:
    record = recorded(simulated)
    with pytest.raises(DataError, match=r"near field: expected the distance from sample to .* give --distance-m"):
        completed(as_near_field(replace(record, distance_m=None), 2.0))
    with pytest.raises(DataError, match=r"scan.cxi: near field: expected the size of a .* give --detector-pixel-um"):
        with_magnification(replace(record, detector_pixel_m=None), "scan.cxi")
    still = replace(record, patterns=Frames.of(np.repeat(simulated.diff3d[:1], len(simulated), axis=0)))
    with pytest.raises(DataError, match=r"expected shadows that move with the scan, found none .* --near-field M"):
        with_magnification(still, "scan.cxi")
    with pytest.raises(ConfigError, match="expected a magnification above 0, found -1"):
        as_near_field(record, -1.0)


def truth_error(image: np.ndarray, truth: np.ndarray) -> float:
    """Complex error of the middle of an object, where light was; a tilt of the beam moves it by a pixel or two."""
    return score(image, truth, (30, 66, 30, 66), None).complex_nrmse


@pytest.mark.parametrize(("fresnel", "iterations", "own_probe"), [(0.05, 30, True), (0.15, 30, False)])
def test_an_object_is_found_with_its_probe(fresnel: float, iterations: int, own_probe: bool) -> None:
    scan = ptycho.simulate(fresnel_number=fresnel, **{**SETTINGS, "photons": 1e7}, **SAMPLE)
    assert scan.near_field == NearField(fresnel)
    begun = scan.with_probe(find_probe(scan, refine_scan).probe) if own_probe else scan
    found = refine_scan(begun, None, iterations, dtype=np.float32)
    error = truth_error(found.object, scan.objectGuess)
    assert error < 0.1


def test_taken_for_a_far_field_it_is_nothing(simulated: RawData) -> None:
    """And an object found so is judged as a near field's."""
    far = RawData(
        *(simulated.xcoords, simulated.ycoords, None, None, simulated.diff3d, simulated.probeGuess),
        mask=simulated.mask,
        units="amplitude",
    )
    found = refine_scan(far, None, 8, dtype=np.float32)
    assert truth_error(found.object, simulated.objectGuess) > 0.3
    trust = scan_trust(found.object, found.probe, found.xcoords, found.ycoords, simulated, 1e6, ON_HOST)
    assert trust.grade == "fails"


def test_parts_of_a_scan_stay_near_fields_and_the_truth_explains_them(simulated: RawData) -> None:
    part = telling_part(simulated).scan
    assert part.near_field == simulated.near_field
    trust = scan_trust(
        simulated.objectGuess, simulated.probeGuess, simulated.xcoords, simulated.ycoords, simulated, 1e6, ON_HOST
    )
    assert trust.overall_ratio == pytest.approx(1, abs=0.02)
