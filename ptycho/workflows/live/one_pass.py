"""The object of a scan that is still being measured, by the pass of a network: each frame is predicted once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ptycho.config.config import InferenceConfig
from ptycho.core.physics.patches import assemble, extract_rounded
from ptycho.core.stitching.overlaps import WEIGHT_FLOOR
from ptycho.core.stitching.stitch import probe_weight
from ptycho.raw_data import RawData
from ptycho.workflows.backend import Backend
from ptycho.workflows.live.canvas import Canvas
from ptycho.workflows.networks.model_scan import scan_for
from ptycho.workflows.networks.training_data import at_network_size, group_scan, prepared_scan
from ptycho.workflows.reconstruct import predicted_patches
from ptycho.workflows.run_options import RunOptions

__all__ = ["LivePass"]

_ENOUGH = 0.05
"""Share of a patch's weight that has to lie on what is there already for its phase to be read from it."""


class LivePass:
    """Lays patches of a network on a canvas as their patterns come.

    The patches of a group have one phase, which the network does not know; it is turned to that of what lies there
    already. The end does it better: it has all overlaps at once (`ptycho.workflows.networks.stitch_scan`).

    Args:
        backend, path: of the network.
        data: what there is of the scan, by whose probe one of several experiments is chosen.
        canvas: the object so far.
        run: how the backend runs.
    """

    def __init__(self, backend: Backend, path: Path, data: RawData, canvas: Canvas, run: RunOptions) -> None:
        self.backend, self.canvas, self.run = backend, canvas, run
        self.config = InferenceConfig(model_path=path, backend=backend.name)
        self.model, _ = backend.load(path, None, data, run)
        self.probe: NDArray[np.complex64] | None = None
        """(M, N, N) of the network in the unit of the scan's amplitudes, once it has seen a pattern."""
        self._sum = np.zeros((0, 0), np.complex128)
        self._weight = np.zeros((0, 0))
        self._origin = (0, 0)

    @property
    def members(self) -> int:
        """Patterns of a group."""
        return int(self.model.config.gridsize) ** 2

    def add(self, data: RawData) -> None:
        """Predict these patterns, at least as many as a group has, and lay them on the canvas, which has room."""
        model = self.model
        if self.probe is None:  # warns where the scan is far from what the network knows
            scan, self.config = scan_for(model, data, self.config)
            self.probe = model.probe.file_units()
        else:
            scan = prepared_scan(at_network_size(data, model.config.N), self.config, model.scaling.straight_probe)
        grouped = group_scan(scan, self.config, len(scan), sequential=True, input_scale=model.input_scale)
        patches, positions = predicted_patches(self.backend, model, scan, grouped, self.config, self.run)
        self._grow()
        weight = probe_weight(self.probe)
        weight = weight / weight.max()
        for group, places in zip(patches, positions, strict=True):
            x, y = self.canvas.frame.local(places[0, 0], places[0, 1])
            group = group * self._turn(group, x, y, weight)
            self._sum += assemble(weight * group, x, y, self._sum.shape)
            self._weight += assemble(np.broadcast_to(weight, group.shape), x, y, self._weight.shape)
        lit = self._weight > WEIGHT_FLOOR
        self.canvas.object = np.where(lit, self._sum / np.where(lit, self._weight, 1), 1).astype(np.complex64)

    def _turn(
        self,
        group: NDArray[np.complex64],
        x: NDArray[np.float64],
        y: NDArray[np.float64],
        weight: NDArray[np.float64],
    ) -> complex:
        """The factor of modulus 1 that turns a group to what lies there; 1 where that is too little."""
        n = group.shape[-1]
        there, light = (extract_rounded(each, x, y, n)[0] for each in (self._sum, self._weight))
        if (weight * np.minimum(light.real, 1)).sum() < _ENOUGH * len(group) * weight.sum():
            return 1.0
        overlap = complex(np.sum(weight * group.conj() * there))
        return overlap / abs(overlap) if overlap else 1.0

    def _grow(self) -> None:
        """Have the sums lie in the frame of the canvas."""
        frame = self.canvas.frame
        if self._sum.shape == frame.shape and self._origin == (frame.y0, frame.x0):
            return
        held, weight = self._sum, self._weight
        self._sum, self._weight = np.zeros(frame.shape, np.complex128), np.zeros(frame.shape)
        if held.size:
            top, left = self._origin[0] - frame.y0, self._origin[1] - frame.x0
            inside = np.s_[top : top + held.shape[0], left : left + held.shape[1]]
            self._sum[inside], self._weight[inside] = held, weight
        self._origin = (frame.y0, frame.x0)
