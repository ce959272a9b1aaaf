"""Neighbours of scan points: the nearest, those within distances, the quadrants they lie in, and random draws."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

__all__ = ["NOBODY", "draw", "nearest", "quadrants", "within"]

Points = NDArray[np.float64]
Indices = NDArray[np.int32]

NOBODY = -1
"""Stands where there is no further neighbour."""

# Neighbours asked for beyond the pool: one shell of a square raster, so that ties go to the lower index.
_SPARE_NEIGHBOURS = 8
_ROUNDING = 1e-6  # pixels: what positions computed from metres may differ by where they are meant to be equal
_BLOCK = 1 << 20  # distances, or random numbers, held at once


def nearest(points: Points, centres: Indices, pool: int) -> Indices:
    """The `pool` nearest other points of each centre, (m, pool), ordered by distance, then index."""
    k = min(pool + 1 + _SPARE_NEIGHBOURS, len(points))
    distance, index = _others(cKDTree(points), points, centres, k)
    order = np.lexsort((index, distance), axis=1)[:, :pool]
    return np.take_along_axis(index, order, axis=1).astype(np.int32)


def within(points: Points, centres: Indices, pool: int, least: float, most: float) -> Indices:
    """The `pool` nearest other points at a distance from `least` to `most` pixels, (m, pool), then `NOBODY`."""
    low, high = least - _ROUNDING, most + _ROUNDING
    tree = cKDTree(points)
    nearer = np.zeros(len(centres), np.intp)
    if low > 0:
        nearer = np.asarray(tree.query_ball_point(points[centres], low, return_length=True))
    k = min(int(nearer.max()) + pool + 1 + _SPARE_NEIGHBOURS, len(points))
    result = np.full((len(centres), pool), NOBODY, np.int32)
    step = max(1, _BLOCK // k)
    for start in range(0, len(centres), step):
        block = slice(start, start + step)
        distance, index = _others(tree, points, centres[block], k)
        distance[(distance < low) | (distance > high)] = np.inf
        order = np.lexsort((index, distance), axis=1)[:, :pool]
        found = np.take_along_axis(index, order, axis=1)
        found[np.isinf(np.take_along_axis(distance, order, axis=1))] = NOBODY
        result[block, : found.shape[1]] = found
    return result


def quadrants(displacements: Points) -> NDArray[np.int8]:
    """Quadrant 0 to 3 of each displacement (..., 2), counted from +x towards +y; -1 of a coinciding point.

    A quadrant holds the axis at which it begins: 0 has dx > 0 and dy >= 0, 1 has dx <= 0 and dy > 0.
    """
    dx, dy = np.moveaxis(np.where(np.abs(displacements) < _ROUNDING, 0, displacements), -1, 0)
    parts = [(dx > 0) & (dy >= 0), (dx <= 0) & (dy > 0), (dx < 0) & (dy <= 0), (dx >= 0) & (dy < 0)]
    return np.select(parts, [0, 1, 2, 3], -1).astype(np.int8)


def draw(
    neighbours: Indices,
    parts: NDArray[np.int8] | None,
    which: NDArray[np.integer],
    take: int,
    rng: np.random.Generator,
) -> Indices:
    """`take` random neighbours, without repetition and in their order, for groups of many seed points.

    With `parts` the four take turns: a neighbour's score is how many of its own part come before it in a random order,
    plus one random number below 1 for the part as a whole, and the smallest scores are taken.

    Args:
        neighbours: (m, pool) of each seed point.
        parts: (m, pool) the quadrant 0 to 3 of each neighbour; -1 is not drawn. None draws from all alike.
        which: (B,) row of each group.
        take: neighbours per group.
        rng: what is random.

    Returns:
        (B, take) int32.
    """
    pool, more = neighbours.shape[1], 0 if parts is None else 4
    ranks = np.empty((len(which), take), np.intp)
    step = max(1, _BLOCK // (pool + more))
    for start in range(0, len(which), step):
        block = slice(start, start + step)
        scores = rng.random((len(which[block]), pool + more))
        if parts is not None:
            scores = _in_turns(scores[:, :pool], scores[:, pool:], parts[which[block]])
        ranks[block] = np.argpartition(scores, take - 1, axis=1)[:, :take]
    ranks.sort(axis=1)
    return neighbours[which.reshape(-1, 1), ranks]


def _in_turns(keys: Points, first: Points, parts: NDArray[np.int8]) -> Points:
    """Scores (b, pool) by which the parts take turns; inf where there is nobody to draw."""
    order = np.argsort(keys, axis=1)
    shuffled = np.take_along_axis(parts, order, axis=1)
    scores = np.full(keys.shape, np.inf)
    for part in range(first.shape[1]):
        here = shuffled == part
        turn = np.cumsum(here, axis=1) - 1 + first[:, part, None]
        scores[here] = turn[here]
    result = np.empty_like(scores)
    np.put_along_axis(result, order, scores, axis=1)
    return result


def _others(tree: cKDTree, points: Points, centres: Indices, k: int) -> tuple[Points, NDArray[np.intp]]:
    """Distances and indices (m, k) of the k nearest points of each centre, itself at an infinite distance."""
    found = tree.query(points[centres], k=k)
    distance, index = np.asarray(found[0]), np.asarray(found[1])
    # The point itself goes last: among many coinciding points it need not be the first, nor be there at all.
    distance[index == centres[:, None]] = np.inf
    return distance, index
