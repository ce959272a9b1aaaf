"""A team makes a pass: the patches of all groups, each by the process that has its patterns."""

from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np

from ptycho.core.groups.container import GroupContainer
from ptycho.raw_data import RawData
from ptycho.workflows.run_options import RunOptions
from ptycho.workflows.sharing import team as team_module
from ptycho.workflows.sharing.shared_pass import SharedPass
from ptycho.workflows.sharing.team import SINGLE


class _Groups(GroupContainer):
    def tensor(self, array):
        return array


def predict(model, groups, config, run):
    """Patches that are the patterns, brighter the larger the canvas."""
    return (model.factor * groups.canvas_size * np.moveaxis(groups.X, -1, 1)).astype(np.complex64)


BACKEND = SimpleNamespace(container=_Groups, predict=predict, refine=predict)


@dataclass
class _InTurn:
    """The first of a team of three, whose others work when something is asked of them."""

    rank: int = 0
    size: int = 3
    work: tuple = ()
    given: dict = field(default_factory=dict)

    def begin(self, work, *arguments):
        self.work = work, arguments

    def send(self, value, rank):
        self.given[rank] = value

    def receive(self, rank=0):
        other, sent = _Other(self.given[rank]), self.work
        sent[0](other, *sent[1])
        return other.said


@dataclass
class _Other:
    given: object
    said: object = None

    def receive(self, rank=0):
        return self.given

    def send(self, value, rank):
        assert rank == 0
        self.said = value


def test_patches_are_in_the_order_of_the_groups(monkeypatch):
    rng = np.random.default_rng(0)
    x, y = (each.ravel() for each in np.meshgrid(3.0 * np.arange(5), 3.0 * np.arange(4)))
    patterns = rng.random((20, 8, 8)).astype(np.float32) + 0.1
    scan = RawData(x, y, None, None, patterns, np.ones((8, 8), complex), units="amplitude")
    grouped = scan.generate_grouped_data(8, nsamples=9, gridsize=2, seed=1, input_scale=2.0)
    groups, model = _Groups(grouped, scan.probeGuess), SimpleNamespace(factor=2.0, intensity_scale=1.0)
    groups.canvas_size += 6
    monkeypatch.setattr(team_module.importlib, "import_module", {__name__: BACKEND}.get)
    team = _InTurn()
    one, several = (
        SharedPass(BACKEND, model, None, RunOptions(), each).patches(scan, grouped, groups, False)
        for each in (SINGLE, team)
    )
    assert np.array_equal(one, several) and one.shape == (9, 4, 8, 8)
    sent = {rank: len(np.unique(values["nn_indices"])) for rank, (_, _, values, _) in team.given.items()}
    assert sent.keys() == {1, 2} and max(sent.values()) < 20
