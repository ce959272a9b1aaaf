"""Groups of neighbouring scan points: the training samples."""

from __future__ import annotations

import logging

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import cKDTree

from ptycho.errors import ConfigError, DataError

__all__ = ["make_groups", "nearest_points"]

logger = logging.getLogger(__name__)

Groups = NDArray[np.int32]

# Neighbours asked for beyond the pool: one shell of a square raster, so that ties go to the lower index.
_SPARE_NEIGHBOURS = 8


def make_groups(
    xcoords: ArrayLike,
    ycoords: ArrayLike,
    gridsize: int,
    K: int = 4,
    nsamples: int | None = None,
    seed: int | None = None,
    sequential_sampling: bool = False,
    enable_oversampling: bool = False,
    neighbor_pool_size: int | None = None,
) -> Groups:
    """Groups of C = gridsize^2 neighbouring scan points.

    Member 0 is the seed point of the group; the other C-1 are drawn without repetition from its pool, the K
    (or `neighbor_pool_size`) nearest other points, and ordered by distance, then index. With gridsize 1 the
    group is the point itself.

    Args:
        xcoords, ycoords: positions (n,), pixels. Coinciding positions are separate points.
        gridsize: square root of the group size.
        K: neighbours to draw from; at least C.
        nsamples: number of groups; None takes every point once as a seed. At gridsize 1 at most n are made.
        seed: of the random choice of seed points and members; None is 0, so that a call repeats itself.
        sequential_sampling: the seed points are the first `nsamples` points instead of a random choice.
        enable_oversampling: allow more groups than points; a point is then the seed of several groups.
        neighbor_pool_size: overrides K as the size of the pool; at least C.

    Returns:
        (B, C) int32 indices of scan points.

    Raises:
        ConfigError: a number that has to be raised, by name.
        DataError: positions that are not two finite vectors of one length.
    """
    points = _points(xcoords, ycoords)
    n, members = len(points), gridsize**2
    if gridsize < 1 or (nsamples is not None and nsamples < 1):
        raise ConfigError(f"gridsize={gridsize}, nsamples={nsamples}: expected at least 1 of each; raise it")
    count = n if nsamples is None else nsamples
    rng = np.random.default_rng(0 if seed is None else seed)
    if gridsize == 1:
        if count > n:
            logger.info("%d groups of one point asked for: each of the %d points is used once", count, n)
        return _seed_points(n, min(count, n), sequential_sampling, rng)[:, None]
    pool = _pool_size(n, members, gridsize, K, neighbor_pool_size)
    if count > n and not enable_oversampling:
        raise ConfigError(
            f"{count} groups from {n} scan points: expected at most {n}; "
            "lower the number of groups or set enable_oversampling=True"
        )
    seeds = _seed_points(n, count, sequential_sampling, rng)
    centres, where = np.unique(seeds, return_inverse=True)
    neighbours = _nearest(points, centres, pool)
    # C-1 random ranks without repetition, ascending: the pool is already in order of distance, then index.
    ranks = np.argpartition(rng.random((count, pool)), members - 2, axis=1)[:, : members - 1]
    ranks.sort(axis=1)
    drawn = neighbours[where.reshape(-1, 1), ranks]
    return np.concatenate([seeds[:, None], drawn], axis=1)


def nearest_points(xcoords: ArrayLike, ycoords: ArrayLike, seeds: NDArray[np.integer], size: int) -> Groups:
    """Each seed point (B,) and its `size - 1` nearest others, (B, size) int32, by distance, then index.

    Raises:
        ConfigError: there are fewer than `size` scan points.
        DataError: positions that are not two finite vectors of one length.
    """
    points = _points(xcoords, ycoords)
    if size > len(points):
        raise ConfigError(
            f"{len(points)} scan points: expected at least {size}, a seed and its neighbours, seen and held out; take "
            "more scan points, or lower gridsize or held_out_neighbors"
        )
    first = np.asarray(seeds, np.int32)
    if size == 1:
        return first[:, None]
    return np.concatenate([first[:, None], _nearest(points, first, size - 1)], axis=1)


def _points(xcoords: ArrayLike, ycoords: ArrayLike) -> NDArray[np.float64]:
    """Positions as (n, 2), checked."""
    x, y = np.asarray(xcoords, np.float64), np.asarray(ycoords, np.float64)
    if x.ndim != 1 or x.shape != y.shape or x.size == 0:
        raise DataError(
            f"xcoords, ycoords: expected two vectors of one length, found shapes {x.shape} and {y.shape}; "
            "give one position per pattern"
        )
    points = np.stack([x, y], axis=1)
    bad = np.count_nonzero(~np.isfinite(points).all(axis=1))
    if bad:
        raise DataError(f"xcoords, ycoords: expected finite pixels, found {bad} of {len(x)} not finite; remove them")
    return points


def _pool_size(n: int, members: int, gridsize: int, K: int, neighbor_pool_size: int | None) -> int:
    """Number of neighbours to draw from, never more than there are."""
    if neighbor_pool_size is not None and neighbor_pool_size < members:
        raise ConfigError(
            f"neighbor_pool_size={neighbor_pool_size}: gridsize {gridsize} makes groups of {members}; "
            f"raise neighbor_pool_size to at least {members}"
        )
    if neighbor_pool_size is None and members > K:
        raise ConfigError(
            f"K={K} neighbours: gridsize {gridsize} makes groups of {members}; "
            f"raise K (neighbor_count) or neighbor_pool_size to at least {members}"
        )
    if n < members:
        raise ConfigError(
            f"{n} scan points: gridsize {gridsize} makes groups of {members}; "
            f"raise the number of scan points (n_subsample) to at least {members} or lower gridsize"
        )
    return min(K if neighbor_pool_size is None else neighbor_pool_size, n - 1)


def _seed_points(n: int, count: int, sequential: bool, rng: np.random.Generator) -> NDArray[np.int32]:
    """The seed points of `count` groups: every point equally often, the remainder in order or at random."""
    rounds, rest = divmod(count, n)
    if sequential:
        last = np.arange(rest)
    else:
        last = np.sort(rng.choice(n, rest, replace=False))
    return np.concatenate([np.tile(np.arange(n), rounds), last]).astype(np.int32)


def _nearest(points: NDArray[np.float64], centres: NDArray[np.int32], pool: int) -> NDArray[np.int32]:
    """The `pool` nearest other points of each centre, (m, pool), ordered by distance, then index."""
    k = min(pool + 1 + _SPARE_NEIGHBOURS, len(points))
    found = cKDTree(points).query(points[centres], k=k)
    distance, index = np.asarray(found[0]), np.asarray(found[1])
    # The point itself goes last: among many coinciding points it need not be the first, nor be there at all.
    distance[index == centres[:, None]] = np.inf
    order = np.lexsort((index, distance), axis=1)[:, :pool]
    return np.take_along_axis(index, order, axis=1).astype(np.int32)
