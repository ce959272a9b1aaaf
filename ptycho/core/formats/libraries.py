"""Libraries that read other people's files, which the user installs; each is loaded where a file needs it."""

from __future__ import annotations

import importlib
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ptycho.core.plugins import FAILURES
from ptycho.errors import DataError, PtychoError

__all__ = ["DAMAGE", "LIBRARIES", "library", "readable"]

DAMAGE = (*FAILURES, EOFError, struct.error, tokenize.TokenError, zipfile.BadZipFile, zlib.error)
"""What libraries raise that meet a damaged file."""

LIBRARIES = {
    "hdf5plugin": ("hdf5plugin", "formats"),
    "fabio": ("fabio", "formats"),
    "tifffile": ("tifffile", "formats"),
    "rsciio": ("rosettasciio", "electron"),
}
"""Module -> the package that pip knows, and the extra of this package that brings it."""


def library(module: str, why: str) -> Any:
    """A module of an optional library.

    Args:
        module: its full name.
        why: what there is that needs it; the beginning of the error.

    Raises:
        DataError: it is not installed; the line says how to.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package, extra = LIBRARIES[module.partition(".")[0]]
        raise DataError(
            f"{why}: expected {package}, found it not installed ({error}); "
            f"pip install {package} (extra {extra!r} of this package)"
        ) from error


@contextmanager
def readable(path: Path, title: str, *own: type[Exception]) -> Iterator[None]:
    """A block in which a library reads a file; what it raises, `own` of its classes too, is one line with the file.

    Raises:
        DataError: the file is damaged.
    """
    damage: tuple[type[Exception], ...] = (*DAMAGE, *own)
    try:
        yield
    except PtychoError:
        raise
    except damage as error:
        fact = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{path}: expected a whole {title} file, found: {fact}; copy it again") from error
