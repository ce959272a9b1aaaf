"""Real scans: with the right axes and signs refinement explains them, with any wrong orientation it cannot."""

from pathlib import Path

import pytest

from ptycho.raw_data import RawData
from ptycho_torch.refine import refine

FLIPS = [(transpose, up, left) for transpose in (False, True) for up in (False, True) for left in (False, True)]


def turned(scan: RawData, transpose: bool, up: bool, left: bool) -> RawData:
    """The scan with its positions turned and its patterns left alone."""
    x, y = (scan.ycoords, scan.xcoords) if transpose else (scan.xcoords, scan.ycoords)
    x, y = (x.max() - x if left else x), (y.max() - y if up else y)
    return RawData(x, y, None, None, scan.diff3d, scan.probeGuess, mask=scan.mask, units=scan.units)


def final_error(scan: RawData, iterations: int) -> float:
    return refine(scan, None, iterations, tolerance=0).error_history[-1]


@pytest.mark.slow
def test_tungsten_is_explained_in_its_own_orientation_alone(scan_dir: Path) -> None:
    scan = RawData.from_file(scan_dir / "tungsten_64.npz")
    errors = [final_error(turned(scan, *flip), 40) for flip in FLIPS]
    assert errors[0] < 0.012
    assert min(errors[1:]) > 2 * errors[0]
