"""Energy, wavelength and object pixel, against numbers worked out by hand."""

import math

import pytest

from ptycho.core.units import object_pixel_size_m, photon_energy_eV, same_wavelength_eV, wavelength_m
from ptycho.errors import DataError


def test_wavelength_of_one_electronvolt() -> None:
    assert wavelength_m(1.0) == pytest.approx(1.2398419843320026e-6, rel=1e-15)
    assert photon_energy_eV(wavelength_m(8000.0)) == pytest.approx(8000.0, rel=1e-14)
    assert wavelength_m(8000.0) == pytest.approx(1.2398419843320026e-6 / 8000, rel=1e-15)


def test_electrons_are_relativistic() -> None:
    """The wavelengths of electron microscopes, pm: 60 kV 4.866, 100 kV 3.701, 200 kV 2.508, 300 kV 1.969."""
    for energy, known_pm in ((60e3, 4.866), (100e3, 3.701), (200e3, 2.508), (300e3, 1.969)):
        assert 1e12 * wavelength_m(energy, "electron") == pytest.approx(known_pm, abs=5e-4)
    # a slow electron has sqrt(h^2 / (2 m E)): 1.2264e-9 m at 1 eV
    assert wavelength_m(1.0, "electron") == pytest.approx(1.22642e-9, rel=1e-5)
    assert wavelength_m(same_wavelength_eV(300e3)) == pytest.approx(wavelength_m(300e3, "electron"), rel=1e-14)
    pixel = object_pixel_size_m(300e3, 0.1, 50e-6, 128, "electron")
    assert pixel == pytest.approx(1.9687489e-12 * 0.1 / (128 * 50e-6), rel=1e-7)


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
