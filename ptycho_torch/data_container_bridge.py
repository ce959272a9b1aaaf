"""A grouped data set as the network sees it: tensors made on access, batches read from the scan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ptycho.core.diffraction import as_modes
from ptycho.core.geometry import canvas_size
from ptycho.core.grouped_data import GroupedData

__all__ = ["PtychoDataContainerTorch"]


class PtychoDataContainerTorch:
    """Groups of a scan with the names of `ptycho.loader.PtychoDataContainer`; channel-last, as in the grouped dict.

    Args:
        grouped: what `RawData.generate_grouped_data` returned, or a dict with the same keys.
        probe: complex `(N, N)` or `(M, N, N)`.
        mask: bool `(N, N)` or `(n, N, N)`, True where valid; None: everywhere.

    `X` (B,N,N,C) float32 normalised amplitude, `Y` complex64 or None with `Y_I` = |Y| and `Y_phi` = arg Y,
    `local_offsets` (B,1,2,C) = coords_relative, `global_offsets` (B,1,2,1), `coords_nominal` and `coords_true`
    (B,1,2,C) pixels, `nn_indices` (B,C), `probe`. `batch` gives what a step of training needs without making `X`.
    """

    def __init__(self, grouped: Mapping[str, Any], probe: NDArray[Any], mask: NDArray[np.bool_] | None = None) -> None:
        self.grouped = grouped
        self.probe = torch.as_tensor(np.asarray(as_modes(np.asarray(probe)), np.complex64))
        self._mask = None if mask is None else np.asarray(mask, bool)
        self._positions = torch.as_tensor(np.moveaxis(np.asarray(grouped["coords_relative"], np.float32), -1, 1).copy())
        self.canvas_size = canvas_size(self.probe.shape[-1], grouped["coords_relative"])

    def __len__(self) -> int:
        return len(self.grouped["nn_indices"])

    @property
    def X(self) -> Tensor:
        """Normalised amplitude (B, N, N, C)."""
        return torch.as_tensor(self.grouped["X_full"])

    @property
    def Y(self) -> Tensor | None:
        """Ground-truth patches (B, N, N, C) complex64, or None."""
        truth = self.grouped["Y"]
        return None if truth is None else torch.as_tensor(truth)

    @property
    def Y_I(self) -> Tensor | None:
        """Amplitude of the ground truth."""
        return None if self.Y is None else self.Y.abs()

    @property
    def Y_phi(self) -> Tensor | None:
        """Phase of the ground truth, radians."""
        return None if self.Y is None else self.Y.angle()

    @property
    def local_offsets(self) -> Tensor:
        """`coords_relative` (B, 1, 2, C) float32: minus the member's position seen from the group's centre."""
        return torch.as_tensor(np.asarray(self.grouped["coords_relative"], np.float32))

    @property
    def global_offsets(self) -> NDArray[np.float64]:
        """`coords_offsets` (B, 1, 2, 1): the group's centre; an array that knows its object (`FramedOffsets`)."""
        return self.grouped["coords_offsets"]

    @property
    def coords_nominal(self) -> Tensor:
        """Positions of the members (B, 1, 2, C), as the scan was meant to be."""
        return torch.as_tensor(self.grouped["coords_nn"])

    @property
    def coords_true(self) -> Tensor:
        """Positions of the members (B, 1, 2, C), as they were at the start of each exposure."""
        return torch.as_tensor(self.grouped["coords_start_nn"])

    @property
    def coords(self) -> Tensor:
        """The positions in use: `coords_nominal`."""
        return self.coords_nominal

    @property
    def nn_indices(self) -> NDArray[np.int32]:
        """Scan points of each group (B, C)."""
        return self.grouped["nn_indices"]

    def batch(self, indices: Sequence[int] | NDArray[np.integer] | slice) -> tuple[Tensor, Tensor, Tensor]:
        """Groups of one step: `X_norm (b, C, N, N)`, positions `(b, C, 1, 2)`, mask `(b or 1, C or 1, N, N)`."""
        if isinstance(self.grouped, GroupedData):
            amplitude = self.grouped.batch(indices)
            amplitude *= np.float32(self.grouped.scale)
        else:
            amplitude = self.grouped["X_full"][indices]
        normalised = torch.as_tensor(np.ascontiguousarray(np.moveaxis(amplitude, -1, 1)))
        return normalised, self._positions[indices], self._mask_of(indices)

    def _mask_of(self, indices: Sequence[int] | NDArray[np.integer] | slice) -> Tensor:
        n = self.probe.shape[-1]
        if self._mask is None:
            return torch.ones((1, 1, n, n), dtype=torch.bool)
        if self._mask.ndim == 2:
            return torch.as_tensor(self._mask)[None, None]
        return torch.as_tensor(self._mask[self.nn_indices[indices]])
