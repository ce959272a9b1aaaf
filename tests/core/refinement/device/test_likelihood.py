"""Floors of intensities, and what the likelihoods are."""

import numpy as np
import pytest

from ptycho.core.physics.diffraction import deviance, diffract
from ptycho.core.physics.patches import extract_rounded
from ptycho.core.refinement.device.likelihood import FLOORS, check_finite, intensity_floor
from ptycho.errors import DataError

N = 16


def test_the_poisson_likelihood_is_a_quarter_of_the_deviance(small) -> None:
    point, scan = small.point, small.scan
    patches, dx, dy = extract_rounded(point.object, point.x, point.y, N)
    expected, counts = diffract(point.probe, patches, dx, dy), scan.amplitude().astype(float) ** 2
    floor = intensity_floor(scan, "poisson")
    mask = np.broadcast_to(scan.valid_mask, counts.shape)
    whole = deviance(counts + floor, expected + floor, mask).sum() / 4
    assert small.passes("poisson").error(point) * counts.sum() == pytest.approx(whole, rel=1e-10)


@pytest.mark.parametrize("likelihood", ["amplitude", "poisson"])
def test_the_floor_is_relative_to_the_mean_intensity_of_a_valid_pixel(small, likelihood) -> None:
    mean = (
        (small.scan.amplitude().astype(float) ** 2).sum()
        / np.count_nonzero(small.scan.valid_mask)
        / (len(small.scan) if small.scan.valid_mask.ndim == 2 else 1)
    )
    assert len(small.scan) <= 32
    assert intensity_floor(small.scan, likelihood) == pytest.approx(FLOORS[likelihood] * mean, rel=1e-6)


def test_what_is_not_finite_is_told() -> None:
    check_finite(3.0)
    with pytest.raises(DataError, match="expected finite values"):
        check_finite(float("nan"))
