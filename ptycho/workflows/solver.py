"""What reconstructs a scan: what refines it, and what measures the trust of the result, chosen together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from ptycho.config.config import InferenceConfig, TrainingConfig
from ptycho.core.refinement.refinement import Refinement
from ptycho.core.refinement.trust import TrustEngine
from ptycho.workflows.backend import Backend
from ptycho.workflows.run_options import RunOptions
from ptycho.workflows.sharing.shared_refinement import SharedRefinement
from ptycho.workflows.sharing.shared_trust import SharedTrust
from ptycho.workflows.sharing.team import SINGLE, Team

__all__ = ["Refine", "Solver"]

Refine = Callable[..., Refinement]
"""`refine(scan, start, iterations, *, probe, frame, likelihood, ...)`, as `ptycho.core.refinement.run.refine_scan`."""


@dataclass(frozen=True)
class Solver:
    """A refinement, and the trust that belongs to it: of one backend, where that runs."""

    refine: Refine
    trust: TrustEngine

    @classmethod
    def of(
        cls, backend: Backend, config: InferenceConfig | TrainingConfig, run: RunOptions, team: Team = SINGLE
    ) -> Solver:
        """That of a backend.

        Args:
            backend: whose it is.
            config: of the refinement.
            run: settled (`Backend.settled`).
            team: the processes that share it.
        """
        engine = backend.trust_engine(run)
        trust = SharedTrust(engine.kernels, engine.memory, backend=backend, run=run, team=team)
        return cls(SharedRefinement(backend, config, run, team), trust)

    def with_settings(self, **settings: Any) -> Solver:
        """The same, where every refinement has these keywords."""
        return replace(self, refine=partial(self.refine, **settings))
