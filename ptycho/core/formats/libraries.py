"""Libraries that read other people's files, which the user installs; each is loaded where a file needs it."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ptycho.core.files.mat5 import check_mat5
from ptycho.errors import DataError

__all__ = ["LIBRARIES", "library", "matlab"]

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
def matlab(path: Path) -> Iterator[Any]:
    """scipy.io for a MATLAB file, which was looked through; what it has an exception of its own for is a ValueError."""
    from scipy import io

    check_mat5(path)
    try:
        yield io
    except io.matlab.MatReadError as error:
        raise ValueError(str(error)) from error
