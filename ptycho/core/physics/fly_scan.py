"""Fly scans: the stage does not stop for a pattern, which is the sum of what the probe gives on its way.

The way is straight. With the probe at S places `d_s` relative to the position of a pattern, each for as long,

    I_j = sum_s sum_m |F[P_m(r - d_js) O_j]|^2 / S

The patch stays where it is and the probe moves in its window, so that a way has to be short beside the window.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.core.physics.diffraction import far_field
from ptycho.core.physics.probes import probe_diameter
from ptycho.errors import DataError

__all__ = ["AT_REST", "FlyPath", "check_fly_path", "fly_path", "line_ways", "places_on_the_way", "points_for"]

Positions = NDArray[np.float64]
FlyPath = NDArray[np.float64]
"""(n, S, 2): x and y of the S places of the probe while a pattern is counted, relative to its position, pixels."""

AT_REST: FlyPath = np.zeros((1, 1, 2))
"""The way of a probe that does not move."""
POINTS = (3, 9)
"""Fewest and most places that a way is given: fewer save little, and a longer way is not followed more finely."""
_UNLIKE = 1.5
"""A step more than so many times longer or shorter than the median one leads from line to line."""
_STRAIGHT = 0.5
"""Cosine of the angle with the step before or after from which on a step goes along its line."""


def line_ways(xcoords: Positions, ycoords: Positions) -> Positions:
    """How far the stage goes between half way from the point before and half way to the next one, `(n, 2)` pixels.

    Steps from line to line do not count: those more than 1.5 times longer or shorter than the median, and those that
    turn by more than 60 degrees from the step before as well as from the one after. A point beside one has the step of
    its own line; a point between two of them is at rest.

    Args:
        xcoords, ycoords: (n,) positions in the order of the scan.
    """
    steps = np.column_stack([np.diff(xcoords), np.diff(ycoords)])
    length = np.hypot(*steps.T)
    if not length.any():
        return np.zeros((len(xcoords), 2))
    usual = np.median(length[length > 0])
    alike = (length < _UNLIKE * usual) & (length > usual / _UNLIKE)
    unit = steps / np.where(alike, length, 1)[:, None]
    onwards = ((unit[1:] * unit[:-1]).sum(axis=1) > _STRAIGHT) & alike[1:] & alike[:-1]
    kept = np.append(onwards, False) | np.insert(onwards, 0, False)
    along = np.where(kept[:, None], steps, 0.0)
    after, before = np.pad(along, ((0, 1), (0, 0))), np.pad(along, ((1, 0), (0, 0)))
    # a way is the same from either end: where two lines meet in a hairpin theirs do not cancel
    back = (after * before).sum(axis=1, keepdims=True) < 0
    count = np.append(kept, 0) + np.insert(kept.astype(int), 0, 0)
    return np.asarray((after + np.where(back, -before, before)) / np.maximum(count, 1)[:, None], np.float64)


def fly_path(ways: Positions, points: int, duty: float = 1.0) -> FlyPath:
    """Evenly spaced places on each way, as wide apart as the whole way is: `sum_s d_s^2 / S = way^2 / 12`.

    So what varies smoothly along the way is averaged right up to its third power, for two places on.

    Args:
        ways: (n, 2) pixels.
        points: S.
        duty: share of each way for which the shutter is open, around its middle.

    >>> fly_path(np.array([[6.0, 0.0]]), 2)[0, :, 0].round(3)
    array([-1.732,  1.732])
    """
    parts = (np.arange(points) - (points - 1) / 2) / points
    if points > 1:
        parts /= np.sqrt(1 - points**-2)
    return np.asarray(duty * parts[:, None] * ways[:, None, :], np.float64)


def points_for(ways: Positions, probe: NDArray[np.complexfloating[Any, Any]], near: bool = False) -> int:
    """How many places stand for ways `(n, 2)` pixels: patterns then differ by some 1e-4 of their energy.

    Along the way a pattern varies no faster than two waves at the opposite edges of the far field of the probe
    `(M, N, N)` part, D pixels of N: a way of L pixels has L D / N such periods. A `near` detector sees fringes as fine
    as its pixels move along: L of them.
    """
    fineness = 1.0 if near else probe_diameter(far_field(probe)) / probe.shape[-1]
    periods = float(np.hypot(*ways.T).max(initial=0.0)) * fineness
    return int(np.clip(np.ceil(periods), *POINTS))


def places_on_the_way(xcoords: Positions, ycoords: Positions, path: FlyPath) -> tuple[Positions, Positions]:
    """Coordinates x and y `(n S,)` of every place that the probe has, pattern by pattern."""
    return (xcoords[:, None] + path[..., 0]).ravel(), (ycoords[:, None] + path[..., 1]).ravel()


def check_fly_path(path: Any, count: int) -> FlyPath:
    """The path of a scan of so many patterns.

    Raises:
        DataError: another shape, or numbers that are not finite.
    """
    found = np.asarray(path, np.float64)
    if found.ndim != 3 or found.shape[0] != count or found.shape[1] < 1 or found.shape[2] != 2:
        raise DataError(f"fly_path: expected shape ({count}, S, 2), found {found.shape}; give one way per pattern")
    if not np.isfinite(found).all():
        raise DataError("fly_path: expected finite numbers, found NaN or infinity; correct them")
    return found
