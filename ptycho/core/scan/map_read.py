"""The scan map: a folder with the frames of a scan as plain arrays, so that any scan can be memory-mapped.

specs/data_contracts.md, section 5, is the normative description. A map is complete: it is read without its source,
but refused where the source is there and has changed.
"""

from __future__ import annotations

from collections import ChainMap
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from ptycho.core.files.damage import DAMAGE, check_regular, readable
from ptycho.core.scan.map_manifest import (
    Layout,
    Manifest,
    check_fresh,
    is_map,
    map_folder,
    renewal,
)
from ptycho.core.scan.npz_file import parse_scan, scan_archive
from ptycho.core.scan.scan import ScanFile, check_shapes
from ptycho.errors import DataError

__all__ = [
    "FIELDS",
    "STACKS",
    "is_map",
    "map_beside",
    "map_folder",
    "open_map",
]

Array = NDArray[Any]

FIELDS = "fields.npz"
"""Member with everything that has no frames, by the keys of a scan file."""

STACKS = {"diffraction": "diff3d", "Y": "Y", "mask": "mask"}
"""Members with a frame per pattern (`.npy`), and the keys of a scan file that they stand for."""


def open_map(folder: Path | str, units: str | None = None, source: Path | None = None) -> ScanFile:
    """The scan of a map; its frames are memory maps, which outlive this call. Values are not checked.

    Args:
        folder: the map.
        units: 'amplitude' or 'counts', instead of what the map says or leaves open.
        source: the scan it has to be of; None looks for it beside the map and where it was.

    Raises:
        DataError: one line that names the folder or the member: no map, a newer or damaged one, a source that changed.
    """
    with readable(Path(folder), "a whole scan map", advice="make the map again"):
        return _opened(Path(folder), units, source)


def _opened(folder: Path, units: str | None, source: Path | None) -> ScanFile:
    manifest = Manifest.read(folder)
    check_fresh(folder, manifest, source)
    if not {"diffraction"} <= set(manifest.members) <= set(STACKS):
        listed = ", ".join(manifest.members) or "nothing"
        raise DataError(f"{folder}: expected diffraction and at most {', '.join(STACKS)} in it, found {listed}")
    again = f"make the map again ({renewal(source or Path(manifest.source.path), folder)})"
    held: dict[str, Any] = {
        STACKS[name]: _member(folder / f"{name}.npy", layout, again) for name, layout in manifest.members.items()
    }
    if manifest.units is not None:
        held["units"] = np.array(manifest.units)
    if not (folder / FIELDS).is_file():
        raise DataError(f"{folder / FIELDS}: expected this member of a scan map, found none; {again}")
    with scan_archive(folder / FIELDS) as archive:
        scan = parse_scan(ChainMap(held, archive), units)  # type: ignore[arg-type]  # it is only read
        check_shapes(scan)
    return scan


def map_beside(source: Path | str) -> Path | None:
    """The map that lies beside a scan file, None where there is none."""
    source = Path(source)
    folder = map_folder(source)
    return folder if is_map(folder) and source.is_file() else None


def _member(file: Path, layout: Layout, again: str) -> Array:
    """A member as a memory map, after a look at whether it is what the manifest says."""
    wanted = f"shape {layout.shape} of {layout.dtype}"
    if not file.is_file():
        raise DataError(f"{file}: expected this member of a scan map, {wanted}, found none; {again}")
    try:
        check_regular(file)
        array = npy.open_memmap(file, mode="r")
    except DAMAGE as error:
        raise DataError(f"{file}: expected an array, {wanted}, found a damaged one ({error}); {again}") from error
    extra = file.stat().st_size - array.offset - array.nbytes
    if array.shape != layout.shape or array.dtype.str != layout.dtype or extra:
        found = f"shape {array.shape} of {array.dtype.str}" + (f" and {extra} bytes more" if extra else "")
        raise DataError(f"{file}: expected {wanted}, found {found}; {again}")
    return array
