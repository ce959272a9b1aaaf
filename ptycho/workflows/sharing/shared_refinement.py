"""The refinement of a scan by a team: every process has a compact part of the patterns."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from ptycho.config.config import InferenceConfig, TrainingConfig
from ptycho.core.refinement.processes import shares
from ptycho.core.refinement.refinement import Refinement
from ptycho.core.refinement.state_file import StateFile
from ptycho.raw_data import RawData
from ptycho.workflows.backend import Backend
from ptycho.workflows.run_options import RunOptions
from ptycho.workflows.sharing.team import Team, quiet_run

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
            kept = None if state_file is None else StateFile(None, state_file.search)
            others = {**settings, "state_file": kept}
            self.team.begin(
                _refined, self.backend.refine.__module__, iterations, self.config, quiet_run(self.run), others
            )
            for rank, own in enumerate(shares(scan.xcoords, scan.ycoords, self.team.size)):
                if rank:
                    self.team.send(scan.shared(own), rank)
            first["processes"] = self.team
        made: Refinement = self.backend.refine(scan, start, iterations, self.config, self.run, **first, **settings)
        return made


def _refined(
    team: Team,
    name: str,
    iterations: int,
    config: InferenceConfig | TrainingConfig,
    run: RunOptions,
    settings: dict[str, Any],
) -> None:
    """The part of another process than the first."""
    scan = RawData.from_shared(team.receive())
    backend = cast(Backend, importlib.import_module(name))
    backend.refine(scan, None, iterations, config, run, processes=team, **settings)
