"""Steps of Fourier ptychography: the object is a spectrum, the probe a pupil.

In a spectrum neighbouring pixels say nothing of each other, so that it has no slow modulations to be made faster, which
`preconditioner` does for objects in space. A pupil is smooth, and one pixel of the spectrum, the unscattered light,
outshines all others: where that lies in none of the images a pupil that is free pixel by pixel hardly moves, and takes
up noise. So it moves in a few smooth functions, by their own normal equations.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.core.refinement.device.kernels import Point
from ptycho.core.refinement.steps.gauge import probe_amplitude
from ptycho.core.refinement.steps.preconditioner import ILLUMINATION_FLOOR, illumination, transmission

__all__ = ["SpectrumPreconditioner", "equal_brightness", "evenly_lit"]

Array = NDArray[Any]

CLEAR = 0.3
"""Amplitude of a pupil, relative to its greatest, from which on it counts as open."""
PHOTONS = 3.0
"""For each pixel of the pupil, that say that all LEDs are equally bright."""
DAMPING = 1e-6
"""Added to the curvature of a function of the pupil, relative to their mean."""


class SpectrumPreconditioner:
    """`ptycho.core.refinement.steps.preconditioner.Preconditioner` for a spectrum and its pupil.

    Args:
        image: spectrum `(H, W)`.
        probe: pupil `(M, N, N)`.
        rows, cols: first pixel of each patch, integers `(n,)`.
        functions: `(K, N, N)` orthonormal, that the pupil moves in.
    """

    def __init__(
        self, image: Array, probe: Array, rows: NDArray[np.int64], cols: NDArray[np.int64], functions: Array
    ) -> None:
        n = probe.shape[-1]
        light = (probe.real**2 + probe.imag**2).sum(axis=0)
        weight = illumination(light, rows, cols, image.shape)
        self._inverse = 1 / (weight + ILLUMINATION_FLOOR * weight.max())
        seen = transmission(image, rows, cols, n, np.float64)
        self._functions = functions.reshape(len(functions), -1)
        curvature = (self._functions * seen.ravel()) @ self._functions.T
        damping = DAMPING * float(np.trace(curvature)) / len(curvature)
        self._held = np.linalg.inv(curvature + damping * np.eye(len(curvature)))

    def object_step(self, gradient: Array, image: Array) -> Array:
        """Map the gradient `(H, W)` with respect to the spectrum."""
        return gradient * self._inverse

    def probe_step(self, gradient: Array, probe: Array) -> Array:
        """Map the gradient `(M, N, N)` with respect to the pupil."""
        along = gradient.reshape(len(gradient), -1) @ self._functions.T
        return ((along @ self._held) @ self._functions).reshape(gradient.shape).astype(gradient.dtype)


def equal_brightness(pupil: Array, variance: float) -> float:
    """Curvature of the likelihood, in the logarithm of the root of a brightness, that says that all LEDs are alike.

    An image in which few photons stand against the pixels of the spectrum behind it says little of its brightness: the
    noise that these take up counts as light, and the more so the fewer images share them. So the brightness of faint
    images would fall, and the spectrum there rise. It is held as `PHOTONS` photons for each pixel of the pupil would.

    Args:
        pupil: `(M, n, n)`.
        variance: of an amplitude, a quarter of a photon.
    """
    return PHOTONS * 4 * variance * float(np.count_nonzero(_open(probe_amplitude(pupil))))


def evenly_lit(point: Point, flux: Array) -> tuple[Point, Array]:
    """A point whose pupil is as bright on one side as on the other, with the flux of its images.

    `P(k) exp(-a k)`, `S(k) exp(a k)` and the flux times `exp(-2 a k_j)`, k_j the place of an LED, make the very same
    images: a board of LEDs that is brighter on one side cannot be told from a pupil that is.

    Args:
        point: spectrum and pupil.
        flux: (n,) of the images.

    Returns:
        Both, the flux in a unit of its own.
    """
    n, (height, width) = point.probe.shape[-1], point.object.shape
    brightness = probe_amplitude(point.probe)
    rows, cols = np.nonzero(_open(brightness))
    beside = np.stack([np.ones(len(rows)), cols - n // 2, rows - n // 2], axis=1)
    _, ax, ay = np.linalg.lstsq(beside, np.log(brightness[rows, cols]), rcond=None)[0]

    def ramp(height: int, width: int) -> Array:
        x, y = np.arange(width) - width // 2, np.arange(height) - height // 2
        return np.exp(np.add.outer(ay * y, ax * x))

    image = (point.object * ramp(height, width)).astype(point.object.dtype)
    probe = (point.probe / ramp(n, n)).astype(point.probe.dtype)
    away = ax * (point.x - width // 2) + ay * (point.y - height // 2)
    return point._replace(object=image, probe=probe), flux * np.exp(-2 * away)


def _open(amplitude: Array) -> NDArray[np.bool_]:
    """Where a pupil lets light through, by its amplitude `(n, n)`."""
    return np.asarray(amplitude > CLEAR * amplitude.max())
