"""Photon energy, wavelength and the size of an object pixel: where metres and pixels of a scan meet.

`ptycho.core.geometry.pixel_positions` then makes pixels of metres.
"""

from __future__ import annotations

from math import isfinite

from ptycho.errors import DataError

__all__ = ["JOULES_PER_EV", "object_pixel_size_m", "wavelength_m"]

JOULES_PER_EV = 1.602176634e-19
"""Exact, by the definition of the ampere (SI, 2019)."""

_PLANCK_JS = 6.62607015e-34
_LIGHT_M_PER_S = 299792458.0


def wavelength_m(energy_eV: float) -> float:
    """Wavelength of a photon in metres, `h c / E`.

    >>> round(wavelength_m(12398.4198), 18)
    1e-10
    """
    return _PLANCK_JS * _LIGHT_M_PER_S / (_positive(energy_eV, "photon energy", "eV") * JOULES_PER_EV)


def object_pixel_size_m(energy_eV: float, distance_m: float, detector_pixel_m: float, N: int) -> float:
    """Size of an object pixel in the far field, `wavelength distance / (N detector_pixel)`, in metres.

    The relation is its own inverse: with the size of an object pixel in the place of the detector's it gives the
    detector pixel.

    Args:
        energy_eV: photon energy.
        distance_m: sample to detector.
        detector_pixel_m: side of a detector pixel.
        N: side of the patterns, pixels.

    Raises:
        DataError: a number that is not positive and finite.

    >>> round(object_pixel_size_m(12398.4198, 2.0, 50e-6, 200), 14)
    2e-08
    """
    distance = _positive(distance_m, "sample to detector distance", "m")
    pixel = _positive(detector_pixel_m, "pixel size", "m")
    return wavelength_m(energy_eV) * distance / (_positive(N, "side of the patterns", "pixels") * pixel)


def _positive(value: float, what: str, unit: str) -> float:
    if not (isfinite(value) and value > 0):
        raise DataError(f"{what}: expected {unit} above 0, found {value}; correct the geometry")
    return float(value)
