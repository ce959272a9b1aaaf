"""Objects and probes from files: NPY, NPZ (scan files and reconstructions), HDF5 (ptychodus products)."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from ptycho.core.files.damage import readable
from ptycho.core.files.hdf5_values import open_hdf5
from ptycho.core.files.npz import open_npz, read_npy
from ptycho.core.formats.hdf5 import array
from ptycho.errors import DataError, MissingFileError

__all__ = ["read_object", "read_probe"]

_OBJECT_KEYS = ("objectGuess", "object")
_PROBE_KEYS = ("probeGuess", "probe")


def read_object(path: Path | str) -> NDArray[np.complex64]:
    """Read an object, complex64 (H, W).

    The array of an NPY file, or `objectGuess` or `object` of an NPZ or HDF5 file. Leading axes of length 1 are
    dropped; a real array is taken as transmission without phase.

    Raises:
        MissingFileError: no such file.
        DataError: one line with the file, what was expected and what was found.
    """
    array = _read(Path(path), _OBJECT_KEYS, "object")
    while array.ndim > 2 and len(array) == 1:
        array = array[0]
    if array.ndim != 2:
        raise DataError(f"{path}: expected an object (H, W), found shape {array.shape}; take one layer")
    return array


def read_probe(path: Path | str, N: int | None = None) -> NDArray[np.complex64]:
    """Read a probe, complex64 (N, N) or (M, N, N).

    The array of an NPY file, or `probeGuess` or `probe` of an NPZ or HDF5 file. Axes of length 1 before the modes
    are dropped, and so is the axis of a single mode.

    Args:
        path: the file.
        N: the side that is expected, pixels; None takes any.

    Raises:
        MissingFileError: no such file.
        DataError: one line with the file, what was expected and what was found.
    """
    array = _read(Path(path), _PROBE_KEYS, "probe")
    while array.ndim > 2 and len(array) == 1:
        array = array[0]
    if array.ndim not in (2, 3) or array.shape[-1] != array.shape[-2]:
        raise DataError(f"{path}: expected a probe (N, N) or (modes, N, N), found shape {array.shape}; correct it")
    if N is not None and array.shape[-1] != N:
        raise DataError(f"{path}: expected a probe of {N} x {N} pixels, found {array.shape[-1]}; crop or pad it")
    if not array.any():
        raise DataError(f"{path}: expected a probe with light, found only zeros; name another file")
    return array


def _read(path: Path, keys: tuple[str, ...], what: str) -> NDArray[np.complex64]:
    if not path.is_file():
        raise MissingFileError(f"{path}: expected a file with the {what}, found none; correct the path")
    with readable(path, f"NPY, NPZ or HDF5 with the {what}", advice="convert it"):
        array = _hdf5(path, keys) if h5py.is_hdf5(path) else _numpy(path, keys)
    if array is None:
        raise DataError(f"{path}: expected an array {' or '.join(keys)}, found none of them; rename the right one")
    if array.dtype.kind not in "iufc" or array.size == 0 or not np.isfinite(array).all():
        found = f"{array.dtype} {array.shape}"
        raise DataError(f"{path}: expected finite numbers for the {what}, found others in {found}; repair them")
    return array.astype(np.complex64)


def _hdf5(path: Path, keys: tuple[str, ...]) -> NDArray[Any] | None:
    with open_hdf5(path) as file:
        return next((found for key in keys if (found := array(file, key)) is not None), None)


def _numpy(path: Path, keys: tuple[str, ...]) -> NDArray[Any] | None:
    if not zipfile.is_zipfile(path):
        return read_npy(path)
    with open_npz(path) as loaded:
        return next((loaded[key] for key in keys if key in loaded), None)
