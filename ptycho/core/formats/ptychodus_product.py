"""The ptychodus product: probe, object, positions in metres and the geometry, as HDF5; read and written.

Written in both spellings of its history, so that versions 1.2 to 1.7 read it. A product has no patterns; they lie
beside it in a `ptychodus_diffraction` file, paired by index.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.core.files.hdf5_types import attributes
from ptycho.core.files.hdf5_values import hdf5_file
from ptycho.core.formats.hdf5 import array, new_file, square_pixel
from ptycho.core.formats.hdf5_access import dataset, has
from ptycho.core.formats.record import ScanRecord, as_photons, in_metres, in_pixels, required
from ptycho.core.geometry import object_frame
from ptycho.errors import DataError

__all__ = ["product_content", "read", "recognise", "record_of", "write", "write_content"]

logger = logging.getLogger(__name__)

TITLE = "ptychodus product"
_ENERGY_KEYS = ("photon_energy_eV", "probe_energy_eV")
_ZEROS = (
    "exposure_time_s",
    "mass_attenuation_m2_per_kg",
    "mass_attenuation_m2_kg",
    "tomography_angle_deg",
    "focus_object_distance_m",
    "tilt_angle_deg",
)
"""Attributes that the format needs and a scan does not know; the fourth is the spelling up to version 1.6."""

_ARRAYS = ("probe_position_indexes", "probe_position_x_m", "probe_position_y_m", "probe", "object")
_OPTIONAL = ("loss_values", "costs", "opr_weights")


def recognise(file: Any) -> bool:
    """Whether an open HDF5 file is a product, by its data sets and attributes."""
    return has(file, *_ARRAYS) and "detector_object_distance_m" in file.attrs


def read(path: Path) -> ScanRecord:
    """Read a product of any version; of several object layers and probe weights the first is taken, with a warning."""
    with hdf5_file(path) as file:
        values: dict[str, Any] = attributes(file)
        values |= {name: array(file, name) for name in (*_ARRAYS, *_OPTIONAL) if has(file, name)}
        for part in ("object", "probe"):
            values |= {f"{part}_{name}": value for name, value in attributes(dataset(file, part)).items()}
    return record_of(values)


def record_of(values: Mapping[str, Any]) -> ScanRecord:
    """The record of a product given as one flat mapping, in the spelling of its NPZ form.

    `x_px = (x_m - center_x_m) / pixel + W/2`, exact for every version: those from 1.6 on count from (W-1)/2 and put
    the centre of a patch at (N-1)/2, those before at W/2 and N/2.
    """
    pixel = square_pixel(_number(values, "object_pixel_width_m"), _number(values, "object_pixel_height_m"), "object")
    assert pixel is not None
    probe, image = _probe(values), _layer(values)
    energy = next((_number(values, key) for key in _ENERGY_KEYS if key in values), None)
    height, width = image.shape
    record = ScanRecord(
        xcoords=np.asarray(values["probe_position_x_m"], np.float64),
        ycoords=np.asarray(values["probe_position_y_m"], np.float64),
        position_unit="m",
        indexes=np.asarray(values["probe_position_indexes"], np.int64),
        probe=probe,
        object=image,
        origin_px=(
            _number(values, "object_center_x_m") / pixel - width / 2,
            _number(values, "object_center_y_m") / pixel - height / 2,
        ),
        energy_eV=energy or None,
        distance_m=_number(values, "detector_object_distance_m") or None,
        object_pixel_m=pixel,
        near_field=not bool(values.get("far_field", True)),
        losses=tuple(float(value) for value in np.atleast_1d(values.get("loss_values", values.get("costs", ())))),
        metadata={key: str(values[key]) for key in ("name", "comments") if str(values.get(key, ""))},
    )
    return in_pixels(record, TITLE)


def write(path: Path, record: ScanRecord) -> None:
    """Write a product; without an object one of 1 everywhere, as `comments` then says.

    Raises:
        DataError: positions, probe, object pixel, energy or distance are missing.
    """
    attributes, arrays = product_content(record, TITLE)
    write_content(path, attributes, arrays)


def write_content(path: Path, attributes: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write what `product_content` made, and further arrays, which ptychodus passes over."""
    attributes = dict(attributes)
    pixel = {key: attributes.pop(key) for key in list(attributes) if key.startswith(("object_", "probe_pixel"))}
    with new_file(path) as file:
        file.attrs.update(attributes)
        for name, values in arrays.items():
            file.create_dataset(name, data=values, track_times=False)
        for key, value in pixel.items():
            part, _, name = key.partition("_")
            file[part].attrs[name] = value


