"""Sums of weighted patches on a GPU, twin of `ptycho.core.stitching.sums.NumpySums`."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ptycho.core.stitching.sums import Layout, Piece, Totals
from ptycho_torch.patches import add_patches, add_whole_numbers

__all__ = ["TorchSums"]

DEVICE_PIXELS = 1 << 22
"""Pixels of patches that a GPU adds at once: some 300 MB with all that is made of them."""


class TorchSums:
    """`ptycho.core.stitching.sums.CanvasSums` on a device, where the canvases stay until they are asked for.

    Patches go there batch by batch; nothing comes back meanwhile. Not run on a GPU so far.

    Args:
        layout: what is summed.
        device: of the canvases; one that has double precision.
        deterministic: whether the same patches give the same bits (`ptycho_torch.patches.add_whole_numbers`); else a
            GPU adds them in no order, and the last digits of double precision differ. A CPU has an order anyway.
    """

    def __init__(self, layout: Layout, device: torch.device | str = "cpu", deterministic: bool = False) -> None:
        self.device = torch.device(device)
        self.whole_numbers = deterministic and self.device.type != "cpu"
        self.pixels = DEVICE_PIXELS
        self._weight, shape = torch.as_tensor(layout.weight, device=self.device), layout.shape
        self._weights, self._squared = (self._zeros(*shape) for _ in range(2))
        self._first = self._zeros(layout.variants, *shape, dtype=torch.complex128)
        self._second = self._zeros(layout.seconds, *shape)

    def add(self, piece: Piece) -> None:
        """Add some patches."""
        patches = self._sent(piece.patches)
        real = patches.real.dtype
        weight = self._weight.to(real)
        dx, dy = (self._sent(each).to(real)[:, None, None] for each in (piece.dx, piece.dy))
        rows, cols = self._sent(piece.rows), self._sent(piece.cols)
        add_all = add_whole_numbers if self.whole_numbers else add_patches

        def add(canvas: Tensor, values: Tensor) -> None:
            add_all(canvas, values.to(canvas.dtype), rows, cols)

        placed = _splat(weight.expand(patches.shape), dx, dy)
        add(self._weights, placed)
        if len(self._second):
            add(self._squared, placed.square())
        values = patches * weight
        still = _splat(values, dx, dy)
        floor = placed.clamp_min(torch.finfo(real).tiny)
        for k, turn in enumerate(piece.turns):
            moved = still
            if turn is not None:
                factors = self._sent(turn.phases)[:, None, None]
                if turn.along is None:
                    moved = still * factors
                else:
                    down, right = (self._sent(each) for each in turn.along)
                    moved = _splat(values * (factors * down[:, :, None] * right[:, None, :]), dx, dy)
            add(self._first[k], moved)
            if k < len(self._second):
                add(self._second[k], (moved.real.square() + moved.imag.square()) / floor)

    def totals(self) -> Totals:
        """All sums."""
        return Totals(*(self.numpy(each) for each in (self._weights, self._squared, self._first, self._second)))

    def numpy(self, values: Tensor) -> NDArray[Any]:
        """Back to NumPy."""
        return values.cpu().numpy()

    def _zeros(self, *shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
        return torch.zeros(shape, dtype=dtype, device=self.device)

    def _sent(self, values: NDArray[Any]) -> Tensor:
        return torch.as_tensor(np.ascontiguousarray(values)).to(self.device)


def _splat(values: Tensor, dx: Tensor, dy: Tensor) -> Tensor:
    """`ptycho.core.stitching.sums.splat`."""
    count, height, width = values.shape
    tall = values.new_zeros((count, height + 1, width))
    tall[:, :-1] = values * (1 - dy)
    tall[:, 1:] += values * dy
    windows = values.new_zeros((count, height + 1, width + 1))
    windows[:, :, :-1] = tall * (1 - dx)
    windows[:, :, 1:] += tall * dx
    return windows
