"""What refines and what measures the trust come from one backend."""

from dataclasses import dataclass, field
from typing import Any

from ptycho.config.config import InferenceConfig
from ptycho.core.refinement.trust import TrustEngine
from ptycho.workflows.run_options import NEUTRAL_RUN
from ptycho.workflows.solver import Solver


@dataclass
class _Backend:
    engine: TrustEngine
    runs: list = field(default_factory=list)
    calls: list = field(default_factory=list)

    def refine(self, scan, start, iterations, config, run, **settings: Any):
        self.runs.append(run)
        self.calls.append((scan, start, iterations, config, settings))
        return "a refinement"

    def trust_engine(self, run):
        self.runs.append(run)
        return self.engine


def test_both_are_of_one_backend_and_one_run() -> None:
    backend, config = _Backend(TrustEngine(lambda: None, 7)), InferenceConfig(backend="pytorch")
    solver = Solver.of(backend, config, NEUTRAL_RUN)
    assert (solver.trust.kernels, solver.trust.memory) == (backend.engine.kernels, 7)
    assert solver.refine("a scan", "a start", 3, likelihood="poisson") == "a refinement"
    [(*given, settings)] = backend.calls
    assert given == ["a scan", "a start", 3, config] and settings["likelihood"] == "poisson"
    assert all(run is NEUTRAL_RUN for run in backend.runs) and len(backend.runs) == 2


def test_settings_are_those_of_every_refinement() -> None:
    told = []
    solver = Solver(lambda *given, **settings: told.append(settings), TrustEngine(lambda: None))
    held = solver.with_settings(blur=0.5, gap=None).with_settings(blur=0.7)
    held.refine(None, None, 1, seed=2)
    solver.refine(None, None, 1)
    assert told == [{"blur": 0.7, "gap": None, "seed": 2}, {}] and held.trust is solver.trust
