"""The error of an object on the patterns of a scan: by hand, by block, by mask."""

import numpy as np
import pytest

from ptycho.core.physics.diffraction import diffract
from ptycho.core.physics.patches import extract_rounded
from ptycho.core.physics.recording import Recording
from ptycho.core.quality.diffraction_error import diffraction_error, least_squares_scale
from ptycho.core.scan.stream import Frames
from ptycho.core.simulation.plan import make_scan
from ptycho.errors import DataError


def test_a_scan_is_explained_by_its_truth_up_to_noise() -> None:
    scan = make_scan("lines", 100, 32, 9, 2, 1e5, 0, "counts")
    frames = Frames.of(scan.diffraction)
    parts = (scan.probe, scan.xcoords, scan.ycoords)
    right = diffraction_error(scan.object, *parts, frames, "counts")
    assert 1e-4 < right < 5e-3
    assert diffraction_error(2 * scan.object, *parts, frames, "counts") == pytest.approx(1.0, abs=0.01)
    amplitude = Frames.of(np.sqrt(scan.diffraction))
    assert diffraction_error(scan.object, *parts, amplitude, "amplitude") == pytest.approx(right, rel=1e-5)


def test_masked_pixels_do_not_count() -> None:
    scan = make_scan("lines", 100, 32, 9, 2, 1e5, 0, "counts")
    spoilt = scan.diffraction.copy()
    spoilt[:, 3, 4] = 10**6
    mask = np.ones((32, 32), bool)
    mask[3, 4] = False
    parts = (scan.object, scan.probe, scan.xcoords, scan.ycoords, Frames.of(spoilt), "counts")
    assert diffraction_error(*parts) > 0.5
    assert diffraction_error(*parts, mask) < 5e-3
    with pytest.raises(DataError, match="found none"):
        diffraction_error(*parts, np.zeros((32, 32), bool))


def test_a_result_of_another_scan_is_refused() -> None:
    frames = Frames.of(np.ones((3, 8, 8)))
    with pytest.raises(DataError, match="2 positions, a probe of 8 pixels"):
        diffraction_error(np.ones((20, 20)), np.ones((8, 8)), np.zeros(2), np.zeros(2), frames, "counts")


@pytest.mark.parametrize("planted", [0.31, 1.0, 2.5])
def test_a_planted_scale_is_found(planted: float) -> None:
    scan = make_scan("lines", 100, 32, 9, 2, 1e5, 0, "counts")
    amplitude, positions = np.sqrt(scan.diffraction.astype(float)), (scan.xcoords, scan.ycoords)
    found = least_squares_scale(planted * scan.object, scan.probe, positions, amplitude.__getitem__)
    assert found == pytest.approx(1 / planted, rel=1e-3)  # 1e5 photons a pattern


def test_the_scale_is_that_of_least_squares(rng: np.random.Generator) -> None:
    """By NumPy's own solver, on the patterns and pixels that count, of an object that does not fit."""
    scan = make_scan("lines", 100, 32, 9, 2, 1e5, 0, "counts")
    amplitude, positions = np.sqrt(scan.diffraction.astype(float)), (scan.xcoords, scan.ycoords)
    image = scan.object * np.exp(0.4j * rng.standard_normal(scan.object.shape))
    mask, chosen = rng.random((32, 32)) > 0.2, np.array([1, 4, 5, 11])
    patches, dx, dy = extract_rounded(image, scan.xcoords[chosen], scan.ycoords[chosen], 32)
    column = diffract(scan.probe, patches, dx, dy)[:, mask].reshape(-1, 1)
    (expected,) = np.linalg.lstsq(column, scan.diffraction[chosen][:, mask].reshape(-1), rcond=None)[0]
    measured = np.where(mask, amplitude, 0)
    found = least_squares_scale(image, scan.probe, positions, measured.__getitem__, mask, chosen)
    assert found == pytest.approx(np.sqrt(expected), rel=1e-6)
    each = np.broadcast_to(mask, (len(amplitude), 32, 32))
    assert least_squares_scale(image, scan.probe, positions, measured.__getitem__, each, chosen) == pytest.approx(found)


def test_without_light_there_is_no_scale() -> None:
    dark, positions = np.zeros((2, 8, 8)), (np.full(2, 9.0), np.full(2, 9.0))
    with pytest.raises(DataError, match="scale: expected light"):
        least_squares_scale(np.ones((20, 20)), np.ones((8, 8)), positions, dark.__getitem__)


def test_a_planted_scale_is_found_under_a_known_beam_and_background(rng: np.random.Generator) -> None:
    scan = make_scan("lines", 100, 32, 9, 2, 1e5, 0, "counts")
    known = Recording(rng.uniform(0.5, 1.5, len(scan.xcoords)), background=rng.uniform(5, 15, (32, 32)))
    patches, dx, dy = extract_rounded(scan.object, scan.xcoords, scan.ycoords, 32)
    amplitude = np.sqrt(diffract(scan.probe, patches, dx, dy, known))
    parts = 0.7 * scan.object, scan.probe, (scan.xcoords, scan.ycoords), amplitude.__getitem__
    chosen = np.array([7, 2, 11])
    assert least_squares_scale(*parts, recording=known) == pytest.approx(1 / 0.7, rel=1e-5)
    assert least_squares_scale(*parts, chosen=chosen, recording=known) == pytest.approx(1 / 0.7, rel=1e-5)
    assert abs(least_squares_scale(*parts, chosen=chosen) - 1 / 0.7) > 0.01
