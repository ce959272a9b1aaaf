"""Sums of weighted patches on a canvas: what a backend may do for stitching, and NumPy does where none is asked.

A patch `w O_j` is laid between pixels, bilinear, in the precision of the patches; the canvases are in double precision.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from ptycho.core.stitching.overlaps import Factors

__all__ = ["CanvasSums", "Layout", "MakeSums", "NumpySums", "Piece", "Totals", "splat"]

Array = NDArray[Any]
Float = NDArray[np.float64]

_CHUNK = 1 << 15  # pixels at once; a larger working set leaves the cache


@dataclass(frozen=True)
class Layout:
    """What is summed."""

    shape: tuple[int, int]
    """(H, W) of the canvas, which holds every patch that comes."""
    weight: Float
    """(h, w) of a patch."""
    variants: int
    """K: ways of turning the patches."""
    seconds: int
    """Sums of squares: K, 1 where all variants have them in common, 0 where nobody asks."""


class Piece(NamedTuple):
    """Some patches on their way to the canvas."""

    patches: Array
    """(b, h, w) complex, without weight."""
    rows: NDArray[np.int64]
    """(b,) first row of each on the canvas."""
    cols: NDArray[np.int64]
    dx: Float
    """(b,) how much further right it lies, 0 <= dx < 1 pixel."""
    dy: Float
    turns: Sequence[Factors | None]
    """(K,) what each variant multiplies them with; None leaves them as they are."""


class Totals(NamedTuple):
    """What was summed, in double precision."""

    weights: Float
    """(H, W)"""
    squared: Float
    """(H, W), of the square of the weight of each patch; 0 where there are no seconds."""
    first: NDArray[np.complex128]
    """(K, H, W) of the patches."""
    second: Float
    """(seconds, H, W) of their squared modulus."""


class CanvasSums(Protocol):
    """Sums that are held where they are made, until they are asked for."""

    pixels: int
    """Of patches that are best added at once."""

    def add(self, piece: Piece) -> None:
        """Add some patches; nothing comes back."""

    def totals(self) -> Totals:
        """All sums, once all patches are added."""


MakeSums = Callable[[Layout], CanvasSums]


class NumpySums:
    """`CanvasSums` in the memory of the host, patch after patch."""

    pixels = _CHUNK

    def __init__(self, layout: Layout) -> None:
        self._weight, shape = layout.weight, layout.shape
        self._weights, self._squared = np.zeros((2, *shape))
        self._first = np.zeros((layout.variants, *shape), np.complex128)
        self._second = np.zeros((layout.seconds, *shape))

    def add(self, piece: Piece) -> None:
        """Add some patches."""
        real = piece.patches.real.dtype
        weight = self._weight.astype(real)
        dx, dy = (each[:, None, None].astype(real) for each in (piece.dx, piece.dy))
        windows = [
            (slice(row, row + weight.shape[0] + 1), slice(col, col + weight.shape[1] + 1))
            for row, col in zip(piece.rows.tolist(), piece.cols.tolist(), strict=True)
        ]

        def add(canvas: Array, values: Array) -> None:
            for window, value in zip(windows, values.astype(canvas.dtype, copy=False), strict=True):
                canvas[window] += value

        placed = splat(np.broadcast_to(weight, piece.patches.shape), dx, dy)
        add(self._weights, placed)
        if len(self._second):
            add(self._squared, placed * placed)
        values = piece.patches * weight
        still = splat(values, dx, dy)
        # |w O|^2 / w is w |O|^2, also where the move has spread a pixel over four
        floor = np.maximum(placed, np.finfo(real).tiny)
        for k, turn in enumerate(piece.turns):
            if turn is None:
                moved = still
            elif turn.along is None:
                moved = still * turn.whole
            else:
                moved = splat(values * turn.whole, dx, dy)
            add(self._first[k], moved)
            if k < len(self._second):
                add(self._second[k], (moved.real**2 + moved.imag**2) / floor)

    def totals(self) -> Totals:
        """All sums."""
        return Totals(self._weights, self._squared, self._first, self._second)


def splat(values: Array, dx: Array, dy: Array) -> Array:
    """Windows (b, h+1, w+1) that hold `values` (b, h, w) moved by 0 <= dx, dy < 1 (b, 1, 1), bilinear."""
    k, height, width = values.shape
    tall = np.zeros((k, height + 1, width), values.dtype)
    np.multiply(values, 1 - dy, out=tall[:, :-1])
    tall[:, 1:] += values * dy
    windows = np.zeros((k, height + 1, width + 1), values.dtype)
    np.multiply(tall, 1 - dx, out=windows[:, :, :-1])
    windows[:, :, 1:] += tall * dx
    return windows
