"""How much light, and how many patterns, an object's pixels have: what is known of their noise before any pattern."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.core.physics.diffraction import as_modes

__all__ = ["LEAST_LIGHT", "NoiseMap"]

Real = NDArray[np.float64]


LEAST_LIGHT = 0.02
"""Of the brightest pixel, below which nothing is thought of an object."""


@dataclass(frozen=True, eq=False)
class NoiseMap:
    """Of the pixels of an object."""

    light: Real
    """(H, W) `I = sum_j |P(r - r_j)|^2`, summed over modes, in the square of the unit of the amplitudes."""
    sharing: Real
    """(H, W) `I^2 / sum_j |P(r - r_j)|^4`, how many patterns share a pixel: 1 for a single one; 0 in the dark."""

    @property
    def lit(self) -> NDArray[np.bool_]:
        """(H, W) where there is enough light to think of an object."""
        return np.asarray(self.light > LEAST_LIGHT * self.light.max())

    @classmethod
    def of(cls, probe: NDArray[Any], xcoords: Real, ycoords: Real, shape: tuple[int, ...]) -> NoiseMap:
        """Of positions in whole pixels.

        Args:
            probe: (M, N, N) or (N, N).
            xcoords, ycoords: (n,) patch centres, pixels of the object.
            shape: (H, W).
        """
        beam = (np.abs(as_modes(probe)).astype(np.float64) ** 2).sum(axis=0)
        n = beam.shape[-1]
        sums = np.zeros((2, *shape))
        both = np.stack([beam, beam**2])
        # patches that reach beyond the object lose what is there
        for row, col in zip(np.rint(ycoords).astype(int) - n // 2, np.rint(xcoords).astype(int) - n // 2, strict=True):
            top, left = max(-row, 0), max(-col, 0)
            bottom, right = min(n, shape[0] - row), min(n, shape[1] - col)
            sums[:, row + top : row + bottom, col + left : col + right] += both[:, top:bottom, left:right]
        light, squares = sums
        return cls(light, np.divide(light**2, squares, out=np.zeros_like(light), where=squares > 0))
