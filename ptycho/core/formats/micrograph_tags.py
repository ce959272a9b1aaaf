"""The tags of Digital Micrograph files (DM3, DM4): looked through before a library follows them.

After a head (version, size, byte order) a file is a tree: a group has its number of tags, a value says in whole
numbers what it is made of. A damaged one may declare 2^60 values of no size, or a million where there was an image.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from ptycho.errors import DataError

__all__ = ["check_tags"]

_BYTES = {2: 2, 3: 4, 4: 2, 5: 4, 6: 4, 7: 8, 8: 1, 9: 1, 10: 1, 11: 8, 12: 8}
"""Of one simple value, by its number."""
_STRUCT, _STRING, _ARRAY = 15, 18, 20
_GROUP, _VALUE = 20, 21
_LEVELS, _WORDS, _ELEMENTS = 64, 1 << 10, 1 << 20
"""Levels of groups, numbers that describe a value, elements of one that is no image, at most."""


def check_tags(path: Path) -> None:
    """Raise where a file cannot be followed to its end, or would take far longer than its size.

    Raises:
        DataError: what is no tag, groups too deep, or values that are larger than the file.
    """
    with path.open("rb") as stream:
        _Tags(stream, path.stat().st_size).check()


class _Tags:
    """The tags of an open file."""

    def __init__(self, stream: BinaryIO, size: int) -> None:
        self.stream, self.size = stream, size
        (version,) = struct.unpack(">i", stream.read(4))
        self.wide = version == 4
        self.word = struct.Struct(">q" if self.wide else ">i")

    def check(self) -> None:
        self.stream.seek(self.word.size + 4, 1)  # the size of the file and its byte order
        self._group("", 0)

    def _number(self) -> int:
        return int(self.word.unpack(self.stream.read(self.word.size))[0])

    def _group(self, name: str, level: int) -> None:
        if level > _LEVELS:
            raise _wrong(f"more than {_LEVELS} groups within each other")
        self.stream.seek(2, 1)  # sorted, open
        for _ in range(self._number()):
            self._tag(name, level)

    def _tag(self, group: str, level: int) -> None:
        kind, length = struct.unpack(">BH", self.stream.read(3))
        name = self.stream.read(length).decode("latin-1")
        self.stream.seek(8 * self.wide, 1)  # the size of what follows
        if kind == _GROUP:
            self._group(name, level + 1)
        elif kind == _VALUE:
            self._value((group, name) == ("ImageData", "Data"))
        else:
            raise _wrong(f"a tag of kind {kind}")

    def _value(self, image: bool) -> None:
        if self.stream.read(4) != b"%%%%":
            raise _wrong("a value without its mark")
        count = self._number()
        if not 1 <= count <= _WORDS:
            raise _wrong(f"a value that {count} numbers describe")
        size = _size_of([self._number() for _ in range(count)], None if image else _ELEMENTS)
        if size > self.size - self.stream.tell():
            raise _wrong(f"a value of {size} bytes in a file of {self.size}")
        self.stream.seek(size, 1)


def _size_of(about: Sequence[int], most: int | None) -> int:
    """Bytes of a value, by the numbers that describe it; `most` elements are allowed, any number for None."""
    kind, *inside = about
    if not inside and kind in _BYTES:
        return _BYTES[kind]
    if kind == _STRING and len(inside) == 1:
        return _counted(1, inside[0], most)
    if kind == _STRUCT and len(inside) >= 2 and len(inside) == 2 + 2 * inside[1] and set(inside[3::2]) <= set(_BYTES):
        return sum(_BYTES[field] for field in inside[3::2])
    if kind == _ARRAY and len(inside) >= 2:
        return _counted(_size_of(inside[:-1], most), inside[-1], most)
    raise _wrong(f"a value of the kind {', '.join(map(str, about[:8]))}")


def _counted(size: int, count: int, most: int | None) -> int:
    if count < 0 or (count and not size) or (most is not None and count > most):
        raise _wrong(f"{count} values of {size} bytes")
    return size * count


def _wrong(found: str) -> DataError:
    return DataError(f"expected the tags of Digital Micrograph, found {found}; copy it again, or export the scan")
