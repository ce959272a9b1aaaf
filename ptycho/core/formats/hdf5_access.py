"""Ways into an HDF5 file: whether it is one, and its data sets, with what they refer to in other files.

A file may refer to others: external links, virtual data sets, external storage. Only files in its own folder (or below)
are followed, and only where a reader asks for what lies behind them, so that no file can make a reader open what lies
elsewhere; one that is not there is named, where HDF5 itself would give zeros.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import h5py

from ptycho.core.files.hdf5_values import check_size, open_hdf5
from ptycho.core.formats.libraries import library
from ptycho.errors import DataError, MissingFileError

__all__ = ["dataset", "has", "member"]

_DEPTH = 16
"""Links on the way to a data set; more go in circles."""
_LONGEST = 1000
"""Names in a path."""
_SOURCES = 10_000
"""Places that a virtual data set is made of."""


def member(group: h5py.Group, name: str, depth: int = _DEPTH) -> Any:
    """The group or data set at a path below `group`, None where there is none; a data set can be read as it is.

    Links are followed where the path leads to them, at most `depth` of them.

    Raises:
        DataError: it lies in another folder, or links lead in circles, or a compression filter is not installed, or
            more is declared than can be in the file.
        MissingFileError: a file that it refers to is not there.
    """
    place: Any = group.file if name.startswith("/") else group
    parts = _parts(name)
    while parts:
        part = parts.pop(0)
        link = place.get(part, getlink=True) if isinstance(place, h5py.Group) else None
        if link is None:
            return None
        if not isinstance(link, h5py.HardLink):
            if depth == 0:
                raise DataError(f"{group.file.filename}: {name}: expected a data set, found links that lead in circles")
            depth -= 1
        if isinstance(link, h5py.SoftLink):
            place = place.file if link.path.startswith("/") else place
            parts = _parts(link.path) + parts
            continue
        if isinstance(link, h5py.ExternalLink):
            _check_reference(place.file, link.filename, link.path, depth)
        place = _opened(place, part)
    if isinstance(place, h5py.Dataset):
        check_size(place, _stored(place, depth))
    return place


def _parts(path: str) -> list[str]:
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if len(parts) > _LONGEST:
        raise DataError(f"expected a path of at most {_LONGEST} names, found {len(parts)}; the file is damaged")
    return parts


def _opened(place: h5py.Group, part: str) -> Any:
    """What a name of a group leads to; values of a data set outside of HDF5 are looked for in the folder of its file.

    Left to itself HDF5 looks for them in the working directory.
    """
    found = place.get(part)
    if not isinstance(found, h5py.Dataset) or not found.external:
        return found
    del found  # an open data set keeps the folder that it was opened with
    access = h5py.h5p.create(h5py.h5p.DATASET_ACCESS)
    access.set_efile_prefix(os.fsencode(_folder(place.file)))
    return h5py.Dataset(h5py.h5d.open(place.id, part.encode("utf-8", "surrogateescape"), access))


def has(group: h5py.Group, *names: str) -> bool:
    """Whether there is something at each of these paths."""
    return all(member(group, name) is not None for name in names)


def dataset(group: h5py.Group, name: str) -> h5py.Dataset:
    """The data set at a path.

    Raises:
        DataError: there is none, or as `member`.
        MissingFileError: as `member`.
    """
    found = member(group, name)
    if not isinstance(found, h5py.Dataset):
        raise DataError(f"{name}: expected a data set, found {'a group' if found is not None else 'none'}")
    return found


def _stored(found: h5py.Dataset, depth: int) -> int:
    """Bytes that there are of the values of a data set, here or elsewhere; raises where they cannot be had."""
    if found.external:
        return sum(_beside(found.file, name).stat().st_size for name, *_ in found.external)
    if found.is_virtual:
        return _stored_elsewhere(found, depth)
    properties = found.id.get_create_plist()
    filters = [properties.get_filter(number)[0] for number in range(properties.get_nfilters())]
    if not all(h5py.h5z.filter_avail(code) for code in filters):
        library("hdf5plugin", f"{found.file.filename}: {found.name} is compressed by a filter that h5py has not")
    return int(found.id.get_storage_size())


def _stored_elsewhere(found: h5py.Dataset, depth: int) -> int:
    """Bytes that there are of a virtual data set."""
    if depth == 0:
        raise DataError(f"{found.file.filename}: {found.name}: expected data, found sources that lead in circles")
    sources = {(source.file_name, source.dset_name) for source in found.virtual_sources()}
    if len(sources) > _SOURCES:
        raise DataError(f"{found.file.filename}: expected at most {_SOURCES} sources of {found.name}, found more")
    stored = 0
    for file_name, name in sorted(sources):
        if "%b" in file_name:
            stored += _declared_by(found)  # a numbered series, of which HDF5 takes what is there
        if file_name == ".":
            stored += _stored(_inner(found.file, name, depth - 1), depth - 1)
        else:
            stored += _check_reference(found.file, file_name, name, depth)
    return stored


def _declared_by(found: h5py.Dataset) -> int:
    return int(found.size) * int(found.dtype.itemsize)


def _inner(file: h5py.File, name: str, depth: int) -> h5py.Dataset:
    """The source of a virtual data set in its own file."""
    found = member(file, name, depth)
    if not isinstance(found, h5py.Dataset):
        raise DataError(f"{file.filename}: expected a data set {name}, of which another is made, found none")
    return found


def _check_reference(file: h5py.File, file_name: str, path: str, depth: int) -> int:
    """Bytes of what a file refers to in another; raises unless that lies in its folder and has what is said."""
    if "%b" in file_name:
        _beside(file, file_name, present=False)
        return 0
    target = _beside(file, file_name)
    if depth == 0:
        raise DataError(f"{file.filename}: expected a data set, found links that lead in circles")
    with open_hdf5(target) as other:
        if other.swmr_mode and not file.swmr_mode:  # HDF5 would give zeros for it, or nothing
            raise DataError(
                f"{file.filename}: expected {file_name}, to which it links, closed, found it being written; wait for it"
            )
        found = member(other, path, depth - 1)
        if found is None:
            raise DataError(f"{file.filename}: expected {path} in {file_name}, to which it links, found none")
        if isinstance(found, h5py.Dataset) and found.external:
            raise DataError(
                f"{file.filename}: expected values of {path} in {file_name}, found a reference to a third file; "
                "name that file itself"
            )
        return _stored(found, depth - 1) if isinstance(found, h5py.Dataset) else 0


def _beside(file: h5py.File, name: str, present: bool = True) -> Path:
    """The place of a file that another refers to; raises where that is not its folder, or nothing is there."""
    folder = _folder(file)
    target = Path(os.path.normpath(folder / name))
    if folder not in target.parents:
        raise DataError(
            f"{file.filename}: expected data in its own folder, found a link to {name}; put that file beside it "
            "and link to it there, or name it itself"
        )
    if present and not target.is_file():
        raise MissingFileError(f"{file.filename}: expected {name} in its folder, to which it links, found none")
    return target


def _folder(file: h5py.File) -> Path:
    return Path(file.filename).absolute().parent
