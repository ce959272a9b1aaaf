"""The ptychodus training data: patterns, positions in object pixels, probe and object in one HDF5 file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ptycho.core.files.hdf5_values import hdf5_file
from ptycho.core.formats.hdf5 import array, copy_patterns, h5_frames, new_file, quantity, square_pixel
from ptycho.core.formats.hdf5_access import has
from ptycho.core.formats.ptychodus_diffraction import bad_pixels
from ptycho.core.formats.record import ScanRecord, as_photons, in_counts, in_pixels, required
from ptycho.errors import DataError

__all__ = ["HALF_PIXEL", "read", "recognise", "write"]

TITLE = "ptychodus training data"

HALF_PIXEL = 0.5
"""ptychodus (this format begins with version 1.7) puts the centre of a patch at index (N-1)/2, which is N/2 here."""

_NEEDED = ("patterns", "bad_pixels", "probe", "object", "probe_position_x_px", "probe_position_y_px")


def recognise(file: Any) -> bool:
    """Whether an open HDF5 file is training data, by its data sets."""
    return has(file, *_NEEDED)


def read(path: Path) -> ScanRecord:
    """Read training data; its positions lie about the centre of the object, which is the origin of its metres."""
    with hdf5_file(path) as file:
        found = {name: array(file, name) for name in _NEEDED if name != "patterns"}
        pixel = square_pixel(
            quantity(file, "object_pixel_width_m", "length"),
            quantity(file, "object_pixel_height_m", "length"),
            "object",
        )
        energy = array(file, "photon_energy_eV")
        distance = quantity(file, "detector_object_distance_m", "length")
    missing = [name for name, values in found.items() if values is None]
    if missing:
        raise DataError(f"expected data sets {', '.join(missing)}, found groups; write the file again")
    values = {name: np.asarray(content) for name, content in found.items()}
    image, probe, bad = values["object"], values["probe"], values["bad_pixels"].astype(bool)
    return ScanRecord(
        patterns=h5_frames(path, ["patterns"]),
        units="counts",
        xcoords=values["probe_position_x_px"].astype(np.float64) + HALF_PIXEL,
        ycoords=values["probe_position_y_px"].astype(np.float64) + HALF_PIXEL,
        probe=probe[None] if probe.ndim == 2 else probe,
        object=image,
        origin_px=(-image.shape[-1] / 2, -image.shape[-2] / 2),
        mask=~bad if bad.any() else None,
        energy_eV=None if energy is None else float(energy) or None,
        distance_m=distance or None,
        object_pixel_m=pixel,
    )


def write(path: Path, record: ScanRecord) -> None:
    """Write training data.

    Raises:
        DataError: patterns, positions, probe, object, energy, distance or object pixel are missing.
    """
    names = ("patterns", "xcoords", "probe", "object", "energy_eV", "distance_m", "object_pixel_m")
    record = in_pixels(required(as_photons(record), TITLE, *names), TITLE)
    assert record.probe is not None and record.object is not None
    assert record.xcoords is not None and record.ycoords is not None
    with new_file(path) as file:
        copy_patterns(file, "patterns", in_counts(record), "lzf")
        arrays = {
            "bad_pixels": bad_pixels(record, in_counts(record).shape[1:]),
            "probe": record.probe,
            "object": record.object,
            "probe_position_x_px": record.xcoords - HALF_PIXEL,
            "probe_position_y_px": record.ycoords - HALF_PIXEL,
        }
        for name, values in arrays.items():
            file.create_dataset(name, data=values, compression="lzf", track_times=False)
        scalars = {
            "object_pixel_width_m": record.object_pixel_m,
            "object_pixel_height_m": record.object_pixel_m,
            "detector_object_distance_m": record.distance_m,
            "photon_energy_eV": record.energy_eV,
        }
        for name, value in scalars.items():
            file.create_dataset(name, data=value, track_times=False)
