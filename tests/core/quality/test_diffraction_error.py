"""The error of an object on the patterns of a scan: by hand, by block, by mask."""

import numpy as np
import pytest

from ptycho.core.quality.diffraction_error import diffraction_error
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
