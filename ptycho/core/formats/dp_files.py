"""Patterns and parameters as PtychoShelves and pty-chi exchange them, read only: two HDF5 files that belong together.

data   dp (n, rows, columns), counts; `X_dp.hdf5`, beside which `X_para.hdf5` is read too
parameters of pty-chi   probe, object, probe_position_x_m, probe_position_y_m; pixel_height_m of probe or object
parameters of PtychoShelves   ppX, ppY (m), lambda (m), dx (object pixel, m)
"""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from ptycho.core.files.hdf5_types import attribute
from ptycho.core.files.hdf5_values import hdf5_file, open_hdf5
from ptycho.core.formats.hdf5 import array, h5_frames, square_pixel
from ptycho.core.formats.hdf5_access import has, member
from ptycho.core.formats.merging import merged
from ptycho.core.formats.record import ScanRecord, in_pixels
from ptycho.core.units import photon_energy_eV
from ptycho.errors import DataError

__all__ = ["read", "recognise"]

logger = logging.getLogger(__name__)

TITLE = "pty-chi or PtychoShelves"
_PATTERNS = "dp"
_PTYCHI = ("probe", "probe_position_x_m", "probe_position_y_m")
_SHELVES = ("ppX", "ppY")


def recognise(file: Any) -> bool:
    """Whether an open HDF5 file has the patterns or the parameters of such a pair."""
    patterns = member(file, _PATTERNS)
    stack = isinstance(patterns, h5py.Dataset) and patterns.ndim == 3
    return stack or has(file, *_PTYCHI) or has(file, *_SHELVES)


def read(path: Path) -> ScanRecord:
    """Read a file of a pair; the parameters that lie beside patterns come along."""
    with hdf5_file(path) as file:
        parameters = _parameters(file)
        stacked = has(file, _PATTERNS)
    if not stacked:
        return parameters
    record = ScanRecord(patterns=h5_frames(path, [_PATTERNS]), units="counts")
    beside = path.with_name(f"{path.stem.removesuffix('_dp')}_para{path.suffix}")
    if path.stem.endswith("_dp") and beside.is_file():
        logger.info("%s: with %s, which lies beside it", path, beside.name)
        with open_hdf5(beside) as file:
            return merged(record, _parameters(file))
    return merged(record, parameters)


def _parameters(file: h5py.File) -> ScanRecord:
    return _of_ptychi(file) if has(file, *_PTYCHI) else _of_shelves(file)


def _of_ptychi(file: h5py.File) -> ScanRecord:
    """Positions in metres, probe and pixel; the object only where its centre is said, in pixels then."""
    x, y = (_vector(file, name) for name in _PTYCHI[1:])
    probe, image = array(file, "probe"), array(file, "object")
    assert probe is not None
    while probe.ndim > 3:
        probe = probe[0]
    pixel = next((size for name in ("object", "probe") if (size := _pixel(file, name)) is not None), None)
    centre = [_attribute(file, "object", f"center_{axis}_m") for axis in "xy"]
    record = ScanRecord(
        xcoords=x,
        ycoords=y,
        position_unit="m",
        probe=probe[None] if probe.ndim == 2 else probe,
        object_pixel_m=pixel,
    )
    if image is None or pixel is None or centre[0] is None or centre[1] is None:
        return record
    image = image[0] if image.ndim == 3 else image
    origin = (centre[0] / pixel - image.shape[1] / 2, centre[1] / pixel - image.shape[0] / 2)
    return in_pixels(replace(record, object=image, origin_px=origin), TITLE)


def _of_shelves(file: h5py.File) -> ScanRecord:
    if not has(file, *_SHELVES):
        return ScanRecord()
    wavelength, pixel = (_number(file, name) for name in ("lambda", "dx"))
    return ScanRecord(
        xcoords=_vector(file, "ppX"),
        ycoords=_vector(file, "ppY"),
        position_unit="m",
        energy_eV=None if wavelength is None else photon_energy_eV(wavelength),
        object_pixel_m=pixel,
    )


def _vector(file: h5py.File, name: str) -> NDArray[np.float64]:
    found = array(file, name)
    if found is None or found.dtype.kind not in "iuf":
        raise DataError(f"{name}: expected positions in metres, found none; write the file again")
    return np.asarray(found, np.float64).reshape(-1)


def _number(file: h5py.File, name: str) -> float | None:
    found = array(file, name)
    return float(found.reshape(-1)[0]) if found is not None and found.size == 1 and found.dtype.kind in "iuf" else None


def _attribute(file: h5py.File, name: str, key: str) -> float | None:
    found = member(file, name)
    value = None if found is None else attribute(found, key)
    return None if value is None else float(np.asarray(value).reshape(-1)[0])


def _pixel(file: h5py.File, name: str) -> float | None:
    sides = [_attribute(file, name, f"pixel_{side}_m") for side in ("width", "height")]
    return square_pixel(sides[0], sides[1], name)
