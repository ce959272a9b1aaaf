"""Positions of a scan in another frame: mirrored and turned."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from ptycho.core.formats.record import ScanRecord, moved, required
from ptycho.core.geometry import object_frame
from ptycho.errors import DataError

__all__ = ["turned"]


def turned(record: ScanRecord, flip: str = "", rotation_deg: float = 0.0) -> ScanRecord:
    """Positions with the sign of some axes ('x', 'y', 'xy') turned, then all of them turned from x towards y.

    `x' = x cos a - y sin a, y' = x sin a + y cos a`. Pixels are put into the smallest frame that holds every patch.

    Raises:
        DataError: no positions, or they belong to an object already.
    """
    record = required(record, "turned", "xcoords")
    if record.object is not None:
        raise DataError("--flip, --rotation: expected positions without an object, found those of one; drop the flag")
    sign_x, sign_y = (-1.0 if axis in flip else 1.0 for axis in "xy")
    cosine, sine = np.cos(np.deg2rad(rotation_deg)), np.sin(np.deg2rad(rotation_deg))
    changes: dict[str, Any] = {}
    for end in ("", "_start"):
        x, y = getattr(record, f"xcoords{end}"), getattr(record, f"ycoords{end}")
        if x is not None and y is not None:
            x, y = sign_x * x, sign_y * y
            changes |= {f"xcoords{end}": cosine * x - sine * y, f"ycoords{end}": sine * x + cosine * y}
    if record.position_unit == "m" or record.side is None:
        return replace(record, **changes)
    frame = object_frame(changes["xcoords"], changes["ycoords"], record.side)
    there = replace(record, **changes, origin_px=None)
    return moved(there, "px", lambda x: x - frame.x0, lambda y: y - frame.y0)
