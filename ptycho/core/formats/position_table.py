"""Positions of a scan from a table: text with or without a header, NPY, NPZ, HDF5, MATLAB.

    pos.csv:x,y          columns by name, or by number from 0; pos.csv:x,y,frame also the number of the frame of each
    pos.npy:1,0          columns of an array (n, columns) or, told by its shape, (2, n)
    scan.npz:px,py       two arrays of an archive; scan.npz:positions one (n, 2)
    scan.h5:/p/x,/p/y    two data sets; scan.h5:/positions one (n, 2)

x runs along the columns of the object, y along its rows; the first of two is x.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray

from ptycho.core.files.damage import readable
from ptycho.core.files.hdf5_values import open_hdf5
from ptycho.core.formats.hdf5 import unit_factor, units_factor
from ptycho.core.formats.hdf5_access import member
from ptycho.core.formats.registry import is_hdf5
from ptycho.core.formats.sources import array_in, source
from ptycho.errors import DataError

__all__ = ["UNITS", "Columns", "Positions", "columns_of", "named_columns", "positions_at", "row_of"]

UNITS = ("px", "m", "mm", "um", "nm")

_ARRAYS = (".npy", ".npz", ".mat")
_NAMES = tuple((axis, f"{axis}coords", f"pos_{axis}", f"position_{axis}", f"pos{axis}") for axis in "xy")
_NUMBERS = ("frame", "frames", "frame_id", "frame_number", "id", "ids", "index", "number", "image", "trigger")
"""What the column of a table is called that has the number of the frame of each position."""
_DELIMITERS = (",", ";", "\t")
_UNIT = re.compile(r"[\[(]\s*([^\])]+?)\s*[\])]\s*$|_([a-zA-Zµμ]{1,12})$")


class Positions(NamedTuple):
    """What a table says."""

    x: NDArray[np.float64]
    """(n,) as written."""
    y: NDArray[np.float64]
    frames: NDArray[np.int64] | None
    """(n,) number of the frame of each, where a column was named for it."""
    factor: float | None
    """From the unit of the table to metres, where the table says it."""


class Columns(NamedTuple):
    """Where in a line of text the positions stand."""

    places: tuple[int, ...]
    """Of x and y, counted from 0, and of the number of the frame where there is one."""
    delimiter: str | None
    """Between two cells; None is space."""
    factor: float | None
    """From the unit of the table to metres, where its header says it."""


def positions_at(text: str) -> Positions:
    """The positions that `FILE[:X,Y[,FRAME]]` names.

    Raises:
        MissingFileError: no such file.
        DataError: columns that are not there or not told apart, or text that is no number; one line with the file.
    """
    named = source(text)
    if len(named.paths) != 1:
        raise DataError(f"{text}: expected one file of positions, found {len(named.paths)}; name one")
    path, chosen = named.paths[0], [] if named.inside is None else [part.strip() for part in named.inside.split(",")]
    with readable(path, "a table of positions"):
        return _read(path, chosen)


def _read(path: Path, chosen: list[str]) -> Positions:
    if is_hdf5(path):
        found = _of_arrays(path, chosen, _hdf5_factor(path, chosen))
    elif path.suffix in _ARRAYS:
        found = _of_arrays(path, chosen, None)
    else:
        found = _of_text(path, chosen)
    if not (found.x.shape == found.y.shape and found.x.size):
        raise DataError(f"{path}: expected as many x as y, found {found.x.size} and {found.y.size}; correct it")
    return found


def _of_arrays(path: Path, chosen: list[str], factor: float | None) -> Positions:
    """Of two or three arrays by name, or of the columns of one."""
    numbers = all(part.isdecimal() for part in chosen)
    if len(chosen) > 1 and not numbers:
        columns = [np.asarray(array_in(path, name)).reshape(-1) for name in chosen]
        return _positions(path, columns, factor)
    table = np.asarray(array_in(path, None if numbers else chosen[0], ("positions", "position")))
    if table.ndim == 2 and table.shape[0] in (2, 3) and table.shape[1] > 3:
        table = table.T
    wanted = [int(part) for part in chosen] if chosen and numbers else [0, 1]
    if table.ndim != 2 or max(wanted) >= table.shape[1]:
        raise DataError(f"{path}: expected columns {wanted} of an array (n, columns), found {table.shape}; name others")
    return _positions(path, [table[:, column] for column in wanted], factor)


def _hdf5_factor(path: Path, chosen: Sequence[str]) -> float | None:
    """From the `units` attribute of the first array that is named; None without one."""
    with open_hdf5(path) as file:
        found = member(file, chosen[0]) if chosen else None
        told = isinstance(found, h5py.Dataset) and any(key in found.attrs for key in ("units", "Units", "unit"))
        return units_factor(found, "length") if told else None


def _of_text(path: Path, chosen: list[str]) -> Positions:
    lines, header, delimiter = _rows(path)
    width = len(_cells(lines[0], delimiter))
    columns = _columns(path, chosen, header, width)
    try:
        table = np.loadtxt(lines, np.float64, comments="#", delimiter=delimiter, usecols=columns, ndmin=2)
    except ValueError as error:
        raise DataError(f"{path}: expected numbers in columns {columns}, found: {error}; correct the table") from error
    return _positions(path, list(table.T), _columns_factor(header, columns))


def columns_of(path: Path, lines: Sequence[str], chosen: Sequence[str] = ()) -> Columns | None:
    """Where positions and the numbers of their frames stand in a text that is still being written.

    Args:
        path: of the text, for errors.
        lines: its whole lines so far, from the first on.
        chosen: columns X, Y, FRAME by name or by number from 0; none: by their names.

    Returns:
        The columns; None as long as there is no line with numbers.

    Raises:
        DataError: columns that are not there, or not told apart; also where none has the number of the frame.
    """
    numbers, header, delimiter = _layout([line.strip() for line in lines if line.strip()])
    if not numbers:
        return None
    width = len(_cells(numbers[0], delimiter))
    columns = _columns(path, list(chosen), header, width)
    if len(columns) == 2:
        plain = [_without_unit(name).lower() for name in header]
        columns += [plain.index(name) for name in _NUMBERS if name in plain][:1]
    if len(columns) == 2:
        listed = ", ".join(header) or f"{width} columns without names"
        raise DataError(
            f"{path}: expected a column with the number of the frame of each position, found {listed}; name the "
            "columns, FILE:X,Y,FRAME"
        )
    return Columns(tuple(columns), delimiter, _columns_factor(header, columns))


def row_of(line: str, columns: Columns) -> tuple[int, float, float] | None:
    """Number of the frame, x and y of a line; None where it has no such numbers.

    >>> row_of("7; 0.5; 1.25", Columns((1, 2, 0), ";", None))
    (7, 0.5, 1.25)
    """
    cells = _cells(line, columns.delimiter)
    try:
        x, y, number = (float(cells[place]) for place in columns.places)
    except (IndexError, ValueError):
        return None
    return (int(number), x, y) if math.isfinite(x) and math.isfinite(y) and number.is_integer() else None


def _columns_factor(header: list[str], columns: Sequence[int]) -> float | None:
    """To metres, from the names of the columns of x and y, where these agree."""
    factors = {_header_factor(header[column]) for column in columns[:2]} if header else {None}
    return factors.pop() if len(factors) == 1 else None


def named_columns(path: Path) -> tuple[list[str], list[float | None], NDArray[np.float64]]:
    """The columns of a text: names in small letters without units, factors of these to metres, numbers (n, columns).

    Without a header there are no names; None is a column without a unit.

    Raises:
        DataError: a cell that is no number.
    """
    lines, header, delimiter = _rows(path)
    try:
        table = np.loadtxt(lines, np.float64, comments="#", delimiter=delimiter, ndmin=2)
    except ValueError as error:
        raise DataError(f"{path}: expected numbers in every column, found: {error}; correct the table") from error
    return [_without_unit(name).lower() for name in header], [_header_factor(name) for name in header], table


def _rows(path: Path) -> tuple[list[str], list[str], str | None]:
    """Lines with numbers, the header before them (empty without one) and what separates the cells (None is space)."""
    raw = path.read_bytes()
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
    lines, header, delimiter = _layout([line.strip() for line in text.splitlines() if line.strip()])
    if not lines:
        raise DataError(f"{path}: expected a table with numbers, found none; name a text, NPY, NPZ or HDF5 file")
    return lines, header, delimiter


def _layout(lines: list[str]) -> tuple[list[str], list[str], str | None]:
    """As `_rows`, of the lines of a text that are not empty; no lines where none has numbers."""
    start = next((number for number, line in enumerate(lines) if line[0] != "#" and _is_numbers(line)), None)
    if start is None:
        return [], [], None
    delimiter = _delimiter(lines[start])
    before = lines[start - 1].lstrip("#").strip() if start else ""
    header = _cells(before, _delimiter(before) if before else None)
    fits = len(header) == len(_cells(lines[start], delimiter))
    return lines[start:], header if fits else [], delimiter


def _delimiter(line: str) -> str | None:
    return next((sign for sign in _DELIMITERS if sign in line), None)


def _cells(line: str, delimiter: str | None) -> list[str]:
    return [cell.strip().strip('"') for cell in line.split(delimiter)]


def _is_numbers(line: str) -> bool:
    """Whether more than half of the cells of a line are numbers."""
    cells = _cells(line, _delimiter(line))
    return sum(_is_number(cell) for cell in cells) * 2 > len(cells)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _columns(path: Path, chosen: list[str], header: list[str], width: int) -> list[int]:
    """Numbers of the columns of x and y, and of the frame where it is named."""
    listed = ", ".join(header) or f"{width} columns without names"
    if chosen:
        found = [_column(part, header, width) for part in chosen]
        if len(found) in (2, 3) and None not in found:
            return [column for column in found if column is not None]
        raise DataError(f"{path}: expected columns {','.join(chosen)} as X,Y or X,Y,FRAME, found {listed}; name others")
    plain = [_without_unit(name).lower() for name in header]
    by_name = [next((plain.index(name) for name in names if name in plain), None) for names in _NAMES]
    if None not in by_name:
        return [column for column in by_name if column is not None]
    if width == 2:
        return [0, 1]
    raise DataError(f"{path}: expected to be told which columns are x and y, found {listed}; name them, FILE:X,Y")


def _column(name: str, header: list[str], width: int) -> int | None:
    plain = [each.lower() for each in header]
    if name.lower() in plain:
        return plain.index(name.lower())
    short = [_without_unit(each) for each in plain]
    if name.lower() in short:
        return short.index(name.lower())
    return int(name) if name.isdecimal() and int(name) < width else None


def _without_unit(name: str) -> str:
    return name if _header_factor(name) is None else _UNIT.sub("", name).strip()


def _header_factor(name: str) -> float | None:
    """Factor to metres of the unit in a name as `x_um` or `x [mm]`; None without one."""
    found = _UNIT.search(name)
    return None if found is None else unit_factor(found.group(1) or found.group(2), "length")


def _positions(path: Path, columns: list[NDArray[Any]], factor: float | None) -> Positions:
    if any(column.dtype.kind not in "iuf" for column in columns):
        raise DataError(f"{path}: expected positions, real numbers, found {columns[0].dtype}; name others")
    frames = None
    if len(columns) == 3:
        frames = np.rint(columns[2]).astype(np.int64)
        if not np.array_equal(frames, columns[2]):
            raise DataError(f"{path}: expected whole numbers of frames, found others; name another column")
    return Positions(columns[0].astype(np.float64), columns[1].astype(np.float64), frames, factor)
