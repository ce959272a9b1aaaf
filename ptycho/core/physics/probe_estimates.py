"""First guesses of a probe from the mean pattern, which is nearly the pattern of the bare beam."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ptycho.core.physics.diffraction import far_field
from ptycho.core.physics.near_field import NearField
from ptycho.core.physics.probes import disk_probe

__all__ = ["carried_back", "defocused_pupil", "filled_modulus", "light_radius", "light_side", "matching_disk"]

Array = NDArray[Any]

_DISKS = np.geomspace(0.04, 0.85, 24)
"""Diameters that are tried, over the side of the window."""
_FILL_PX = 2.0


def filled_modulus(mean: Array, valid: Array) -> NDArray[np.float64]:
    """Modulus of the mean beam on the detector: the root of the mean intensity, pixels without data filled in.

    A pixel that is never valid takes the Gaussian mean of valid ones around it, of two pixels and, where there is
    nothing, ever wider.

    Args:
        mean: (N, N) mean intensity, zero frequency at [N/2, N/2].
        valid: (N, N), True where a pixel was valid in some pattern.
    """
    known = np.maximum(np.where(valid, mean, 0.0), 0.0)
    width, missing = _FILL_PX, ~valid.astype(bool)
    while missing.any() and width < len(mean):
        weight = ndimage.gaussian_filter(valid.astype(np.float64), width, mode="constant")
        near = missing & (weight > 1e-3)
        known[near] = (ndimage.gaussian_filter(np.where(valid, mean, 0.0), width, mode="constant"))[near] / weight[near]
        missing, width = missing & ~near, 2 * width
    return np.sqrt(np.maximum(known, 0.0))


def light_radius(modulus: Array, share: float = 0.9) -> float:
    """Radius in pixels, at least 1, of the disk around the zero frequency that holds this share of the light."""
    line = np.arange(len(modulus)) - len(modulus) // 2
    radius = np.hypot(line[:, None], line).ravel()
    return max(1.0, _reach(radius, modulus.ravel() ** 2, share))


def light_side(modulus: Array, share: float) -> int:
    """Even side of the central square that holds this share of the light, at most N."""
    line = np.abs(np.arange(len(modulus)) - len(modulus) // 2)
    ring = np.maximum(line[:, None], line).ravel().astype(np.float64)
    return min(len(modulus), 2 * (int(_reach(ring, modulus.ravel() ** 2, share)) + 1))


def carried_back(modulus: Array, near_field: NearField) -> NDArray[np.complex64]:
    """The probe (1, N, N) whose near field has this modulus (N, N) and no phase: the bare beam, carried back."""
    spectrum = np.fft.fft2(modulus) * near_field.transfer_function(len(modulus)).conj()
    return np.fft.ifft2(spectrum)[None].astype(np.complex64)


def _reach(distance: Array, light: Array, share: float) -> float:
    order = np.argsort(distance, kind="stable")
    held = np.cumsum(light[order])
    return float(distance[order][np.searchsorted(held, share * held[-1])])


def defocused_pupil(modulus: Array, strength: float) -> NDArray[np.complex64]:
    """The beam of a pupil whose only phase is a defocus: `F^-1 [modulus exp(i pi strength q^2)]`, q detector pixels.

    A sample the distance z behind the focus has `strength = -wavelength z / (N pixel)^2`; the geometric width of the
    beam is `2 N |strength| R` pixels for a pupil of radius R.

    Args:
        modulus: (N, N), zero frequency at [N/2, N/2].
        strength: per square of a detector pixel.

    Returns:
        (N, N), its middle at index N/2, its energy that of the modulus.
    """
    line = np.arange(len(modulus)) - len(modulus) // 2
    phase = np.exp(1j * np.pi * strength * (line[:, None] ** 2 + line**2))
    beam = np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(modulus * phase), norm="ortho"))
    return beam.astype(np.complex64)


def matching_disk(modulus: Array) -> tuple[NDArray[np.complex64], float]:
    """The disk of flat phase whose far field looks most like a modulus (N, N): the correlation of both is largest.

    Returns:
        The disk, (N, N) with the energy of the modulus, and its diameter in pixels.
    """
    N, energy = len(modulus), float(np.sum(modulus**2))
    disks = [disk_probe(N, share * N, energy=energy) for share in _DISKS]
    best = int(np.argmax([float(np.sum(np.abs(far_field(disk)) * modulus)) for disk in disks]))
    return disks[best], float(_DISKS[best] * N)
