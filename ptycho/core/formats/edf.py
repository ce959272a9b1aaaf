"""The images of an EDF file of the ESRF: a header of `{ name = value ; }` and plain numbers, one after the other.

Read here, of the file's own size: fabio takes what is missing for zeros, and looks for ever for some of it.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ptycho.errors import DataError

__all__ = ["EdfImage", "edf_images", "read_edf"]

_HEADER = 1 << 18
_END = re.compile(rb"\}[ \t]*\r?\n")
_TYPES = {
    **{"signedbyte": "i1", "unsignedbyte": "u1", "signedshort": "i2", "unsignedshort": "u2"},
    **{"signedinteger": "i4", "unsignedinteger": "u4", "signedlong": "i4", "unsignedlong": "u4"},
    **{"signed64": "i8", "unsigned64": "u8"},
    **{"unsignedshortinteger": "u2", "signed8": "i1", "unsigned8": "u1", "signed16": "i2", "unsigned16": "u2"},
    **{"signed32": "i4", "unsigned32": "u4"},
    **{"float32": "f4", "float": "f4", "floatvalue": "f4", "floatieee32": "f4", "real": "f4"},
    **{"double": "f8", "doublevalue": "f8", "doubleieee64": "f8"},
}


class EdfImage(NamedTuple):
    """Where an image lies in its file, and what it is."""

    offset: int
    shape: tuple[int, int]
    """Rows, columns."""
    dtype: np.dtype[Any]


def edf_images(path: Path) -> list[EdfImage]:
    """The images of a file in their order; their headers are read.

    Raises:
        DataError: the file ends early, an image is compressed or lies in another file, or there is none.
    """
    found, size, place = [], path.stat().st_size, 0
    with path.open("rb") as stream:
        while place < size:
            stream.seek(place)
            head = stream.read(_HEADER)
            begin, end = len(head) - len(head.lstrip()), _END.search(head)
            if begin == len(head):
                break
            if head[begin : begin + 1] != b"{" or end is None:
                raise DataError(f"{path}: expected a whole EDF file, found no header at byte {place}; copy it again")
            entries = _entries(head[begin + 1 : end.start()].decode("latin-1"))
            place += end.end()
            if "dim_1" in entries:
                image, length = _image(path, entries, place)
                if place + length > size:
                    raise DataError(f"{path}: expected a whole EDF file, found one that ends early; copy it again")
                found.append(image)
                place += length
    if not found:
        raise DataError(f"{path}: expected an image in an EDF file, found none; export it anew")
    return found


def _entries(header: str) -> dict[str, str]:
    """Values by name, in small letters."""
    pairs = (entry.partition("=") for entry in header.split(";"))
    return {name.strip().lower(): value.strip() for name, _, value in pairs}


def read_edf(path: Path, image: EdfImage) -> NDArray[Any]:
    """The values (rows, columns) of an image."""
    rows, columns = image.shape
    return np.fromfile(path, image.dtype, rows * columns, offset=image.offset).reshape(image.shape)


def _image(path: Path, entries: dict[str, str], place: int) -> tuple[EdfImage, int]:
    """An image by its header, and the length of its values in bytes."""
    if "edf_binaryfilename" in entries:
        raise DataError(f"{path}: expected its values in the file itself, found a reference to another; convert it")
    if entries.get("compression", "none").lower() not in ("none", "nocompression", ""):
        raise DataError(f"{path}: expected plain values, found {entries['compression']} compression; convert it")
    kind = _TYPES.get(entries.get("datatype", "").lower())
    columns, rows = int(entries["dim_1"]), int(entries.get("dim_2", "1"))
    if kind is None or min(columns, rows) < 1 or int(entries.get("dim_3", "1")) != 1:
        found = f"{entries.get('datatype', 'no type')}, {rows} x {columns}"
        raise DataError(f"{path}: expected an image of real numbers, found {found}; export it anew")
    order = ">" if entries.get("byteorder", "").lower() == "highbytefirst" else "<"
    dtype = np.dtype(order + kind)
    declared = rows * columns * dtype.itemsize
    return EdfImage(place, (rows, columns), dtype), max(declared, int(entries.get("size", declared)))
