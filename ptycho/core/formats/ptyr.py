"""The results of ptypy (`.ptyr`, HDF5), read only.

content/probe/ID    data (modes, N, N)
content/obj/ID      data (layers, H, W), _psize (2,) m, _center (2,): the pixel at the origin of the positions
content/positions/ID    (n, 2), ordered (y, x), m; files of older versions have none
content/pars/scans/*    propagation; data/energy (keV), data/distance (m)
"""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from ptycho.core.files.hdf5_values import hdf5_file
from ptycho.core.formats.hdf5 import array, square_pixel, text
from ptycho.core.formats.hdf5_access import has, member
from ptycho.core.formats.record import ScanRecord, in_pixels
from ptycho.errors import DataError

__all__ = ["read", "recognise"]

logger = logging.getLogger(__name__)

TITLE = "ptypy result"
_PROBE, _OBJECT, _POSITIONS = "content/probe", "content/obj", "content/positions"
_SCANS = "content/pars/scans"
_EV_PER_KEV = 1e3
_NEAR_FIELD = "nearfield"


def recognise(file: Any) -> bool:
    """Whether an open HDF5 file has the probe and the object of a result."""
    return has(file, _PROBE, _OBJECT)


def read(path: Path) -> ScanRecord:
    """Read object, probe, positions and geometry; of several storages or object layers the first."""
    with hdf5_file(path) as file:
        where, name = _first(file, _OBJECT), _first(file, _OBJECT).rpartition("/")[2]
        image, probe = _stack(file, f"{where}/data"), _stack(file, f"{_first(file, _PROBE)}/data")
        sizes, centre = (_pair(file, f"{where}/{key}") for key in ("_psize", "_center"))
        positions = array(file, f"{_POSITIONS}/{name}")
        near = _says_near_field(file)
        energy, distance = (_told(file, key) for key in ("energy", "distance"))
    if len(image) > 1:
        logger.warning("%s: found %d object layers; the first is taken", path, len(image))
    record = ScanRecord(
        probe=probe,
        object=image[0],
        energy_eV=None if energy is None else energy * _EV_PER_KEV,
        distance_m=distance,
        object_pixel_m=square_pixel(float(sizes[0]), float(sizes[1]), "object"),
        origin_px=(-float(centre[1]), -float(centre[0])),
        near_field=near,
    )
    if positions is None or positions.ndim != 2 or positions.shape[1] != 2 or len(image) > 1:
        return record
    metres = positions.astype(np.float64)
    x, y = metres[:, 1], metres[:, 0]
    return in_pixels(replace(record, xcoords=x, ycoords=y, position_unit="m"), TITLE)


def _first(file: h5py.File, group: str) -> str:
    """The path of the first storage of a container."""
    names = sorted(member(file, group))
    if not names:
        raise DataError(f"{group}: expected a storage, found none; save the result again")
    if len(names) > 1:
        logger.warning("%s: found %d storages; %s is taken", group, len(names), names[0])
    return f"{group}/{names[0]}"


def _stack(file: h5py.File, name: str) -> NDArray[Any]:
    found = array(file, name)
    if found is None or found.ndim != 3 or found.dtype.kind != "c":
        what = "none" if found is None else f"{found.shape} of {found.dtype}"
        raise DataError(f"{name}: expected complex images (layers, rows, columns), found {what}; save the result again")
    return found


def _pair(file: h5py.File, name: str) -> NDArray[np.float64]:
    found = array(file, name)
    if found is None or found.size != 2:
        raise DataError(
            f"{name}: expected two numbers, found {'none' if found is None else found.shape}; save it again"
        )
    return np.asarray(found, np.float64).reshape(2)


def _says_near_field(file: h5py.File) -> bool:
    scans = member(file, _SCANS)
    names = scans.keys() if isinstance(scans, h5py.Group) else ()
    return any(text(file, f"{_SCANS}/{name}/propagation") == _NEAR_FIELD for name in names)


def _told(file: h5py.File, key: str) -> float | None:
    """A number of the data of a scan, None where nothing is said."""
    scans = member(file, _SCANS)
    for name in scans if isinstance(scans, h5py.Group) else ():
        found = array(file, f"{_SCANS}/{name}/data/{key}")
        if found is not None and found.size == 1 and found.dtype.kind in "iuf" and float(found.reshape(-1)[0]) > 0:
            return float(found.reshape(-1)[0])
    return None
