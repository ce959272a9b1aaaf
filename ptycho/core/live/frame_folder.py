"""A folder that fills with frames, one to a file, or several where the file numbers them itself (Eiger).

The number of a frame is the last number in the name of its file: `scan7_000123.tif` is frame 123. A file is read when
two looks in a row have found it the same, so that one that is being written is left alone; one that cannot be read
then is tried again as long as that may help.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray

from ptycho.core.files.damage import readable
from ptycho.core.files.hdf5_types import attribute
from ptycho.core.files.hdf5_values import hdf5_file
from ptycho.core.files.npz import read_npy
from ptycho.core.formats.registry import is_hdf5
from ptycho.core.formats.sources import Source, frames_at
from ptycho.core.scan.stream import Frames
from ptycho.errors import DataError, PtychoError

__all__ = ["SUFFIXES", "FrameFolder"]

SUFFIXES = (".npy", ".tif", ".tiff", ".edf", ".cbf", ".mccd", ".h5", ".hdf5", ".nxs", ".cxi")
"""Of files that are taken for frames."""
_HIDDEN = (".", "_", "~")
_DIGITS = re.compile(r"\d+")
_QUIET_NS = 2_000_000_000
"""A folder that has not changed for so long has nothing new: the clocks of file systems are that coarse."""
_PATIENCE = 20.0
"""Seconds after which a file that cannot be read is told of."""
_FIRST_NUMBER = "image_nr_low"
"""Attribute by which Eiger files say the number of their first frame."""


class _Look(NamedTuple):
    """A file as it was."""

    size: int
    mtime_ns: int


class _Waiting:
    """A file that is there and not read yet."""

    def __init__(self, look: _Look) -> None:
        self.look = look
        self.since = time.monotonic()
        self.failed: _Look | None = None
        """As it was when it could not be read, and was told of."""


class FrameFolder:
    """Where frames come, a file each.

    Args:
        folder: need not be there yet.
        patience: seconds after which a file that cannot be read is told of.
    """

    def __init__(self, folder: Path, patience: float = _PATIENCE) -> None:
        self.folder, self.patience = folder, patience
        self.troubles: list[str] = []
        self._read: set[str] = set()
        self._waiting: dict[str, _Waiting] = {}
        self._changed_ns = -1

    @property
    def closed(self) -> bool:
        """Never: nothing says so."""
        return False

    def news(self) -> Iterator[tuple[int, NDArray[np.number[Any]]]]:
        """Frames (H, W) of files that have come to rest since the last call."""
        rested = self._rested()
        for name in rested:
            yield from self._frames_of(name)

    def rest(self) -> None:
        """Nothing is open."""

    def close(self) -> None:
        """Nothing is open."""

    def _rested(self) -> list[str]:
        """Files that are the same as at the last look and not read yet."""
        try:
            changed = self.folder.stat().st_mtime_ns
            if changed != self._changed_ns or time.time_ns() - changed < _QUIET_NS:
                self._changed_ns = changed
                with os.scandir(self.folder) as entries:
                    new = [one.name for one in entries if one.name not in self._read and _is_frame(one.name)]
            else:
                new = []
        except OSError:  # not there yet, or for a moment not
            return []
        rested = []
        for name in {*new, *self._waiting}:
            look = self._look(name)
            known = self._waiting.get(name)
            if look is None:
                self._waiting.pop(name, None)
            elif known is None:
                self._waiting[name] = _Waiting(look)
            elif known.look != look:
                known.look, known.since = look, time.monotonic()
            elif known.failed != look:
                rested.append(name)
        return sorted(rested)

    def _look(self, name: str) -> _Look | None:
        try:
            now = (self.folder / name).stat()
        except OSError:
            return None
        return _Look(now.st_size, now.st_mtime_ns)

    def _frames_of(self, name: str) -> Iterator[tuple[int, NDArray[np.number[Any]]]]:
        path, waiting = self.folder / name, self._waiting[name]
        place = 0
        try:
            frames = _frames(path)
            for place, number in enumerate(_numbers(path, frames)):
                yield number, frames.read(np.array([place]))[0]
        except (PtychoError, OSError) as error:
            if place == 0 and time.monotonic() - waiting.since <= self.patience:
                return
            waiting.failed = waiting.look
            self.troubles.append(f"{error} (left out until it changes)")
            return
        del self._waiting[name]
        self._read.add(name)


def _frames(path: Path) -> Frames:
    """The frames of a file."""
    if path.suffix.lower() != ".npy":
        return frames_at(Source((path,), None))
    with readable(path, "a whole NPY file"):  # the most common by far, without a look at what else it may be
        values = np.asarray(read_npy(path))
    if values.ndim not in (2, 3) or values.dtype.kind not in "iuf":
        raise DataError(f"{path}: expected a frame (rows, columns), found {values.shape} of {values.dtype}")
    return Frames.of(values.reshape(-1, *values.shape[-2:]))


def _is_frame(name: str) -> bool:
    return name.lower().endswith(SUFFIXES) and not name.startswith(_HIDDEN)


def _numbers(path: Path, frames: Frames) -> range:
    """Of the frames of a file."""
    named = _DIGITS.findall(path.stem)
    if len(frames) == 1 and named:
        return range(int(named[-1]), int(named[-1]) + 1)
    first = _first_number(path) if is_hdf5(path) else None
    if first is not None:
        return range(first, first + len(frames))
    found = f"{len(frames)} frames" if named else "no number in its name"
    raise DataError(
        f"{path}: expected one frame, with its number in the name of the file, found {found}; name a file that has the "
        "numbers too, or frames one to a file"
    )


def _first_number(path: Path) -> int | None:
    """What an Eiger file says of its first frame."""
    found: list[int] = []

    def look(name: str, each: Any) -> None:
        if isinstance(each, h5py.Dataset) and each.ndim == 3 and _FIRST_NUMBER in each.attrs:
            found.append(int(np.asarray(attribute(each, _FIRST_NUMBER)).reshape(-1)[0]))

    with hdf5_file(path) as file:
        file.visititems(look)
    return found[0] if len(found) == 1 else None
