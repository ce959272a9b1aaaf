"""Counts in the type that other programs read: int32 where they fit."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.core.scan.stream import Frames

__all__ = ["stored_counts"]

Array = NDArray[Any]

_WHOLE = 1e-6
"""Relative distance from a whole number, as of a square of a root in float32."""


def stored_counts(frames: Frames, mask: Array | None = None) -> Frames:
    """Counts as int32, as int64 where one of them is larger, or as they are where they are not whole.

    Looks at all patterns once where their type leaves it open. What a masked pixel holds is no count: 0 where it does
    not fit.

    Args:
        frames: (n, rows, columns) of counts.
        mask: (rows, columns) or (n, rows, columns), True where valid.
    """
    if np.can_cast(frames.dtype, np.int32):
        return frames.map(lambda block: block, None, np.int32)
    largest = 0.0
    for part, block in frames.blocks():
        valid = _valid(block, mask, part)
        if not (np.abs(valid - np.rint(valid)) <= _WHOLE * np.maximum(valid, 1)).all():
            return frames
        largest = max(largest, float(valid.max(initial=0)))
    limit = np.iinfo(np.int32 if largest <= np.iinfo(np.int32).max else np.int64)

    def load(indices: NDArray[np.intp]) -> Array:
        block = frames.read(indices)
        return np.rint(np.where((block >= limit.min) & (block <= limit.max), block, 0)).astype(limit.dtype)

    return Frames(frames.shape, limit.dtype, load)


def _valid(block: Array, mask: Array | None, chosen: Any) -> Array:
    """The block with 0 in masked pixels."""
    return block if mask is None else np.where(mask[chosen] if mask.ndim == 3 else mask, block, 0)
