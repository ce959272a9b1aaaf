"""The ptychodus diffraction file: patterns, the index of each, bad pixels; HDF5, read and written.

It knows no positions, no energy and no distance; these lie in a product beside it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ptycho.core.files.hdf5_types import attribute
from ptycho.core.files.hdf5_values import all_values, hdf5_file
from ptycho.core.formats.hdf5 import array, copy_patterns, h5_frames, new_file, square_pixel
from ptycho.core.formats.hdf5_access import dataset, has
from ptycho.core.formats.record import ScanRecord, in_counts, required

__all__ = ["read", "recognise", "write"]

TITLE = "ptychodus diffraction"
_PIXELS = ("detector_pixel_width_m", "detector_pixel_height_m")


def recognise(file: Any) -> bool:
    """Whether an open HDF5 file is a diffraction file, by its data sets."""
    return has(file, "patterns", "indexes", "bad_pixels") and not has(file, "probe")


def read(path: Path) -> ScanRecord:
    """Read a diffraction file; slots with a negative index are empty and left out."""
    with hdf5_file(path) as file:
        indexes = np.asarray(all_values(dataset(file, "indexes")), np.int64)
        bad = array(file, "bad_pixels")
        told = [attribute(dataset(file, "patterns"), key) for key in _PIXELS]
        sides = [None if side is None else float(side) for side in told]
    patterns, full = h5_frames(path, ["patterns"]), np.flatnonzero(indexes >= 0)
    return ScanRecord(
        patterns=patterns if full.size == len(indexes) else patterns.take(full),
        units="counts",
        indexes=indexes[full],
        mask=None if bad is None or not bad.any() else ~bad.astype(bool),
        detector_pixel_m=square_pixel(sides[0], sides[1], "detector") or None,
    )


def write(path: Path, record: ScanRecord) -> None:
    """Write a diffraction file; a mask per pattern becomes that of all.

    Raises:
        DataError: patterns or the detector pixel are missing.
    """
    record = required(record, TITLE, "patterns", "detector_pixel_m")
    n, *frame = in_counts(record).shape
    with new_file(path) as file:
        indexes = np.arange(n) if record.indexes is None else record.indexes
        file.create_dataset("indexes", data=indexes, compression="lzf", track_times=False)
        made = copy_patterns(file, "patterns", in_counts(record), "lzf")
        made.attrs.update(dict.fromkeys(_PIXELS, record.detector_pixel_m))
        file.create_dataset("bad_pixels", data=bad_pixels(record, tuple(frame)), compression="lzf", track_times=False)


def bad_pixels(record: ScanRecord, frame: tuple[int, ...]) -> np.ndarray:
    """Bool of the shape of a frame, True where a pixel is bad in any pattern."""
    if record.mask is None:
        return np.zeros(frame, bool)
    valid = record.mask.all(axis=0) if record.mask.ndim == 3 else record.mask
    return np.asarray(~valid)
