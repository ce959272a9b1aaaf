"""By which command a result is made; loads nothing, so that a command can say it before its arguments are checked."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

__all__ = ["command", "command_line"]

_command: ContextVar[str | None] = ContextVar("command", default=None)


@contextmanager
def command_line(program: str, arguments: Sequence[str]) -> Iterator[None]:
    """Within it `program` with these arguments is the command, not that of the process."""
    token = _command.set(shlex.join([*program.split(), *arguments]))
    try:
        yield
    finally:
        _command.reset(token)


def command() -> str:
    """The command as shell text: that of `command_line`, else that of the process."""
    return _command.get() or shlex.join(sys.argv)
