"""Objects with their place, to compare: of a result, or from a file of any format that is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ptycho.core.formats import registry
from ptycho.core.formats.record import in_pixels
from ptycho.core.quality.comparison import PlacedObject
from ptycho.core.reconstruction import Reconstruction
from ptycho.core.refinement.refinement import Refinement
from ptycho.errors import DataError

__all__ = ["placed_object", "placed_result"]


def placed_result(found: Reconstruction | Refinement, name: str) -> PlacedObject:
    """The object of a result, with its place on the scan's pixel grid."""
    origin = float(found.frame.y0), float(found.frame.x0)
    return PlacedObject(name, found.object, origin, found.xcoords, found.ycoords, found.probe)


def placed_object(path: Path) -> PlacedObject:
    """The object of a reconstruction (or the folder of its run), product or scan, placed on the scan's pixel grid.

    Raises:
        MissingFileError, DataError: no file, no format that is known, or no object in it.
    """
    path = registry.in_folder(path)
    record = registry.read(path)
    if record.object is None:
        raise DataError(f"{path}: expected an object to compare, found none; name a reconstruction or a product")
    if record.xcoords is not None and record.position_unit == "m":
        record = in_pixels(record, "scan")
    x0, y0 = record.origin_px or (0.0, 0.0)
    return PlacedObject(
        name=path.name,
        object=np.asarray(record.object),
        origin=(y0, x0),
        xcoords=record.xcoords,
        ycoords=record.ycoords,
        probe=record.probe,
    )
