"""Aberrations and free space: Zernike polynomials of a pupil, Fresnel propagation of a wave."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.errors import ConfigError

__all__ = ["aberration_phase", "fresnel_propagate", "noll_indices", "zernike"]

Field = NDArray[np.float64]


def noll_indices(j: int) -> tuple[int, int]:
    """Radial order n and azimuthal order m (negative: sine) of Zernike polynomial j = 1, 2, ... in Noll's order.

    Raises:
        ConfigError: j below 1.

    >>> [noll_indices(j) for j in (1, 2, 3, 4, 5, 8, 11)]
    [(0, 0), (1, 1), (1, -1), (2, 0), (2, -2), (3, 1), (4, 0)]
    """
    if j < 1:
        raise ConfigError(f"Zernike polynomial: expected Noll's index, 1 or more, found {j}; 4 is defocus")
    n = (math.isqrt(8 * j - 7) - 1) // 2
    place = j - n * (n + 1) // 2 - 1
    m = 2 * ((place + 1) // 2) if n % 2 == 0 else 2 * (place // 2) + 1
    return n, m if j % 2 == 0 else -m


def zernike(j: int, rho: Field, theta: Field) -> Field:
    """Zernike polynomial j in Noll's order, its mean square over the unit disk 1; not cut off outside of it.

    `Z = sqrt(n + 1) R_n^0(rho)` for m = 0, else `sqrt(2 (n + 1)) R_n^|m|(rho)` times `cos(m theta)` for even j and
    `sin(|m| theta)` for odd j.

    Args:
        j: Noll's index; 1 piston, 2 and 3 tilts, 4 defocus, 5 and 6 astigmatism, 7 and 8 coma, 11 spherical.
        rho: distance from the middle of the pupil, 1 at its edge.
        theta: angle from the x axis towards y, radians.

    Source: Noll, Zernike polynomials and atmospheric turbulence, J. Opt. Soc. Am. 66 (1976).
    """
    n, signed = noll_indices(j)
    m = abs(signed)
    radial = np.zeros(np.broadcast_shapes(rho.shape, theta.shape))
    for k in range((n - m) // 2 + 1):
        share = math.factorial(k) * math.factorial((n + m) // 2 - k) * math.factorial((n - m) // 2 - k)
        radial = radial + (-1) ** k * math.factorial(n - k) / share * rho ** (n - 2 * k)
    if m == 0:
        return math.sqrt(n + 1) * radial
    turn = np.cos(m * theta) if signed > 0 else np.sin(m * theta)
    return math.sqrt(2 * (n + 1)) * radial * turn


def aberration_phase(N: int, pupil_radius: float, aberrations: Mapping[int, float]) -> Field:
    """Phase of a pupil in radians, `sum_j a_j Z_j`, over an `(N, N)` detector plane, its middle at index N/2.

    Args:
        N: side, pixels.
        pupil_radius: rho = 1 there, detector pixels; the polynomials are held at their edge value beyond it,
            where a pupil with soft edges still lets some light through.
        aberrations: Noll's index -> coefficient, radians (root mean square over the pupil).
    """
    line = np.arange(N) - N // 2
    rho = np.minimum(np.hypot(line[:, None], line[None, :]) / pupil_radius, 1.0)
    theta = np.arctan2(line[:, None], line[None, :])
    return sum((a * zernike(j, rho, theta) for j, a in aberrations.items()), np.zeros((N, N)))


def fresnel_propagate(wave: NDArray[Any], distance: float) -> NDArray[Any]:
    """Propagate a wave through free space: `ifft2(fft2(psi) exp(-i pi L f^2))`, periodic and unitary.

    Paraxial (Fresnel) transfer function, without the common factor `exp(2 pi i z / lambda)`. It is exact on the
    grid as long as the wave stays inside its window, that is `L <= N` for a wave that fills the band.

    Args:
        wave: complex (..., H, W), index [y, x].
        distance: `L = lambda z / p^2`, wavelength times distance over the square of the pixel; negative goes back.

    Returns:
        complex (..., H, W), in the precision of `wave`.
    """
    fy, fx = np.fft.fftfreq(wave.shape[-2])[:, None], np.fft.fftfreq(wave.shape[-1])[None, :]
    transfer = np.exp(-1j * np.pi * distance * (fy**2 + fx**2))
    return np.fft.ifft2(np.fft.fft2(wave) * transfer).astype(np.result_type(wave, np.complex64), copy=False)
