"""The ptychodus product as NPZ: the names of the HDF5 form, attributes of object and probe with a prefix."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ptycho.core.files.atomic import atomic_path
from ptycho.core.files.npz import open_npz, write_arrays
from ptycho.core.formats.ptychodus_product import product_content, record_of
from ptycho.core.formats.record import ScanRecord

__all__ = ["read", "recognise", "write"]

TITLE = "ptychodus product NPZ"


def recognise(file: Any) -> bool:
    """Whether an open archive is a product, by its members."""
    return all(name in file for name in ("probe_position_x_m", "object", "probe", "object_pixel_width_m"))


def read(path: Path) -> ScanRecord:
    """Read a product."""
    with open_npz(path) as archive:
        return record_of(dict(archive))


def write(path: Path, record: ScanRecord) -> None:
    """Write a product; what it needs is as in the HDF5 form."""
    attributes, arrays = product_content(record, TITLE)
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        write_arrays(stream, {**attributes, **arrays})
