"""The preconditioner of a refinement with an object of several slices."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from ptycho.core.refinement.steps.preconditioner import Preconditioner
from ptycho.core.refinement.sums.object_share import WHOLE, ObjectShare

__all__ = ["SlicedPreconditioner"]

Array = NDArray[Any]


class SlicedPreconditioner:
    """Maps gradients to steps, slice by slice: each is lit by the probe as free space brings it there.

    Args:
        image: object `(K, H, W)`.
        probe: `(M, N, N)`, in front of the first slice.
        rows, cols: first pixel of each patch, integers `(n,)`.
        with_probe: whether the probe moves too.
        gap: `(N, N)` transfer function from one slice to the next.
        share: what this process has of every slice, as of `Preconditioner`.
    """

    def __init__(
        self,
        image: Array,
        probe: Array,
        rows: NDArray[np.int64],
        cols: NDArray[np.int64],
        with_probe: bool,
        gap: Array,
        share: ObjectShare = WHOLE,
    ) -> None:
        self._slices: list[Preconditioner] = []
        for k, layer in enumerate(image):
            self._slices.append(Preconditioner(layer, probe, rows, cols, with_probe and k == 0, share=share))
            probe = scipy.fft.ifft2(scipy.fft.fft2(probe) * gap).astype(probe.dtype)

    def object_step(self, gradient: Array, image: Array) -> Array:
        """Map the gradient `(K, H, W)` with respect to the object."""
        steps = zip(self._slices, gradient, image, strict=True)
        return np.stack([each.object_step(part, layer) for each, part, layer in steps])

    def probe_step(self, gradient: Array, probe: Array) -> Array:
        """Map the gradient `(M, N, N)` with respect to the probe."""
        return self._slices[0].probe_step(gradient, probe)
