"""The prepared data of ptypy (`.ptyd`, HDF5), read and written: patterns in chunks, positions (y, x) in metres.

    meta/    energy (keV), distance (m), psize (m), shape, center, num_frames, label, weight2d
    chunks/  0/ 1/ ..: data (b, N, N), indices (b,), positions (b, 2), weights (b, N, N) or empty

Positions are where the probe meets the object, growing with its rows and columns; weights above 0 are valid pixels.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from ptycho.core.files.hdf5_types import attribute
from ptycho.core.files.hdf5_values import hdf5_file
from ptycho.core.formats.hdf5 import array, copy_patterns, h5_frames, new_file, square_pixel, text
from ptycho.core.formats.hdf5_access import has, member
from ptycho.core.formats.record import ScanRecord, as_photons, in_counts, in_metres, required
from ptycho.core.scan.stream import Frames
from ptycho.errors import DataError

__all__ = ["read", "recognise", "write"]

TITLE = "ptypy data"
_VERSION = "0.1"
_EV_PER_KEV = 1e3
_NEAR_FIELD = "nearfield"


def recognise(file: Any) -> bool:
    """Whether an open HDF5 file has a first chunk with data."""
    return has(file, "chunks/0/data")


def read(path: Path) -> ScanRecord:
    """Read the chunks in their order, the geometry of `meta` and, where that is silent, of `info`."""
    with hdf5_file(path) as file:
        numbers = sorted(int(name) for name in member(file, "chunks") if name.isdecimal())
        names = [f"chunks/{number}" for number in numbers if has(file, f"chunks/{number}/data")]
        positions = _joined(file, names, "positions")
        indexes = _joined(file, names, "indices")
        mask = _mask(file, names)
        energy, distance = (_meta(file, key) for key in ("energy", "distance"))
        sizes = _meta(file, "psize")
        near = any(text(file, f"{part}/propagation") == _NEAR_FIELD for part in ("meta", "info"))
        label = next((value for part in ("meta", "info") if (value := text(file, f"{part}/label"))), None)
    if positions is not None and positions.shape[1:] != (2,):
        raise DataError(f"positions: expected (n, 2), ordered (y, x), found {positions.shape}; correct the chunks")
    return ScanRecord(
        patterns=h5_frames(path, [f"{name}/data" for name in names]),
        units="counts",
        xcoords=None if positions is None else positions[:, 1].astype(np.float64),
        ycoords=None if positions is None else positions[:, 0].astype(np.float64),
        position_unit="m",
        indexes=None if indexes is None else indexes.astype(np.int64),
        mask=mask,
        energy_eV=None if energy is None else float(energy[0]) * _EV_PER_KEV,
        distance_m=None if distance is None else float(distance[0]),
        detector_pixel_m=None if sizes is None else square_pixel(float(sizes[0]), float(sizes[-1]), "detector"),
        near_field=near,
        metadata={} if label is None else {"name": label},
    )


def write(path: Path, record: ScanRecord) -> None:
    """Write a file, one chunk per block of patterns; probe and object have no place in it.

    Raises:
        DataError: patterns, positions, energy, distance or detector pixel are missing.
    """
    record = required(as_photons(record), TITLE, "patterns", "xcoords", "energy_eV", "distance_m", "detector_pixel_m")
    metres = in_metres(record, TITLE)
    assert metres.xcoords is not None and metres.ycoords is not None and record.energy_eV is not None
    frame = np.array(in_counts(record).shape[1:])
    positions = np.stack([metres.ycoords, metres.xcoords], axis=1)
    indexes = np.arange(len(positions)) if record.indexes is None else record.indexes
    meta: dict[str, Any] = {
        "version": _VERSION,
        "label": str(record.metadata.get("name", "ptychopinn")),
        "num_frames": len(positions),
        "shape": frame,
        "center": frame / 2,
        "psize": np.array([record.detector_pixel_m] * 2),
        "energy": record.energy_eV / _EV_PER_KEV,
        "distance": record.distance_m,
        "propagation": "farfield",
    }
    if record.mask is not None and record.mask.ndim == 2:
        meta["weight2d"] = record.mask.astype(np.float64)
    with new_file(path) as file:
        file.attrs["h5rw_version"] = "0.1"
        for group in ("meta", "info", "chunks"):
            file.create_group(group).attrs["type"] = "dict"
        for key, value in meta.items():
            _put(file["meta"], key, value)
        for number, (part, block) in enumerate(in_counts(record).blocks()):
            chunk = file.create_group(f"chunks/{number}")
            chunk.attrs["type"] = "dict"
            copy_patterns(chunk, "data", Frames.of(block)).attrs["type"] = "array"
            _put(chunk, "indices", indexes[part])
            _put(chunk, "positions", positions[part])
            per_frame = record.mask is not None and record.mask.ndim == 3
            _put(chunk, "weights", record.mask[part].astype(np.uint8) if per_frame else np.empty(0))  # type: ignore[index]


def _put(group: h5py.Group, name: str, value: Any) -> None:
    """Write a value with the `type` attribute that ptypy reads it back by."""
    kind = "array" if isinstance(value, np.ndarray) else "string" if isinstance(value, str) else "scalar"
    group.create_dataset(name, data=value, track_times=False).attrs["type"] = kind


def _joined(file: h5py.File, names: list[str], key: str) -> NDArray[Any] | None:
    """The data sets of one name of all chunks in a row, None where a chunk has none."""
    parts = [array(file, f"{name}/{key}") for name in names]
    found = [part for part in parts if part is not None and part.dtype.kind in "biuf" and part.size]
    return np.concatenate(found) if len(found) == len(parts) else None


def _mask(file: h5py.File, names: list[str]) -> NDArray[np.bool_] | None:
    """(n, N, N) of the weights of the chunks, else (N, N) of the common weight; None where all is valid."""
    weights = _joined(file, names, "weights")
    if weights is None or weights.ndim != 3:
        weights = _meta(file, "weight2d", 2)
    if weights is None:
        return None
    valid = weights > 0
    return None if valid.all() else valid


def _meta(file: h5py.File, key: str, axes: int = 1) -> NDArray[Any] | None:
    """A number or array of `meta`, else of `info`, with at least one axis; None where there is none."""
    for part in ("meta", "info"):
        found = array(file, f"{part}/{key}")
        if (
            found is None
            or found.dtype.kind not in "biuf"
            or attribute(member(file, f"{part}/{key}"), "type") == "None"
        ):
            continue
        found = np.atleast_1d(found)
        if found.ndim == axes:
            return found
    return None
