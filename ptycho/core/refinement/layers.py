"""Patches in layers that do not overlap, so that a device may add those of a layer at once and in no order.

Where threads add into one image at the same time, each sum is rounded in an order of its own in every run. Patches that
share no pixel cannot meet; a layer after another gives every pixel its sum in one order.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Layers", "layers_of"]

Array = NDArray[Any]


class Layers(NamedTuple):
    """The patches of a batch, layer after layer."""

    order: Any
    """(b,) indices within the batch, NumPy's or on the device."""
    sizes: list[int]
    """Patches of each layer."""


def layers_of(rows: NDArray[np.int64], cols: NDArray[np.int64], n: int) -> Layers:
    """The patches of n pixels that begin at `rows`, `cols` (b,) in layers without overlap.

    The image is cut into squares of n pixels, which are of four kinds as those of a chess board of two by two. Patches
    that begin in different squares of one kind lie apart; of each square a layer has one. They are at most four times
    as many layers as patches begin in one square.

    >>> layers_of(np.array([0, 1, 9]), np.array([0, 0, 0]), 4)
    Layers(order=array([0, 2, 1]), sizes=[2, 1])
    """
    down, right = rows // n, cols // n
    square = down * (int(right.max(initial=0)) + 1) + right
    order = np.argsort(square, kind="stable")
    _, first, count = np.unique(square[order], return_index=True, return_counts=True)
    rank = np.empty(len(rows), np.int64)
    rank[order] = np.arange(len(rows)) - np.repeat(first, count)
    layer = 4 * rank + 2 * (down % 2) + right % 2
    return Layers(np.argsort(layer, kind="stable"), np.unique(layer, return_counts=True)[1].tolist())
