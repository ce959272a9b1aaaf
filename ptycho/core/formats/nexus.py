"""NeXus files of the definition NXcxi_ptycho, read and written: a CXI file whose groups say their classes.

The definition keeps the energy of the machine in `source_1` and that of the photons in `beam_1`. Files that are
written have the photon energy in both, with a note, since readers of CXI look for it in `source_1`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np

from ptycho.core.files.hdf5_values import hdf5_file
from ptycho.core.formats.cxi import read_entry, write_entry
from ptycho.core.formats.hdf5 import new_file, text
from ptycho.core.formats.hdf5_access import has, member
from ptycho.core.formats.record import ScanRecord

__all__ = ["read", "recognise", "write"]

TITLE = "NeXus NXcxi_ptycho"

_DEFINITIONS = ("NXcxi_ptycho", "NXptycho")
"""The name of the definition now, and in its first version."""

_BEAM = "entry_1/instrument_1/beam_1"
_ENERGY = (f"{_BEAM}/incident_beam_energy", f"{_BEAM}/incident_energy", f"{_BEAM}/energy")
_CLASSES = {
    "": "NXroot",
    "entry_1": "NXentry",
    "entry_1/instrument_1": "NXinstrument",
    "entry_1/instrument_1/source_1": "NXsource",
    "entry_1/instrument_1/beam_1": "NXbeam",
    "entry_1/instrument_1/detector_1": "NXdetector",
    "entry_1/sample_1": "NXsample",
    "entry_1/sample_1/transformations": "NXtransformations",
    "entry_1/sample_1/geometry_1": "NXcollection",
    "entry_1/data_1": "NXdata",
    "entry_1/image_1": "NXcollection",
    "entry_1/image_2": "NXcollection",
    "entry_1/ptychodus": "NXcollection",
}
_SOURCE_ENERGY = "entry_1/instrument_1/source_1/energy"
_SOURCE_NOTE = "energy of the photons, where CXI has it; NeXus would have that of the machine here"


def recognise(file: Any) -> bool:
    """Whether an open HDF5 file says that it follows NXcxi_ptycho."""
    return has(file, "entry_1") and text(file, "entry_1/definition") in _DEFINITIONS


def read(path: Path) -> ScanRecord:
    """Read a file; the photon energy is that of the beam, and of the source only where a CXI reader wrote it there."""
    with hdf5_file(path) as file:
        source = member(file, _SOURCE_ENERGY)
        ours = isinstance(source, h5py.Dataset) and "note" in source.attrs
    return read_entry(path, photon_energy=(*_ENERGY, _SOURCE_ENERGY) if ours else _ENERGY)


def write(path: Path, record: ScanRecord) -> None:
    """Write a file with all that the record has; what the beamline alone knows (source, beam size) is left out.

    Raises:
        DataError: patterns, positions, energy, distance or detector pixel are missing.
    """
    with new_file(path) as file:
        write_entry(file, record, TITLE)
        _add_definition(file)
        for name, found in _CLASSES.items():
            if not name or name in file:
                file[name or "/"].attrs["NX_class"] = found
        file.attrs["default"] = "entry_1"
        file["entry_1"].attrs["default"] = "data_1"
        file["entry_1/data_1"].attrs.update({"signal": "data", "axes": ["x", ".", "."], "x_indices": 0, "y_indices": 0})


def _add_definition(file: h5py.File) -> None:
    """What the definition wants beyond CXI: its name, the beam, the motors one by one and the beam on the detector."""
    entry, detector = file["entry_1"], file["entry_1/instrument_1/detector_1"]
    entry.create_dataset("definition", data=_DEFINITIONS[0], track_times=False)
    if "title" not in entry:
        entry.create_dataset("title", data="ptychography scan", track_times=False)
    source = entry["instrument_1/source_1"]
    source["energy"].attrs["note"] = _SOURCE_NOTE
    for name in ("incident_beam_energy", "energy"):
        made = entry.create_dataset(f"instrument_1/beam_1/{name}", data=source["energy"][()], track_times=False)
        made.attrs["units"] = "J"
    pixel = float(detector["x_pixel_size"][()])
    for axis, side in zip("yx", detector["data"].shape[-2:], strict=True):
        made = detector.create_dataset(f"beam_center_{axis}", data=side / 2 * pixel, track_times=False)
        made.attrs["units"] = "m"
    detector.attrs.update({"signal": "data", "axes": "translation:y:x"})
    translation = file["entry_1/sample_1/geometry_1/translation"]
    translation.attrs.update({"axes": "translation:y:x", "interpretation": "image"})
    for column, (axis, vector) in enumerate({"x": (1.0, 0.0, 0.0), "y": (0.0, 1.0, 0.0)}.items()):
        made = entry.create_dataset(f"sample_1/transformations/{axis}", data=translation[:, column], track_times=False)
        made.attrs.update({"units": "m", "transformation_type": "translation", "vector": np.array(vector)})
        entry[f"data_1/{axis}"] = h5py.SoftLink(f"/{made.name.strip('/')}")
