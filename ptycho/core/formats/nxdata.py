"""Raw NeXus files of other definitions, read only: patterns and motor positions of an NXdata group.

Looked for by class and attribute as NeXus has it, not by name: the group that `default` attributes lead to, else the
first NXdata whose `signal` has patterns; positions are its fields `x` and `y`, or those `axes` whose names end so.
The geometry is taken from the NXdetector, NXbeam and NXmonochromator of the entry.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from ptycho.core.files.hdf5_types import attribute
from ptycho.core.files.hdf5_values import all_values, hdf5_file, own_groups
from ptycho.core.formats.hdf5 import h5_frames, quantity, square_pixel, units_factor
from ptycho.core.formats.hdf5_access import dataset, member
from ptycho.core.formats.record import ScanRecord
from ptycho.errors import DataError

__all__ = ["read", "recognise"]

_DEPTH = 6
"""Levels of groups that are looked through."""

_ENERGY = {
    "NXbeam": ("incident_energy", "incident_beam_energy", "energy"),
    "NXmonochromator": ("energy",),
}


def recognise(file: Any) -> bool:
    """Whether an open HDF5 file has an NXdata group with patterns."""
    return _data_group(file) is not None


def read(path: Path) -> ScanRecord:
    """Read patterns, positions and geometry.

    Raises:
        DataError: positions whose number is not that of the patterns, or units that are not known.
    """
    with hdf5_file(path) as file:
        group = _data_group(file)
        if group is None:
            raise DataError("expected an NXdata group with patterns (n, N, N) as its signal, found none")
        name = str(_signal(group))
        signal = dataset(group, name)
        entry = file[f"/{group.name.strip('/').partition('/')[0]}"]
        positions = _positions(group, signal.shape[:-2])
        detectors = list(_groups(entry, "NXdetector"))
        widths, heights = (_first(detectors, (f"{axis}_pixel_size",), "length") for axis in "xy")
        distance = _first(detectors, ("distance",), "length")
        energies = (_first(list(_groups(entry, kind)), names, "energy") for kind, names in _ENERGY.items())
        energy, where = next((value for value in energies if value), None), f"{group.name}/{name}"
    return ScanRecord(
        patterns=h5_frames(path, [where]),
        units="counts",
        xcoords=None if positions is None else positions[0],
        ycoords=None if positions is None else positions[1],
        position_unit="m",
        energy_eV=energy,
        distance_m=None if distance is None else abs(distance),
        detector_pixel_m=square_pixel(widths, heights, "detector"),
    )


def _data_group(file: h5py.File) -> h5py.Group | None:
    group: h5py.Group = file
    for _ in range(_DEPTH):
        if isinstance(group, h5py.Group) and isinstance(told := attribute(group, "default"), str):
            group = member(group, told)
    if isinstance(group, h5py.Group) and _is_class(group, "NXdata") and _signal(group):
        return group
    return next((found for found in _groups(file, "NXdata") if _signal(found)), None)


def _signal(group: h5py.Group) -> str | None:
    """Name of the data set with patterns: the `signal` attribute, the older attribute on the data set, or `data`."""
    told = attribute(group, "signal")
    names = [told] if isinstance(told, str) else [name for name in group if "signal" in _attributes(group, name)]
    for name in (*names, "data"):
        found = member(group, name)
        if isinstance(found, h5py.Dataset) and found.ndim >= 3 and found.dtype.kind in "iuf":
            return str(name)
    return None


def _positions(group: h5py.Group, leading: tuple[int, ...]) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """(x, y) in metres, one per pattern; the two axes of a raster make a grid."""
    told = attribute(group, "axes")
    listed = () if told is None else np.atleast_1d(told)
    axes = [name.decode() if isinstance(name, bytes) else str(name) for name in listed]
    found = []
    for axis in "xy":
        names = [axis, *(name for name in (*axes, *group) if name.lower().removesuffix("_value_set").endswith(axis))]
        name = next((name for name in names if isinstance(member(group, name), h5py.Dataset)), None)
        if name is None:
            return None
        found.append(
            np.asarray(all_values(dataset(group, name)), np.float64) * units_factor(dataset(group, name), "length")
        )
    n = int(np.prod(leading))
    if all(values.size == n for values in found):
        return found[0].reshape(-1), found[1].reshape(-1)
    if len(leading) == 2 and (found[1].size, found[0].size) == leading:
        y, x = np.meshgrid(found[1].reshape(-1), found[0].reshape(-1), indexing="ij")
        return x.reshape(-1), y.reshape(-1)
    sizes = f"{found[0].size} and {found[1].size}"
    raise DataError(f"{group.name}: expected one x and y per pattern, {n} of each, found {sizes}; correct the file")


def _groups(group: h5py.Group, kind: str, depth: int = _DEPTH) -> Iterator[h5py.Group]:
    """Groups of a class, this one first, each once, depth first."""
    yield from (found for found in own_groups(group, depth) if _is_class(found, kind))


def _is_class(group: h5py.Group, kind: str) -> bool:
    found = attribute(group, "NX_class")
    return (found.decode() if isinstance(found, bytes) else found) == kind


def _first(groups: list[h5py.Group], names: tuple[str, ...], kind: str) -> float | None:
    found = (quantity(group, name, kind) for group in groups for name in names)
    return next((value for value in found if value), None)


def _attributes(group: h5py.Group, name: str) -> Any:
    """The attributes of what a group itself has; what it links to in other files need not be there."""
    own = group.get(name, getclass=True, getlink=True) is h5py.HardLink
    return group[name].attrs if own else ()
