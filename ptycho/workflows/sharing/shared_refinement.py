"""The refinement of a scan by a team: every process has a compact part of the patterns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ptycho.config.config import InferenceConfig, TrainingConfig
from ptycho.core.refinement.refinement import Refinement
from ptycho.core.refinement.shared_start import in_strips
from ptycho.core.refinement.state_file import StateFile
from ptycho.core.refinement.sums.processes import shares, strips
from ptycho.raw_data import RawData
from ptycho.workflows.backend import Backend
from ptycho.workflows.run_options import RunOptions
from ptycho.workflows.sharing.team import Team, quiet_run, share_out

__all__ = ["SharedRefinement"]


@dataclass(frozen=True)
class SharedRefinement:
    """`refine(scan, start, iterations, ...)` of a backend by a team: every process has a compact part of the scan."""

    backend: Backend
    config: InferenceConfig | TrainingConfig
    run: RunOptions
    team: Team

    def __call__(
        self,
        scan: RawData,
        start: Any,
        iterations: int,
        *,
        probe: Any = None,
        frame: Any = None,
        report: Callable[[int, float], None] | None = None,
        state_file: StateFile | None = None,
        **settings: Any,
    ) -> Refinement:
        """Refine; the arguments are those of `ptycho.core.refinement.run.refine_scan`."""
        first: dict[str, Any] = {"probe": probe, "frame": frame, "report": report, "state_file": state_file}
        if self.team.size > 1:
            if settings.get("strips") is None:
                settings["strips"] = in_strips(scan, start, settings, self.team.size)
            if settings["strips"]:
                parts = strips(scan.ycoords, self.team.size)
            else:
                parts = shares(scan.xcoords, scan.ycoords, self.team.size)
            kept = None if state_file is None else StateFile(None, state_file.search)
            others = iterations, self.config, quiet_run(self.run), {**settings, "state_file": kept}
            share_out(self.team, self.backend, _refined, lambda rank: scan.shared(parts[rank]), *others)
            first["processes"] = self.team
        made: Refinement = self.backend.refine(scan, start, iterations, self.config, self.run, **first, **settings)
        return made


def _refined(
    team: Team,
    backend: Backend,
    shared: dict[str, Any],
    iterations: int,
    config: InferenceConfig | TrainingConfig,
    run: RunOptions,
    settings: dict[str, Any],
) -> None:
    """The part of another process than the first."""
    backend.refine(RawData.from_shared(shared), None, iterations, config, run, processes=team, **settings)
