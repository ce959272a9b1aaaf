"""Scans of electron microscopes (MIB, BLO, EMD, SER, DM3, DM4), read only, by rosettasciio.

Of a file the first stack of images is taken. Axes of the scan with a unit of length give positions, axes of the
detector in angles or reciprocal lengths the size of an object pixel: `wavelength / (N angle)`, `1 / (N reciprocal)`.
"""

from __future__ import annotations

import logging
import math
import struct
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from ptycho.core.files.damage import check_declared, readable
from ptycho.core.files.hdf5_types import check_attribute_types, check_type
from ptycho.core.files.hdf5_values import check_size, open_hdf5, own_groups
from ptycho.core.formats.hdf5 import unit_factor
from ptycho.core.formats.hdf5_access import has
from ptycho.core.formats.libraries import library
from ptycho.core.formats.micrograph_tags import check_tags
from ptycho.core.formats.record import ScanRecord
from ptycho.core.scan.stream import Frames
from ptycho.core.units import wavelength_m
from ptycho.errors import DataError

__all__ = ["read", "recognise"]

logger = logging.getLogger(__name__)

_MAGIC = {
    b"MQ1,": "quantumdetector",
    b"IMGBLO": "blockfile",
    b"II\x97\x01": "tia",
    b"\0\0\0\x03": "digitalmicrograph",
    b"\0\0\0\x04": "digitalmicrograph",
}
_EMD, _MICROGRAPH, _LEVELS = "emd", "digitalmicrograph", 64
_BEAM_ENERGY = "Acquisition_instrument.TEM.beam_energy"
_BLOCKFILE = struct.Struct("<6sH3I4H")
"""Beginning of a BLO: name, byte order, three offsets, side of a pattern, its rotation, columns, rows."""
_ANGLES = {"rad": 1.0, "mrad": 1e-3, "deg": math.pi / 180}


def recognise(file: Any) -> bool:
    """Whether a path is such a file by its first bytes, or an open HDF5 file is EMD by what is in it."""
    if isinstance(file, Path):
        return _reader(file) is not None
    return "version_major" in file.attrs or any(has(file, name) for name in ("Data/Image", "4DSTEM_experiment"))


def read(path: Path) -> ScanRecord:
    """Read the first stack of images of a file, and what is said of its axes.

    Raises:
        DataError: no stack of images, or rosettasciio is not installed.
    """
    kind = _reader(path) or _EMD
    module = library(f"rsciio.{kind}", f"{path} is of an electron microscope")
    with readable(path, "a whole electron microscope's file"):
        _check_blockfile(path)
        if kind == _EMD:
            _check_emd(path)
        if kind == _MICROGRAPH:
            check_tags(path)
        found = module.file_reader(str(path), lazy=True)
    stack = next((each for each in found if each["data"].ndim >= 3 and each["data"].dtype.kind in "iuf"), None)
    if stack is None:
        shapes = ", ".join(str(each["data"].shape) for each in found) or "nothing"
        raise DataError(f"expected a stack of diffraction patterns, found {shapes}; export the scan")
    data, axes = stack["data"], stack["axes"]
    check_declared(data.nbytes, path.stat().st_size, str(path), in_memory=False)
    energy_keV = _beam_energy(stack)
    positions = _positions(axes[:-2], data.shape[:-2])
    x, y = (None, None) if positions is None else positions
    energy = None if energy_keV is None else 1e3 * energy_keV
    return ScanRecord(
        patterns=_frames(path, data),
        units="counts" if data.dtype.kind in "iu" else None,
        xcoords=x,
        ycoords=y,
        position_unit="m" if positions is not None else "px",
        energy_eV=energy,
        particle="electron",
        object_pixel_m=_object_pixel(axes[-2:], energy),
    )


def _reader(path: Path) -> str | None:
    with path.open("rb") as stream:
        head = stream.read(8)
    return next((name for magic, name in _MAGIC.items() if head.startswith(magic)), None)


