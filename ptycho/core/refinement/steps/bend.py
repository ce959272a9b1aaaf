"""How positions are bent: a smooth displacement over the scan that takes the object along.

What many neighbouring positions are off alike, the object has made its own: it lies where they have it, and holds each
of them there. So it goes along. What the patterns then feel is that it is stretched under each of them
(`Passes.stretch_terms`), by the slope of the displacement at its place: `D(r) = sum_k c_k B_k(r)` in tensor products B
of cubic B-splines, with the coefficients that explain the stretch of all patterns best.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import BSpline
from scipy.ndimage import map_coordinates

from ptycho.core.refinement.device.kernels import Terms

__all__ = ["Bend", "bend_of"]

Array = NDArray[Any]

DEGREE = 3
MOST_SPANS = 8
"""Of the splines, along an axis."""
RIDGE = 1e-2
"""Added to the curvature of the coefficients, relative to its mean."""
INVERSIONS = 3
"""Steps that find where a point came from."""


class Bend(NamedTuple):
    """A displacement over a scan, pixels."""

    knots: tuple[Array, Array]
    """Of the splines along x and y."""
    coefficients: NDArray[np.float64]
    """(2, K, L): of the displacement along x and along y, for the splines along x and y."""

    def displacement(self, x: Array, y: Array) -> NDArray[np.float64]:
        """At points (n,): (n, 2), ordered (x, y); beyond the scan as at its edge."""
        along_x, along_y = (_basis(knots, values) for knots, values in zip(self.knots, (x, y), strict=True))
        return np.einsum("nk,nl,akl->na", along_x, along_y, self.coefficients)

    def mapped(self, image: Array) -> Array:
        """An object whose point r has gone to `r + D(r)`."""
        height, width = image.shape
        bases = (
            _basis(knots, np.arange(size, dtype=float)) for knots, size in zip(self.knots, (width, height), strict=True)
        )
        along_x, along_y = bases
        moved = np.einsum("xk,akl,yl->ayx", along_x, self.coefficients, along_y, optimize=True)
        # r + D(r) = s is solved for r by a few steps of r = s - D(r), D taken at the last r
        y, x = np.mgrid[:height, :width].astype(float)
        back = moved
        for _ in range(INVERSIONS):
            back = np.stack(
                [map_coordinates(part, (y - back[1], x - back[0]), order=1, mode="nearest") for part in moved]
            )
        found = map_coordinates(image, (y - back[1], x - back[0]), order=3, mode="nearest")
        return np.asarray(found, image.dtype)


def bend_of(x: Array, y: Array, terms: Terms, spacing: float, ridge: float = RIDGE) -> Bend:
    """The bend that normal equations of the stretch (n, 4) and (n, 4, 4) at positions (n,) ask for.

    Args:
        x, y: pixels.
        terms: of each of them.
        spacing: least distance of knots, pixels.
    """
    knots = _knots(x, spacing), _knots(y, spacing)
    (bx, sx), (by, sy) = ((_basis(k, v), _basis(k, v, 1)) for k, v in zip(knots, (x, y), strict=True))
    shape = bx.shape[1], by.shape[1]
    slopes = np.stack([np.einsum("nk,nl->nkl", *pair).reshape(len(x), -1) for pair in ((sx, by), (bx, sy))], axis=1)
    size = slopes.shape[2]
    gradient = np.einsum("nab,nbk->ak", terms.gradient.reshape(-1, 2, 2), slopes).ravel()
    curvature = np.zeros((2, size, 2, size))
    stiff = terms.curvature.reshape(-1, 2, 2, 2, 2)
    for a, b, c, d in np.ndindex(2, 2, 2, 2):
        curvature[a, :, c] += (slopes[:, b] * stiff[:, a, b, c, d, None]).T @ slopes[:, d]
    matrix = curvature.reshape(2 * size, 2 * size)
    matrix[np.diag_indices(2 * size)] += ridge * np.trace(matrix) / (2 * size)
    return Bend(knots, -np.linalg.solve(matrix, gradient).reshape(2, *shape))


def _knots(values: Array, spacing: float) -> Array:
    low, high = float(values.min()), float(values.max())
    spans = int(np.clip((high - low) / spacing, 1, MOST_SPANS))
    return np.concatenate(
        [[low] * DEGREE, np.linspace(low, max(high, low + 1), spans + 1), [max(high, low + 1)] * DEGREE]
    )


def _basis(knots: Array, values: Array, derivative: int = 0) -> Array:
    """Splines (n, K) at values (n,), or their slopes."""
    inside = np.clip(values, knots[DEGREE], knots[-DEGREE - 1])
    count = len(knots) - DEGREE - 1
    spline = BSpline(knots, np.eye(count), DEGREE)
    return np.asarray(spline(inside, nu=derivative))
