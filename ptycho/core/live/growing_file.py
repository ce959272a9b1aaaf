"""An HDF5 file that another program is writing: opened as far as it can be, with its data sets as long as they are."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import h5py
import numpy as np

from ptycho.core.files.hdf5_values import hdf5_file
from ptycho.core.formats.hdf5_access import member
from ptycho.errors import DataError

__all__ = ["GrowingFile"]

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_WITH_FLAGS = 2
"""Version of the superblock from which on it has the flags; they are the twelfth byte of the file (HDF5 file format
specification, version 3.0, section II.A)."""
_OPEN_TO_WRITE, _SWMR = 1, 4
_GRACE = 2.0
"""Seconds for which a file has to be closed and the same before its writer is taken to be done: some close a file
between its making and the first frame."""


class GrowingFile:
    """A file that frames and positions are read from, opened once.

    In SWMR mode it stays open and its data sets are looked at anew; one that is closed is opened anew whenever it has
    changed, so that nobody who wants to write to it is kept from it.

    Args:
        path: need not be there yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: h5py.File | None = None
        self._same_since = (0.0, (0, 0))

    @property
    def opened(self) -> h5py.File | None:
        """The file; None as long as it cannot be read."""
        if self._file is None or not self._file:
            flags = self._flags()
            try:
                if flags is None:
                    self._file = hdf5_file(self.path)
                elif flags & _OPEN_TO_WRITE and not flags & _SWMR:
                    return None
                else:  # without a lock, which the writer could meet
                    swmr = bool(flags & _SWMR)
                    self._file = h5py.File(self.path, "r", libver="latest", swmr=swmr, locking=False)
            except (DataError, OSError):  # not there yet, or not whole yet
                return None
        return self._file

    def _flags(self) -> int | None:
        """What the file says of its writer; None where it says nothing."""
        try:
            with self.path.open("rb") as stream:
                head = stream.read(12)
        except OSError:
            return None
        return head[11] if len(head) == 12 and head.startswith(_SIGNATURE) and head[8] >= _WITH_FLAGS else None

    def sets(self, names: Sequence[str]) -> list[h5py.Dataset] | None:
        """The data sets at these paths, as long as they are by now; None as long as not all of them are there."""
        file, found = self.opened, []
        if file is None:
            return None
        for name in names:
            one = member(file, name)
            if not isinstance(one, h5py.Dataset):
                return None
            if file.swmr_mode:
                one.refresh()
            found.append(one)
        return found

    def look(self) -> Iterator[h5py.Dataset]:
        """Every data set of the file, to find one by its shape or name."""
        found: list[str] = []
        file = self.opened
        if file is not None:
            file.visititems(lambda name, each: found.append(name) if isinstance(each, h5py.Dataset) else None)
            yield from (file[name] for name in found)

    def rest(self) -> None:
        """Between two looks: let go of a file that is not written in SWMR mode."""
        if self._file is not None and self._file and not self._file.swmr_mode:
            self.close()

    @property
    def closed(self) -> bool:
        """Whether its writer has closed it, a while ago."""
        flags = self._flags()
        try:
            found = self.path.stat()
        except OSError:
            return False
        now = (found.st_size, found.st_mtime_ns)
        written = flags is not None and flags & _OPEN_TO_WRITE
        if self._same_since[1] != now or written:
            self._same_since = (time.monotonic(), now)
        if written or (flags is None and self.opened is None):
            return False
        return time.monotonic() - self._same_since[0] >= _GRACE

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            self._file.close()
            self._file = None


def column(found: h5py.Dataset, begin: int, end: int, what: str) -> np.ndarray:
    """The entries from `begin` to `end` of a data set of one axis.

    Raises:
        DataError: more axes, or no numbers.
    """
    if found.ndim != 1 or found.dtype.kind not in "iuf":
        raise DataError(f"{what}: expected numbers (n,), found {found.shape} of {found.dtype}; name another")
    return np.asarray(found[begin:end])
