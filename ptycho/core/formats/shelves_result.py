"""The results of PtychoShelves and fold_slice (`.mat`, also of MATLAB 7.3), read only.

object (H, W) or (H, W, layers), probe (N, N, modes) or (N, N, modes, varied), complex
p.lambda (m), p.dx_spec (object pixel, m)
outputs.probe_positions (n, 2), ordered (x, y): pixels from the centre of the object; outputs.fourier_error_out
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from ptycho.core.files.hdf5_values import hdf5_file
from ptycho.core.formats.hdf5 import array
from ptycho.core.formats.hdf5_access import has
from ptycho.core.formats.libraries import matlab
from ptycho.core.formats.record import ScanRecord
from ptycho.core.units import photon_energy_eV
from ptycho.errors import DataError

__all__ = ["read", "recognise"]

_PARTS = ("object", "probe", "p", "outputs")
_WANTED = ("p/lambda", "p/dx_spec", "outputs/probe_positions", "outputs/fourier_error_out", "object", "probe")
_MAGIC = b"MATLAB 5.0 MAT-file"

Array = NDArray[Any]


def recognise(file: Any) -> bool:
    """Whether an open HDF5 file, or a path of an older MATLAB file, is such a result, by what is in it."""
    if not isinstance(file, Path):
        return has(file, *_PARTS, "outputs/probe_positions")
    with file.open("rb") as stream:
        if stream.read(len(_MAGIC)) != _MAGIC:
            return False
    with matlab(file) as io:
        return set(_PARTS) <= {name for name, _, _ in io.whosmat(file)}


def read(path: Path) -> ScanRecord:
    """Read object, probe, positions, pixel and wavelength; of several layers and varied probes the first."""
    found = _of_hdf5(path) if h5py.is_hdf5(path) else _of_mat(path)
    missing = [name for name in ("object", "probe", "outputs/probe_positions") if name not in found]
    if missing:
        raise DataError(f"expected {', '.join(missing)}, found none; save the result again")
    image, probe, positions = found["object"], found["probe"], np.atleast_2d(found["outputs/probe_positions"])
    image = image[..., 0] if image.ndim == 3 else image
    probe = probe[..., 0] if probe.ndim == 4 else probe
    height, width = image.shape
    pixel, wavelength = found.get("p/dx_spec"), found.get("p/lambda")
    errors = found.get("outputs/fourier_error_out", np.empty(0))
    return ScanRecord(
        xcoords=positions[:, 0] + width / 2,
        ycoords=positions[:, 1] + height / 2,
        probe=probe[None] if probe.ndim == 2 else np.moveaxis(probe, -1, 0),
        object=image,
        energy_eV=None if wavelength is None else photon_energy_eV(float(wavelength.reshape(-1)[0])),
        object_pixel_m=None if pixel is None else float(pixel.reshape(-1)[0]),
        losses=tuple(float(value) for value in errors.reshape(-1)) if errors.dtype.kind in "iuf" else (),
    )


def _of_hdf5(path: Path) -> dict[str, Array]:
    """Arrays by their path, their axes in the order of MATLAB."""
    found: dict[str, Array] = {}
    with hdf5_file(path) as file:
        for name in _WANTED:
            values = array(file, name)
            if values is not None:
                pair = values.dtype.names == ("real", "imag")
                found[name] = (values["real"] + 1j * values["imag"] if pair else values).T
    return found


def _of_mat(path: Path) -> dict[str, Array]:
    with matlab(path) as io:
        content = io.loadmat(path, variable_names=_PARTS, simplify_cells=True)
    found: dict[str, Array] = {}
    for name in _WANTED:
        place: Any = content
        for part in name.split("/"):
            place = place.get(part) if isinstance(place, dict) else None
        if place is not None:
            found[name] = np.asarray(place)
    return found
