"""Attributes of variable length in an HDF5 file: HDF5 makes room for what each says that it has, up to 4 GiB a value.

HDF5 tells nothing of that length before. The records of such attributes are found in the file by the type that they
have, and checked against the file (HDF5 File Format Specification 3.0, IV.A.2.d Datatype, IV.A.2.m Attribute).
"""

from __future__ import annotations

import math
import re
import struct
from typing import Any, NamedTuple

import numpy as np

from ptycho.core.files.damage import check_declared, one_line
from ptycho.errors import DataError

__all__ = ["check_attributes"]

_VARIABLE = re.compile(rb"\x19[\x00\x01\x11\x21][\x00\x01]\x00\x10\x00\x00\x00")
"""How the type of a value of variable length begins: class 9, a sequence or a text, 16 bytes."""
_HEAD = struct.Struct("<BxHHH")
"""Of a record: its version, bytes of the name, of the type and of the shape."""
_REFERENCE = 16
"""Bytes of a value at its place: its length (4), and where it lies."""
_LONGEST_NAME, _LARGEST_RANK, _MOST = 128, 32, 1 << 16
"""Bytes of a name, dimensions, and values of an attribute that are looked at."""
_TYPES = 100_000
"""Types of variable length in a file, at most: more take longer to look at than a file is worth."""


class _Record(NamedTuple):
    """An attribute of variable length."""

    name: str
    place: int
    """Where its values begin."""
    values: int
    item: int
    """Bytes of an element."""


def check_attributes(content: Any, end: int) -> None:
    """Raise DataError where attributes of variable length declare what a file cannot hold.

    Args:
        content: the bytes of the file, as a buffer.
        end: how many of them are looked through.
    """
    for number, found in enumerate(_VARIABLE.finditer(content, 0, min(end, len(content)))):
        if number == _TYPES:
            raise DataError(f"expected at most {_TYPES} types of texts, found more; copy it again, or pack it anew")
        record = _record(content, found.start())
        if record is not None:
            count = max(0, min(record.values, _MOST, (len(content) - record.place) // _REFERENCE))
            raw = np.frombuffer(content, "<u4", 4 * count, record.place)
            declared = int(raw[::4].sum(dtype=np.int64)) * record.item
            del raw  # a map of the file cannot be closed while an array looks at it
            check_declared(declared, len(content), f"attribute {record.name}")


def _record(content: Any, place: int) -> _Record | None:
    """The record whose type begins at a place; None where it is that of a data set."""
    for version, head, step in ((1, 8, 8), (2, 8, 1), (3, 9, 1)):
        for length in range(1, _LONGEST_NAME):
            begin = place - _padded(length, step) - head
            if begin < 0:
                break
            found, name, kind, shape = _HEAD.unpack_from(content, begin)
            if (found, name) == (version, length) and kind:
                dimensions = place + _padded(kind, step)
                values = dimensions + _padded(shape, step)
                if values < len(content):
                    text = bytes(content[begin + head : begin + head + length - 1]).decode("utf-8", "replace")
                    size = struct.unpack_from("<I", content, place + 12)[0]
                    return _Record(one_line(text), values, _count(content, dimensions), min(max(size, 1), 1 << 20))
    return None


def _count(content: Any, place: int) -> int:
    """Number of values, by the shape at a place."""
    version, rank = content[place], content[place + 1]
    first = place + (8 if version == 1 else 4)
    if rank > _LARGEST_RANK or first + 8 * rank > len(content):
        return 0
    return math.prod(struct.unpack_from(f"<{rank}Q", content, first))


def _padded(size: int, step: int) -> int:
    return -(-size // step) * step
