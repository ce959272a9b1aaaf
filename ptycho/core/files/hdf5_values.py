"""HDF5 files of anybody: opened where the library beneath is sure to return, values only of sizes that can be.

What lies in other files is no matter of this module (`ptycho.core.formats.hdf5_access`): here nothing leads there.
"""

from __future__ import annotations

import io
import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from ptycho.core.files.damage import check_declared, check_regular
from ptycho.core.files.hdf5_attributes import check_attributes
from ptycho.core.files.hdf5_heaps import check_heaps
from ptycho.core.files.hdf5_types import check_type
from ptycho.errors import DataError

__all__ = ["all_values", "check_size", "hdf5_file", "open_hdf5", "own_datasets", "own_groups", "own_member"]

_LOOKED_AT = 1 << 28
"""Bytes of a file that are looked through for what is damaged; a file that is larger holds frames."""
_WRITTEN = "already open for"
"""In what HDF5 says of a file that is marked as being written, with or without SWMR."""
_REFERENCE = 16
"""Bytes of a value of variable length at its place: its length (4), and where it lies."""
_LOOKED_INTO = 100
"""Chunks of such values."""
_NODES = 100_000
"""Names in all groups that are looked through."""
_LEVELS = 64
_CHUNKS, _CHUNKS_MISSING = 100_000, 100
"""So many chunks may be missing, or so many for each that is there."""


@contextmanager
def open_hdf5(source: Path | io.BytesIO) -> Iterator[h5py.File]:
    """The HDF5 file at a path or in memory; to be opened within `ptycho.core.files.damage.readable`."""
    if isinstance(source, io.BytesIO):
        with source.getbuffer() as content:
            _check_content(content)
    else:
        check_regular(source)
        with source.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
            _check_content(content)
    with hdf5_file(source) as file:
        yield file


def hdf5_file(source: Path | io.BytesIO) -> h5py.File:
    """An HDF5 file to read; one that is being written in SWMR mode as far as it is there (its `swmr_mode` is True).

    Raises:
        DataError: another program has it open to write, or did not close it.
    """
    try:
        return h5py.File(source, "r")
    except BlockingIOError as error:
        raise DataError(
            "expected a file that is closed, found one that another program is writing; wait until it has closed it"
        ) from error
    except OSError as error:
        if _WRITTEN not in str(error):
            raise
    try:
        return h5py.File(source, "r", swmr=True)
    except OSError as error:
        raise DataError(
            "expected a file that is closed, found one that another program is writing, or was when it died; wait for "
            "it, or where it is dead have HDF5's own tool close the file: h5clear --status FILE"
        ) from error


def _check_content(content: Any) -> None:
    check_heaps(content, _LOOKED_AT)
    check_attributes(content, _LOOKED_AT)


def check_size(found: h5py.Dataset, stored: int | None = None, in_memory: bool = False) -> None:
    """Raise DataError where the size of a data set cannot be that of what is stored of it.

    Args:
        found: the data set.
        stored: bytes that there are of it; None is what its own file has.
        in_memory: whether all of it is to be held.
    """
    size = _declared(found)
    check_declared(size, found.id.get_storage_size() if stored is None else stored, str(found.name), in_memory)
    _check_texts(found)
    if found.chunks is not None:
        chunk = int(np.prod(found.chunks, dtype=object)) * found.dtype.itemsize
        check_declared(chunk, found.id.get_storage_size(), f"{found.name}: one chunk")
        _check_chunks(found)


