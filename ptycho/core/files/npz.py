"""NPZ archives of anybody: members are looked at before room is made for them, and nothing is pickled or unpickled."""

from __future__ import annotations

import io
import math
import sys
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from ptycho.core.files.damage import check_declared, check_regular
from ptycho.errors import DataError

__all__ = ["Header", "NpzArchive", "checked_member", "open_npz", "read_member", "read_npy", "write_arrays"]

_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""What NumPy and this library write; what others compress is not bounded by the size of the file."""
_BLOCK_BYTES = 1 << 20
_MAGIC = npy.MAGIC_PREFIX


class Header(NamedTuple):
    """What a member says of its array."""

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype[Any]


class NpzArchive(Mapping[str, Any]):
    """Arrays by key, read when they are asked for; the members that were read together stay within the bounds."""

    def __init__(self, file: zipfile.ZipFile) -> None:
        self.zip = file
        self._members = {info.filename.removesuffix(".npy"): info for info in file.infolist()}
        self._read: dict[str, tuple[int, int]] = {}

    def __contains__(self, key: object) -> bool:
        return key in self._members

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)

    def __getitem__(self, key: str) -> NDArray[Any]:
        info = self._members[key]
        self._read[key] = (info.file_size, _stored(self.zip, info))
        declared, stored = (sum(column) for column in zip(*self._read.values(), strict=True))
        check_declared(declared, stored, key)
        with self.opened(key) as (member, header):
            if header.dtype.hasobject:
                raise ValueError("Object arrays cannot be loaded: they would have to be unpickled")
            room = np.empty(header.shape, header.dtype, "F" if header.fortran else "C")
            _fill(member, room.T if header.fortran else room)
            _check_text(room)
            return room

    @property
    def files(self) -> list[str]:
        """The keys, by the name that NumPy's archives have for them."""
        return list(self._members)

    def member(self, key: str) -> zipfile.ZipInfo:
        """What the directory of the archive says of an array."""
        return self._members[key]

    @contextmanager
    def opened(self, key: str) -> Iterator[tuple[IO[bytes], Header]]:
        """The member of an array, behind its header, and that.

        Raises:
            DataError: it is no array, or its values are fewer or more than its header says.
            ValueError: the header is damaged.
        """
        info = checked_member(self.zip, self._members[key], key, in_memory=False)
        with self.zip.open(info) as member:
            header = _header(member, key)
            if not header.dtype.hasobject:
                _check_size(header, info.file_size - member.tell(), key)
            yield member, header


def write_arrays(file: IO[bytes] | Path, arrays: Mapping[str, Any] | Iterable[tuple[str, Any]]) -> None:
    """Write arrays by their names, uncompressed, as `numpy.savez` does; nothing is pickled.

    Of an iterable one after the other is asked for, so that no two have to be there at once.

    `numpy.savez` pickles objects, and older releases store its argument against that as one more array.

    Raises:
        ValueError: an array of objects.
    """
    with zipfile.ZipFile(file, "w") as archive:
        for name, values in arrays.items() if isinstance(arrays, Mapping) else arrays:
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                npy.write_array(member, np.asanyarray(values), allow_pickle=False)


@contextmanager
def open_npz(path: Path) -> Iterator[NpzArchive]:
    """The archive in a file; to be opened within `ptycho.core.files.damage.readable`."""
    check_regular(path)
    with zipfile.ZipFile(path) as file:
        yield NpzArchive(file)


def read_npy(path: Path) -> NDArray[Any]:
    """The array of an NPY file as a memory map; to be read within `ptycho.core.files.damage.readable`."""
    check_regular(path)
    return np.asarray(npy.open_memmap(path, mode="r"))


def checked_member(file: zipfile.ZipFile, info: zipfile.ZipInfo, what: str, in_memory: bool = True) -> zipfile.ZipInfo:
    """The member of a ZIP archive, after a look at its method and size.

    Raises:
        DataError: another method than those of NumPy, or a size that cannot be.
    """
    if info.compress_type not in _METHODS:
        raise DataError(
            f"{what}: expected a member that is stored or deflated, found method {info.compress_type}; write it again"
        )
    check_declared(info.file_size, _stored(file, info), what, in_memory)
    return info


def _stored(file: zipfile.ZipFile, info: zipfile.ZipInfo) -> int:
    """Bytes that a member can have in its file, which ends with a directory."""
    return min(info.compress_size, getattr(file, "start_dir", info.compress_size))


def read_member(file: zipfile.ZipFile, name: str) -> bytes:
    """The content of a member of a ZIP archive, not more of it than its directory says.

    Raises:
        DataError: as `checked_member`.
    """
    info, content = checked_member(file, file.getinfo(name), name), io.BytesIO()
    with file.open(info) as member:
        while part := member.read(_BLOCK_BYTES):
            content.write(part)
    return content.getvalue()


def _header(member: IO[bytes], key: str) -> Header:
    if member.read(len(_MAGIC)) != _MAGIC:
        raise DataError(f"{key}: expected an array, found other content in the archive; write it with numpy.savez")
    version = tuple(member.read(2))
    if version not in ((1, 0), (2, 0), (3, 0)):
        raise ValueError(f"version {version} of the NPY format is not known")
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    return Header(*read(member))


def _check_size(header: Header, left: int, key: str) -> None:
    declared = math.prod(header.shape) * header.dtype.itemsize
    if declared != left or min(header.shape, default=0) < 0:
        raise DataError(
            f"{key}: expected {declared} bytes of an array {header.shape} of {header.dtype}, found {left}; "
            "copy the file again"
        )
    if not header.dtype.itemsize and math.prod(header.shape) > 1:
        raise DataError(f"{key}: expected values of some size, found {header.shape} of {header.dtype}; write it again")


def _check_text(room: NDArray[Any]) -> None:
    """Raise ValueError for numbers that are no characters: Python cannot hold such a text."""
    if room.dtype.kind == "U" and room.size and room.itemsize:
        codes = np.ascontiguousarray(room).view(np.dtype(np.uint32).newbyteorder(room.dtype.byteorder))
        if codes.max() > sys.maxunicode:
            raise ValueError("text of characters that do not exist")


def _fill(member: IO[bytes], room: NDArray[Any]) -> None:
    """Read the values of an array that lies in C order; ValueError where the member ends early."""
    left = memoryview(room.reshape(-1).view(np.uint8).data) if room.size and room.itemsize else memoryview(b"")
    while len(left):
        part = member.read(min(len(left), _BLOCK_BYTES))
        if not part:
            raise ValueError(f"{len(left)} bytes are missing")
        left[: len(part)] = part
        left = left[len(part) :]
    member.read(1)  # at the end the checksum is compared
