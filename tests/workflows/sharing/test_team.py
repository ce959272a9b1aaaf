"""A team of one gives nobody anything, and the others of a larger one are silent."""

import json
from types import SimpleNamespace

import pytest

from ptycho.workflows.run_options import RunOptions
from ptycho.workflows.sharing.team import SINGLE, quiet_run, share_out, while_it_runs


def test_alone_everything_stays_here():
    team = SINGLE
    assert team.size == 1
    team.begin(print, 1)
    team.serve()
    assert team.first(lambda: 3) == 3
    with pytest.raises(ValueError, match="expected a team of several, found one process; rank 1 is not there"):
        team.send(1, 1)


def noted(team, backend, own, factor):
    team.heard.append((backend, own, factor))


def test_each_of_the_others_gets_its_part():
    sent = []
    first = SimpleNamespace(size=3, begin=lambda *work: sent.append(work), send=lambda value, rank: sent.append(value))
    backend = SimpleNamespace(refine=SimpleNamespace(__module__="json"))
    share_out(first, backend, noted, lambda rank: 10 * rank, 0.5)
    (work, *arguments), *parts = sent
    assert parts == [10, 20]
    other = SimpleNamespace(receive=lambda: parts[1], heard=[])
    work(other, *arguments)
    assert other.heard == [(json, 20, 0.5)]
    share_out(SINGLE, None, noted, None)


def test_a_run_of_the_others_is_silent(tmp_path):
    run = quiet_run(RunOptions(watch=print, folder=tmp_path, max_seconds=3.0, callbacks=(print,)))
    assert run == RunOptions(max_seconds=3.0)


def test_a_team_is_noted_while_it_runs_and_ended_with_what_became_of_it():
    told, running = [], []
    team = SimpleNamespace(end=told.append)
    with while_it_runs(team, running):
        assert running == [team]
    with pytest.raises(KeyboardInterrupt), while_it_runs(team, running):
        raise KeyboardInterrupt
    assert told == [True, False] and running == []
