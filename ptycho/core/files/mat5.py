"""MATLAB files of version 5 looked through before scipy reads them: it believes every tag, and one can end the process.

The layout is that of "MAT-File Format" (The MathWorks): behind 128 bytes lie elements with a tag each, its type and
its number of bytes. Variables are matrices, deflated or not, and hold elements in the order of their class.
"""

from __future__ import annotations

import io
import math
import struct
import zlib
from pathlib import Path
from typing import BinaryIO, NamedTuple

from ptycho.core.files.damage import check_declared, check_regular

__all__ = ["check_mat5"]

_HEAD = 128
_INT32, _UINT32, _MATRIX, _COMPRESSED = 5, 6, 14, 15
_VALUES = frozenset((*range(1, 8), 9, 12, 13, 16, 17, 18))
_CELL, _STRUCT, _OBJECT, _CHAR, _SPARSE, _FUNCTION, _OPAQUE = 1, 2, 3, 4, 5, 16, 17
_COMPLEX = 1 << 11
_AXES, _LEVELS = 32, 64
_BLOCK = 1 << 20


class _Part(NamedTuple):
    """An element: its type, where its bytes lie, and where the next one does."""

    kind: int
    begin: int
    size: int
    end: int


class _Content(NamedTuple):
    """Elements in a row."""

    stream: BinaryIO
    order: str

    def part(self, place: int, end: int) -> _Part:
        """The element at a place; up to four bytes lie in its tag."""
        self.stream.seek(place)
        raw = self.stream.read(8) if place + 8 <= end else b""
        kind, size = struct.unpack(f"{self.order}II", raw) if len(raw) == 8 else (0, 0)
        small = kind >> 16
        if small:
            found = _Part(kind & 0xFFFF, place + 4, small, place + 8)
        else:
            padding = -size % 8 if kind in _VALUES else 0
            found = _Part(kind, place + 8, size, place + 8 + size + padding)
        fits = found.kind in _VALUES and found.size <= 4 if small else found.kind in (*_VALUES, _MATRIX, _COMPRESSED)
        if not fits or found.begin + found.size > end or (found.kind == _MATRIX and found.size % 8):
            raise ValueError(f"an element of type {found.kind} and {found.size} bytes")
        return found

    def parts(self, begin: int, end: int) -> list[_Part]:
        found: list[_Part] = []
        while begin < end:
            found.append(self.part(begin, end))
            begin = found[-1].end
        return found

    def numbers(self, part: _Part, *kinds: int) -> tuple[int, ...]:
        """The integers of an element."""
        if part.kind not in kinds:
            raise ValueError(f"an element of type {part.kind} in the place of integers")
        self.stream.seek(part.begin)
        return struct.unpack(f"{self.order}{part.size // 4}i", self.stream.read(part.size // 4 * 4))

    def check_matrix(self, matrix: _Part, levels: int = _LEVELS) -> None:
        """Raise ValueError unless a matrix, and each in it, has what its class says."""
        if matrix.kind != _MATRIX or not levels:
            raise ValueError(
                f"an element of type {matrix.kind} in the place of a matrix, or more than {_LEVELS} levels"
            )
        if matrix.size:
            for part in self._inner(self.parts(matrix.begin, matrix.begin + matrix.size)):
                self.check_matrix(part, levels - 1)

    def _inner(self, parts: list[_Part]) -> list[_Part]:
        """The matrices in one, by its parts."""
        flags = self.numbers(parts[0], _UINT32)
        kind = flags[0] & 0xFF
        if len(flags) != 2 or parts[0].end - parts[0].begin != 8:
            raise ValueError("a matrix without flags")
        if kind == _OPAQUE:
            return _after(parts, 4, 0)
        axes = self.numbers(parts[1], _INT32, _UINT32)
        if len(axes) > _AXES or min(axes, default=0) < 0:
            raise ValueError(f"a matrix of {len(axes)} axes, or one that is below 0")
        if kind == _CELL:
            return _after(parts, 3, math.prod(axes))
        if kind == _FUNCTION:
            return _after(parts, 3, 1)
        if kind in (_STRUCT, _OBJECT):
            first = 3 if kind == _STRUCT else 4
            length = self.numbers(parts[first], _INT32)
            if len(length) != 1 or length[0] < 1:
                raise ValueError("a structure without names")
            return _after(parts, first + 2, math.prod(axes) * (parts[first + 1].size // length[0]))
        images = 2 if flags[0] & _COMPLEX and kind != _CHAR else 1
        return _after(parts, 3 + images + (2 if kind == _SPARSE else 0), 0, others=False)


def _after(parts: list[_Part], values: int, matrices: int, others: bool = True) -> list[_Part]:
    """The parts behind the first ones, which are values: so many matrices at least."""
    if len(parts) < values + matrices or not all(part.kind in _VALUES for part in parts[: values if others else None]):
        raise ValueError("a matrix with parts missing or of another type")
    return parts[values:] if others else []


def check_mat5(path: Path) -> None:
    """Raise where a MATLAB file of version 5 is not what its tags say; other files pass.

    Raises:
        MissingFileError, DataError: as `ptycho.core.files.damage.check_regular`, and `check_declared`.
        ValueError, IndexError: parts that are missing, or of another type; to be called within `readable`.
    """
    check_regular(path)
    with path.open("rb") as stream:
        head = stream.read(_HEAD)
        if len(head) < _HEAD or 0 in head[:4]:
            return  # version 4, or none of them
        file = _Content(stream, "<" if head[126:128] == b"IM" else ">")
        for variable in file.parts(_HEAD, path.stat().st_size):
            if variable.kind == _COMPRESSED:
                inner = _Content(_inflated(stream, variable), file.order)
                inner.check_matrix(inner.part(0, inner.stream.seek(0, io.SEEK_END)))
            else:
                file.check_matrix(variable)


def _inflated(stream: BinaryIO, variable: _Part) -> BinaryIO:
    """A variable that was deflated, of a size that can be."""
    stream.seek(variable.begin)
    inflate, room, left = zlib.decompressobj(), io.BytesIO(), variable.size
    while left and not inflate.eof:
        part = stream.read(min(left, _BLOCK))
        left -= len(part)
        while part and not inflate.eof:
            room.write(inflate.decompress(part, _BLOCK))
            check_declared(room.tell(), variable.size, "a variable")
            part = inflate.unconsumed_tail
    return room
