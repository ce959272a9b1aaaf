"""A team refines: the others are given their patterns, and what is asked."""

import importlib
from dataclasses import dataclass, field

import numpy as np

from ptycho.config.config import InferenceConfig
from ptycho.core.refinement.state_file import StateFile
from ptycho.raw_data import RawData
from ptycho.workflows.run_options import RunOptions
from ptycho.workflows.sharing.shared_refinement import SharedRefinement


@dataclass
class _Noted:
    """The first of a team of two, which notes what it gives the other."""

    rank: int = 0
    size: int = 2
    begun: list = field(default_factory=list)
    given: list = field(default_factory=list)

    def begin(self, work, *arguments):
        self.begun.append((work, arguments))

    def send(self, value, rank):
        self.given.append((rank, value))

    def receive(self, rank=0):
        return self.given[-1][1]


@dataclass
class _Backend:
    name: str = "pytorch"
    calls: list = field(default_factory=list)

    def refine(self, scan, start, iterations, config, run, **settings):
        self.calls.append((scan, start, iterations, settings))


def test_the_other_gets_its_patterns_and_what_is_asked(monkeypatch, tmp_path):
    scan = RawData(
        np.arange(5.0),
        np.zeros(5),
        None,
        None,
        np.ones((5, 4, 4), np.float32),
        np.ones((4, 4), complex),
        units="amplitude",
    )
    here, there, team = _Backend(), _Backend(), _Noted()
    refine = SharedRefinement(here, InferenceConfig(backend="pytorch"), RunOptions(watch=print), team)
    kept = StateFile(tmp_path / "state.npz", "step 3")
    refine(scan, "a start", 7, probe="a probe", report=print, state_file=kept, refine_flux=True)
    [(_, start, _, settings)] = here.calls
    assert start == "a start" and settings["report"] is print and settings["processes"] is team
    [(work, arguments)] = team.begun
    assert [rank for rank, _ in team.given] == [1]
    monkeypatch.setattr(importlib, "import_module", {__name__: there}.get)
    work(team, *arguments)
    [(part, start, iterations, settings)] = there.calls
    assert start is None and iterations == 7
    file = settings.pop("state_file")
    assert file.path is None and file.search == "step 3"
    assert settings == {"refine_flux": True, "strips": False, "processes": team}
    assert part.diff3d.any(axis=(1, 2)).tolist() == [False, False, True, True, True]


def test_of_a_tall_object_each_gets_a_strip(monkeypatch):
    tall = np.repeat(np.arange(0.0, 40.0, 2.0), 3)[np.random.default_rng(1).permutation(60)]
    across = np.linspace(0, 90, 60)
    patterns = np.ones((60, 4, 4), np.float32)
    scan = RawData(across, tall, None, None, patterns, np.ones((4, 4), complex), units="amplitude")
    here, there, team = _Backend(), _Backend(), _Noted()
    refine = SharedRefinement(here, InferenceConfig(backend="pytorch"), RunOptions(), team)
    refine(scan, None, 7)
    monkeypatch.setattr(importlib, "import_module", {__name__: there}.get)
    team.begun[0][0](team, *team.begun[0][1])
    [(part, *_, settings)] = there.calls
    assert settings["strips"] and here.calls[0][3]["strips"]
    assert sorted(tall[part.diff3d.any(axis=(1, 2))]) == sorted(tall[tall >= 20])
    for kept_whole in ({"refine_positions": "search"}, {"strips": False}):
        team.begun.clear()
        refine(scan, None, 7, **kept_whole)
        assert not here.calls[-1][3]["strips"]
