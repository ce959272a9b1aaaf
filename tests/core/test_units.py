"""Energy, wavelength and object pixel, against numbers worked out by hand."""

import math

import pytest

from ptycho.core.units import object_pixel_size_m, wavelength_m
from ptycho.errors import DataError


def test_wavelength_of_one_electronvolt() -> None:
    assert wavelength_m(1.0) == pytest.approx(1.2398419843320026e-6, rel=1e-15)
    assert wavelength_m(8000.0) == pytest.approx(1.2398419843320026e-6 / 8000, rel=1e-15)


def test_object_pixel_by_hand() -> None:
    """1e-10 m * 1.5 m / (64 * 75e-6 m) = 3.125e-8 m; half the energy doubles it."""
    energy = 12398.419843320026
    assert object_pixel_size_m(energy, 1.5, 75e-6, 64) == pytest.approx(3.125e-8, rel=1e-14)
    assert object_pixel_size_m(energy / 2, 1.5, 75e-6, 64) == pytest.approx(6.25e-8, rel=1e-14)


def test_object_pixel_is_its_own_inverse() -> None:
    pixel = object_pixel_size_m(8800.0, 2.3, 172e-6, 128)
    assert object_pixel_size_m(8800.0, 2.3, pixel, 128) == pytest.approx(172e-6, rel=1e-14)


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
@pytest.mark.parametrize("place", range(3))
def test_numbers_that_are_no_geometry(place: int, value: float) -> None:
    numbers = [8000.0, 1.0, 1e-4]
    numbers[place] = value
    with pytest.raises(DataError, match="above 0, found"):
        object_pixel_size_m(*numbers, N=64)
