"""The master file of an Eiger detector (HDF5), read only: frames in files beside it, and the set-up.

entry/data/data_000001, ..             links to the frames (b, rows, columns)
entry/instrument/detector              x_pixel_size, y_pixel_size, detector_distance (or distance), pixel_mask
entry/instrument/beam                  incident_energy, else incident_wavelength
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import h5py

from ptycho.core.files.hdf5_values import hdf5_file
from ptycho.core.formats.hdf5 import array, h5_frames, quantity, square_pixel
from ptycho.core.formats.hdf5_access import dataset, member
from ptycho.core.formats.record import ScanRecord
from ptycho.core.units import photon_energy_eV

__all__ = ["frame_names", "read", "recognise"]

_GROUP = "entry/data"
_DETECTOR, _BEAM = "entry/instrument/detector", "entry/instrument/beam"
_MASKS = (f"{_DETECTOR}/detectorSpecific/pixel_mask", f"{_DETECTOR}/pixel_mask")
_NAME = re.compile(r"data_\d+")


def recognise(file: Any) -> bool:
    """Whether an open HDF5 file has numbered data sets of frames under /entry/data."""
    return bool(frame_names(file, _GROUP))


def read(path: Path) -> ScanRecord:
    """Read frames and set-up; positions are in no such file.

    Raises:
        MissingFileError: a file of frames is not beside it.
    """
    with hdf5_file(path) as file:
        names = frame_names(file, _GROUP)
        pixels = [quantity(file, f"{_DETECTOR}/{axis}_pixel_size", "length") for axis in "xy"]
        distances = (quantity(file, f"{_DETECTOR}/{name}", "length") for name in ("detector_distance", "distance"))
        distance = next((value for value in distances if value), None)
        mask = next((found for name in _MASKS if (found := array(file, name)) is not None), None)
        energy = _energy(file)
    frames = h5_frames(path, names)
    fits = mask is not None and mask.shape == frames.shape[1:] and mask.any()
    return ScanRecord(
        patterns=frames,
        units="counts",
        mask=mask == 0 if fits and mask is not None else None,
        energy_eV=energy,
        distance_m=distance,
        detector_pixel_m=square_pixel(pixels[0] or None, pixels[1] or None, "detector"),
    )


def frame_names(file: h5py.File, group: str) -> list[str]:
    """The numbered data sets or links of a group, `data_000001` and so on, in their order."""
    found = member(file, group)
    names = found.keys() if isinstance(found, h5py.Group) else ()
    numbered = sorted((name for name in names if _NAME.fullmatch(name)), key=lambda name: int(name[5:]))
    return [f"{group}/{name}" for name in numbered]


def _energy(file: h5py.File) -> float | None:
    """Photon energy in eV, of the beam or by its wavelength (in angstrom where no unit is said)."""
    told = member(file, f"{_BEAM}/incident_energy")
    if isinstance(told, h5py.Dataset) and "units" in told.attrs:
        return quantity(file, f"{_BEAM}/incident_energy", "energy") or None
    if not isinstance(member(file, f"{_BEAM}/incident_wavelength"), h5py.Dataset):
        return None
    wavelength = quantity(file, f"{_BEAM}/incident_wavelength", "length")
    if "units" not in dataset(file, f"{_BEAM}/incident_wavelength").attrs and wavelength is not None:
        wavelength *= 1e-10
    return photon_energy_eV(wavelength) if wavelength else None
