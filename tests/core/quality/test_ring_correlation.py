"""Fourier ring correlation: curves and thresholds by hand."""

import numpy as np
import pytest

from ptycho.core.quality.ring_correlation import FrcCurve, frc
from ptycho.errors import DataError


def curve(correlation: list[float], pixels: int = 100) -> FrcCurve:
    rings = len(correlation)
    return FrcCurve(np.linspace(0, 0.5, rings), np.array(correlation), np.full(rings, pixels))


def test_an_image_agrees_with_itself_at_any_scale_and_disagrees_with_its_negative(rng: np.random.Generator) -> None:
    image = rng.normal(size=(16, 20))
    found = frc(image, 3 * image + 7)
    np.testing.assert_allclose(found.correlation, 1)
    assert (found.frequency[-1], len(found.frequency), found.cutoff()) == (0.5, 9, 0.5)
    np.testing.assert_allclose(frc(image, -image).correlation, -1)


def test_the_first_crossing_is_interpolated() -> None:
    assert curve([1, 0.75, 0.25, 0.8, 0]).cutoff() == pytest.approx(0.1875)
    assert curve([1, 0.75, 0.25, 0.8, 0]).cutoff(above=0.3) == pytest.approx(0.375 + 0.125 * 0.3 / 0.8)
    assert curve([0, 0.1, 0.2]).cutoff() == 0.25  # below from the first ring that counts


def test_thresholds_are_those_of_the_formula() -> None:
    found, root = curve([1, 1]), 10.0
    np.testing.assert_allclose(found.one_bit(), (0.5 + 2.4142 / root) / (1.5 + 1.4142 / root), rtol=1e-4)
    np.testing.assert_allclose(found.half_bit(), (0.2071 + 1.9102 / root) / (1.2071 + 0.9102 / root), rtol=1e-4)


def test_unequal_shapes() -> None:
    with pytest.raises(DataError):
        frc(np.ones((4, 4)), np.ones((4, 5)))


def test_neighbouring_rings_are_averaged_by_their_pixels() -> None:
    curve = FrcCurve(np.arange(5) / 8, np.array([1.0, 0.5, -0.5, 1.0, 0.0]), np.array([1, 8, 12, 16, 30]))
    expected = [1.0, (4 - 6) / 20, (4 - 6 + 16) / 36, (-6 + 16) / 58, 16 / 46]
    np.testing.assert_allclose(curve.smoothed(3).correlation, expected)
