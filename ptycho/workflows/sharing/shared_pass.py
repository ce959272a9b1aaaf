"""The pass of a network over a scan by a team: every process has a compact part of the groups, and their patterns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.config.config import InferenceConfig, TrainingConfig
from ptycho.core.groups.grouped_data import GroupedData
from ptycho.core.refinement.sums.processes import shares
from ptycho.core.stitching.patch_store import patch_array
from ptycho.raw_data import RawData
from ptycho.workflows.backend import Backend, ScanModel
from ptycho.workflows.run_options import RunOptions
from ptycho.workflows.sharing.team import Team, quiet_run, share_out

__all__ = ["SharedPass"]

Config = InferenceConfig | TrainingConfig

_SMALL = (
    *("nn_indices", "coords_offsets", "coords_relative", "coords_start_offsets", "coords_start_relative"),
    *("coords_nn", "coords_start_nn"),
)
"""What a grouped data set has of each group, beside patterns and patches."""


@dataclass(frozen=True)
class SharedPass:
    """Patches of all groups of a scan."""

    backend: Backend
    model: ScanModel
    config: Config
    run: RunOptions
    team: Team

    def patches(self, scan: RawData, grouped: GroupedData, groups: Any, on_grid: bool) -> NDArray[np.complex64]:
        """Patches (B, C, N, N) of every group, in the order of the groups.

        Args:
            scan: that the groups are of.
            grouped: the groups.
            groups: these as a container of the backend.
            on_grid: as of the container.
        """
        if self.team.size == 1:
            return self.backend.predict(self.model, groups, self.config, self.run)
        x, y = np.asarray(grouped["coords_offsets"])[:, 0, :, 0].T
        parts = shares(x, y, self.team.size)
        settings = (groups.canvas_size, on_grid, self.config)

        def part_of(rank: int) -> tuple[Any, ...]:
            points = np.unique(grouped["nn_indices"][parts[rank]])
            return self.model, scan.shared(points), _values(grouped, parts[rank]), grouped.scale

        share_out(self.team, self.backend, _predicted, part_of, settings, quiet_run(self.run))
        own = _patches(self.backend, self.model, scan, _values(grouped, parts[0]), grouped.scale, settings, self.run)
        found = patch_array((len(grouped["nn_indices"]), *own.shape[1:]))
        found[parts[0]] = own
        for rank in range(1, self.team.size):
            found[parts[rank]] = self.team.receive(rank)
        return found


def _values(grouped: GroupedData, part: NDArray[np.int64]) -> dict[str, Any]:
    """The small arrays of some groups."""
    return {key: np.asarray(grouped[key])[part] for key in _SMALL}


def _patches(
    backend: Backend,
    model: ScanModel,
    scan: RawData,
    values: dict[str, Any],
    scale: float,
    settings: tuple[int, bool, Config],
    run: RunOptions,
) -> NDArray[np.complex64]:
    """Those of some groups, on the canvas of all."""
    canvas_size, on_grid, config = settings
    grouped = GroupedData(values, scan, scale)
    groups = backend.container(grouped, scan.probeGuess, scan.mask, model.intensity_scale, on_grid=on_grid)
    groups.canvas_size = canvas_size
    return backend.predict(model, groups, config, run)


def _predicted(
    team: Team, backend: Backend, part: tuple[Any, ...], settings: tuple[int, bool, Config], run: RunOptions
) -> None:
    """The part of another process than the first."""
    model, shared, values, scale = part
    team.send(_patches(backend, model, RawData.from_shared(shared), values, scale, settings, run), 0)
