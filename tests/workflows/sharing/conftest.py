"""Teams whose processes are threads, by connections as of processes."""

import socket
import threading
from contextlib import contextmanager

import pytest

from ptycho.workflows.sharing.connected import Connected, Link


def team_of_threads(size, timeout=20.0):
    """A team, seen from each of its processes."""
    pairs = [[Link(one) for one in socket.socketpair()] for _ in range(1, size)]
    first = Connected(0, size, {rank: here for rank, (here, _) in enumerate(pairs, 1)}, timeout)
    return [first, *(Connected(rank, size, {0: there}, timeout) for rank, (_, there) in enumerate(pairs, 1))]


@pytest.fixture
def teams():
    """`teams(size, timeout)`, see `team_of_threads`."""
    return team_of_threads


@contextmanager
def served_team(size):
    """The first of a team whose others do what it begins."""
    first, *others = team_of_threads(size)
    faults = []

    def serve(team):
        try:
            team.serve()
        except ValueError as error:  # it was told to the first
            faults.append(error)

    threads = [threading.Thread(target=serve, args=(other,)) for other in others]
    for thread in threads:
        thread.start()
    done = False
    try:
        yield first
        done = True
    finally:
        first.end(done)
        for thread in threads:
            thread.join(20)
            assert not thread.is_alive()
        assert not (done and faults)


@pytest.fixture
def served():
    """`with served(size) as first`, see `served_team`."""
    return served_team
