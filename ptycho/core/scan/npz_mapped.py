"""An NPZ scan whose frames stay in the file: stacks of frames as memory maps, everything else as arrays."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from ptycho.core.files.npz import NpzArchive
from ptycho.core.files.scratch import scratch_array
from ptycho.core.scan.detector_values import counts_of_scan
from ptycho.core.scan.npz_file import PATTERN_KEYS, damaged_array, parse_scan, scan_archive
from ptycho.core.scan.scan import ScanFile, check_shapes, check_values
from ptycho.errors import DataError

__all__ = ["mapped_member", "mapped_scan", "member_shape", "pattern_member"]

Array = NDArray[Any]

_MAPPED_KEYS = (*PATTERN_KEYS, "Y", "mask", "bad_pixels")
"""Members with a frame per pattern."""
_COPIED_BYTES = 1 << 22
_LOCAL_HEADER = struct.Struct("<4s22xHH")
"""What precedes a member of a ZIP archive: signature, ..., length of the name, length of the extra field."""


def mapped_scan(path: Path | str, units: str | None = None, checked: bool = False, fitting: bool = True) -> ScanFile:
    """A scan file whose patterns, `Y` and mask of booleans per pattern are memory maps, which outlive this call.

    A member that is stored plainly is mapped where it lies; a compressed one is unpacked to a temporary file without a
    name. Older layouts are views.

    Args:
        path: NPZ file, any layout that `read_scan` reads.
        units: 'amplitude' or 'counts', instead of what the file says or leaves open.
        checked: also compare the members with their checksums and look at every value, as `read_scan` does.
        fitting: whether there have to be as many positions as patterns, and a probe of their size.

    Raises:
        MissingFileError, DataError: as `read_scan`.
        OutputError: no room to unpack.
    """
    with scan_archive(path) as archive:
        scan = parse_scan(_MappedArchive(Path(path), archive, checked), units)
        check_shapes(scan, fitting, str(path))
        scan = counts_of_scan(scan)
        if checked:
            check_values(scan)
    return scan


def mapped_member(path: Path | str, key: str) -> Array:
    """An array of an NPZ archive by its key; of three axes or more as a memory map.

    Raises:
        MissingFileError, DataError: as `read_scan`, for what cannot be opened or read.
        OutputError: no room to unpack.
    """
    with scan_archive(path) as archive:
        try:
            mapped = _MappedArchive(Path(path), archive, checked=False).mapped(key)
            return np.asarray(archive[key]) if mapped is None else mapped
        except DataError:
            raise
        except ValueError as error:
            raise damaged_array(key, error) from error


def pattern_member(path: Path | str) -> zipfile.ZipInfo | None:
    """The member of an NPZ scan that holds the patterns: its size unpacked, and whether it is compressed; else None.

    Raises:
        MissingFileError, DataError: as `read_scan`, for what cannot be opened.
    """
    with scan_archive(path) as archive:
        key = next((key for key in PATTERN_KEYS if key in archive), None)
        return None if key is None else archive.member(key)


def member_shape(path: Path | str, key: str) -> tuple[int, ...] | None:
    """The shape of an array of an NPZ scan, from its header, None where it is not there; no array is read.

    Raises:
        MissingFileError, DataError: as `read_scan`, for what cannot be opened.
    """
    with scan_archive(path) as archive:
        if key not in archive:
            return None
        try:
            with archive.opened(key) as (_, header):
                return header.shape
        except DataError:
            raise
        except ValueError as error:
            raise damaged_array(key, error) from error


class _MappedArchive(Mapping[str, Any]):
    """An archive whose stacks of frames are given as memory maps; of other content it gives what NumPy gives."""

    def __init__(self, path: Path, archive: NpzArchive, checked: bool) -> None:
        self._path, self._archive, self._checked = path, archive, checked

    def __contains__(self, key: object) -> bool:
        return key in self._archive

    def __iter__(self) -> Iterator[str]:
        return iter(self._archive)

    def __len__(self) -> int:
        return len(self._archive)

    def __getitem__(self, key: str) -> Any:
        mapped = self.mapped(key) if key in _MAPPED_KEYS else None
        return self._archive[key] if mapped is None else mapped

    def mapped(self, key: str) -> Array | None:
        """The member as a memory map, None for one of fewer than three axes."""
        info = self._archive.member(key)
        with self._archive.opened(key) as (member, (shape, fortran, dtype)):
            if len(shape) < 3 or 0 in shape or dtype.hasobject:
                return None
            if info.compress_type != zipfile.ZIP_STORED:
                return _unpacked(member, shape, fortran, dtype)
            before = member.tell()
            while self._checked and member.read(_COPIED_BYTES):
                pass  # at the end the checksum is compared
        with self._path.open("rb") as file:
            file.seek(info.header_offset)
            _, name_length, extra_length = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))
            offset = info.header_offset + _LOCAL_HEADER.size + name_length + extra_length + before
            return np.memmap(file, dtype, "r", offset, shape, "F" if fortran else "C")


def _unpacked(member: IO[bytes], shape: tuple[int, ...], fortran: bool, dtype: np.dtype[Any]) -> Array:
    """The array as a memory map of a temporary file; ValueError where the member ends early."""
    room = scratch_array(shape[::-1] if fortran else shape, dtype, budget_bytes=0)
    left = room.reshape(-1).view(np.uint8)
    while len(left):
        part = member.read(min(len(left), _COPIED_BYTES))
        if not part:
            raise ValueError(f"{len(left)} bytes are missing")
        left[: len(part)] = np.frombuffer(part, np.uint8)
        left = left[len(part) :]
    member.read(1)  # at the end the checksum is compared
    return room.T if fortran else room
