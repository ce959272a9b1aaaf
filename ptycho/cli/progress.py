"""How far an iteration is: one line on a terminal, a line now and then in a log."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ptycho.cli.console import ON_A_TERMINAL, terminal

__all__ = ["iteration_progress"]

_log = logging.getLogger(__name__)

_LINES = 10
"""Lines that a log gets of a whole iteration."""


@contextmanager
def iteration_progress(iterations: int, shown: bool = True) -> Iterator[Callable[[int, float], None]]:
    """What a reconstruction reports its iterations to.

    On a terminal a line with a bar, the error, iterations per second and the time left, which is gone at the end; a
    log that is no terminal, and the log of the run, get a line every tenth.

    Args:
        iterations: at most so many.
        shown: whether a terminal shows anything (not with --quiet).
    """
    if not (shown and sys.stderr.isatty()):
        yield lambda iteration, error: _line(iteration, iterations, error, {})
        return

    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("iteration"),
        MofNCompleteColumn(),
        BarColumn(),
        TextColumn("error {task.fields[error]:.4g}"),
        TextColumn("{task.fields[rate]:.3g}/s"),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    with Progress(*columns, console=terminal(), transient=True) as progress:
        task = progress.add_task("", total=iterations, error=float("nan"), rate=0.0)

        def report(iteration: int, error: float) -> None:
            _line(iteration, iterations, error, {ON_A_TERMINAL: False})
            progress.update(task, completed=iteration, error=error, rate=progress.tasks[task].speed or 0.0)

        yield report


def _line(iteration: int, iterations: int, error: float, extra: dict[str, bool]) -> None:
    if iteration % max(1, iterations // _LINES) == 0 or iteration == iterations:
        text = "Iteration %d of at most %d: relative error %.4g"
        _log.info(text, iteration, iterations, error, extra=extra)
