"""What the HDF5 formats share: files written whole or not at all, patterns by block, numbers with their units."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from ptycho.core.files.atomic import atomic_path
from ptycho.core.files.hdf5_types import attribute, check_type
from ptycho.core.files.hdf5_values import all_values, hdf5_file
from ptycho.core.formats.hdf5_access import dataset, member
from ptycho.core.interrupts import uninterrupted
from ptycho.core.scan.stream import Frames
from ptycho.core.units import JOULES_PER_EV
from ptycho.errors import DataError

__all__ = [
    "array",
    "copy_patterns",
    "h5_frames",
    "new_file",
    "quantity",
    "square_pixel",
    "text",
    "unit_factor",
    "units_factor",
]

_CHUNK_PIXELS = 1 << 18
_LENGTHS = {"m": 1.0, "mm": 1e-3, "um": 1e-6, "nm": 1e-9, "pm": 1e-12, "angstrom": 1e-10, "a": 1e-10, "cm": 1e-2}
_ENERGIES = {"j": 1 / JOULES_PER_EV, "ev": 1.0, "kev": 1e3, "mev": 1e6}
_SPELLINGS = {"micron": "um", "å": "angstrom", "ångström": "angstrom", "ångstrom": "angstrom", "joule": "j"}
_PREFIXES = {"": "", "centi": "c", "milli": "m", "micro": "u", "nano": "n", "pico": "p"}
_SPELLINGS |= {f"{prefix}met{end}": f"{short}m" for prefix, short in _PREFIXES.items() for end in ("er", "re")}
_SPELLINGS |= {"electronvolt": "ev", "kiloelectronvolt": "kev", "megaelectronvolt": "mev"}
_SQUARE = 1e-6


@contextmanager
def new_file(path: Path) -> Iterator[h5py.File]:
    """A file to write, which becomes `path` when the block ends well; the same content gives the same bytes."""
    with atomic_path(path) as temporary, temporary.open("r+b", buffering=0) as raw:
        kept = _KeptErrors(raw)
        file = h5py.File(kept, "w")
        try:
            yield file
        finally:
            with uninterrupted():
                file.close()
                kept.check()


class _KeptErrors:
    """A file for the HDF5 library, whose writes always succeed; `check` raises what the first one failed with.

    On a full disk the library fails to close a file that it writes itself, tries again as the process ends, and takes
    it down.

    Args:
        file: opened for reading and writing, without a buffer.
    """

    def __init__(self, file: FileIO) -> None:
        self.error: OSError | None = None
        self.seek, self.tell, self.read, self.readinto = file.seek, file.tell, file.read, file.readinto
        self._file = file

    def write(self, data: Any) -> int:
        """Write all of it."""
        left = memoryview(data).cast("B")
        size = len(left)
        with self._kept():
            while self.error is None and len(left):
                left = left[self._file.write(left) :]
        return size

    def truncate(self, size: int) -> int:
        """Set the size of the file."""
        with self._kept():
            self._file.truncate(size)
        return size

    def flush(self) -> None:
        """Nothing is held back."""

    def check(self) -> None:
        """Raise what a write met."""
        if self.error is not None:
            raise self.error

    @contextmanager
    def _kept(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.error = self.error or error


def copy_patterns(group: h5py.Group, name: str, patterns: Frames, compression: str = "gzip") -> h5py.Dataset:
    """Write patterns block by block and return their data set."""
    n, height, width = patterns.shape
    frames = max(1, min(n, _CHUNK_PIXELS // max(1, height * width)))
    options: dict[str, Any] = {"compression_opts": 1} if compression == "gzip" else {}
    made = group.create_dataset(
        name,
        patterns.shape,
        patterns.dtype,
        chunks=(frames, height, width),
        compression=compression,
        shuffle=True,
        track_times=False,
        **options,
    )
    for part, block in patterns.blocks():
        with uninterrupted():
            made[part] = block
    return made


def h5_frames(path: Path, names: list[str]) -> Frames:
    """Frames of one data set or of several in a row, read when they are asked for.

    Leading axes, as of a raster, are flattened. One data set that lies in its file as it lies in memory is mapped; else
    the file is opened anew for every block, so that nothing stays open.

    Raises:
        DataError: no data sets, of fewer than three axes or not of numbers, or frames of several sizes.
    """
    with hdf5_file(path) as file:
        sets = [dataset(file, name) for name in names]
        for stored in sets:
            check_type(stored.id.get_type(), str(stored.name))
        found = ", ".join(f"{name} {stored.shape}" for name, stored in zip(names, sets, strict=True))
        if len({stored.shape[-2:] for stored in sets}) != 1 or any(stored.ndim < 3 for stored in sets):
            raise DataError(f"expected patterns (n, N, N), all of one size, found {found}; correct the file")
        leading = [stored.shape[:-2] for stored in sets]
        mapped = _mapped(sets[0]) if len(sets) == 1 else None
        if mapped is not None:
            return Frames.of(mapped.reshape(-1, *mapped.shape[-2:]))
        frame, dtype = sets[0].shape[-2:], np.result_type(*(stored.dtype for stored in sets))
    ends = np.cumsum([int(np.prod(shape)) for shape in leading])

    def read(indices: NDArray[np.intp]) -> NDArray[Any]:
        made = np.empty((len(indices), *frame), dtype)
        owners = np.searchsorted(ends, indices, side="right")
        with hdf5_file(path) as file:
            for owner in np.unique(owners):
                mine = owners == owner
                local = indices[mine] - (ends[owner - 1] if owner else 0)
                made[mine] = _frames(file, names[owner], leading[owner], local)
        return made

    return Frames((int(ends[-1]), *frame), dtype, read)


def _mapped(stored: h5py.Dataset) -> NDArray[Any] | None:
    """A memory map of a data set; None where it is chunked, compressed, virtual, in another file, empty or swapped."""
    layout, offset = stored.id.get_create_plist().get_layout(), stored.id.get_offset()
    if layout != h5py.h5d.CONTIGUOUS or offset is None or stored.size == 0 or stored.dtype.kind not in "iuf":
        return None
    if not stored.id.get_type().equal(h5py.h5t.py_create(stored.dtype.newbyteorder("="))):
        return None
    return np.memmap(stored.file.filename, stored.dtype, "r", offset, stored.shape)


def _frames(file: h5py.File, name: str, leading: tuple[int, ...], indices: NDArray[np.intp]) -> NDArray[Any]:
    """Frames of one data set by their flat index, runs along the innermost leading axis in one go."""
    stored, inner, parts = dataset(file, name), leading[-1], []
    for run in np.split(indices, np.flatnonzero((np.diff(indices) != 1) | (indices[1:] % inner == 0)) + 1):
        *outer, first = np.unravel_index(run[0], leading)
        try:
            parts.append(stored[(*outer, slice(first, first + len(run)))])
        except OSError as error:
            raise DataError(
                f"{file.filename}: expected readable patterns in {name}, found {error}; copy the file again"
            ) from error
    return np.concatenate(parts)


def array(file: h5py.Group, name: str) -> NDArray[Any] | None:
    """The data set at `name` as an array, None where there is none."""
    found = member(file, name)
    return all_values(found) if isinstance(found, h5py.Dataset) else None


def text(file: h5py.Group, name: str) -> str | None:
    """The data set at `name` as text, None where there is none or it holds something else."""
    found = array(file, name)
    if found is None or found.size != 1:
        return None
    value = found.reshape(-1)[0]
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value if isinstance(value, str) else None


def quantity(file: h5py.Group, name: str, kind: str) -> float | None:
    """The first number at `name` in metres (kind 'length') or electronvolts ('energy'), None where there is none.

    The `units` attribute counts; without one it is metres or joules, the units of CXI. An "energy in joules" above
    a million electronvolts is not one: the attribute was forgotten.

    Raises:
        DataError: units that are not known, or such an energy.
    """
    found = array(file, name)
    if found is None or found.size == 0 or found.dtype.kind not in "iuf":
        return None
    value = float(found.reshape(-1)[0]) * units_factor(dataset(file, name), kind)
    if not np.isfinite(value):
        return None
    if kind == "energy" and value > 1e7:
        raise DataError(
            f"{name}: expected a photon energy in joules or with a units attribute, found {found.reshape(-1)[0]:g} "
            "without one; give --energy-keV"
        )
    return value


def units_factor(found: h5py.Dataset, kind: str) -> float:
    """Factor from the units of a data set to metres (kind 'length') or electronvolts ('energy')."""
    values = (attribute(found, key) for key in ("units", "Units", "unit"))
    raw = next((value for value in values if value is not None), None)
    if raw is None:
        return _LENGTHS["m"] if kind == "length" else _ENERGIES["j"]
    raw = np.asarray(raw).reshape(-1)[0]
    told = _decoded(raw) if isinstance(raw, bytes) else str(raw)
    factor = unit_factor(told, kind)
    if factor is None:
        known = ", ".join(_LENGTHS if kind == "length" else _ENERGIES)
        raise DataError(f"{found.name}: expected a unit of {kind}, one of {known}, found {told!r}; correct it")
    return factor


def unit_factor(told: str, kind: str) -> float | None:
    """Factor from a unit by name, in the spellings of NeXus, to metres or electronvolts; None for an unknown one.

    >>> unit_factor("micrometers", "length"), unit_factor("keV", "energy"), unit_factor("furlong", "length")
    (1e-06, 1000.0, None)
    """
    unit = told.strip().strip("()[]").lower().replace("µ", "u").replace("μ", "u")
    known = _LENGTHS if kind == "length" else _ENERGIES
    for name in (unit, unit.removesuffix("s")):
        if _SPELLINGS.get(name, name) in known:
            return known[_SPELLINGS.get(name, name)]
    return None


def _decoded(raw: bytes) -> str:
    """Text of UTF-8, or of Latin-1, in which some write the micro sign."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def square_pixel(width: float | None, height: float | None, what: str) -> float | None:
    """The side of a square pixel, None where neither side is known.

    Raises:
        DataError: the sides differ.
    """
    sides = [abs(side) for side in (width, height) if side is not None]
    if not sides:
        return None
    if max(sides) - min(sides) > _SQUARE * max(sides):
        raise DataError(f"{what}: expected square pixels, found {sides[0]:g} x {sides[1]:g} m; bin or resample them")
    return sides[0]
