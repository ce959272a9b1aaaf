"""The formats by name; loads nothing, so that a command line can list them at once."""

from __future__ import annotations

from typing import Literal, NamedTuple

__all__ = ["FORMATS", "SCAN_MAP", "FormatEntry"]


class FormatEntry(NamedTuple):
    """What is known of a format without loading its module."""

    name: str
    """As `--to` takes it."""
    title: str
    """As errors name it."""
    module: str
    """Full name of the module; what it has is `ptycho.core.formats.registry.Format`."""
    container: Literal["npz", "hdf5", "tiff", "folder", "file"]
    """What its `recognise` is given: an open NPZ archive or HDF5 file, or for "file" the path of any other file."""
    suffixes: tuple[str, ...]
    """Of files that are written; reading goes by content."""
    reads: bool = True
    writes: bool = True


_HERE = "ptycho.core.formats."

FORMATS = (
    FormatEntry("scan", "scan NPZ", _HERE + "scan_npz", "npz", (".npz",)),
    FormatEntry("reconstruction", "reconstruction NPZ", _HERE + "reconstruction_npz", "npz", (), writes=False),
    FormatEntry("ptychodus-product-npz", "ptychodus product NPZ", _HERE + "ptychodus_product_npz", "npz", (".npz",)),
    FormatEntry("ptychodus-product", "ptychodus product", _HERE + "ptychodus_product", "hdf5", (".h5", ".hdf5")),
    FormatEntry(
        "ptychodus-training", "ptychodus training data", _HERE + "ptychodus_training", "hdf5", (".h5", ".hdf5")
    ),
    FormatEntry(
        "ptychodus-diffraction", "ptychodus diffraction", _HERE + "ptychodus_diffraction", "hdf5", (".h5", ".hdf5")
    ),
    FormatEntry("ptyd", "ptypy data", _HERE + "ptyd", "hdf5", (".ptyd",)),
    FormatEntry("ptyr", "ptypy result", _HERE + "ptyr", "hdf5", (), writes=False),
    FormatEntry("dp", "data or parameters of pty-chi, PtychoShelves", _HERE + "dp_files", "hdf5", (), writes=False),
    FormatEntry(
        "shelves-hdf5", "PtychoShelves result (MATLAB 7.3)", _HERE + "shelves_result", "hdf5", (), writes=False
    ),
    FormatEntry("eiger", "Eiger master", _HERE + "eiger", "hdf5", (), writes=False),
    FormatEntry("nexus", "NeXus NXcxi_ptycho", _HERE + "nexus", "hdf5", (".nxs",)),
    FormatEntry("cxi", "CXI", _HERE + "cxi", "hdf5", (".cxi",)),
    FormatEntry("nxdata", "NeXus NXdata", _HERE + "nxdata", "hdf5", (), writes=False),
    FormatEntry("emd", "EMD of an electron microscope", _HERE + "electron_files", "hdf5", (), writes=False),
    FormatEntry("shelves", "PtychoShelves result", _HERE + "shelves_result", "file", (), writes=False),
    FormatEntry("electron", "MIB, BLO, SER, DM3, DM4", _HERE + "electron_files", "file", (), writes=False),
    FormatEntry("frames", "EDF, CBF, TIFF, MarCCD", _HERE + "frame_files", "file", (), writes=False),
    FormatEntry("tiff", "TIFF", _HERE + "tiff", "tiff", (".tif", ".tiff"), reads=False),
)
"""In the order in which a file is looked at. Of several with one suffix, that which is meant has to be named, but for
`.npz`, which is a scan."""

SCAN_MAP = FormatEntry("map", "scan map", _HERE + "map_folder", "folder", (), writes=False)
"""No file but a folder that `ptycho dataset map` made of one; wherever a scan is read it stands for it."""
