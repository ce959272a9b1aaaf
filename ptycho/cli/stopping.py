"""The signals that end a command: each is told in one line and has an exit status of its own, at whatever moment."""

from __future__ import annotations

import atexit
import os
import signal
import threading
import time
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Any

from ptycho.core.interrupts import hold

__all__ = ["BROKEN_PIPE", "WORDS", "Stopped", "Stops", "end_at_once", "leave_at_once"]

WORDS = {
    "SIGINT": "interrupted",
    "SIGTERM": "terminated",
    "SIGUSR1": "told to stop (SIGUSR1)",
    "SIGHUP": "cut off from its terminal (SIGHUP)",
}
"""Names of the signals, and what is said of a command that one of them ended; other systems lack some.

Batch systems send SIGUSR1 a while before the time limit, where they are asked to, and SIGTERM shortly before they kill.
"""
BROKEN_PIPE = 141
"""Exit status where nobody reads what is written any more, as in `ptycho doctor SCAN | head`: that of SIGPIPE."""
_AGAIN_SECONDS = 1.0
"""A signal that comes again so soon is the same one: of a process group, or of a batch system that sends it twice."""


class Stopped(KeyboardInterrupt):
    """What a signal raises: all of them do what Ctrl-C does.

    Args:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number
        self.heeded = False
        """Whether the command has done what it stands for, and goes on."""

    @property
    def words(self) -> str:
        """What happened, for the one line."""
        return WORDS[signal.Signals(self.number).name]

    @property
    def status(self) -> int:
        """The exit status, as a shell gives it: 130 for Ctrl-C, 143 for SIGTERM, 138 for SIGUSR1, 129 for SIGHUP."""
        return 128 + self.number


class Stops:
    """Within it the signals of `WORDS` raise `Stopped`, in the main thread, the only one that can handle signals.

    What runs may turn the exception into another one, as extension modules do while they are imported: whatever it ends
    with is then taken for the signal. A signal that is ignored, as by `nohup`, stays so. What is half written goes.
    """

    def __init__(self) -> None:
        self.came: Stopped | None = None
        self._at = 0.0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Stops:
        self._before = _handle(self._raise)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self.came is not None:
            from ptycho.core.files.temporaries import remove_own  # not before the signals are seen to

            remove_own()
        if error is None or self.came is None or self.came.heeded:
            return
        if not isinstance(error, KeyboardInterrupt):
            raise self.came from error

    def _raise(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.came is not None and self.came.number == number and now - self._at < _AGAIN_SECONDS:
            return
        self.came, self._at = Stopped(number), now
        if not hold(self.came):
            raise self.came


def leave_at_once(program: str) -> None:
    """Until the command has its own way to stop a signal ends the process with the line and its status.

    As it ends Python has signals do again what they do by themselves, and takes its modules apart: one that came then
    would end a command that was done as if it had been cut off, so that they are ignored from there on.
    """

    def leave(number: int, frame: FrameType | None) -> None:
        stop = Stopped(number)
        with suppress(OSError):
            os.write(2, f"{program}: {stop.words}: start again with the same command\n".encode())
        os._exit(stop.status)

    _handle(leave)
    atexit.register(_handle, signal.SIG_IGN)  # the first that is registered is called last


def end_at_once(status: int) -> None:
    """The command is over: from now on a signal can only end the process sooner, with the status that it has."""
    _handle(lambda number, frame: os._exit(status))


def _handle(handler: Any) -> dict[int, Any]:
    """Have the signals that are not ignored handled so; return what handled them before."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    numbers = [getattr(signal, name) for name in WORDS if hasattr(signal, name)]
    heeded = [number for number in numbers if signal.getsignal(number) not in (signal.SIG_IGN, None)]
    return {number: signal.signal(number, handler) for number in heeded}
