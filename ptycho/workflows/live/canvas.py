"""An object that grows while positions come: a canvas in the scan's own pixels, made larger where it has to be."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.core.geometry import ObjectFrame, object_frame, reframe
from ptycho.core.physics.patches import assemble
from ptycho.core.scaling import frame_blocks
from ptycho.core.stitching.stitch import probe_weight
from ptycho.workflows.reconstruct import beyond_coverage

__all__ = ["Canvas"]

_MORE = 16
"""Pixels that are added beyond what is needed, so that it is not made anew for every position."""


class Canvas:
    """An object (H, W) and the light that its pixels have received."""

    def __init__(self) -> None:
        self.frame = ObjectFrame(0, 0, 0, 0)
        self.object: NDArray[np.complex64] = np.zeros((0, 0), np.complex64)
        """(H, W); where no light is, the mean amplitude and phase of the rest."""
        self.light: NDArray[np.float32] = np.zeros((0, 0), np.float32)
        """(H, W) `sum_j sum_m |P_m(r - r_j)|^2` of the patterns so far, in units of the brightest pixel of a probe."""

    def take(self, image: NDArray[np.complex64], light: NDArray[np.float32], frame: ObjectFrame) -> None:
        """Put an earlier object in the place of this one; the light of its patterns comes with them."""
        self.object, self.frame = beyond_coverage(image, light > 0), frame
        self.light = np.zeros(frame.shape, np.float32)

    def reach(self, x: NDArray[np.float64], y: NDArray[np.float64], probe: NDArray[Any]) -> None:
        """Make room for patterns (n,) at these positions, pixels of the scan, and count the light of a probe there."""
        if not len(x):
            return
        needed = object_frame(x, y, probe.shape[-1])
        joined = needed if not self.object.size else self.frame.joined(needed)
        if joined != self.frame:
            self._grow(joined.widened(_MORE) if self.object.size else joined)
        weight = probe_weight(probe)
        weight = (weight / weight.max()).astype(np.float32)
        here = self.frame.local(x, y)
        for block in frame_blocks(len(x), weight.size):
            patches = np.broadcast_to(weight, (len(here[0][block]), *weight.shape))
            self.light += assemble(patches, here[0][block], here[1][block], self.frame.shape)

    def _grow(self, frame: ObjectFrame) -> None:
        lit = self.light > 0
        fill = 1.0 + 0j
        if lit.any():  # what comes next begins like what is there
            mean = complex(self.object.mean(where=lit))
            fill = float(np.abs(self.object).mean(where=lit)) * (mean / abs(mean) if mean else 1)
        self.object = reframe(self.object, self.frame, frame, fill)
        self.light = reframe(self.light, self.frame, frame, 0)
        self.frame = frame
