"""Files appear whole or not at all."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from ptycho.core.files.temporaries import remove_left, temporary_path
from ptycho.errors import OutputError

__all__ = ["FULL", "RESULT_FILES", "atomic_path", "new_output_folder", "output_folder"]

RESULT_FILE = "reconstruction.npz"
"""Of a run: its reconstruction, with all that is known of it."""
RESULT_FILES = (RESULT_FILE, "reconstruction.h5")
"""By which a folder holds a reconstruction."""
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Errors of a disk, a quota or a file that has reached its end."""


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; when the block ends well it becomes `path`, else it is removed.

    The temporary file exists (empty, with the permissions of any new file), lies in the same folder, so that
    the last step is a plain rename, and has the suffix of `path`, which some writers go by. A file that was
    at `path` before stays as it is until that rename, before which the new one is on the disk. What a
    run that was killed left in that folder goes with the next write (`ptycho.core.files.temporaries`).

    Raises:
        OutputError: the folder is missing or not writable, `path` is a folder, or the disk is full.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise OutputError(f"cannot write {path}: expected the folder {path.parent}, found none; create it first")
    if path.is_dir():
        raise OutputError(f"cannot write {path}: expected a file, found a folder; choose another name")
    remove_left(path)
    temporary = temporary_path(path)
    try:
        temporary.touch(exist_ok=False)
    except OSError as error:
        fact = f"expected a writable folder, found {error.strerror}"
        raise OutputError(f"cannot write {path}: {fact}; choose another folder") from error
    try:
        yield temporary
        with temporary.open("r+b") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise OutputError(f"cannot write {path}: {error.strerror}; free some space") from error
    finally:
        temporary.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Have a rename in a folder on the disk, where the system can do that; Windows and some network disks cannot."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def new_output_folder(path: Path, overwrite: bool = False, results: Sequence[str] = RESULT_FILES) -> Path:
    """The folder to write a result to: `path`, or the first of `path-2`, `path-3` ... that holds none; nothing is made.

    Args:
        path: that was asked for.
        overwrite: take `path` in any case.
        results: names of files by which a folder holds a result.
    """
    path, number = Path(path), 1
    candidate = path
    while not overwrite and any((candidate / name).exists() for name in results):
        number += 1
        candidate = path.with_name(f"{path.name}-{number}") if path.name else path / str(number)
    return candidate


def output_folder(path: Path) -> Path:
    """Return `path` as a folder, made with its parents when it is not there; OutputError where that fails."""
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make the folder {path}: {error.strerror}; choose another one") from error
    return path
