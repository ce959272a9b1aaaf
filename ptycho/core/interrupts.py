"""Steps that an interrupt may not cut in two: it waits until they are over."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["hold", "uninterrupted"]


class _Held:
    """Steps of the main thread under way, and the interrupt that waits for them."""

    depth = 0
    waiting: BaseException | None = None


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Within it the signals of a command (`ptycho.cli.stopping`) wait, for the short time that it takes.

    Signals are handled in the main thread alone; in others it changes nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _Held.depth += 1
    try:
        yield
    finally:
        _Held.depth -= 1
        if not _Held.depth and _Held.waiting is not None:
            waiting, _Held.waiting = _Held.waiting, None
            raise waiting


def hold(interrupt: BaseException) -> bool:
    """Have an interrupt wait, where a step is under way; whether that is so."""
    if not _Held.depth:
        return False
    _Held.waiting = interrupt
    return True