def _check_blockfile(path: Path) -> None:
    """Raise where a BLO declares more patterns than it has; rosettasciio would plan for all of them."""
    with path.open("rb") as stream:
        head = stream.read(_BLOCKFILE.size)
    if not head.startswith(b"IMGBLO"):
        return
    order = "<" if head[6:8] == b"\x02\x01" else ">"
    side, _, columns, rows = struct.unpack_from(f"{order}4H", head, _BLOCKFILE.size - 8)
    if rows * columns * side * side > path.stat().st_size:
        raise DataError(f"{path}: expected {rows} x {columns} patterns of {side} x {side}, found fewer; copy it again")


def _check_emd(path: Path) -> None:
    """Raise where a data set of an EMD has no size or type to read, or leads to another file."""
    with open_hdf5(path) as file:
        for group in own_groups(file, _LEVELS):
            check_attribute_types(group)
            for name in group:
                kind = group.get(name, getclass=True, getlink=True)
                found = group[name] if kind is h5py.HardLink else None
                stack = found if isinstance(found, h5py.Dataset) else None
                if kind is h5py.ExternalLink or (stack is not None and (stack.is_virtual or stack.external)):
                    raise DataError(f"{name}: expected it in the file itself, found a reference; export the scan")
                if stack is not None:
                    check_size(stack)
                    check_type(stack.id.get_type(), str(stack.name))
                    check_attribute_types(stack)


def _frames(path: Path, data: Any) -> Frames:
    """Frames of a lazy array (.., rows, columns), leading axes flattened."""
    leading, frame = data.shape[:-2], data.shape[-2:]
    dtype = data.dtype.newbyteorder("=")

    def load(indices: NDArray[np.intp]) -> NDArray[Any]:
        places = zip(*np.unravel_index(indices, leading), strict=True)
        with readable(path, "a whole electron microscope's file"):
            return np.stack([np.asarray(data[place], dtype) for place in places])

    return Frames((math.prod(leading), *frame), dtype, load)


def _positions(axes: list[dict[str, Any]], shape: tuple[int, ...]) -> tuple[NDArray[Any], NDArray[Any]] | None:
    """(x, y) in metres of a raster (ny, nx); None where the axes are no lengths."""
    factors = [unit_factor(str(axis.get("units") or ""), "length") for axis in axes]
    if len(axes) != 2 or None in factors or not all(axis.get("scale") for axis in axes):
        return None
    places = [
        factor * axis["scale"] * np.arange(size, dtype=np.float64)
        for axis, factor, size in zip(axes, factors, shape, strict=True)
        if factor is not None
    ]
    y, x = np.meshgrid(*places, indexing="ij")
    return x.reshape(-1), y.reshape(-1)


def _object_pixel(axes: list[dict[str, Any]], energy_eV: float | None) -> float | None:
    """Size of an object pixel in metres, by the axes of the detector; None where they say nothing, or two things."""
    sizes = []
    for axis in axes:
        unit, extent = str(axis.get("units") or "").replace(" ", ""), float(axis.get("scale") or 0) * axis["size"]
        length = unit_factor(unit.partition("1/")[2] or unit.removesuffix("^-1"), "length")
        if unit in _ANGLES and energy_eV is not None and extent > 0:
            sizes.append(wavelength_m(energy_eV, "electron") / (extent * _ANGLES[unit]))
        elif ("1/" in unit or unit.endswith("^-1")) and length is not None and extent > 0:
            sizes.append(length / extent)
    if len(sizes) != 2 or not math.isclose(*sizes, rel_tol=1e-3):
        return None
    logger.info("object pixel: %.4g m, by the axes of the detector", sizes[0])
    return sizes[0]


def _beam_energy(found: dict[str, Any]) -> float | None:
    """Energy of the beam in keV, where the metadata has it, or what the program wrote and `mapping` leads to."""
    energy = _inside(found.get("metadata"), _BEAM_ENERGY)
    for place, (name, change) in found.get("mapping", {}).items():
        written = _inside(found.get("original_metadata"), place)
        if energy is None and name == _BEAM_ENERGY and isinstance(written, (int, float)):
            energy = written if change is None else change(written)
    return float(energy) if isinstance(energy, (int, float)) and 0 < energy < math.inf else None


def _inside(table: Any, names: str) -> Any:
    """What lies in nested tables; None where there is no such name."""
    for name in names.split("."):
        table = table.get(name) if isinstance(table, dict) else None
    return table
