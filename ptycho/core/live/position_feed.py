"""Positions that come on their own: a text that grows, a folder of texts, or data sets of an HDF5 file."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import h5py
import numpy as np

from ptycho.core.formats.hdf5 import units_factor
from ptycho.core.formats.position_table import Columns, columns_of, row_of
from ptycho.core.live.frame_file import NUMBER_NAMES
from ptycho.core.live.growing_file import GrowingFile, column
from ptycho.core.live.joining import PositionRow
from ptycho.errors import DataError

__all__ = ["PositionSets", "PositionTables"]

_TEXTS = (".csv", ".txt", ".dat", ".tsv", ".pos")
_HIDDEN = (".", "_", "~")
_AXES = tuple((axis, f"{axis}coords", f"pos_{axis}", f"position_{axis}", f"pos{axis}") for axis in "xy")


class PositionTables:
    """Rows of a text, or of all texts of a folder, as they are written; each has the number of its frame.

    Args:
        path: a file or a folder, which need not be there yet.
        chosen: columns X, Y, FRAME by name or number; none: by their names.
    """

    def __init__(self, path: Path, chosen: Sequence[str] = ()) -> None:
        self.path, self.chosen = path, chosen
        self.factor: float | None = None
        self.troubles: list[str] = []
        self._texts: dict[Path, _Text] = {}

    def news(self) -> Iterator[PositionRow]:
        """Rows that are whole and were not there at the last call.

        Raises:
            DataError: columns that are not there or not told apart, or tables in several units.
        """
        for path in self._paths():
            text = self._texts.setdefault(path, _Text(path))
            for row in text.rows(self.chosen):
                self._agree(text)
                yield row
            if text.unread:
                self.troubles.append(f"{path}: {text.unread} lines without whole numbers are left out")
                text.unread = 0

    def rest(self) -> None:
        """Nothing is open."""

    def close(self) -> None:
        """Nothing is open."""

    def _paths(self) -> list[Path]:
        try:
            if self.path.is_dir():
                with os.scandir(self.path) as entries:
                    names = [one.name for one in entries if not one.name.startswith(_HIDDEN)]
                return [self.path / name for name in sorted(names) if name.lower().endswith(_TEXTS)]
            return [self.path] if self.path.is_file() else []
        except OSError:
            return []

    def _agree(self, text: _Text) -> None:
        factor = None if text.columns is None else text.columns.factor
        if self.factor is not None and factor is not None and factor != self.factor:
            raise DataError(f"{text.path}: expected the unit of the other tables, found another; correct it")
        self.factor = factor if self.factor is None else self.factor


class _Text:
    """One text, and how far it was read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.columns: Columns | None = None
        self.unread = 0
        """Lines without whole numbers, that were not told of yet."""
        self._begin()

    def _begin(self) -> None:
        self._end, self._file = 0, (0, 0)
        self._head: list[str] = []
        self.columns = None

    def rows(self, chosen: Sequence[str]) -> Iterator[PositionRow]:
        """What was written since the last call, in whole lines."""
        for line in self._lines():
            if self.columns is None:
                self._head.append(line)
                self.columns = columns_of(self.path, self._head, chosen)
                if self.columns is None:
                    continue
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            row = row_of(line, self.columns)
            if row is None:
                self.unread += 1
            else:
                yield PositionRow(*row)

    def _lines(self) -> list[str]:
        """Whole lines; of a text that was written anew, all of it."""
        try:
            with self.path.open("rb") as stream:
                now = os.fstat(stream.fileno())
                if (now.st_dev, now.st_ino) != self._file or now.st_size < self._end:
                    self._begin()
                    self._file = (now.st_dev, now.st_ino)
                stream.seek(self._end)
                block = stream.read()
        except OSError:
            return []
        whole = block[: block.rfind(b"\n") + 1]
        self._end += len(whole)
        try:
            return whole.decode("utf-8-sig").splitlines()
        except UnicodeDecodeError:
            return whole.decode("latin-1").splitlines()


class PositionSets:
    """Data sets x and y (n,) of an HDF5 file that grow, and one with the numbers of the frames.

    Without numbers a position has its place in the data sets, counted from 0.

    Args:
        file: that grows.
        chosen: paths of x, y and the numbers; none: data sets called x and y or similar in one group, and beside them
            the numbers, called `frame` or similar.
    """

    def __init__(self, file: GrowingFile, chosen: Sequence[str] = ()) -> None:
        self.file, self.chosen = file, list(chosen)
        self.factor: float | None = None
        self.troubles: list[str] = []
        self._count = 0

    def news(self) -> Iterator[PositionRow]:
        """What was written since the last call.

        Raises:
            DataError: data sets that are not told apart, or are none of numbers.
        """
        if not self.chosen:
            self.chosen = self._found()
        found = self.file.sets(self.chosen) if self.chosen else None
        if not found:
            return
        if len(found) not in (2, 3):
            raise DataError(f"{self.file.path}: expected X,Y or X,Y,FRAME, found {','.join(self.chosen)}; name these")
        if self._count == 0 and any(key in found[0].attrs for key in ("units", "Units", "unit")):
            told = found[0].attrs.get("units", found[0].attrs.get("unit", found[0].attrs.get("Units")))
            self.factor = None if str(told) == "px" else units_factor(found[0], "length")
        end = min(len(one) for one in found)
        x, y, *numbers = (column(one, self._count, end, name) for one, name in zip(found, self.chosen, strict=True))
        each = numbers[0] if numbers else np.arange(self._count, end)
        self._count = end
        for number, at_x, at_y in zip(each, x, y, strict=True):
            if np.isfinite(at_x) and np.isfinite(at_y):
                yield PositionRow(int(number), float(at_x), float(at_y))

    def rest(self) -> None:
        """Let go of a file that is not written in SWMR mode."""
        self.file.rest()

    def close(self) -> None:
        """Let go of the file."""
        self.file.close()

    def _found(self) -> list[str]:
        """Look for data sets by their names; nothing as long as they are not there."""
        groups: dict[str, dict[str, h5py.Dataset]] = {}
        for one in self.file.look():
            if one.ndim == 1 and one.dtype.kind in "iuf":
                group, _, name = str(one.name).rpartition("/")
                groups.setdefault(group, {})[name.lower()] = one
        pairs = []
        for inside in groups.values():
            named = (*_AXES, NUMBER_NAMES)
            x, y, number = (next((inside[name] for name in names if name in inside), None) for names in named)
            if x is not None and y is not None:
                pairs.append([str(one.name) for one in (x, y, number) if one is not None])
        if len(pairs) > 1:
            listed = "; ".join(",".join(pair) for pair in pairs)
            raise DataError(f"{self.file.path}: expected one pair of positions, found {listed}; name it, FILE:X,Y")
        return pairs[0] if pairs else []
