"""What the options of groups mean for the points of a scan: bounds, and the measure of distances."""

from __future__ import annotations

from math import sqrt

import numpy as np
from numpy.typing import NDArray

from ptycho.config.options import GroupOptions

__all__ = ["axis_step", "inside", "measured"]

Points = NDArray[np.float64]


def inside(points: Points, options: GroupOptions) -> NDArray[np.int32]:
    """Indices, rising, of the points (n, 2) that lie within the bounds."""
    within = np.ones(len(points), bool)
    for coords, (low, high) in zip(points.T, (options.x_bounds, options.y_bounds), strict=True):
        along, extent = coords - coords.min(), coords.max() - coords.min()
        within &= (along >= low * extent) & (along <= high * extent)
    return np.flatnonzero(within).astype(np.int32)


def measured(points: Points, options: GroupOptions) -> Points:
    """The points (n, 2) in the coordinates that distances are measured in, pixels; themselves where isotropic."""
    if options.scan_pattern == "Isotropic":
        return points
    x, y = (axis_step(coords) for coords in points.T)
    return points * [sqrt(y / x), sqrt(x / y)] if x > 0 and y > 0 else points


def axis_step(coords: NDArray[np.float64]) -> float:
    """Step of a scan along one axis: the median gap between neighbouring coordinates, as seen from the axis.

    Of the gaps between the sorted coordinates (n,) the one such that half of the extent lies in gaps that are no
    longer: in a raster the distance of its lines, whatever the number of points on a line, a few missing lines, or
    small errors of the positions. 0 where there is no extent.

    >>> axis_step(np.array([0.0, 0.0, 0.1, 5.0, 5.1, 10.0, 20.0, 25.0]))
    5.0
    """
    gaps = np.sort(np.diff(np.sort(coords)))
    covered = np.cumsum(gaps)
    if not covered.size or covered[-1] == 0:
        return 0.0
    return float(gaps[np.searchsorted(covered, covered[-1] / 2)])
