"""Frames of a scan on their way to another process: where they lie in a file, or those that it is to have."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.core.scaling import frame_blocks
from ptycho.errors import DataError

__all__ = ["Frames"]

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Frames:
    """An array (n, ...) with a frame for every pattern, as another process gets it.

    A memory map of a file goes as the name of the file, and its frames are read where they are needed. Of any other
    array some frames go, and the others are 0 there, which takes no memory.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    own: NDArray[np.int64]
    """(k,) the frames that go."""
    rows: Array | None = None
    """(k, ...) these frames; None: they lie in a file."""
    file: Path | None = None
    offset: int = 0
    """Of the first value in the file, bytes."""
    strides: tuple[int, ...] = ()

    @classmethod
    def of(cls, array: Array, own: NDArray[np.int64]) -> Frames:
        """The frames of an array that another process is to have.

        Args:
            array: (n, ...).
            own: (k,) indices.
        """
        file, offset = _in_file(array)
        if file is None:
            return cls(array.shape, array.dtype, own, rows=np.ascontiguousarray(array[own]))
        return cls(array.shape, array.dtype, own, file=file, offset=offset, strides=array.strides)

    def opened(self) -> Array:
        """The array (n, ...), of which no frames but those that went may be looked at.

        Raises:
            DataError: the file is not there.
        """
        if self.file is None:
            assert self.rows is not None
            array = np.zeros(self.shape, self.dtype)  # pages that nobody writes to are in no memory
            for block in frame_blocks(len(self.own), max(1, self.rows[:1].size)):
                array[self.own[block]] = self.rows[block]
            return array
        try:
            whole = np.memmap(self.file, np.uint8, "r")
        except OSError as error:
            raise DataError(
                f"{self.file}: expected the patterns, as the first process has them, found: {error.strerror}; put the "
                "scan where every process finds it by this name"
            ) from error
        return np.ndarray(self.shape, self.dtype, whole, self.offset, self.strides)


def _in_file(array: Array) -> tuple[Path | None, int]:
    """The file that an array is a memory map of, and where in it the array begins, bytes; None: of none with a name."""
    root: Any = array
    while isinstance(root, np.ndarray) and isinstance(root.base, np.ndarray):
        root = root.base
    name = getattr(root, "filename", None) if isinstance(root, np.memmap) else None
    if not isinstance(name, str | Path) or not Path(name).is_file():
        return None, 0
    # a map begins at a page of the file, its array somewhere in it
    first, here = (each.__array_interface__["data"][0] for each in (root, array))
    return Path(name).resolve(), int(root.offset) + here - first
