"""Patches of an object cut out of it and added to it, at whole pixels."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ptycho.core.refinement.layers import Layers

__all__ = ["add_in_layers", "add_patches", "cut_patches"]


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
    """Add `patches (b, N, N)` into `canvas (H, W)` in place: the adjoint of `cut_patches`.

    On a CPU by slices, too, in the order of the patches; on a GPU in none.
    """
    n = patches.shape[-1]
    if canvas.device.type == "cpu":
        whole, parts = canvas.numpy(), patches.numpy()
        for row, col, patch in zip(rows.tolist(), cols.tolist(), parts, strict=True):
            whole[row : row + n, col : col + n] += patch
        return
    canvas.view(-1).index_add_(0, _pixels(canvas, n, rows, cols).reshape(-1), patches.reshape(-1))


def add_in_layers(canvas: Tensor, patches: Tensor, rows: Tensor, cols: Tensor, layers: Layers) -> None:
    """As `add_patches`, in one order on every device: layer after layer, in none of which two patches meet."""
    pixels, whole = _pixels(canvas, patches.shape[-1], rows, cols)[layers.order], canvas.view(-1)
    for here, values in zip(pixels.split(layers.sizes), patches[layers.order].split(layers.sizes), strict=True):
        whole[here] += values


def _pixels(canvas: Tensor, n: int, rows: Tensor, cols: Tensor) -> Tensor:
    """Where `(b, n, n)` the pixels of patches lie in a canvas that is one row."""
    step = torch.arange(n, device=canvas.device)
    return (rows[:, None, None] + step[:, None]) * canvas.shape[1] + cols[:, None, None] + step
