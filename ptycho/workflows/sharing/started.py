"""The other processes of a team that the first has started on its machine, and what became of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from typing import IO, Any

from ptycho.errors import PtychoError

__all__ = ["Started", "end", "fate_of", "in_a_line", "leave_signals_to_the_first", "start"]

Started = dict[int, tuple[Any, IO[bytes]]]
"""By rank a process (`subprocess.Popen`), and a file with what it says."""

ENDING_SECONDS = 10.0
"""How long the others may take to end."""


def start(size: int, order: Callable[[int], str], environment: Mapping[str, str]) -> Started:
    """Start the others of a team; what they say is kept for the line that tells why one ended.

    Args:
        size: of the team; the ranks 1 and up are started.
        order: a line of Python for each, by its rank.
        environment: what theirs has beside that of this process.
    """
    started: Started = {}
    for rank in range(1, size):
        said: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  # closed once the process has ended
        process = subprocess.Popen(
            [sys.executable, "-c", order(rank)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=said,
            env={**os.environ, **environment},
        )
        started[rank] = process, said
    return started


def end(started: Started, done: bool) -> None:
    """Wait until the others have ended, or where something went wrong end them."""
    for process, said in started.values():
        try:
            process.wait(ENDING_SECONDS if done else 0)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        said.close()


def fate_of(started: Started, rank: int) -> str:
    """What a process ended with; empty where it is there, or was not started here."""
    if rank not in started:
        return ""
    process, said = started[rank]
    status = process.poll()
    if status is None:
        return ""
    if status < 0:
        return f"was ended by {signal.Signals(-status).name}"
    said.seek(0)
    lines = said.read().decode(errors="replace").strip().splitlines()
    return f"ended with status {status}" + (f": {lines[-1]}" if lines else "")


def leave_signals_to_the_first() -> None:
    """Of the others: ignore the signals that a terminal sends to all."""
    for name in ("SIGINT", "SIGHUP", "SIGUSR1"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)


def in_a_line(error: BaseException) -> str:
    """What an error says, in a line."""
    text = " ".join(str(error).split())
    return text if isinstance(error, PtychoError) else f"{type(error).__name__}: {text}"
