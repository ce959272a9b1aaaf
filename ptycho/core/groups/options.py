"""How groups of scan points are drawn: which points are seeds, and which of their neighbours join them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import isfinite, sqrt
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ptycho.core.option_checks import require, require_choice

__all__ = ["NEUTRAL_GROUPS", "GroupOptions", "axis_step"]

NeighborFunction = Literal["Nearest", "Min_dist", "4_quadrant"]
ScanPattern = Literal["Isotropic", "Rectangular"]
Points = NDArray[np.float64]


@dataclass(frozen=True)
class GroupOptions:
    """What the groups of `make_groups` are drawn from; with every default, from the K nearest of every point.

    Raises:
        ConfigError: a value that an option may not hold.
    """

    neighbor_function: NeighborFunction = "Nearest"
    """The neighbours that a group is drawn from, K or K_quadrant at most.

    'Nearest': the K nearest other points. 'Min_dist': the K nearest whose distance d from the seed point is
    `min_neighbor_distance <= d <= max_neighbor_distance`. '4_quadrant': as many from each of the four quadrants around
    the seed point, among its K_quadrant nearest, so that the group surrounds it: of C - 1 neighbours every quadrant
    gives (C - 1) // 4, and as many quadrants as are left over, drawn at random, one more. For C = 4 that is one each
    from three of the four. A quadrant holds the axis at which it begins, so that the four next points of a raster lie
    in one each. Points with too few such neighbours, as at the edge of a scan, are no seeds; they may be members.
    """
    scan_pattern: ScanPattern = "Isotropic"
    """'Rectangular': the step along x is not that along y. A distance is then measured in steps,
    `d^2 = s_x s_y ((dx / s_x)^2 + (dy / s_y)^2)`, s of `axis_step`: in pixels, and as ever where the steps agree."""
    K_quadrant: int = 30
    """Nearest points to look through for the four quadrants together."""
    min_neighbor_distance: float = 0.0
    """Least distance of 'Min_dist', pixels."""
    max_neighbor_distance: float = 3.0
    """Largest distance of 'Min_dist', pixels."""
    groups_per_seed: int = 1
    """Groups around each seed point where no number of groups is given, and the most of them without oversampling."""
    x_bounds: tuple[float, float] = (0.0, 1.0)
    """The part of the scan's extent along x that seed points lie in, ends included; neighbours may lie outside."""
    y_bounds: tuple[float, float] = (0.0, 1.0)
    """The same along y."""

    def __post_init__(self) -> None:
        require_choice("neighbor_function", self.neighbor_function, NeighborFunction)
        require_choice("scan_pattern", self.scan_pattern, ScanPattern)
        for name in ("K_quadrant", "groups_per_seed"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "a whole number at least 1")
        least, most = self.min_neighbor_distance, self.max_neighbor_distance
        require(isfinite(least) and least >= 0, "min_neighbor_distance", least, "pixels, at least 0")
        expected = f"pixels, at least min_neighbor_distance={least:g}"
        require(isfinite(most) and most >= least, "max_neighbor_distance", most, expected)
        for name in ("x_bounds", "y_bounds"):
            bounds = getattr(self, name)
            fits = len(bounds) == 2 and 0 <= bounds[0] < bounds[1] <= 1
            require(fits, name, bounds, "two rising numbers from 0 to 1, parts of the scan's extent")

    def for_inference(self) -> GroupOptions:
        """The same distances, but every point once the seed of its nearest: no point of the scan is left out."""
        return replace(self, neighbor_function="Nearest", groups_per_seed=1, x_bounds=(0.0, 1.0), y_bounds=(0.0, 1.0))

    def inside(self, points: Points) -> NDArray[np.int32]:
        """Indices, rising, of the points (n, 2) that lie within the bounds."""
        within = np.ones(len(points), bool)
        for coords, (low, high) in zip(points.T, (self.x_bounds, self.y_bounds), strict=True):
            along, extent = coords - coords.min(), coords.max() - coords.min()
            within &= (along >= low * extent) & (along <= high * extent)
        return np.flatnonzero(within).astype(np.int32)

    def measured(self, points: Points) -> Points:
        """The points (n, 2) in the coordinates that distances are measured in, pixels; themselves where isotropic."""
        if self.scan_pattern == "Isotropic":
            return points
        x, y = (axis_step(coords) for coords in points.T)
        return points * [sqrt(y / x), sqrt(x / y)] if x > 0 and y > 0 else points


NEUTRAL_GROUPS = GroupOptions()
"""What is done where nothing is said."""


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
