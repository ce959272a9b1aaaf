"""Settings that a process has only once, changed by several threads at the same time and put back afterwards."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import AbstractContextManager, ContextDecorator, ExitStack, contextmanager
from functools import wraps
from threading import Lock
from typing import cast

from ptycho.errors import ConfigError

__all__ = ["Agreement", "changed_once"]


class _Context(AbstractContextManager[None], ContextDecorator):
    """What `with` takes and what decorates a function."""


def changed_once(change: Callable[[], Iterator[None]]) -> Callable[[], _Context]:
    """A context manager that changes a setting of the process, safe in threads that are inside it together.

    The first one in makes the change, the last one out undoes it. Each for itself would put back what the other one
    had set, while that one still computes with it.

    Args:
        change: a generator function, as `contextlib.contextmanager` takes it: change, yield, put back.
    """
    lock, undo = Lock(), ExitStack()
    inside = 0

    @wraps(change)
    @contextmanager
    def shared() -> Iterator[None]:
        nonlocal inside
        with lock:
            if not inside:
                undo.enter_context(contextmanager(change)())
            inside += 1
        try:
            yield
        finally:
            with lock:
                inside -= 1
                if not inside:
                    undo.close()

    return cast(Callable[[], _Context], shared)


class Agreement:
    """A value that all threads need alike which are inside at the same time.

    Args:
        name: of the setting, for the error.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = Lock()
        self._held: list[Hashable] = []

    @contextmanager
    def on(self, value: Hashable) -> Iterator[None]:
        """Hold a value.

        Raises:
            ConfigError: another thread holds another one.
        """
        with self._lock:
            if any(held != value for held in self._held):
                raise ConfigError(
                    f"{self._name}={value!r}: expected {self._held[0]!r} as in the training of another thread, found "
                    "another value, and a process has one only; give both the same, or use two processes"
                )
            self._held.append(value)
        try:
            yield
        finally:
            with self._lock:
                self._held.remove(value)
