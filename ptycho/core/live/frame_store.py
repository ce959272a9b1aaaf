"""The frames that have come so far, in a file that grows, so that memory holds only those that are worked on."""

from __future__ import annotations

import math
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.core.files.atomic import FULL
from ptycho.core.scan.stream import Frames
from ptycho.errors import DataError, OutputError

__all__ = ["FrameStore"]

Array = NDArray[Any]


class FrameStore:
    """Frames of one size and one type in the order in which they were added; begins empty.

    One thread adds while another reads.

    Args:
        path: of the file; what is there goes.

    Raises:
        OutputError: it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file = path.open("wb", buffering=0)
        except OSError as error:
            raise OutputError(f"cannot write {path}: {error.strerror}; choose another folder") from error
        self._shape: tuple[int, ...] | None = None
        self._dtype: np.dtype[Any] | None = None
        self._count = 0

    def __enter__(self) -> FrameStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self.path.unlink(missing_ok=True)

    def __len__(self) -> int:
        return self._count

    def fits(self, frame: Array) -> str:
        """Why a frame (H, W) cannot join the others, in words; empty where it can."""
        if self._shape is None or self._dtype is None:
            return "" if frame.ndim == 2 and frame.size and frame.dtype.kind in "iuf" else _told(frame)
        if frame.shape == self._shape and np.can_cast(frame.dtype, self._dtype, "safe"):
            return ""
        return f"{_told(frame)}, where the first was {self._shape} of {self._dtype}"

    def add(self, frame: Array) -> None:
        """Add a frame (H, W).

        Raises:
            DataError: it does not fit the others. OutputError: the disk is full.
        """
        wrong = self.fits(frame)
        if wrong:
            raise DataError(f"frame: expected one like the others, found {wrong}; leave it out")
        if self._shape is None or self._dtype is None:
            self._shape, self._dtype = frame.shape, frame.dtype.newbyteorder("=")
        try:
            left = memoryview(np.ascontiguousarray(frame, self._dtype).data).cast("B")
            while left:
                left = left[self._file.write(left) :]
        except OSError as error:
            if error.errno not in FULL:
                raise
            raise OutputError(f"cannot write {self.path}: {error.strerror}; free some space") from error
        self._count += 1

    def frames(self, places: NDArray[np.intp]) -> Frames:
        """Some of the frames, read from the file when they are asked for.

        Args:
            places: (n,) of frames that were added, n at least 1.
        """
        assert self._shape is not None and self._dtype is not None
        height, width = self._shape
        size = math.prod(self._shape) * self._dtype.itemsize
        count = self.path.stat().st_size // size  # whole frames
        held = np.memmap(self.path, self._dtype, "r", shape=(count, height, width))
        return Frames.of(held).take(places)


def _told(frame: Array) -> str:
    return f"{frame.shape} of {frame.dtype}"
