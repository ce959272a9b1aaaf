"""Groups of neighbouring scan points: the training samples."""

from __future__ import annotations

import logging

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ptycho.config.options import NEUTRAL_GROUPS, GroupOptions
from ptycho.core.groups.neighbours import NOBODY, draw, nearest, quadrants, within
from ptycho.core.groups.options import inside as within_bounds
from ptycho.core.groups.options import measured
from ptycho.errors import ConfigError, DataError

__all__ = ["make_groups", "nearest_points", "seed_points"]

logger = logging.getLogger(__name__)

Groups = NDArray[np.int32]


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
    options: GroupOptions = NEUTRAL_GROUPS,
) -> Groups:
    """Groups of C = gridsize^2 neighbouring scan points.

    Member 0 is the seed point of the group; the other C-1 are drawn without repetition from its pool, the K
    (or `neighbor_pool_size`) nearest other points unless `options` say otherwise, and ordered by distance, then index.
    With gridsize 1 the group is the point itself.

    Args:
        xcoords, ycoords: positions (n,), pixels. Coinciding positions are separate points.
        gridsize: square root of the group size.
        K: neighbours to draw from; at least C.
        nsamples: number of groups, spread evenly over the seed points; None takes every seed point
            `groups_per_seed` times. At gridsize 1 at most one is made of each point.
        seed: of the random choice of seed points and members; None is 0, so that a call repeats itself.
        sequential_sampling: the seed points are the first `nsamples` points instead of a random choice.
        enable_oversampling: allow more groups than points, or than `groups_per_seed` times the seed points.
        neighbor_pool_size: overrides K, or K_quadrant, as the size of the pool; at least C.
        options: which points are seeds, and which of their neighbours are drawn.

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
    rng = np.random.default_rng(0 if seed is None else seed)
    if gridsize == 1:
        inside = _inside(points, options)
        count = len(inside) if nsamples is None else nsamples
        if count > len(inside):
            logger.info("%d groups of one point asked for: each of the %d points is used once", count, len(inside))
        return inside[_spread(len(inside), min(count, len(inside)), sequential_sampling, rng)][:, None]
    pool = _pool_size(n, gridsize, K, neighbor_pool_size, options)
    seeds, found = _seeds_with_neighbours(points, gridsize, pool, options)
    most = len(seeds) * options.groups_per_seed
    count = most if nsamples is None else nsamples
    if count > most and not enable_oversampling:
        raise ConfigError(_too_many(count, n, len(seeds), options))
    chosen = _spread(len(seeds), count, sequential_sampling, rng)
    if found is None:
        centres, chosen_centre = np.unique(chosen, return_inverse=True)
        neighbours = nearest(measured(points, options), seeds[centres], pool)
        drawn = draw(neighbours, None, chosen_centre.reshape(-1), members - 1, rng)
    else:
        drawn = draw(*found, chosen, members - 1, rng)
    return np.concatenate([seeds[chosen][:, None], drawn], axis=1)


def seed_points(
    xcoords: ArrayLike,
    ycoords: ArrayLike,
    gridsize: int,
    K: int = 4,
    neighbor_pool_size: int | None = None,
    options: GroupOptions = NEUTRAL_GROUPS,
) -> Groups:
    """The scan points (m,) that `make_groups` draws groups around, rising; arguments and errors as there.

    Without `enable_oversampling` it makes at most `m options.groups_per_seed` groups.
    """
    points = _points(xcoords, ycoords)
    if gridsize == 1:
        return _inside(points, options)
    pool = _pool_size(len(points), gridsize, K, neighbor_pool_size, options)
    return _seeds_with_neighbours(points, gridsize, pool, options)[0]


def nearest_points(
    xcoords: ArrayLike,
    ycoords: ArrayLike,
    seeds: NDArray[np.integer],
    size: int,
    options: GroupOptions = NEUTRAL_GROUPS,
) -> Groups:
    """Each seed point (B,) and its `size - 1` nearest others, (B, size) int32, by distance, then index.

    Of `options` the distances count: 'Rectangular', and of 'Min_dist' the least and the largest.

    Raises:
        ConfigError: there are fewer than `size` scan points, or within the distances, or quadrants are asked for.
        DataError: positions that are not two finite vectors of one length.
    """
    points = _points(xcoords, ycoords)
    if size > len(points):
        raise ConfigError(
            f"{len(points)} scan points: expected at least {size}, a seed and its neighbours, seen and held out; take "
            "more scan points, or lower gridsize or held_out_neighbors"
        )
    if options.neighbor_function == "4_quadrant":
        raise ConfigError(
            "neighbor_function='4_quadrant' does not go with held-out neighbours, which are drawn among the nearest; "
            "use 'Nearest' or 'Min_dist', or architecture='cnn'"
        )
    first = np.asarray(seeds, np.int32)
    if size == 1:
        return first[:, None]
    if options.neighbor_function == "Nearest":
        others = nearest(measured(points, options), first, size - 1)
    else:
        others = _within(points, first, size - 1, options)
        fewest = int(np.count_nonzero(others != NOBODY, axis=1).min(initial=size - 1))
        if fewest < size - 1:
            raise ConfigError(
                f"neighbor_function='Min_dist': expected {size - 1} neighbours of every seed point, seen and held out, "
                f"found {fewest} of one; raise max_neighbor_distance={options.max_neighbor_distance:g}, or lower "
                "min_neighbor_distance or held_out_neighbors"
            )
    return np.concatenate([first[:, None], others], axis=1)


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


def _inside(points: NDArray[np.float64], options: GroupOptions) -> Groups:
    """Points within the bounds, at least one."""
    inside = within_bounds(points, options)
    if inside.size == 0:
        raise ConfigError(
            f"x_bounds={options.x_bounds}, y_bounds={options.y_bounds}: expected scan points in this part of the "
            f"scan's extent, found none of {len(points)}; widen them"
        )
    return inside


def _pool_size(n: int, gridsize: int, K: int, neighbor_pool_size: int | None, options: GroupOptions) -> int:
    """Number of neighbours to draw from, never more than there are."""
    members = gridsize**2
    name, size = ("K", K) if options.neighbor_function != "4_quadrant" else ("K_quadrant", options.K_quadrant)
    if neighbor_pool_size is not None and neighbor_pool_size < members:
        raise ConfigError(
            f"neighbor_pool_size={neighbor_pool_size}: gridsize {gridsize} makes groups of {members}; "
            f"raise neighbor_pool_size to at least {members}"
        )
    if neighbor_pool_size is None and members > size:
        raise ConfigError(
            f"{name}={size} neighbours: gridsize {gridsize} makes groups of {members}; "
            f"raise {'K (neighbor_count)' if name == 'K' else name} or neighbor_pool_size to at least {members}"
        )
    if n < members:
        raise ConfigError(
            f"{n} scan points: gridsize {gridsize} makes groups of {members}; "
            f"raise the number of scan points (n_subsample) to at least {members} or lower gridsize"
        )
    return min(size if neighbor_pool_size is None else neighbor_pool_size, n - 1)


def _too_many(count: int, n: int, seeds: int, options: GroupOptions) -> str:
    """What to say of more groups than there may be."""
    if seeds == n and options.groups_per_seed == 1:
        return (
            f"{count} groups from {n} scan points: expected at most {n}; "
            "lower the number of groups or set enable_oversampling=True"
        )
    return (
        f"{count} groups around {seeds} seed points of {n}: expected at most {seeds * options.groups_per_seed}, "
        f"groups_per_seed={options.groups_per_seed} around each; lower the number of groups, raise groups_per_seed, "
        "widen x_bounds and y_bounds, or set enable_oversampling=True"
    )


def _seeds_with_neighbours(
    points: NDArray[np.float64], gridsize: int, pool: int, options: GroupOptions
) -> tuple[Groups, tuple[Groups, NDArray[np.int8]] | None]:
    """Points that may be seeds, (m,), and unless they are the nearest their neighbours (m, pool) with quadrants.

    The quadrant is 0 to 3, or 0 for all of 'Min_dist', or -1 where there is no neighbour to draw.
    """
    inside, others = _inside(points, options), gridsize**2 - 1
    if options.neighbor_function == "Nearest":
        return inside, None
    if options.neighbor_function == "Min_dist":
        neighbours = _within(points, inside, pool, options)
        parts_of = np.where(neighbours == NOBODY, np.int8(-1), np.int8(0))
        share, parts = others, 1
    else:
        neighbours = nearest(measured(points, options), inside, pool)
        parts_of = quadrants(points[neighbours] - points[inside][:, None])
        share, parts = -(-others // 4), 4
    fewest = np.min([np.count_nonzero(parts_of == part, axis=1) for part in range(parts)], axis=0)
    enough = fewest >= share
    if not enough.any():
        raise ConfigError(_too_few(gridsize, pool, share, int(fewest.max()), options))
    if not enough.all():
        logger.info(
            "%d of %d scan points are seeds: the others have fewer than %d neighbours%s",
            np.count_nonzero(enough),
            len(inside),
            share,
            " within the distances" if parts == 1 else " in every quadrant",
        )
    return inside[enough], (neighbours[enough], parts_of[enough])


def _within(points: NDArray[np.float64], centres: Groups, pool: int, options: GroupOptions) -> Groups:
    """Neighbours of 'Min_dist'."""
    return within(
        measured(points, options), centres, pool, options.min_neighbor_distance, options.max_neighbor_distance
    )


def _too_few(gridsize: int, pool: int, share: int, found: int, options: GroupOptions) -> str:
    """What to say where no point has the neighbours that it needs."""
    if options.neighbor_function == "Min_dist":
        return (
            f"neighbor_function='Min_dist': gridsize {gridsize} needs {share} neighbours from "
            f"{options.min_neighbor_distance:g} to {options.max_neighbor_distance:g} pixels, found at most {found}; "
            "raise max_neighbor_distance, or lower min_neighbor_distance or gridsize"
        )
    return (
        f"neighbor_function='4_quadrant': gridsize {gridsize} needs {share} of the {pool} nearest points in every "
        f"quadrant, found at most {found}; raise K_quadrant, widen x_bounds and y_bounds, or lower gridsize"
    )


def _spread(n: int, count: int, sequential: bool, rng: np.random.Generator) -> NDArray[np.int32]:
    """Which of n seed points `count` groups have: every one equally often, the remainder in order or at random."""
    rounds, rest = divmod(count, n)
    if sequential:
        last = np.arange(rest)
    else:
        last = np.sort(rng.choice(n, rest, replace=False))
    return np.concatenate([np.tile(np.arange(n), rounds), last]).astype(np.int32)
