"""The zero frequency is found by the probe, and by mass where the probe is another."""

import numpy as np
import pytest

from ptycho.core.physics.probes import disk_probe
from ptycho.core.scan.stream import Frames
from ptycho.core.scan_edit.centre import find_centre, mean_intensity
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
