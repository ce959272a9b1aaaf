"""One run at a time in a folder: a lock that the system takes back when its process ends, however that ends."""

from __future__ import annotations

import errno
import json
import os
import platform
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from ptycho.core.files.damage import DAMAGE, one_line
from ptycho.errors import OutputError

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

__all__ = ["LOCK_FILE", "one_run_in"]

LOCK_FILE = ".lock"
"""In the folder, as long as a run writes to it; who that is stands in it."""
_FREE = 1 << 30
"""Where Windows locks a byte, far behind the text: what is locked cannot be read there."""
_held: set[tuple[Path, int]] = set()
"""Folders that threads of this process hold."""


@contextmanager
def one_run_in(folder: Path) -> Iterator[None]:
    """Hold a folder for this thread; a second time within it changes nothing.

    A run that is killed leaves the file, which then holds nobody. Where the file system knows no locks nothing is held.

    Raises:
        OutputError: another run holds it; the line says which.
    """
    place = (folder.resolve(), threading.get_ident())
    if place in _held:
        yield
        return
    path = folder / LOCK_FILE
    descriptor = _locked(path)
    try:
        _held.add(place)
        told = {"process": os.getpid(), "host": platform.node(), "since": datetime.now().isoformat(" ", "seconds")}
        os.ftruncate(descriptor, 0)
        os.write(descriptor, json.dumps(told).encode())
        yield
    finally:
        _held.discard(place)
        with suppress(OSError):  # while it is still held, so that nobody else's goes
            path.unlink()
        os.close(descriptor)
        if sys.platform == "win32":  # no open file goes there
            with suppress(OSError):
                path.unlink()


def _locked(path: Path) -> int:
    """The lock file, open and locked."""
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            fact = f"expected a folder that can be written, found {error.strerror}"
            raise OutputError(f"cannot write to {path.parent}: {fact}; choose another one") from error
        try:
            _lock(descriptor)
        except OSError as error:
            held = os.read(descriptor, 1 << 10)
            if error.errno in (errno.EACCES, errno.EAGAIN, errno.EDEADLK):
                os.close(descriptor)
                raise OutputError(
                    f"cannot write to {path.parent}: expected a folder that no other run is writing to, found "
                    f"{_owner(held)}; wait until it has ended, or choose another folder"
                ) from error
        if _same_file(descriptor, path):
            return descriptor
        os.close(descriptor)  # the run before was just ending, and has taken its file away


def _lock(descriptor: int) -> None:
    if sys.platform == "win32":
        os.lseek(descriptor, _FREE, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        finally:
            os.lseek(descriptor, 0, os.SEEK_SET)
    else:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _same_file(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except OSError:
        return False


def _owner(held: bytes) -> str:
    """Who holds a lock, by what stands in its file."""
    try:
        told = json.loads(held)
        return one_line(f"that of process {told['process']} on {told['host']}, which has written since {told['since']}")
    except DAMAGE:
        return "one that has just begun"
