"""Positions of a scan in another frame: mirrored and turned."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.core.formats.record import ScanRecord, moved, required
from ptycho.core.geometry import object_frame
from ptycho.errors import DataError

__all__ = ["turned", "turned_points"]


def turned_points(
    x: NDArray[np.float64], y: NDArray[np.float64], flip: str = "", rotation_deg: float = 0.0
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Points (n,) with the sign of some axes turned, and then turned from x towards y, as `turned` says."""
    x, y = (-values if axis in flip else values for axis, values in (("x", x), ("y", y)))
    cosine, sine = np.cos(np.deg2rad(rotation_deg)), np.sin(np.deg2rad(rotation_deg))
    return cosine * x - sine * y, sine * x + cosine * y


def turned(record: ScanRecord, flip: str = "", rotation_deg: float = 0.0) -> ScanRecord:
    """Positions with the sign of some axes ('x', 'y', 'xy') turned, then all of them turned from x towards y.

    `x' = x cos a - y sin a, y' = x sin a + y cos a`. Pixels are put into the smallest frame that holds every patch.

    Raises:
        DataError: no positions, or they belong to an object already.
    """
    record = required(record, "turned", "xcoords")
    if record.object is not None:
        raise DataError("--flip, --rotation: expected positions without an object, found those of one; drop the flag")
    changes: dict[str, Any] = {}
    for end in ("", "_start"):
        x, y = getattr(record, f"xcoords{end}"), getattr(record, f"ycoords{end}")
        if x is not None and y is not None:
            x, y = turned_points(x, y, flip, rotation_deg)
            changes |= {f"xcoords{end}": x, f"ycoords{end}": y}
    if record.position_unit == "m" or record.side is None:
        return replace(record, **changes)
    frame = object_frame(changes["xcoords"], changes["ycoords"], record.side)
    there = replace(record, **changes, origin_px=None)
    return moved(there, "px", lambda x: x - frame.x0, lambda y: y - frame.y0)
