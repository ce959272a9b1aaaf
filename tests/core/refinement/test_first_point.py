"""What a refinement begins with fits the scan, is finite and not dark."""

from typing import Any

import numpy as np
import pytest

from ptycho.core.geometry import ObjectFrame
from ptycho.core.physics.near_field import NearField
from ptycho.core.refinement.run import refine_scan
from ptycho.core.simulation.plan import make_scan
from ptycho.errors import DataError
from ptycho.raw_data import RawData

N = 16


@pytest.fixture(scope="module")
def scan() -> RawData:
    made = make_scan("lines", 36, N, 6.0, 0.5, 1e4, 4)
    return RawData(made.xcoords, made.ycoords, None, None, made.diffraction, made.probe, units="amplitude")


@pytest.fixture(scope="module")
def frame(scan: RawData) -> ObjectFrame:
    return refine_scan(scan, iterations=1).frame


def test_shapes_that_do_not_belong_together(scan: RawData) -> None:
    with pytest.raises(DataError, match=r"start: expected an object of the frame's shape \(\d+, \d+\), found \(9, 9\)"):
        refine_scan(scan, np.ones((9, 9)))
    with pytest.raises(DataError, match=r"probe: expected shape \(M, 16, 16\)"):
        refine_scan(scan, probe=np.ones((8, 8)))
    with pytest.raises(DataError, match=rf"flux: expected {len(scan)} finite numbers above 0"):
        refine_scan(scan, flux=np.ones(len(scan) + 1))
    with pytest.raises(DataError, match=r"background: expected \(16, 16\) finite numbers, none below 0"):
        refine_scan(scan, background=np.full((N, N), -1.0))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_one_line(scan: RawData, frame: ObjectFrame, value: float) -> None:
    spoiled = np.ones(frame.shape, complex)
    spoiled[3, 4] = value
    probe = np.array(scan.probeGuess, complex)
    probe[0, 0] = value
    with pytest.raises(DataError, match="start: expected finite values, found NaN or infinity"):
        refine_scan(scan, spoiled)
    with pytest.raises(DataError, match="probe: expected finite values"):
        refine_scan(scan, probe=probe)


def test_nothing_is_refined_from_the_dark(scan: RawData, frame: ObjectFrame) -> None:
    with pytest.raises(DataError, match="start: expected a value that is not 0"):
        refine_scan(scan, np.zeros(frame.shape), frame=frame)
    with pytest.raises(DataError, match="probe: expected a value that is not 0"):
        refine_scan(scan, probe=np.zeros((N, N)))


def test_a_result_brings_its_place_and_what_was_found_of_the_recording(scan: RawData) -> None:
    flux = np.linspace(0.9, 1.1, len(scan))
    first = refine_scan(scan, iterations=2, flux=flux, background=np.full((N, N), 0.5))
    more = refine_scan(scan, first, 1)
    assert more.frame == first.frame
    np.testing.assert_array_equal(more.flux, flux)
    np.testing.assert_array_equal(more.background, first.background)
    np.testing.assert_array_equal(refine_scan(scan, first, 1, flux=np.ones(len(scan))).flux, 1)
    assert more.error_history[0] == pytest.approx(first.error_history[-1], rel=1e-4)


def test_what_the_scan_knows_is_where_nobody_says_more(scan: RawData) -> None:
    """Those given come first, then those of a start, then the scan's."""
    flux, background = 1 + 0.1 * np.arange(len(scan)) / len(scan), np.full((N, N), 0.25)
    known = scan.with_recording(flux, background)
    found = refine_scan(known, iterations=1)
    np.testing.assert_allclose(found.flux, flux)
    np.testing.assert_array_equal(found.background, background)
    assert found.error_history == refine_scan(scan, iterations=1, flux=flux, background=background).error_history
    other = refine_scan(known, refine_scan(scan, iterations=1), 1, background=2 * background)
    assert (other.flux == 1).all() and (other.background == 0.5).all()


def test_a_blur_that_the_scan_knows(scan: RawData) -> None:
    """A refinement without one has found that there is none; an object that is given says nothing of it."""
    known, sharp = scan.with_recording(blur=0.6), refine_scan(scan, iterations=1)
    found = refine_scan(known, iterations=1)
    assert found.blur == 0.6
    assert found.error_history == refine_scan(scan, iterations=1, blur=0.6).error_history
    assert refine_scan(known, iterations=1, blur=0).error_history == sharp.error_history
    assert refine_scan(known, sharp, 1).blur is None and refine_scan(scan, found, 1).blur == 0.6
    assert refine_scan(known, sharp.object, 1, frame=sharp.frame).blur == 0.6


@pytest.mark.parametrize("factor", [1e-3, 1e3])
@pytest.mark.parametrize("thick", [{}, {"slices": 2, "gap": NearField(0.5)}])
def test_a_probe_in_another_unit_begins_where_one_in_the_right_unit_does(
    scan: RawData, factor: float, thick: dict[str, Any]
) -> None:
    """From an object of 1 under a probe a thousand times too bright, ten iterations lead nowhere."""
    usual = refine_scan(scan, None, 10, refine_probe=False, **thick)
    other = RawData(
        scan.xcoords, scan.ycoords, None, None, scan.amplitude(), factor * scan.probeGuess, units="amplitude"
    )
    found = refine_scan(other, None, 10, refine_probe=False, **thick)
    assert found.error_history[-1] < 1.5 * usual.error_history[-1]
    middle, of_each = (..., slice(12, 24), slice(12, 24)), factor ** (1 / found.object[..., 0, 0].size)
    assert of_each * np.abs(found.object[middle]).mean() == pytest.approx(np.abs(usual.object[middle]).mean(), rel=0.05)


def test_light_beside_that_of_the_object_does_not_make_the_first_object_bright(scan: RawData) -> None:
    """With twelve times the light of the probe beside it all pixels together are too bright, those of the beam not."""
    light = np.square(scan.amplitude(), dtype=np.float64)
    bright = np.sqrt(light + 12 * light.sum(axis=(1, 2)).mean() / scan.N**2).astype(np.float32)
    other = RawData(scan.xcoords, scan.ycoords, None, None, bright, scan.probeGuess, units="amplitude")
    flat = np.ones(refine_scan(scan, iterations=1).frame.shape, np.complex64)
    assert refine_scan(other, None, 1).error_history[0] == refine_scan(other, flat, 1).error_history[0]