def product_content(record: ScanRecord, title: str) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Attributes, those of object and probe with their name before them, and arrays of a product."""
    record = required(as_photons(record), title, "xcoords", "probe", "energy_eV", "distance_m", "object_pixel_m")
    comments = record.metadata.get("comments", "")
    if record.object is None:
        record, comments = _with_vacuum(record, title), f"{comments} No object known: 1 everywhere.".strip()
    pixel, probe, image = record.object_pixel_m, record.probe, record.object
    assert pixel is not None and probe is not None and image is not None
    metres, (x0, y0) = in_metres(record, title), record.origin_px or (0.0, 0.0)
    n = record.count or 0
    energies = dict.fromkeys(_ENERGY_KEYS, record.energy_eV)
    attributes: dict[str, Any] = {
        "name": record.metadata.get("name", "ptychopinn"),
        "comments": comments,
        "detector_object_distance_m": record.distance_m,
        "probe_photon_count": float(np.sum(np.abs(probe.astype(np.complex128)) ** 2)),
        "far_field": not record.near_field,
        **energies,
        **dict.fromkeys(_ZEROS, 0.0),
        "object_center_x_m": (x0 + image.shape[1] / 2) * pixel,
        "object_center_y_m": (y0 + image.shape[0] / 2) * pixel,
        **dict.fromkeys(("object_pixel_width_m", "object_pixel_height_m"), pixel),
        **dict.fromkeys(("probe_pixel_width_m", "probe_pixel_height_m"), pixel),
    }
    assert metres.xcoords is not None and metres.ycoords is not None
    arrays = {
        "probe_position_indexes": np.arange(n) if record.indexes is None else record.indexes,
        "probe_position_x_m": metres.xcoords,
        "probe_position_y_m": metres.ycoords,
        "probe": probe[None],
        "object": image[None],
        "object_layer_spacing_m": np.empty(0),
        "loss_epochs": np.arange(len(record.losses)),
        "loss_values": np.array(record.losses, np.float64),
    }
    return attributes, arrays


def _with_vacuum(record: ScanRecord, title: str) -> ScanRecord:
    """The record with an object of 1 that holds every patch, on the scan's own pixel grid."""
    record = in_pixels(record, title)
    assert record.xcoords is not None and record.ycoords is not None and record.side is not None
    frame, (x0, y0) = object_frame(record.xcoords, record.ycoords, record.side), record.origin_px or (0.0, 0.0)
    x, y = frame.local(record.xcoords, record.ycoords)
    vacuum = np.ones(frame.shape, np.complex64)
    return replace(record, xcoords=x, ycoords=y, object=vacuum, origin_px=(x0 + frame.x0, y0 + frame.y0))


def _number(values: Mapping[str, Any], key: str) -> float:
    if key not in values:
        raise DataError(f"{TITLE}: expected {key}, found none; write the product again")
    return float(np.asarray(values[key]).reshape(-1)[0])


def _probe(values: Mapping[str, Any]) -> NDArray[Any]:
    """(M, N, N) of (N, N), (M, N, N) or (weights, M, N, N)."""
    probe = np.asarray(values["probe"])
    if probe.ndim == 4:
        if len(probe) > 1:
            logger.warning("product: found %d probes with weights per position; the first is taken", len(probe))
        probe = probe[0]
    return probe[None] if probe.ndim == 2 else probe


def _layer(values: Mapping[str, Any]) -> NDArray[Any]:
    image = np.asarray(values["object"])
    if image.ndim == 3:
        if len(image) > 1:
            logger.warning("product: found %d object layers; the first is taken", len(image))
        image = image[0]
    return image
