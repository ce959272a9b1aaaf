"""Groups that are drawn afresh at every step: some neighbours are seen, the loss counts the held-out ones too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ptycho.config.options import NEUTRAL_GROUPS, GroupOptions
from ptycho.core.geometry import LOCAL_OFFSET_SIGN, canvas_size
from ptycho.core.groups.grouping import nearest_points

__all__ = ["Neighbourhoods", "make_neighbourhoods"]


@dataclass(frozen=True)
class Neighbourhoods:
    """Seed points with their nearest neighbours; a draw puts those of each seed in a random order.

    The network is shown the first C of a draw, and its loss counts all: what it says of the others it cannot have
    read off their own patterns. Positions are seen from the pixel nearest to the neighbourhood's mean, so that the
    canvas lies on the pixels of the object.
    """

    pool: NDArray[np.int32]
    """Scan points (B, K): a seed and its K - 1 nearest neighbours."""
    positions: NDArray[np.float64]
    """Minus the position of each, seen from the canvas' middle, (B, 2, K), (x, y) pixels."""
    seed: int

    @property
    def shape(self) -> tuple[int, int]:
        """Number of seeds, and of points that each draw has."""
        return len(self.pool), self.pool.shape[1]

    def canvas_size(self, N: int) -> int:
        """Side of the canvas that holds every draw, pixels."""
        return canvas_size(N, np.rint(self.positions))

    def draw(
        self, indices: Sequence[int] | NDArray[np.integer] | slice
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Scan points (b, K) of some seeds in a random order, and their positions (b, 1, 2, K).

        The order follows from the seed and `indices`: the same batch is drawn alike by both backends and after a
        resume, and another batch with the same seed points is drawn otherwise.
        """
        chosen = np.arange(len(self.pool))[indices]
        # from the batch itself and no state: a resumed training and the other backend draw the same
        rng = np.random.default_rng([self.seed, *chosen.tolist()])
        order = rng.permuted(np.tile(np.arange(self.pool.shape[1]), (len(chosen), 1)), axis=1)
        points = np.take_along_axis(self.pool[chosen], order, axis=1)
        positions = np.take_along_axis(self.positions[chosen], order[:, None], axis=2)
        return points, positions[:, None].astype(np.float32)


def make_neighbourhoods(
    xcoords: ArrayLike,
    ycoords: ArrayLike,
    seeds: NDArray[np.integer],
    size: int,
    seed: int = 0,
    options: GroupOptions = NEUTRAL_GROUPS,
) -> Neighbourhoods:
    """Each seed point with its nearest neighbours, `size` points together.

    Args:
        xcoords, ycoords: positions (n,), pixels.
        seeds: (B,) scan points.
        size: K, seed included.
        seed: of the draws.
        options: how distances are measured, as in `nearest_points`.

    Raises:
        ConfigError: fewer scan points than `size`, or than that within the distances.
    """
    pool = nearest_points(xcoords, ycoords, seeds, size, options)
    found = np.stack([np.asarray(coords, np.float64)[pool] for coords in (xcoords, ycoords)], axis=1)
    centre = np.rint(found.mean(axis=2, keepdims=True))
    return Neighbourhoods(pool, LOCAL_OFFSET_SIGN * (found - centre), seed)
