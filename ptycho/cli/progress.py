"""How far a training or an iteration is: one line on a terminal, a line now and then in a log."""

from __future__ import annotations

import logging
import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

from ptycho.cli.console import ON_A_TERMINAL, terminal
from ptycho.core.progress import Progress, Watch, log_progress

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

__all__ = ["shown_line", "shown_progress"]

_log = logging.getLogger(__name__)

_PAUSE = 10.0
"""Seconds between two lines of a log about how things stand."""
_DOING = {"epoch": "epoch", "iteration": "iteration", "trial": "trying, iteration"}


@contextmanager
def shown_progress(shown: bool = True) -> Iterator[Watch]:
    """Who is told how far trainings and iterations are (`ptycho.core.progress`).

    On a terminal a line with a bar, losses or the error, the rate and the time left, which is gone at the end; a log
    that is no terminal, and the log of the run, get a line every epoch or every tenth of the iterations.

    Args:
        shown: whether a terminal shows anything (not with --quiet).
    """
    if not (shown and sys.stderr.isatty()):
        yield log_progress
        return

    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as Bar

    fields = [TextColumn(f"{{task.fields[{name}]}}") for name in ("values", "rate", "left")]
    with Bar(TextColumn("{task.description}"), BarColumn(), *fields, console=terminal(), transient=True) as bar:
        yield _OnTerminal(bar)


@contextmanager
def shown_line(shown: bool = True) -> Iterator[Callable[[str], None]]:
    """Who is told, as often as it changes, how things stand, in a line.

    On a terminal the line is replaced by the next one, and gone at the end; a log gets one every ten seconds.

    Args:
        shown: whether a terminal shows anything (not with --quiet).
    """
    logged = [-math.inf]

    def log(line: str) -> None:
        now = time.monotonic()
        if now - logged[0] >= _PAUSE:
            logged[0] = now
            _log.info("%s", line, extra={ON_A_TERMINAL: False})

    if not (shown and sys.stderr.isatty()):
        yield log
        return
    with terminal().status("") as status:

        def show(line: str) -> None:
            status.update(line)
            log(line)

        yield show


class _OnTerminal:
    """Shows what it is told in one line, and has the log of the run get its lines."""

    def __init__(self, bar: Bar) -> None:
        self.bar = bar
        self.task = bar.add_task("", visible=False, values="", rate="", left="")

    def __call__(self, progress: Progress) -> None:
        """Show it."""
        if progress.noteworthy:
            _log.info("%s", progress.line, extra={ON_A_TERMINAL: False})
        unit = "groups/s" if progress.unit == "epoch" else "/s"
        self.bar.update(
            self.task,
            description=f"{_DOING[progress.unit]} {math.ceil(progress.done)}/{progress.total}",
            completed=progress.done,
            total=progress.total,
            visible=True,
            values=" ".join(f"{name} {value:.4g}" for name, value in progress.values.items()),
            rate=f"{progress.rate:.3g} {unit}",
            left=_left(progress.seconds_left),
        )


def _left(seconds: float) -> str:
    """The time left in words; nothing where it is not known."""
    return f"{timedelta(seconds=round(seconds))} left" if seconds < 1e7 else ""
