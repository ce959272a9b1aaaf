"""Images of a microscope that lights a known sample from many angles, for Fourier ptychography."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.core.physics.fourier_ptychography import Microscope, sample_of, spectrum_of
from ptycho.core.simulation.exposure import ScanPlan, expose
from ptycho.core.simulation.objects import make_object

__all__ = ["LitSample", "lit_sample"]

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class LitSample:
    """The images, and the truth behind them."""

    images: NDArray[np.uint32]
    """(k, n, n) photon counts."""
    sines: NDArray[np.float64]
    """(k, 2) direction of each LED as the microscope's owner has it."""
    sample: NDArray[np.complex64]
    """(L, L) the sample as far as the pupils of all LEDs reach."""
    whole: NDArray[np.complex64]
    """(L, L) the sample itself."""
    pupil: NDArray[np.complex128]
    """(n, n) with its aberrations, 1 where it is clear."""


def lit_sample(
    microscope: Microscope,
    sines: NDArray[np.float64],
    n: int,
    *,
    photons: float = 1e6,
    aberrations: float = 0.0,
    kind: str = "dead_leaves",
    phase: tuple[float, float] = (0.0, 1.0),
    position_error_px: float = 0.0,
    turned_deg: float = 0.0,
    flicker: float = 0.0,
    background: float = 0.0,
    seed: int = 0,
) -> LitSample:
    """Simulate the images of a sample of `ptycho.core.simulation.objects`.

    Args:
        microscope: its optics.
        sines: (k, 2) direction of each LED.
        n: pixels of an image.
        photons: of an image, the mean of all.
        aberrations: radians rms of defocus, besides half as much coma and astigmatism.
        kind, phase: of the sample, whose amplitude goes from 0.5 to 1.
        position_error_px: standard deviation of where LEDs really are, pixels of the spectrum.
        turned_deg: degrees by which the board of LEDs is turned.
        flicker: standard deviation of the logarithm of the brightness of an LED.
        background: counts of every pixel beside.
        seed: of everything that is random.
    """
    rng = np.random.default_rng(seed)
    x, y, side = microscope.places(sines, n)
    whole = make_object(kind, (side, side), rng, (0.5, 1.0), phase)
    spectrum = spectrum_of(whole)
    pupil = (microscope.disk(n) * np.exp(1j * _aberrations(microscope, n, aberrations))).astype(np.complex128)
    angle, middle = float(np.deg2rad(turned_deg)), side // 2
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    true = np.stack([x - middle, y - middle], axis=1) @ turn.T + rng.normal(0, position_error_px, (len(x), 2)) + middle
    plan = ScanPlan(
        *(spectrum, pupil.conj(), x, y, photons),
        units="counts",
        xcoords_true=true[:, 0],
        ycoords_true=true[:, 1],
        noise=False,
    )
    expected = expose(plan, rng).diffraction * np.exp(rng.normal(0, flicker, len(x)))[:, None, None] + background
    k, seen = np.arange(side) - middle, np.zeros((side, side), bool)
    for column, row in true - middle:
        seen |= np.hypot(k[:, None] - row, k[None, :] - column) <= microscope.radius_px(n)
    found = sample_of(np.where(seen, spectrum, 0)).astype(np.complex64)
    return LitSample(rng.poisson(expected).astype(np.uint32), sines, found, whole.astype(np.complex64), pupil)


def _aberrations(microscope: Microscope, n: int, strength: float) -> Array:
    """Phase of the pupil (n, n), radians: Zernike's defocus, coma along x and oblique astigmatism, rms each."""
    k = (np.arange(n) - n // 2) / microscope.radius_px(n)
    rho, theta = np.hypot(k[:, None], k[None, :]), np.arctan2(k[:, None], k[None, :])
    defocus, coma = np.sqrt(3) * (2 * rho**2 - 1), np.sqrt(8) * (3 * rho**3 - 2 * rho) * np.cos(theta)
    return strength * (defocus + (coma + np.sqrt(6) * rho**2 * np.sin(2 * theta)) / 2)
