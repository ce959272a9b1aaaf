"""Files that nobody vouches for: what a damaged one can raise becomes one line, and what it declares is not believed.

Every reader has one boundary, `readable`. What a file says of its own size is compared with what it holds, by
`check_declared`, before room is made for it.
"""

from __future__ import annotations

import lzma
import os
import pickle
import stat
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ptycho.core.plugins import FAILURES
from ptycho.errors import DataError, MissingFileError, PtychoError

__all__ = [
    "DAMAGE",
    "FREE_BYTES",
    "LARGEST_RATIO",
    "check_declared",
    "check_regular",
    "one_line",
    "readable",
]

DAMAGE = (
    *FAILURES,
    *(EOFError, MemoryError, lzma.LZMAError, pickle.UnpicklingError, struct.error, tokenize.TokenError),
    *(zipfile.BadZipFile, zlib.error),
)
"""What is raised, by this library and those below it, where a damaged file is read."""

FREE_BYTES = 1 << 26
"""Up to 64 MiB may be declared by a file of any size."""
LARGEST_RATIO = 500
"""Above that, at most so many bytes for each that is stored: patterns of a detector compress to a hundredth at best."""

_LONGEST = 1500
_KINDS = {stat.S_ISDIR: "a folder", stat.S_ISFIFO: "a pipe", stat.S_ISSOCK: "a socket"}


@contextmanager
def readable(
    path: Path,
    expected: str,
    error: type[PtychoError] = DataError,
    advice: str = "copy it again",
    own: tuple[type[Exception], ...] = (),
) -> Iterator[None]:
    """A block that reads a file: whatever a damaged one raises is one line with the file and the cause.

    An error of this library stays what it is; a DataError gets the file in front where it does not begin with it.

    Args:
        path: the file.
        expected: what it has to be, as in "a whole NPZ archive".
        error: what to raise.
        advice: what to do.
        own: further classes, of the library that reads the file.

    Raises:
        PtychoError: of the type `error`, or as raised within.
    """
    damage: tuple[type[Exception], ...] = (*DAMAGE, *own)
    try:
        yield
    except PtychoError as found:
        told = one_line(str(found))
        if isinstance(found, DataError) and not told.startswith(str(path)):
            told = f"{path}: {told}"
        if told == str(found):
            raise
        raise type(found)(told) from found
    except PermissionError as found:
        cause = _cause(found)
        raise error(f"{path}: expected {expected}, found: {cause}; ask its owner for the right to read it") from found
    except damage as found:
        raise error(f"{path}: expected {expected}, found: {_cause(found)}; {advice}") from found


def one_line(text: str) -> str:
    """Text of a file as part of an error: on one line, without control characters, of bounded length."""
    shown = text[: 2 * _LONGEST]
    if not shown.isprintable():
        shown = "".join(sign if sign.isprintable() else " " if sign.isspace() else "?" for sign in shown)
        shown = " ".join(shown.split())
    return shown if len(shown) <= _LONGEST else f"{shown[:_LONGEST]} .."


def _cause(found: BaseException) -> str:
    """What an error of another library says; that of a missing key says only the key."""
    told = found.strerror if isinstance(found, OSError) and found.filename is not None else None
    text = one_line(" ".join(str(told or found).split()))
    if isinstance(found, KeyError) or not text:
        return f"{type(found).__name__} {text}".strip()
    return text


def check_regular(path: Path) -> None:
    """Raise unless `path` is a plain file: a pipe or a device may never end, or never begin.

    Raises:
        MissingFileError: nothing there.
        DataError: something else than a file, or a place that cannot be looked at.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError as error:
        raise MissingFileError(f"{path}: expected a file to read, found nothing there; correct the path") from error
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: expected a file to read, found: {_cause(error)}; correct the path") from error
    if not stat.S_ISREG(mode):
        found = next((name for test, name in _KINDS.items() if test(mode)), "a device")
        raise DataError(f"{path}: expected a file to read, found {found}; name a file")


def check_declared(declared: int, stored: int, what: str, in_memory: bool = True) -> None:
    """Raise where what is declared cannot be what is stored, or does not fit into memory.

    Args:
        declared: bytes that `what` has by what the file says of itself.
        stored: bytes that the file has of it.
        what: for the error.
        in_memory: whether it is to be held in memory, and not on disk or block by block.

    Raises:
        DataError: more than `FREE_BYTES` and more than `LARGEST_RATIO` for each stored byte, or more than the machine
            has memory.
    """
    if declared < 0 or declared > max(FREE_BYTES, LARGEST_RATIO * stored):
        raise DataError(
            f"{what}: expected what {_size(stored)} in the file can hold, found {_size(declared)} declared; it is "
            "damaged, not written to its end, or made to fill the memory; copy it again, or repack it with its own "
            "program"
        )
    memory = _memory()
    if in_memory and memory is not None and declared > memory:
        raise DataError(
            f"{what}: expected what fits into the memory of this machine ({_size(memory)}), found {_size(declared)}; "
            "take a part of it, or a larger machine"
        )


def _memory() -> int | None:
    """Bytes of memory of this machine, None where the system does not say."""
    names = getattr(os, "sysconf_names", {})
    if not {"SC_PAGE_SIZE", "SC_PHYS_PAGES"} <= set(names):
        return None
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _size(count: int) -> str:
    """Bytes for people.

    >>> _size(700), _size(3 << 20)
    ('700 bytes', '3 MiB')
    """
    for power, unit in ((40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")):
        if count >= 1 << power:
            return f"{count / (1 << power):.3g} {unit}"
    return f"{count} bytes"
