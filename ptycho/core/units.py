"""Energy, wavelength and the size of an object pixel: where metres and pixels of a scan meet.

`ptycho.core.geometry.pixel_positions` then makes pixels of metres.
"""

from __future__ import annotations

from math import isfinite, sqrt
from typing import Literal

from ptycho.errors import DataError

__all__ = ["JOULES_PER_EV", "Particle", "object_pixel_size_m", "photon_energy_eV", "same_wavelength_eV", "wavelength_m"]

Particle = Literal["photon", "electron"]
"""What the beam is made of."""

JOULES_PER_EV = 1.602176634e-19
"""Exact, by the definition of the ampere (SI, 2019)."""

_PLANCK_JS = 6.62607015e-34
_LIGHT_M_PER_S = 299792458.0
_ELECTRON_REST_EV = 510998.95069
"""Rest energy of an electron (CODATA 2022)."""


def wavelength_m(energy_eV: float, particle: Particle = "photon") -> float:
    """Wavelength in metres: of a photon `h c / E`, of an electron `h c / sqrt(E (E + 2 m c^2))`.

    Args:
        energy_eV: energy of a photon, or kinetic energy of an electron (the accelerating voltage in V).
        particle: what the beam is made of.

    Raises:
        DataError: an energy that is not positive and finite.

    >>> round(wavelength_m(12398.4198), 18)
    1e-10
    >>> round(wavelength_m(300e3, "electron"), 16)
    1.9687e-12
    """
    photon_eV = same_wavelength_eV(energy_eV) if particle == "electron" else _positive(energy_eV, "energy", "eV")
    return _PLANCK_JS * _LIGHT_M_PER_S / (photon_eV * JOULES_PER_EV)


def photon_energy_eV(wavelength: float) -> float:
    """Energy of a photon in eV by its wavelength in metres, `h c / wavelength`.

    >>> round(photon_energy_eV(1e-10), 4)
    12398.4198
    """
    return _PLANCK_JS * _LIGHT_M_PER_S / (_positive(wavelength, "wavelength", "m") * JOULES_PER_EV)


def same_wavelength_eV(electron_eV: float) -> float:
    """Energy of the photon that has the wavelength of an electron of this kinetic energy, eV: `sqrt(E (E + 2 m c^2))`.

    Raises:
        DataError: an energy that is not positive and finite.
    """
    energy = _positive(electron_eV, "energy", "eV")
    return sqrt(energy * (energy + 2 * _ELECTRON_REST_EV))


def object_pixel_size_m(
    energy_eV: float, distance_m: float, detector_pixel_m: float, N: int, particle: Particle = "photon"
) -> float:
    """Size of an object pixel in the far field, `wavelength distance / (N detector_pixel)`, in metres.

    The relation is its own inverse: with the size of an object pixel in the place of the detector's it gives the
    detector pixel.

    Args:
        energy_eV: energy of the photons or electrons.
        distance_m: sample to detector.
        detector_pixel_m: side of a detector pixel.
        N: side of the patterns, pixels.
        particle: what the beam is made of.

    Raises:
        DataError: a number that is not positive and finite.

    >>> round(object_pixel_size_m(12398.4198, 2.0, 50e-6, 200), 14)
    2e-08
    """
    distance = _positive(distance_m, "sample to detector distance", "m")
    pixel = _positive(detector_pixel_m, "pixel size", "m")
    return wavelength_m(energy_eV, particle) * distance / (_positive(N, "side of the patterns", "pixels") * pixel)


def _positive(value: float, what: str, unit: str) -> float:
    if not (isfinite(value) and value > 0):
        raise DataError(f"{what}: expected {unit} above 0, found {value}; correct the geometry")
    return float(value)
