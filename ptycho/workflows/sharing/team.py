"""Several processes at one run: the first does it, and gives the others their part of what is long.

The others know of no command, write nothing and say nothing. They wait for a function and its arguments, work with the
first at that, and wait again. So everything that is decided, shown and written is so once.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from typing import Any, Protocol, TypeVar

from ptycho.core.refinement.sums.processes import ALONE, Processes
from ptycho.workflows.run_options import RunOptions

__all__ = ["SINGLE", "Team", "quiet_run", "share_out", "while_it_runs"]


class Team(Processes, Protocol):
    """Processes, seen from one of them, of which the first gives the others work."""

    def begin(self, work: Callable[..., None], *arguments: Any) -> None:
        """Of the first: have all others call `work(team, *arguments)`, a function of a module."""

    def send(self, value: Any, rank: int) -> None:
        """Give a value to one other, which calls `receive`; it is pickled."""

    def receive(self, rank: int = 0) -> Any:
        """What another sends, which calls `send`."""

    def serve(self) -> None:
        """Of the others: do what the first begins, until it ends; in the first nothing."""

    def watched(self) -> AbstractContextManager[None]:
        """Within it what others exchange raises LostProcessError, too, where a process is gone."""


class Ended(Protocol):
    """A team that the first process lets go or ends."""

    def end(self, done: bool) -> None:
        """Of the first: let the others go, or where something went wrong end them."""


Running = TypeVar("Running", bound=Ended)


@contextmanager
def while_it_runs(team: Running, running: list[Running]) -> Iterator[None]:
    """Note the team of this process in a list as long as there is one, and end it with what became of its run."""
    running.append(team)
    done = False
    try:
        yield
        done = True
    finally:
        running.clear()
        team.end(done)


class _Single:
    """A team of one process, which gives nobody anything."""

    rank, size = 0, 1
    sum, first, exchange = ALONE.sum, ALONE.first, ALONE.exchange

    def begin(self, work: Callable[..., None], *arguments: Any) -> None:
        """There is nobody."""

    def send(self, value: Any, rank: int) -> None:
        """There is nobody."""
        raise ValueError(f"expected a team of several, found one process; rank {rank} is not there")

    def receive(self, rank: int = 0) -> Any:
        """There is nobody."""
        raise ValueError(f"expected a team of several, found one process; rank {rank} is not there")

    def serve(self) -> None:
        """There is nothing to do."""

    def watched(self) -> AbstractContextManager[None]:
        """There is nobody to lose."""
        return nullcontext()


SINGLE: Team = _Single()
"""One process."""


def share_out(team: Team, backend: Any, work: Callable[..., None], part: Callable[[int], Any], *arguments: Any) -> None:
    """Have all others of a team do their part of some work; nothing happens where there are none.

    Args:
        team: seen from the first.
        backend: that it is done with, `ptycho.workflows.backend.Backend`; each process has its own by the name.
        work: a function of a module; the others call `work(team, backend, own, *arguments)`.
        part: what each gets for `own`, by its rank; it is pickled.
        arguments: the same for all.
    """
    if team.size == 1:
        return
    team.begin(_with_own_part, backend.refine.__module__, work, *arguments)
    for rank in range(1, team.size):
        team.send(part(rank), rank)


def _with_own_part(team: Team, backend: str, work: Callable[..., None], *arguments: Any) -> None:
    """What another process than the first does."""
    work(team, importlib.import_module(backend), team.receive(), *arguments)


def quiet_run(run: RunOptions) -> RunOptions:
    """A run as the others of a team do their part of it: nobody watches, and nothing is written."""
    return replace(run, watch=None, diagnostics=None, folder=None, callbacks=(), resume=None, refinement=None)
