"""The zero frequency is found by the probe, and by mass where the probe is another."""

import numpy as np
import pytest

from ptycho.core.physics.probes import disk_probe
from ptycho.core.scan.stream import Frames
from ptycho.core.scan_edit.centre import PatternCentre, find_centre, mean_intensity
from ptycho.core.simulation.plan import make_scan


@pytest.mark.parametrize("shift", [(0, 0), (3, -5), (-32, -32)])
def test_a_planted_shift_is_found(shift: tuple[int, int]) -> None:
    scan = make_scan("smooth", 100, 64, 9, 2, 1e6, 0)
    mean = np.roll(mean_intensity(Frames.of(scan.diffraction), "amplitude"), shift, (0, 1))
    found = find_centre(mean, scan.probe)
    assert found.by_probe == pytest.approx(shift, abs=0.11)
    gap = (np.array(found.by_mass) - shift + 32) % 64 - 32  # on a torus
    assert gap == pytest.approx((0, 0), abs=0.5)
    assert found.likeness > 0.9
    assert find_centre(mean, disk_probe(64)).likeness < 0.6
    blind = find_centre(mean, None)
    assert (blind.by_probe, blind.likeness, blind.offset) == (None, None, found.by_mass)


def test_the_mean_counts_valid_and_finite_pixels_only() -> None:
    data = np.array([[[1.0, 2.0], [3.0, np.nan]], [[3.0, np.inf], [9.0, 5.0]]])
    mask = np.array([[[True, True], [True, True]], [[True, True], [False, True]]])
    np.testing.assert_array_equal(mean_intensity(Frames.of(data), "counts", mask), [[2, 2], [3, 5]])
    np.testing.assert_array_equal(mean_intensity(Frames.of(data), "amplitude", mask), [[5, 4], [9, 25]])


@pytest.mark.parametrize(
    ("offset", "shift"), [((0.4, -3.6), (0, 4)), ((31.2, -30.9), (32, 32)), ((-28.8, 30.0), (29, -30))]
)
def test_whole_pixels_bring_it_to_the_middle(offset: tuple[float, float], shift: tuple[int, int]) -> None:
    """About the corner by exactly half of the sides: a transform leaves it at [0, 0]."""
    assert PatternCentre(None, offset, None).shift((64, 64)) == shift


def test_a_probe_of_more_pixels_than_the_patterns_tells_their_centre() -> None:
    scan = make_scan("smooth", 100, 64, 9, 2, 1e6, 0)
    mean = mean_intensity(Frames.of(scan.diffraction), "amplitude")[8:48]
    found = find_centre(mean, scan.probe)
    assert found.offset == pytest.approx((4, 0), abs=0.2)
    assert find_centre(np.pad(mean, 20), scan.probe).by_probe is None
