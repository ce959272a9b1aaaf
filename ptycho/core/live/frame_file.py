"""An HDF5 file that frames are written to while they are read: SWMR (single writer, multiple readers)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from ptycho.core.live.growing_file import GrowingFile, column
from ptycho.errors import DataError

__all__ = ["NUMBER_NAMES", "FrameFile"]

NUMBER_NAMES = ("frame", "frame_id", "frame_number", "frames", "ids", "id")
"""What a data set beside the frames is called that has their numbers."""
_BLOCK = 64
"""Frames that are read at once."""
_SMALLEST = 8
"""Rows and columns that a frame has at least."""


class FrameFile:
    """Frames of a data set (n, H, W) that grows.

    Their numbers are in a data set beside it that is called `frame` or similar; without one a frame has its place in
    the data set, counted from 0.

    Args:
        file: that grows.
        inside: path of the data set; None: the only one of three axes.
    """

    def __init__(self, file: GrowingFile, inside: str | None = None) -> None:
        self.file, self.inside = file, inside
        self.numbers: str | None = None
        """Path of the data set of the numbers, once the frames are found; None without one."""
        self.troubles: list[str] = []
        self._count = 0

    @property
    def closed(self) -> bool:
        """Whether its writer has closed it."""
        return self._count > 0 and self.file.closed

    def news(self) -> Iterator[tuple[int, NDArray[np.number[Any]]]]:
        """Frames (H, W) that were written since the last call.

        Raises:
            DataError: several data sets could be meant and none is named, or its values cannot be read.
        """
        if self.inside is None and not self._found():
            return
        assert self.inside is not None
        names = [self.inside] if self.numbers is None else [self.inside, self.numbers]
        found = self.file.sets(names)
        if found is None or found[0].ndim != 3:
            return
        # numbers may be written before or after their frames: what has both is whole
        end = min(len(one) for one in found)
        while self._count < end:
            begin, self._count = self._count, min(self._count + _BLOCK, end)
            numbers = np.arange(begin, self._count)
            if self.numbers is not None:
                numbers = column(found[1], begin, self._count, self.numbers)
            try:
                block = np.asarray(found[0][begin : self._count])
            except OSError as error:
                self._count = begin
                raise DataError(
                    f"{self.file.path}: expected frames {begin} on of {self.inside}, found {error}; copy the file"
                ) from error
            yield from zip((int(number) for number in numbers), block, strict=True)

    def rest(self) -> None:
        """Let go of a file that is not written in SWMR mode."""
        self.file.rest()

    def close(self) -> None:
        """Let go of the file."""
        self.file.close()

    def _found(self) -> bool:
        """Look for the frames; whether they are there."""
        stacks = [one for one in self.file.look() if one.ndim == 3 and min(one.shape[1:]) >= _SMALLEST]
        if len(stacks) > 1:
            listed = ", ".join(f"{one.name} {one.shape}" for one in stacks)
            raise DataError(f"{self.file.path}: expected one stack of frames, found {listed}; name it, FILE:PATH")
        if stacks:
            self.inside = str(stacks[0].name)
            self.numbers = _beside(stacks[0])
        return bool(stacks)


def _beside(stack: h5py.Dataset) -> str | None:
    """The data set of the numbers of the frames."""
    group = stack.parent
    for name in NUMBER_NAMES:
        one = group.get(name)
        if isinstance(one, h5py.Dataset) and one.ndim == 1 and one.dtype.kind in "iu":
            return str(one.name)
    return None
