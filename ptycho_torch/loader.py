"""A grouped data set as the PyTorch network sees it: tensors made on access, batches read from the scan."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ptycho.core.groups.container import GroupContainer, Indices

__all__ = ["PtychoDataContainerTorch"]


class PtychoDataContainerTorch(GroupContainer):
    """`ptycho.core.groups.container.GroupContainer` with PyTorch tensors, twin of
    `ptycho.tf.loader.PtychoDataContainer`.

    The properties are channel-last, as in the grouped dict; `batch` is channel-first, as the network wants it.
    """

    def tensor(self, array: NDArray[Any]) -> Tensor:
        """An array as a tensor on the CPU."""
        return torch.as_tensor(array)

    def batch(self, indices: Indices, truth: bool = False, part: slice = slice(None)) -> tuple[Tensor, ...]:
        """Groups of one step: `X_norm (b, C, N, N)`, positions `(b, C, 1, 2)`, mask `(b or 1, C or 1, N, N)`.

        With `truth` a fourth tensor, `Y (b, C, N, N)`; DataError where the scan has none.
        Where the scan knows them, flux `(b, C, 1, 1)` and background `(1, 1, N, N)` come at the end, then the matrix of
        the blur `(1, 1, N, N)`. `part`: of these groups those that a process works on.
        """
        arrays = (np.ascontiguousarray(np.moveaxis(array, -1, 1)) for array in self.arrays(indices, truth, part))
        return tuple(torch.as_tensor(array) for array in arrays)
