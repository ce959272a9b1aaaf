"""Patches of an object cut out of it and added to it, at whole pixels."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

__all__ = ["add_patches", "cut_patches"]

Array = NDArray[Any]


def cut_patches(canvas: Array, rows: Array, cols: Array, N: int) -> tf.Tensor:
    """Patches `(b, N, N)` of `canvas (H, W)` that begin at whole pixels `rows`, `cols` (b,)."""
    return tf.constant(np.lib.stride_tricks.sliding_window_view(canvas, (N, N))[rows, cols])


def add_patches(canvas: Array, patches: tf.Tensor, rows: Array, cols: Array) -> None:
    """Add `patches (b, N, N)` into `canvas (H, W)`, a NumPy array, in place: the adjoint of `cut_patches`."""
    n = patches.shape[-1]
    # np.asarray looks into the tensor, .numpy() would copy it
    for row, col, patch in zip(rows.tolist(), cols.tolist(), np.asarray(patches), strict=True):
        canvas[row : row + n, col : col + n] += patch
