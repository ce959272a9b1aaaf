"""The two halves of a scan, each of which covers all that the whole covers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ptycho.errors import DataError

__all__ = ["half_scans", "hilbert_order"]

Indices = NDArray[np.intp]

_BITS = 16
"""Of each coordinate on the curve: 65536 cells a side."""


def half_scans(xcoords: ArrayLike, ycoords: ArrayLike) -> tuple[Indices, Indices]:
    """Share out the points of a scan, every second one along a Hilbert curve through the positions.

    The curve visits neighbours one after the other, so that every piece of the object gives half of its points to each;
    of a square grid each half is a checkerboard. The order of the scan plays no part: what drifts with time drifts in
    both halves.

    Args:
        xcoords, ycoords: (n,) positions, any unit.

    Returns:
        Indices (n - n // 2,) and (n // 2,), each rising.

    Raises:
        DataError: fewer than two points.

    >>> [half.tolist() for half in half_scans([0, 1, 0, 1], [0, 0, 1, 1])]
    [[0, 3], [1, 2]]
    """
    x, y = np.asarray(xcoords, np.float64), np.asarray(ycoords, np.float64)
    if x.size < 2:
        raise DataError(f"halves: expected at least 2 scan points, found {x.size}; take a longer scan")
    order = hilbert_order(x, y)
    return np.sort(order[::2]), np.sort(order[1::2])


def hilbert_order(x: NDArray[np.float64], y: NDArray[np.float64]) -> Indices:
    """The order (n,) in which a Hilbert curve through the square around the points visits them.

    Source: D. Hilbert, Math. Ann. 38, 459 (1891).
    """
    cells = 1 << _BITS
    span = max(float(np.ptp(x)), float(np.ptp(y))) or 1.0
    col, row = (np.minimum((cells * (v - v.min()) / span).astype(np.int64), cells - 1) for v in (x, y))
    place = np.zeros(x.size, np.int64)
    side = cells >> 1
    while side:
        right, low = (col & side) > 0, (row & side) > 0
        place += side * side * ((3 * right) ^ low)
        col, row = _turned(col, row, right, low, side)
        side >>= 1
    return np.argsort(place, kind="stable")


def _turned(
    col: NDArray[np.int64], row: NDArray[np.int64], right: NDArray[Any], low: NDArray[Any], side: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Coordinates within a quarter, turned as the curve runs there."""
    col, row = col & (side - 1), row & (side - 1)
    mirrored = right & ~low
    col, row = (np.where(mirrored, side - 1 - values, values) for values in (col, row))
    return np.where(low, col, row), np.where(low, row, col)
