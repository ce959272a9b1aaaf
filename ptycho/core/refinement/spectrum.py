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

from ptycho.core.refinement.preconditioner import ILLUMINATION_FLOOR, illumination

__all__ = ["SpectrumPreconditioner"]

Array = NDArray[Any]

DAMPING = 1e-6
"""Added to the curvature of a function of the pupil, relative to their mean."""


class SpectrumPreconditioner:
    """`ptycho.core.refinement.preconditioner.Preconditioner` for a spectrum and its pupil.

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
        power, seen = image.real**2 + image.imag**2, np.zeros((n, n))
        for row, col in zip(rows.tolist(), cols.tolist(), strict=True):
            seen += power[row : row + n, col : col + n]
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
