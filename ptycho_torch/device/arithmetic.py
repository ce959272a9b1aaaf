"""Two images compared on a GPU, twin of `ptycho.core.quality.arithmetic.NumpyArithmetic`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["TorchArithmetic"]


class TorchArithmetic:
    """`ptycho.core.quality.arithmetic.Arithmetic` on a device that has double precision. Not run on a GPU so far.

    Args:
        device: where the images are worked on.
    """

    pixels = 1 << 22  # 600 MB with all that is multiplied

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)

    def held(self, values: NDArray[Any] | Tensor) -> Tensor:
        """Where it is worked on; NumPy's go there in their own precision."""
        there = values if isinstance(values, Tensor) else torch.as_tensor(np.ascontiguousarray(values)).to(self.device)
        return there.to(torch.complex128 if there.is_complex() else torch.float64)

    def numpy(self, values: Tensor) -> NDArray[Any]:
        """Back to NumPy."""
        return values.cpu().numpy()

    def fft2(self, image: Tensor, shape: tuple[int, int] | None = None, spent: bool = False) -> Tensor:
        """The transform."""
        return torch.fft.fft2(image, shape)

    def ifft2(self, spectrum: Tensor, spent: bool = False) -> Tensor:
        """Its inverse."""
        return torch.fft.ifft2(spectrum)

    def row_products(self, first: Sequence[Tensor], second: Sequence[Tensor]) -> Tensor:
        """A product of matrices for each row."""
        return torch.stack(list(first), 1) @ torch.stack(list(second), 1).transpose(1, 2)

    def ring_sums(self, images: Sequence[Tensor], ring: Tensor, count: int) -> Tensor:
        """Sums of what is sorted by rings, since a GPU adds to a ring in no order; whole numbers may be."""
        number = ring.flatten().to(torch.int64).clamp_max(count)  # all that lies beyond is one more ring
        order = torch.argsort(number, stable=True)
        n = torch.zeros(count + 1, dtype=torch.int64, device=self.device)
        n.index_add_(0, number, torch.ones_like(number))
        sums = [torch.segment_reduce(image.flatten()[order], "sum", lengths=n, unsafe=True) for image in images]
        return torch.stack([n.to(torch.float64), *sums])[:, :count]
