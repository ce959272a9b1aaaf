"""The background of a scan: incoherent light that every pattern has, never negative, the same for all.

It adds to the intensity of every pattern, `a^2 = flux sum_m |F_m|^2 + b + e`, whatever the flux: light that never met
the beam, and the dark counts of a detector, do not follow it, and what does is nearly the same where the beam is nearly
constant. A family says how it may look over the detector:

    constant: one number
    smooth:   tensor products of cubic B-splines, `SPANS` to a side, with coefficients that are not negative
    pixels:   a number for every pixel

Of all, the step is that of Gauss and Newton from the sums over the patterns of gradient and curvature of each pixel,
and it is the best of the family that is not negative.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import BSpline
from scipy.optimize import nnls

from ptycho.core.refinement.device.kernels import ScanData

__all__ = ["Family", "first_background", "stepped"]

Array = NDArray[Any]
Family = Literal["constant", "smooth", "pixels"]

SPANS = 5
"""Of the splines, along an axis of the detector."""
LEAST = 0.25
"""Of a background that falls in one step: the parabola may end far below the minimum."""
LOOKED_AT, BATCH = 128, 32
"""Patterns that a first background is from, and read at once."""
DARK = 2
"""Percentile of the pixels' mean that it is."""
RIDGE = 1e-9
"""Added to the curvature of the coefficients, relative to its mean: where the detector is masked nothing holds them."""


def first_background(scan: ScanData) -> NDArray[np.float64]:
    """A constant `(N, N)` that no darkest pixel contradicts: what the darkest of the valid pixels have on average.

    It is too much where no pixel is dark, and then falls in a few steps. Begun from 0, a background that is brighter
    than the rest takes some sixty iterations, in which the object takes it for its own.
    """
    chosen, n = np.unique(np.linspace(0, len(scan) - 1, LOOKED_AT).round().astype(int)), scan.probeGuess.shape[-1]
    total, count = np.zeros((2, n, n))
    for some in np.array_split(chosen, -(-len(chosen) // BATCH)):
        mask = scan.mask
        valid = np.ones((len(some), n, n), bool) if mask is None else mask[some] if mask.ndim == 3 else mask[None]
        total += (np.square(scan.amplitude(some), dtype=np.float64) * valid).sum(axis=0)
        count += np.broadcast_to(valid, (len(some), n, n)).sum(axis=0)
    return np.full((n, n), np.percentile(total[count > 0] / count[count > 0], DARK))


def stepped(
    background: Array, gradient: Array, curvature: Array, family: Family, added: Array | None = None
) -> NDArray[np.float64]:
    """The background `(N, N)` of a family that the parabola of each pixel likes best.

    Args:
        background: (N, N), not negative; of any family.
        gradient: `sum r s` of each pixel, `s = 1 / (2 a)`; 0 where not valid.
        curvature: `sum s^2` likewise.
        family: how the background may look.
        added: (N, N) of it that came to patterns of which a background was subtracted. What is found lies beside it,
            and below it by its median at most: so much too much may have been subtracted.
    """
    if added is not None:
        room = float(np.median(added))
        return np.maximum(stepped(background - added + room, gradient, curvature, family) + added - room, 0)
    best = np.where(curvature > 0, background - gradient / np.where(curvature > 0, curvature, 1), background)
    if family == "pixels":
        return np.maximum(best, LEAST * background)
    basis = np.ones((1, len(background))) if family == "constant" else _splines(len(background))
    return np.maximum(_nearest(best, curvature, basis), LEAST * background.min())


def _nearest(values: Array, weight: Array, basis: Array) -> NDArray[np.float64]:
    """`B^T c B`, c >= 0, nearest to the values in the square with the weight; B `(k, N)`."""
    k = len(basis)
    pairs = (basis[:, None] * basis[None, :]).reshape(k * k, -1)
    normal = (pairs @ weight @ pairs.T).reshape(k, k, k, k).transpose(0, 2, 1, 3).reshape(k * k, k * k)
    normal[np.diag_indices(k * k)] += RIDGE * np.trace(normal) / k**2
    lower = np.linalg.cholesky(normal)
    target = np.linalg.solve(lower, (basis @ (weight * values) @ basis.T).ravel())
    return np.asarray(basis.T @ nnls(lower.T, target)[0].reshape(k, k) @ basis)


@lru_cache(maxsize=4)
def _splines(n: int) -> NDArray[np.float64]:
    """Cubic B-splines `(SPANS + 3, n)` at the middles of n pixels, not negative, with the sum 1."""
    knots = np.concatenate([[0.0] * 3, np.linspace(0, 1, SPANS + 1), [1.0] * 3])
    return np.asarray(BSpline.design_matrix((np.arange(n) + 0.5) / n, knots, 3).toarray().T)
