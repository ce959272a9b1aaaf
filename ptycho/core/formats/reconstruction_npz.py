"""The result of a reconstruction (`ptycho.core.reconstruction`), read as a scan without patterns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ptycho.core.formats.record import ScanRecord
from ptycho.core.reconstruction import read_npz

__all__ = ["read", "recognise"]


def recognise(file: Any) -> bool:
    """Whether an open archive is a reconstruction, by its members."""
    return all(key in file for key in ("object", "probe", "frame", "method"))


def read(path: Path) -> ScanRecord:
    """Read object, probe, positions and error history."""
    found = read_npz(path)
    return ScanRecord(
        xcoords=found.xcoords,
        ycoords=found.ycoords,
        probe=found.probe,
        object=found.object,
        origin_px=(float(found.frame.x0), float(found.frame.y0)),
        losses=found.error_history,
        metadata={
            "comments": f"{found.method} by the {found.backend} backend, sub-pixel shifts {found.subpixel}.",
        },
    )
