"""Names of what is being written, by which the next run knows what a killed one left, and removes it."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import secrets
import shutil
import time
from contextlib import suppress
from functools import cache
from pathlib import Path

__all__ = ["remove_left", "remove_own", "temporary_path"]

_LEFT = re.compile(r"\.(?P<stem>.+)\.(?P<machine>[0-9a-f]{6})(?P<process>[0-9a-f]{6})[0-9a-f]{4}(?P<suffix>(\.[^.]*)?)")
_STALE_SECONDS = 3600
"""Of another machine it is not known whether its process lives: nobody wrote to it for so long."""

_FOLDERS: set[Path] = set()
"""Where this process has written."""


def temporary_path(path: Path) -> Path:
    """A hidden name beside `path`, with its suffix, that says which process of which machine writes there.

    It is `.<stem>.<16 hexadecimal digits><suffix>`: 6 digits of the machine, 6 of the process, 4 that are drawn.
    """
    _FOLDERS.add(path.parent.absolute())
    return path.with_name(f".{path.stem}.{_machine()}{os.getpid():06x}{secrets.token_hex(2)}{path.suffix}")


def remove_left(path: Path) -> None:
    """Remove what killed processes of this machine left in the folder of `path`.

    What another machine left, as on a shared disk, goes when it is of `path` itself and an hour old.
    """
    for entry, found in _temporaries(path.parent):
        with suppress(OSError):
            if found["machine"] == _machine():
                left = not _lives(int(found["process"], 16))
            else:
                same = (found["stem"], found["suffix"]) == (path.stem, path.suffix)
                left = same and time.time() - entry.stat().st_mtime > _STALE_SECONDS
            if left:
                _remove(entry)


def remove_own() -> None:
    """Remove what this process has begun to write and not ended, as a command does that was told to stop.

    A signal may come between a file that was made and the first step that would see to its removal.
    """
    for folder in sorted(_FOLDERS):
        for entry, found in _temporaries(folder):
            if found["machine"] == _machine() and int(found["process"], 16) == os.getpid():
                _remove(entry)


def _temporaries(folder: Path) -> list[tuple[Path, re.Match[str]]]:
    """What has a temporary name in a folder, and the parts of that name; nothing where the folder cannot be read."""
    with suppress(OSError), os.scandir(folder) as entries:
        return [(Path(entry), found) for entry in entries if (found := _LEFT.fullmatch(entry.name))]
    return []


def _remove(path: Path) -> None:
    with suppress(OSError):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


@cache
def _machine() -> str:
    """6 hexadecimal digits of this machine since it was started; containers, which count processes anew, differ."""
    facts = [platform.node()]
    with suppress(OSError):
        facts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii"))
        facts.append(str(Path("/proc/self/ns/pid").readlink()))
    return hashlib.sha256(" ".join(facts).encode()).hexdigest()[:6]


def _lives(process: int) -> bool:
    """Whether there is a process of this number; on Windows, where asking would end it, it is taken for granted."""
    if os.name == "nt":
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
