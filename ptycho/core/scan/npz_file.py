"""The scan file: a NumPy archive with patterns, positions and, mostly, a probe, as specs/data_contracts.md has it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ptycho.core.files.atomic import atomic_path
from ptycho.core.files.damage import check_regular, readable
from ptycho.core.files.npz import NpzArchive, open_npz, write_arrays
from ptycho.core.files.scratch import scratch_array
from ptycho.core.scaling import frame_blocks
from ptycho.core.scan.detector_values import counts_of_scan
from ptycho.core.scan.scan import Array, ScanFile, check_shapes, check_values
from ptycho.errors import DataError, MissingFileError

__all__ = [
    "PATTERN_KEYS",
    "SCAN_KEYS",
    "ScanFile",
    "damaged_array",
    "parse_scan",
    "read_scan",
    "scan_archive",
    "scan_metadata",
    "write_scan",
]

PATTERN_KEYS = ("diff3d", "diffraction")
"""Spellings of the patterns; the first that is there counts."""

SCAN_KEYS = (
    *PATTERN_KEYS,
    "xcoords",
    "ycoords",
    "probeGuess",
    "xcoords_start",
    "ycoords_start",
    "scan_index",
    "objectGuess",
    "Y",
    "mask",
    "bad_pixels",
    "_metadata",
    "nphotons",
    "units",
)
"""Every key that is read; others are left alone."""

_LISTED = 12
"""Arrays of a file that are named where the one looked for is not among them."""


def read_scan(path: Path | str, units: str | None = None) -> ScanFile:
    """Read and check a scan file, in any layout that was ever written.

    Args:
        path: the NPZ file.
        units: 'amplitude' or 'counts', instead of what the file says or leaves open.

    Raises:
        MissingFileError: no such file.
        DataError: one line with the file, what was expected, what was found and what to do.
    """
    with scan_archive(path) as archive:
        scan = parse_scan(archive, units)
        scan = replace(scan, diff3d=np.ascontiguousarray(scan.diff3d))
        check_shapes(scan, name=str(path))
        scan = counts_of_scan(scan)
        check_values(scan)
    return scan


@contextmanager
def scan_archive(path: Path | str) -> Iterator[NpzArchive]:
    """The archive of a scan file; what goes wrong inside is reported as `read_scan` does, with the path in front."""
    path = Path(path)
    with readable(path, "a whole NPZ archive"):
        _check_kind(path)
        with open_npz(path) as archive:
            yield archive


def scan_metadata(path: Path | str) -> dict[str, Any] | None:
    """What a scan file says about itself, among it `nphotons` where it is recorded; no array of the scan is read.

    Raises:
        MissingFileError, DataError: as `read_scan`.
    """
    with scan_archive(path) as archive:
        return _metadata(_Reader(archive))


def parse_scan(arrays: Mapping[str, Any], units: str | None = None) -> ScanFile:
    """The scan that arrays by key hold, in any layout that was ever written; neither shapes nor values are checked.

    What is a memory map stays one: patterns and `Y` are views, older layouts included, and so is a mask of booleans.
    """
    return _scan(_Reader(arrays), units)


def write_scan(path: Path | str, scan: ScanFile) -> None:
    """Write a scan file, whole or not at all.

    Raises:
        DataError: shapes that do not fit together, or metadata that is not plain JSON.
        OutputError: a place that cannot be written.
    """
    check_shapes(scan)
    arrays = {key: value for key, value in vars(scan).items() if value is not None and key != "metadata"}
    if scan.metadata is not None:
        try:
            arrays["_metadata"] = np.array(json.dumps(scan.metadata))
        except TypeError as error:
            raise DataError(f"metadata: expected plain JSON values, found others ({error}); convert them") from error
    with atomic_path(Path(path)) as temporary, temporary.open("wb") as stream:
        write_arrays(stream, arrays)


def _check_kind(path: Path) -> None:
    """Raise for the mistakes that can be told from the first bytes of a file."""
    if not path.exists():
        raise MissingFileError(f"{path}: expected a scan file (NPZ), found nothing there; correct the path")
    if path.is_dir():
        raise DataError("expected a scan file (NPZ), found a folder; name the file in it")
    check_regular(path)
    with path.open("rb") as stream:
        head = stream.read(8)
    if not head:
        raise DataError("expected an NPZ archive, found an empty file; write it again")
    if not head.startswith(b"PK"):
        kinds = {b"\x89HDF": "an HDF5 file", b"\x93NUM": "a single NPY array"}
        found = kinds.get(head[:4], f"a file that begins with {head!r}")
        advice = "give it the suffix .h5" if head.startswith(b"\x89HDF") else "convert it with numpy.savez"
        raise DataError(f"expected an NPZ archive, found {found}; {advice}")


def damaged_array(key: str, error: ValueError) -> DataError:
    """The error of an array that NumPy will not read."""
    return DataError(
        f"{key}: expected a plain array, found one that is damaged or would have to be unpickled ({error}); store "
        "numbers, and metadata as JSON text"
    )


class _Reader:
    """Arrays of an archive by key; a damaged or pickled one is named."""

    def __init__(self, archive: Mapping[str, Any]) -> None:
        self._archive = archive

    def optional(self, key: str) -> Array | None:
        if key not in self._archive:
            return None
        try:
            array = self._archive[key]
        except DataError:
            raise
        except ValueError as error:
            raise damaged_array(key, error) from error
        return array

    def required(self, *keys: str) -> Array:
        for key in keys:
            array = self.optional(key)
            if array is not None:
                return array
        names = list(self._archive)
        more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
        there = f"{', '.join(names[:_LISTED])}{more}" or "nothing"
        raise DataError(f"expected an array {' or '.join(keys)}, found only {there}; add it or rename the right one")

    def number(self, key: str, kinds: str, *, required: bool = False, dtype: Any = None) -> Array | None:
        """A numeric array whose NumPy kind is one of `kinds`."""
        array = self.required(key) if required else self.optional(key)
        if array is None:
            return None
        if array.dtype.kind not in kinds:
            raise DataError(f"{key}: expected {_kind_names(kinds)}, found dtype {array.dtype}; convert it")
        return array if dtype is None else array.astype(dtype)

    def flags(self, key: str) -> Array | None:
        """Booleans, or numbers that are 0 or 1."""
        array = self.number(key, "biuf")
        if array is None or array.dtype.kind == "b":
            return array
        if not np.isin(array, (0, 1)).all():
            raise DataError(f"{key}: expected True and False, found other values; store booleans")
        return array.astype(bool)

    def position(self, key: str) -> Array:
        """A position, by its name or, in older files that have nothing else, by that of its start."""
        start = f"{key}_start"
        old = key not in self._archive and start in self._archive
        found = self.number(start if old else key, "iuf", required=True, dtype=np.float64)
        assert found is not None
        return found

    def text(self, key: str) -> str | None:
        array = self.optional(key)
        if array is None:
            return None
        if array.size != 1 or array.dtype.kind not in "US":
            raise DataError(
                f"{key}: expected one text, found dtype {array.dtype} of shape {array.shape}; store a string"
            )
        value = array.reshape(-1)[0]
        return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _kind_names(kinds: str) -> str:
    names = {"b": "booleans", "i": "integers", "f": "real numbers", "c": "complex numbers"}
    return " or ".join(name for kind, name in names.items() if kind in kinds)


def _scan(reader: _Reader, units: str | None) -> ScanFile:
    patterns = reader.required(*PATTERN_KEYS)
    if patterns.dtype.kind not in "iuf":
        raise DataError(
            f"diffraction: expected counts or amplitude, real numbers, found dtype {patterns.dtype}; "
            "store what the detector measured"
        )
    raster = patterns.shape[:2] if patterns.ndim == 4 else ()
    xcoords, ycoords = _positions(reader, raster)
    probe = reader.number("probeGuess", "iufc")
    truth, mask = reader.number("Y", "iufc"), _valid_pixels(reader)
    return ScanFile(
        diff3d=_frames_first(patterns, xcoords.size),
        xcoords=xcoords,
        ycoords=ycoords,
        probeGuess=probe,
        xcoords_start=_flat(reader.number("xcoords_start", "iuf", dtype=np.float64), raster),
        ycoords_start=_flat(reader.number("ycoords_start", "iuf", dtype=np.float64), raster),
        scan_index=_flat(reader.number("scan_index", "iuf"), raster),
        objectGuess=reader.number("objectGuess", "iufc"),
        Y=None if truth is None else _frames_first(truth, xcoords.size),
        mask=mask if mask is None or mask.ndim != 4 else _frames_first(mask, xcoords.size),
        metadata=_metadata(reader),
        units=_declared_units(reader, units),
    )


def _frames_first(stack: Array, n: int) -> Array:
    """A view (n, H, W); the number n of positions tells the layouts (n, H, W, 1), (H, W, n) and (ny, nx, H, W).

    Where n is a side of square frames by chance, there are more positions than patterns, or fewer.
    """
    if stack.ndim == 4 and stack.shape[0] * stack.shape[1] == n:
        return stack.reshape(n, *stack.shape[2:])
    if stack.ndim == 4 and stack.shape[-1] == 1:
        stack = stack[..., 0]
    if stack.ndim == 3 and len(stack) != n and stack.shape[-1] == n and stack.shape[1] != n:
        return np.moveaxis(stack, -1, 0)
    return stack


def _flat(values: Array | None, raster: tuple[int, ...]) -> Array | None:
    """Values (ny, nx) of a raster in the order of its patterns; others as they are."""
    return values.reshape(-1) if values is not None and values.ndim == 2 and values.shape == raster else values


def _positions(reader: _Reader, raster: tuple[int, ...]) -> tuple[Array, Array]:
    """One position per pattern: as given, those of a raster (ny, nx) row by row, or those of its two axes."""
    x, y = reader.position("xcoords"), reader.position("ycoords")
    if raster and x.ndim == y.ndim == 1 and (y.size, x.size) == raster:
        y, x = np.meshgrid(y, x, indexing="ij")
    flat_x, flat_y = _flat(x, raster), _flat(y, raster)
    assert flat_x is not None and flat_y is not None
    return flat_x, flat_y


def _valid_pixels(reader: _Reader) -> Array | None:
    """`mask` (True = valid) and `bad_pixels` (True = bad) as one mask; a pixel is valid where both say so."""
    mask, bad = reader.flags("mask"), reader.flags("bad_pixels")
    if bad is None:
        return mask
    valid = np.ones(bad.shape[-2:], bool) if mask is None else mask
    alike = valid.shape == bad.shape if valid.ndim == bad.ndim else max(valid.ndim, bad.ndim) <= 3
    if valid.shape[-2:] != bad.shape[-2:] or not alike:
        raise DataError(
            f"mask and bad_pixels: expected shapes that fit, found {valid.shape} and {bad.shape}; correct one"
        )
    shape = np.broadcast_shapes(valid.shape, bad.shape)
    if len(shape) < 3 or not (isinstance(valid, np.memmap) or isinstance(bad, np.memmap)):
        return np.asarray(valid & ~bad)
    made = scratch_array(shape, bool, what="masks")
    for block in frame_blocks(len(made), math.prod(shape[1:])):
        made[block] = np.broadcast_to(valid, shape)[block] & ~np.broadcast_to(bad, shape)[block]
    return made


def _metadata(reader: _Reader) -> dict[str, Any] | None:
    """The `_metadata` JSON; a bare `nphotons` number in the file stands in for the entry of that name."""
    text = reader.text("_metadata")
    try:
        metadata = None if text is None else json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(f"_metadata: expected JSON text, found {error}; store json.dumps(...)") from error
    if metadata is not None and not isinstance(metadata, dict):
        raise DataError(f"_metadata: expected a JSON object, found {type(metadata).__name__}; store a dictionary")
    nphotons = reader.number("nphotons", "iuf")
    if nphotons is None or nphotons.size != 1:
        return metadata
    return {"nphotons": float(nphotons.reshape(-1)[0]), **(metadata or {})}


def _declared_units(reader: _Reader, units: str | None) -> str | None:
    declared = reader.text("units") if units is None else units
    if declared not in (None, "amplitude", "counts"):
        raise DataError(f"units: expected 'amplitude' or 'counts', found {declared!r}; correct it")
    return declared