def _check_texts(found: h5py.Dataset) -> None:
    """Raise where values of variable length cannot be in the file: HDF5 makes room for what each says that it has."""
    inner, file = h5py.check_vlen_dtype(found.dtype), Path(found.file.filename)
    if inner is None or not file.is_file():
        return
    lengths = 0
    with file.open("rb") as stream:
        for place, size in _places(found):
            stream.seek(place)
            raw = stream.read(size)
            lengths += int(np.frombuffer(raw, "<u4", len(raw) // _REFERENCE * 4)[::4].sum(dtype=np.int64))
        item = np.dtype(inner).itemsize or 1  # a text has no size of its own
        check_declared(lengths * item, stream.seek(0, io.SEEK_END), f"{found.name}: values of variable length")


def _places(found: h5py.Dataset) -> Iterator[tuple[int, int]]:
    """Where the values of a data set lie in its file, and their bytes; not those that a filter has changed."""
    if found.id.get_offset() is not None:
        yield found.id.get_offset(), found.id.get_storage_size()
    elif found.chunks is not None and not found.id.get_create_plist().get_nfilters():
        for number in range(min(found.id.get_num_chunks(), _LOOKED_INTO)):
            info = found.id.get_chunk_info(number)
            yield info.byte_offset, info.size


def _check_chunks(found: h5py.Dataset) -> None:
    """Raise where HDF5 would look for ever for chunks that are not there."""
    pairs = zip(found.shape, found.chunks, strict=True)
    count = int(np.prod([-(-size // chunk) for size, chunk in pairs], dtype=object))
    if count > _CHUNKS and count > _CHUNKS_MISSING * found.id.get_num_chunks():
        raise DataError(f"{found.name}: expected its chunks in the file, found few of {count}; copy it again")


def all_values(found: h5py.Dataset) -> NDArray[Any]:
    """The values of a data set as an array, after a look at whether they fit into memory and are of a type to read."""
    check_declared(_declared(found), _declared(found), str(found.name))
    check_type(found.id.get_type(), str(found.name))
    return np.asarray(found[()])


def _declared(found: h5py.Dataset) -> int:
    return int(np.prod(found.shape or (0,), dtype=object)) * int(found.dtype.itemsize) if found.shape != () else 0


def own_member(group: h5py.Group, name: str) -> Any:
    """What a group has itself under a name, without following links; None where there is nothing.

    Raises:
        DataError: it is a link, or a data set whose values lie elsewhere, cannot be so many, or are of no type to read.
    """
    kind = group.get(name, getclass=True, getlink=True)
    if kind is None:
        return None
    if kind is not h5py.HardLink:
        raise DataError(f"{name}: expected it in the file itself, found a link; write the file again")
    found = group[name]
    if isinstance(found, h5py.Dataset):
        if found.is_virtual or found.external:
            raise DataError(f"{name}: expected values in the file itself, found a reference; write the file again")
        check_size(found, in_memory=True)
        check_type(found.id.get_type(), name)
    return found


def own_groups(group: h5py.Group, depth: int) -> Iterator[h5py.Group]:
    """A group and those in it, down to a depth, depth first; each once, by whichever names it is reached.

    Raises:
        DataError: more names than a file has.
    """
    waiting, seen, count = [(group, depth)], {_address(group)}, 0
    while waiting:
        place, left = waiting.pop()
        yield place
        inner = []
        for name in place if left else ():
            count += 1
            if count > _NODES:
                raise DataError(f"expected groups with at most {_NODES} names, found more; name the file's data set")
            found = place[name] if place.get(name, getclass=True, getlink=True) is h5py.HardLink else None
            if isinstance(found, h5py.Group) and _address(found) not in seen:
                seen.add(_address(found))
                inner.append((found, left - 1))
        waiting += reversed(inner)


def own_datasets(group: h5py.Group) -> Iterator[tuple[str, h5py.Dataset]]:
    """The data sets of a group and of those in it, with their paths; see `own_member`.

    Raises:
        DataError: a link among them, or more in all than the file can hold.
    """
    declared = stored = 0
    for place in own_groups(group, _LEVELS):
        for name in place:
            found = own_member(place, name)
            if isinstance(found, h5py.Dataset):
                declared, stored = declared + _declared(found), stored + found.id.get_storage_size()
                check_declared(declared, stored, f"{group.name}: all data sets")
                yield f"{place.name}/{name}".removeprefix(f"{group.name}/"), found


def _address(group: h5py.Group) -> tuple[int, int]:
    """What tells a group from others, by whichever name it is reached."""
    info = h5py.h5g.get_objinfo(group.id)
    return tuple(info.fileno), tuple(info.objno)  # type: ignore[return-value]
