"""Arrays that somebody names on a command line: a file, a folder or a pattern of files, and what is meant inside.

FILE                    all that is needed is found in it, or it says what has to be named
FILE:INSIDE             a data set of HDF5, a key of an NPZ, a variable of MATLAB
FOLDER, 'frames_*.tif'  files in the order of their numbers
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray

from ptycho.core.files.damage import DAMAGE, check_regular, readable
from ptycho.core.files.hdf5_values import open_hdf5
from ptycho.core.files.npz import open_npz, read_npy
from ptycho.core.formats.eiger import frame_names
from ptycho.core.formats.frame_files import file_series, frames_in, joined
from ptycho.core.formats.frame_files import recognise as is_image
from ptycho.core.formats.hdf5 import array, h5_frames
from ptycho.core.formats.hdf5_access import member
from ptycho.core.formats.libraries import matlab
from ptycho.core.formats.registry import is_hdf5
from ptycho.core.scan.npz_mapped import mapped_member, member_shape
from ptycho.core.scan.stream import Frames
from ptycho.errors import DataError, MissingFileError, PtychoError

__all__ = ["Source", "array_in", "arrays_listed", "frames_at", "source"]

Array = NDArray[Any]

_SHOWN = 12
_HIDDEN = (".", "_")
_MATLAB_73 = b"MATLAB 7.3 MAT-file"
_SMALLEST = 8
"""Rows and columns that an image has at least; a table has fewer."""


class Source(NamedTuple):
    """What a name on the command line means."""

    paths: tuple[Path, ...]
    """One file, or those of a folder or pattern."""
    inside: str | None
    """What is named within."""


def source(text: str) -> Source:
    """Files and the name within, of `FILE[:INSIDE]`.

    Raises:
        MissingFileError: nothing there.
    """
    found = _files(text)
    if found:
        return Source(found, None)
    name, _, inside = text.rpartition(":")
    found = _files(name) if name else ()
    if found:
        return Source(found, inside)
    raise MissingFileError(f"{text}: expected a file, a folder or a pattern of files, found nothing there")


def _files(name: str) -> tuple[Path, ...]:
    path = Path(name)
    if path.is_file():
        return (path,)
    if path.is_dir():
        inside = [each for each in path.iterdir() if each.is_file() and not each.name.startswith(_HIDDEN)]
        return _in_order([each for each in inside if is_image(each) or each.suffix == ".npy"])
    if any(sign in name for sign in "*?["):
        root, pattern = (Path(path.anchor), name[len(path.anchor) :]) if path.anchor else (Path(), name)
        return _in_order([each for each in root.glob(pattern) if each.is_file()])
    return ()


def _in_order(paths: list[Path]) -> tuple[Path, ...]:
    """By name, numbers by their value: frame_2 before frame_10."""
    return tuple(
        sorted(paths, key=lambda path: [int(part) if part.isdecimal() else part for part in _parts(path.name)])
    )


def _parts(name: str) -> list[str]:
    """Text and digits of a name in turn, text first."""
    return re.split(r"(\d+)", name)


def frames_at(named: Source, count: int | None = None) -> Frames:
    """The patterns that are named, leading axes of a raster flattened.

    Args:
        named: one or several files.
        count: number of scan points, where it is known: it tells patterns (rows, columns, n) of MATLAB.

    Raises:
        DataError: none or several stacks and none is named, or no patterns.
    """
    with readable(named.paths[0], "a file of patterns"):
        return _frames_named(named, count)


def _frames_named(named: Source, count: int | None) -> Frames:
    if len(named.paths) > 1 and all(is_image(path) for path in named.paths):
        return file_series(list(named.paths))
    return joined([_frames_of(path, named.inside, count) for path in named.paths])


def _frames_of(path: Path, inside: str | None, count: int | None) -> Frames:
    if is_hdf5(path):
        return _hdf5_frames(path, inside)
    if is_image(path):
        return frames_in(path)
    stack = array_in(path, inside, axes=3)
    if stack.ndim == 2:
        stack = stack[None]
    if stack.ndim < 3 or stack.dtype.kind not in "iuf":
        raise DataError(f"{path}: expected patterns (n, rows, columns), found {stack.shape} of {stack.dtype}")
    if stack.ndim > 3:
        stack = stack.reshape(-1, *stack.shape[-2:])
    last = stack.shape[-1] == count if count is not None else path.suffix == ".mat"
    return Frames.of(np.moveaxis(stack, -1, 0) if last and len(stack) != count else stack)


def _hdf5_frames(path: Path, inside: str | None) -> Frames:
    """A data set, the numbered ones of a group, or the only stack of the file."""
    with open_hdf5(path) as file:
        names = [inside] if inside else _stacks(file)
        if inside and isinstance(member(file, inside), h5py.Group):
            names = frame_names(file, inside.rstrip("/"))
        found = arrays_listed(path)
    if len(names) == 1 or (inside and names):
        frames = h5_frames(path, names)
        return _turned(frames) if _is_matlab(path) else frames
    raise DataError(f"{path}: expected one stack of patterns, found {len(names)}; name it, FILE:PATH, of {found}")


def _stacks(file: h5py.File) -> list[str]:
    names: list[str] = []

    def look(name: str, found: Any) -> None:
        if isinstance(found, h5py.Dataset) and found.ndim >= 3 and found.dtype.kind in "iuf":
            names.extend([name] if min(found.shape[-2:]) >= _SMALLEST else [])

    file.visititems(look)
    return names


def _is_matlab(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(len(_MATLAB_73)) == _MATLAB_73


def _turned(frames: Frames) -> Frames:
    """Frames of MATLAB 7.3, whose axes HDF5 has in the other order, rows first."""
    n, columns, rows = frames.shape
    return Frames((n, rows, columns), frames.dtype, lambda indices: frames.read(indices).swapaxes(-1, -2))


def array_in(path: Path, inside: str | None, names: tuple[str, ...] = (), axes: int = 2) -> Array:
    """One array of a file: NPY, NPZ, HDF5, MATLAB or an image.

    Args:
        path: the file.
        inside: its name there; None takes the first of `names` that is there, else the only one of enough axes.
        names: what it may be called.
        axes: of the array, at least.

    Raises:
        DataError: no such array, or several.
    """
    with readable(path, "a file with an array"):
        check_regular(path)
        return _array_in(path, inside, names, axes)


def _array_in(path: Path, inside: str | None, names: tuple[str, ...], axes: int) -> Array:
    if is_hdf5(path):
        return _hdf5_array(path, inside, names, axes)
    if is_image(path):
        frames = frames_in(path)
        return frames.whole()[0] if len(frames) == 1 else frames.whole()
    if path.suffix == ".mat":
        return _matlab_array(path, inside, names, axes)
    try:
        if path.suffix != ".npz":
            return read_npy(path)
        with open_npz(path) as archive:
            there = {key: len(member_shape(path, key) or ()) for key in archive}
    except PtychoError:
        raise
    except DAMAGE as error:
        known = "NPY, NPZ, HDF5, MATLAB or an image"
        raise DataError(f"{path}: expected an array ({known}), found a file that is none ({error})") from error
    return mapped_member(path, _chosen(path, inside, names, there, axes))


def _chosen(path: Path, inside: str | None, names: tuple[str, ...], there: dict[str, int], axes: int) -> str:
    """The name of an array, of those that are there with their numbers of axes."""
    if inside is not None:
        if inside in there:
            return inside
        fitting = []
    else:
        fitting = [name for name in names if name in there][:1] or [name for name in there if there[name] >= axes]
    if len(fitting) == 1:
        return fitting[0]
    listed = ", ".join(list(there)[:_SHOWN]) or "nothing"
    what = f"the array {inside!r}" if inside is not None else f"one array of {axes} axes"
    raise DataError(f"{path}: expected {what}, found {listed}; name one, FILE:NAME")


def _hdf5_array(path: Path, inside: str | None, names: tuple[str, ...], axes: int) -> Array:
    with open_hdf5(path) as file:
        if inside is None:
            there: dict[str, int] = {}
            file.visititems(lambda name, found: there.update({name: found.ndim} if hasattr(found, "ndim") else {}))
            short = {name.rpartition("/")[2]: name for name in reversed(there)}
            inside = _chosen(path, None, tuple(short.get(name, name) for name in names), there, axes)
        found = array(file, inside)
    if found is None:
        raise DataError(f"{path}: expected a data set {inside}, found {arrays_listed(path)}; name one, FILE:PATH")
    if found.dtype.names and {"real", "imag"} <= set(found.dtype.names):
        found = found["real"] + 1j * found["imag"]
    return found.T if _is_matlab(path) else found


def _matlab_array(path: Path, inside: str | None, names: tuple[str, ...], axes: int) -> Array:
    with readable(path, "a whole MATLAB file", advice="save it again"), matlab(path) as io:
        there = {name: len(shape) for name, shape, _ in io.whosmat(path)}
        key = _chosen(path, inside, names, there, axes)
        return np.asarray(io.loadmat(path, variable_names=[key])[key])


def arrays_listed(path: Path) -> str:
    """The first data sets of an HDF5 file with their shapes, for errors."""
    found: list[str] = []

    def look(name: str, each: Any) -> int | None:
        if isinstance(each, h5py.Dataset) and each.ndim:
            found.append(f"{name} {each.shape}")
        return len(found) if len(found) == _SHOWN else None

    with open_hdf5(path) as file:
        file.visititems(look)
    return ", ".join(found) or "no arrays"
