"""CXI 1.6, read and written: what lies under `/entry_1`. NeXus files of NXcxi_ptycho have the same layout.

Signs. CXI gives the translation t of the *sample*, x to the left seen along the beam, y up, and the detector axes as
vectors b0 (along rows) and b1 (along columns), by default (0, -p, 0) and (-p, 0, 0). The beam meets the sample at -t,
so that a position is `y = -t . b0/|b0|`, `x = -t . b1/|b1|`: with the default vectors x = t_x and y = t_y.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from ptycho.core.files.hdf5_values import all_values, hdf5_file
from ptycho.core.formats.hdf5 import (
    array,
    copy_patterns,
    h5_frames,
    new_file,
    quantity,
    square_pixel,
    text,
    units_factor,
)
from ptycho.core.formats.hdf5_access import dataset, has, member
from ptycho.core.formats.record import ScanRecord, completed, in_counts, in_metres, in_pixels, required
from ptycho.core.formats.stored_counts import stored_counts
from ptycho.core.scan.stream import Frames
from ptycho.core.units import JOULES_PER_EV
from ptycho.errors import DataError

__all__ = ["read", "read_entry", "recognise", "write", "write_entry"]

TITLE = "CXI"
VERSION = 160

_ENTRY = "entry_1"
_DETECTOR = f"{_ENTRY}/instrument_1/detector_1"
_SOURCE = f"{_ENTRY}/instrument_1/source_1"
_BEAM = f"{_ENTRY}/instrument_1/beam_1"
_EXTRA = f"{_ENTRY}/ptychodus"
_DATA = (f"{_ENTRY}/data_1/data", f"{_DETECTOR}/data")
_TRANSLATION = (
    f"{_ENTRY}/sample_1/geometry_1/translation",
    f"{_ENTRY}/data_1/translation",
    f"{_DETECTOR}/translation",
)
_PROBE, _OBJECT = f"{_ENTRY}/image_1/data", f"{_ENTRY}/image_2/data"
_PROBES = (_PROBE, f"{_SOURCE}/illumination", f"{_SOURCE}/probe", f"{_DETECTOR}/data_illumination")
_ENERGY = (f"{_BEAM}/incident_beam_energy", f"{_BEAM}/incident_energy", f"{_BEAM}/energy")

_INVALID = 0x1
_BAD_BITS = 0x1 | 0x2 | 0x4 | 0x8 | 0x10 | 0x80 | 0x200 | 0x400
"""Invalid, saturated, hot, dead, shadowed, bad, missing, noisy; other bits say nothing of validity."""

_DEFAULT_AXES = np.array([[0.0, -1.0, 0.0], [-1.0, 0.0, 0.0]])


def recognise(file: Any) -> bool:
    """Whether an open HDF5 file is CXI: its version number, or patterns or translations under /entry_1."""
    return has(file, _ENTRY) and any(has(file, name) for name in ("cxi_version", *_DATA, *_TRANSLATION))


def read(path: Path) -> ScanRecord:
    """Read a CXI file: patterns, or a result of ptychodus, or both."""
    return read_entry(path, photon_energy=(*_ENERGY, f"{_SOURCE}/energy"))


def write(path: Path, record: ScanRecord) -> None:
    """Write a CXI file with all that the record has.

    Raises:
        DataError: patterns, positions, energy, distance or detector pixel are missing.
    """
    with new_file(path) as file:
        write_entry(file, record, TITLE)


def read_entry(path: Path, photon_energy: tuple[str, ...]) -> ScanRecord:
    """Read /entry_1; `photon_energy` names the places of the energy, best first."""
    with hdf5_file(path) as file:
        stored = next((name for name in _DATA if _is_stack(file, name)), None)
        patterns = None if stored is None else h5_frames(path, [stored])
        positions = _positions(file, None if patterns is None else len(patterns))
        image = _last_axes(array(file, _OBJECT), 2) if has(file, _PROBE) else None
        probe = _probe(file, None if patterns is None else max(patterns.shape[1:]))
        pixels = [quantity(file, f"{_DETECTOR}/{axis}_pixel_size", "length") for axis in "xy"]
        object_pixels = [_extra(file, f"object_pixel_{side}_m") for side in ("width", "height")]
        energies = (quantity(file, name, "energy") for name in photon_energy)
        indexes = array(file, f"{_EXTRA}/probe_position_indexes")
        record = ScanRecord(
            patterns=patterns,
            units=None if patterns is None else "counts",
            xcoords=None if positions is None else positions[0],
            ycoords=None if positions is None else positions[1],
            position_unit="m",
            indexes=None if indexes is None else indexes.astype(np.int64),
            probe=probe,
            object=image,
            mask=_mask(file, patterns),
            energy_eV=next((energy for energy in energies if energy), None),
            particle="electron" if text(file, f"{_SOURCE}/probe") == "electron" else None,
            distance_m=quantity(file, f"{_DETECTOR}/distance", "length"),
            detector_pixel_m=square_pixel(pixels[0], pixels[1], "detector"),
            object_pixel_m=square_pixel(object_pixels[0], object_pixels[1], "object"),
            losses=tuple(np.atleast_1d(_or_empty(array(file, f"{_EXTRA}/loss_values"))).tolist()),
            metadata=_metadata(file),
        )
        centre = [_extra(file, f"object_center_{axis}_m") for axis in "xy"]
    return _framed(record, centre[0] or 0.0, centre[1] or 0.0)


def _framed(record: ScanRecord, center_x: float, center_y: float) -> ScanRecord:
    """With an object and its pixel size positions become its pixels; its centre is the origin if nothing is said."""
    if record.object is None or record.xcoords is None:
        return record
    pixel, (height, width) = completed(record).object_pixel_m, record.object.shape
    if pixel is None:
        return replace(record, object=None)
    origin = (center_x / pixel - width / 2, center_y / pixel - height / 2)
    return in_pixels(replace(record, object_pixel_m=pixel, origin_px=origin), TITLE)


def write_entry(file: h5py.File, record: ScanRecord, title: str) -> None:
    """Write /entry_1, links included; `title` names the format in errors."""
    record = required(record, title, "patterns", "xcoords", "energy_eV", "distance_m", "detector_pixel_m")
    metres = in_metres(record, title)
    assert record.energy_eV is not None and record.detector_pixel_m is not None
    assert metres.xcoords is not None and metres.ycoords is not None
    pixel, (rows, columns) = record.detector_pixel_m, in_counts(record).shape[1:]
    corner = np.array([(columns / 2 + 0.5) * pixel, (rows / 2 + 0.5) * pixel, record.distance_m])
    _put(file, "cxi_version", VERSION)
    _put(file, "number_of_entries", 1)
    for name, key in (("name", "title"), ("comments", "experiment_description")):
        if record.metadata.get(name):
            _put(file, f"{_ENTRY}/{key}", record.metadata[name])
    _put(file, f"{_SOURCE}/energy", record.energy_eV * JOULES_PER_EV, units="J")
    if record.particle == "electron":
        _put(file, f"{_SOURCE}/probe", "electron")
    _put(file, f"{_DETECTOR}/distance", record.distance_m, units="m")
    for axis in "xy":
        _put(file, f"{_DETECTOR}/{axis}_pixel_size", pixel, units="m")
    _put(file, f"{_DETECTOR}/basis_vectors", _DEFAULT_AXES * pixel, units="m")
    _put(file, f"{_DETECTOR}/corner_position", corner, units="m")
    made = copy_patterns(file[_DETECTOR], "data", stored_counts(in_counts(record), record.mask))
    made.attrs["axes"] = "translation:y:x"
    if record.mask is not None:
        _put(file, f"{_DETECTOR}/mask", np.where(record.mask, 0, _INVALID).astype(np.uint32))
    translation = np.stack([metres.xcoords, metres.ycoords, np.zeros_like(metres.xcoords)], axis=1)
    _put(file, _TRANSLATION[0], translation, units="m")
    for target in (_TRANSLATION[1], _TRANSLATION[2]):
        file[target] = h5py.SoftLink(f"/{_TRANSLATION[0]}")
    file[_DATA[0]] = h5py.SoftLink(f"/{_DATA[1]}")
    _write_result(file, record)


def _write_result(file: h5py.File, record: ScanRecord) -> None:
    """Probe and object as images, and what ptychodus wants to know of them in its own group."""
    pixel = record.object_pixel_m
    images = (("probe", _PROBE, record.probe, "mode:y:x"), ("object", _OBJECT, record.object, "y:x"))
    for part, name, image, axes in images:
        if image is None:
            continue
        made = _put(file, name, image)
        made.attrs["axes"] = axes
        group = made.parent
        _put(group, "data_type", "amplitude")
        _put(group, "data_space", "real")
        if pixel is not None:
            _put(group, "image_size", np.array([image.shape[-1] * pixel, image.shape[-2] * pixel, 0.0]), units="m")
            for side in ("width", "height"):
                _put(file, f"{_EXTRA}/{part}_pixel_{side}_m", pixel)
    if record.indexes is not None:
        _put(file, f"{_EXTRA}/probe_position_indexes", record.indexes)
    if record.object is not None and pixel is not None:
        for axis, start, size in zip("xy", record.origin_px or (0.0, 0.0), record.object.shape[::-1], strict=True):
            _put(file, f"{_EXTRA}/object_center_{axis}_m", (start + size / 2) * pixel)
    if "nphotons" in record.metadata:
        _put(file, f"{_EXTRA}/probe_photon_count", float(record.metadata["nphotons"]))
    if record.losses:
        _put(file, f"{_EXTRA}/loss_epochs", np.arange(len(record.losses)))
        _put(file, f"{_EXTRA}/loss_values", np.array(record.losses))


def _positions(file: h5py.File, n: int | None) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """(x, y) in metres, signs as in the head of this file, of a translation (n, 3), (n, 2) or, in old files, (3, n)."""
    name = next((name for name in _TRANSLATION if isinstance(member(file, name), h5py.Dataset)), None)
    if name is None:
        return None
    found = np.asarray(all_values(dataset(file, name)), np.float64) * units_factor(dataset(file, name), "length")
    if found.ndim == 2 and found.shape[0] == 3 and found.shape[1] not in (2, 3):
        found = found.T
    if found.ndim != 2 or found.shape[1] not in (2, 3):
        raise DataError(f"{name}: expected translations (n, 3), found shape {found.shape}; correct the file")
    axes = _detector_axes(file)[:, : found.shape[1]]
    rows, columns = -(found @ axes.T).T
    return columns, rows


def _detector_axes(file: h5py.File) -> NDArray[np.float64]:
    """Unit vectors (2, 3) of the detector along rows and along columns; stored as (2, 3) or (3, 2)."""
    found = array(file, f"{_DETECTOR}/basis_vectors")
    if found is None or found.shape not in ((2, 3), (3, 2)):
        return _DEFAULT_AXES
    axes = np.asarray(found if found.shape == (2, 3) else found.T, np.float64)
    lengths = np.linalg.norm(axes, axis=1, keepdims=True)
    return np.asarray(axes / lengths) if (lengths > 0).all() else _DEFAULT_AXES


def _probe(file: h5py.File, side: int | None) -> NDArray[Any] | None:
    """(M, N, N) from the first place that holds a square image, of the size of the patterns where there are some."""
    for name in _PROBES:
        found = _last_axes(array(file, name), 3)
        if found is not None and found.shape[-1] == found.shape[-2] and side in (None, found.shape[-1]):
            return found
    return None


def _last_axes(found: NDArray[Any] | None, axes: int) -> NDArray[Any] | None:
    """An image stack of just so many axes: the first entries of leading axes, or one more in front; None if real."""
    if found is None or found.dtype.kind != "c" or found.ndim < 2:
        return None
    while found.ndim > axes:
        found = found[0]
    return found[None] if found.ndim < axes else found


def _mask(file: h5py.File, patterns: Frames | None) -> NDArray[np.bool_] | None:
    found = array(file, f"{_DETECTOR}/mask")
    if found is None or patterns is None or found.dtype.kind not in "biuf":
        return None
    bad = (found.astype(np.int64) & _BAD_BITS) != 0
    return ~bad if bad.any() else None


def _metadata(file: h5py.File) -> dict[str, Any]:
    places = (
        ("name", (f"{_ENTRY}/title", f"{_ENTRY}/sample_1/name")),
        ("comments", (f"{_ENTRY}/experiment_description",)),
    )
    found = {key: next((value for name in names if (value := text(file, name))), None) for key, names in places}
    metadata: dict[str, Any] = {key: value for key, value in found.items() if value}
    photons = _extra(file, "probe_photon_count")
    return metadata | ({"nphotons": photons} if photons else {})


def _extra(file: h5py.File, name: str) -> float | None:
    found = array(file, f"{_EXTRA}/{name}")
    return None if found is None or found.size != 1 else float(found.reshape(-1)[0])


def _or_empty(found: NDArray[Any] | None) -> NDArray[Any]:
    return np.empty(0) if found is None else found


def _is_stack(file: h5py.File, name: str) -> bool:
    found = member(file, name)
    return isinstance(found, h5py.Dataset) and found.ndim >= 3 and found.dtype.kind in "iuf"


def _put(group: h5py.Group, name: str, value: Any, units: str | None = None) -> h5py.Dataset:
    made = group.create_dataset(name, data=value, track_times=False)
    if units is not None:
        made.attrs["units"] = units
    return made
