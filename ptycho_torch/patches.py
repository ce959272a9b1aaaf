"""Patches of an object cut out of it and added to it, at whole pixels."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

__all__ = ["add_patches", "add_whole_numbers", "cut_patches"]

WHOLE_BITS = 62
"""Of a sum of whole numbers, which has 64: one is its sign, one is spare."""


def cut_patches(canvas: Tensor, rows: Tensor, cols: Tensor, N: int) -> Tensor:
    """Patches `(b, N, N)` of `canvas (H, W)` that begin at whole pixels `rows`, `cols` (b,).

    On a CPU a loop of slices costs half of an index; on a GPU each slice would be a launch of its own.
    """
    if canvas.device.type == "cpu":
        whole = canvas.numpy()
        parts = np.empty((len(rows), N, N), whole.dtype)
        for part, row, col in zip(parts, rows.tolist(), cols.tolist(), strict=True):
            part[...] = whole[row : row + N, col : col + N]
        return torch.from_numpy(parts)
    return canvas.unfold(0, N, 1).unfold(1, N, 1)[rows, cols]


def add_patches(canvas: Tensor, patches: Tensor, rows: Tensor, cols: Tensor) -> None:
    """Add `patches (b, h, w)` into `canvas (H, W)` in place: the adjoint of `cut_patches`.

    On a CPU by slices, too, in the order of the patches; on a GPU in none.
    """
    height, width = patches.shape[-2:]
    if canvas.device.type == "cpu":
        whole, parts = canvas.numpy(), patches.numpy()
        for row, col, patch in zip(rows.tolist(), cols.tolist(), parts, strict=True):
            whole[row : row + height, col : col + width] += patch
        return
    canvas.view(-1).index_add_(0, _pixels(canvas, patches, rows, cols).reshape(-1), patches.reshape(-1))


def add_whole_numbers(canvas: Tensor, patches: Tensor, rows: Tensor, cols: Tensor) -> None:
    """As `add_patches`, with the same bits in every order: sums of whole numbers are not rounded.

    Each value is multiplied by `2^(62 - p)` over the largest part of one, of b patches with `b < 2^p`, so that no sum
    is too large, and cut to a whole number: that takes less than 2^-48 of the largest of 10,000 patches, and float32
    rounds a product by 2^-24 of itself. The factor is worked out on the device. With a value that is not finite nothing
    is: the factor is 0 or not a number, and every sum is divided by it.
    """
    values = _parts(patches.reshape(-1))
    largest = torch.linalg.vector_norm(values, torch.inf)
    # where all is 0 the factor would be infinite, and 0 times it not a number
    factor = (2.0 ** (WHOLE_BITS - len(patches).bit_length()) / largest).clamp_max(torch.finfo(values.dtype).max)
    sums = torch.zeros(canvas.numel(), values.shape[-1], dtype=torch.int64, device=canvas.device)
    sums.index_add_(0, _pixels(canvas, patches, rows, cols).reshape(-1), (values * factor).to(torch.int64))
    _parts(canvas.view(-1)).addcdiv_(sums, factor)


def _parts(values: Tensor) -> Tensor:
    """The real and the imaginary part `(n, 2)` of complex values, and real ones `(n, 1)` as they are."""
    return torch.view_as_real(values) if values.is_complex() else values[:, None]


def _pixels(canvas: Tensor, patches: Tensor, rows: Tensor, cols: Tensor) -> Tensor:
    """Where `(b, h, w)` the pixels of patches lie in a canvas that is one row."""
    (height, width), row = patches.shape[-2:], canvas.shape[1]
    step = torch.arange(max(height, width), device=canvas.device)
    return torch.add(cols, rows, alpha=row)[:, None, None] + torch.add(step[:width], step[:height, None], alpha=row)
