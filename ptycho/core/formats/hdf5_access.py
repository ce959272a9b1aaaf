"""Ways into an HDF5 file: whether it is one, and its data sets, with what they refer to in other files.

A file may refer to others: external links, virtual data sets, external storage. Only files in its own folder (or below)
are followed, so that no file can make a reader open what lies elsewhere; one that is not there is named, where HDF5
itself would give zeros.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import h5py

from ptycho.core.formats.libraries import library
from ptycho.errors import DataError, MissingFileError

__all__ = ["dataset", "has", "member"]

_DEPTH = 16
"""Links that lead to links; more go in circles."""


def member(group: h5py.Group, name: str, depth: int = _DEPTH) -> Any:
    """The group or data set at a path below `group`, None where there is none; a data set can be read as it is.

    Raises:
        DataError: it lies in another folder, or links lead in circles, or a compression filter is not installed.
        MissingFileError: a file that it refers to is not there.
    """
    place: Any = group.file if name.startswith("/") else group
    for part in name.strip("/").split("/"):
        if part in ("", "."):
            continue
        link = place.get(part, getlink=True) if isinstance(place, h5py.Group) else None
        if link is None:
            return None
        if depth == 0:
            raise DataError(f"{group.file.filename}: {name}: expected a data set, found links that lead in circles")
        if isinstance(link, h5py.SoftLink):
            place = member(place, link.path, depth - 1)
        else:
            if isinstance(link, h5py.ExternalLink):
                _check_reference(place.file, link.filename, link.path, depth)
            place = place.get(part)
    if isinstance(place, h5py.Dataset):
        _check_storage(place, depth)
    return place


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


def _check_storage(found: h5py.Dataset, depth: int) -> None:
    """Raise where the values of a data set cannot be had."""
    for name, *_ in found.external or ():
        _beside(found.file, name)
    if found.is_virtual:
        sources = {(source.file_name, source.dset_name) for source in found.virtual_sources()}
        for file_name, dset_name in sorted(sources):
            if file_name == ".":
                dataset(found.file, dset_name)
            else:
                _check_reference(found.file, file_name, dset_name, depth)
        return
    properties = found.id.get_create_plist()
    filters = [properties.get_filter(number)[0] for number in range(properties.get_nfilters())]
    if not all(h5py.h5z.filter_avail(code) for code in filters):
        library("hdf5plugin", f"{found.file.filename}: {found.name} is compressed by a filter that h5py has not")


def _check_reference(file: h5py.File, file_name: str, path: str, depth: int) -> None:
    """Raise unless an HDF5 file that another refers to lies in its folder and has what is said."""
    if "%b" in file_name:
        _beside(file, file_name, present=False)  # a numbered series, of which HDF5 takes what is there
        return
    target = _beside(file, file_name)
    if depth == 0:
        raise DataError(f"{file.filename}: expected a data set, found links that lead in circles")
    with h5py.File(target) as other:
        if member(other, path, depth - 1) is None:
            raise DataError(f"{file.filename}: expected {path} in {file_name}, to which it links, found none")


def _beside(file: h5py.File, name: str, present: bool = True) -> Path:
    """The place of a file that another refers to; raises where that is not its folder, or nothing is there."""
    folder = Path(file.filename).absolute().parent
    target = Path(os.path.normpath(folder / name))
    if folder not in target.parents:
        raise DataError(
            f"{file.filename}: expected data in its own folder, found a link to {name}; put that file beside it "
            "and link to it there, or name it itself"
        )
    if present and not target.is_file():
        raise MissingFileError(f"{file.filename}: expected {name} in its folder, to which it links, found none")
    return target
