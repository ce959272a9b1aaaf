"""Heaps of names and of texts in an HDF5 file: lists in them that lead in circles, HDF5 would follow for ever.

It makes room at every step of one of them, until there is no memory left (HDF5 File Format Specification 3.0, III.D
Local Heaps, III.E Global Heap).
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from typing import Any

from ptycho.errors import DataError

__all__ = ["check_heaps"]

_TEXTS, _NAMES = b"GCOL", b"HEAP\0"
"""Of a global heap, and of a local one of version 0."""
_HEAD, _OBJECT = struct.Struct("<4sB3xQ"), struct.Struct("<HHIQ")
_SUPERBLOCK, _FIRST = b"\x89HDF\r\n\x1a\n", 512
"""Its signature is at 0, or behind a user block at 512, 1024, 2048 and so on."""
_LAST = 1
"""What the last free block of a heap has for the place of the next."""
_BLOCKS = 1_000_000
"""Free blocks in all heaps, at most: more take longer to look at than a file is worth."""


def check_heaps(content: Any, end: int) -> None:
    """Raise DataError where a list in a heap has no end.

    Args:
        content: the bytes of the file, as a buffer.
        end: how many of them are looked through.
    """
    find = content.find if isinstance(content, mmap.mmap) else bytes(content).find
    for place in _places(find, _TEXTS, min(end, len(content))):
        _check_objects(content, place)
    base = _base(content)
    left = _BLOCKS
    for place in _places(find, _NAMES, min(end, len(content))) if base is not None else ():
        left -= _check_free(content, place, base or 0, left)


def _places(find: Any, signature: bytes, end: int) -> Iterator[int]:
    place = find(signature, 0, end)
    while place >= 0:
        yield place
        place = find(signature, place + len(signature), end)


def _check_objects(content: Any, place: int) -> None:
    """An object of a heap of texts that is empty in front of others leads to itself."""
    if place + _HEAD.size > len(content):
        return
    _, version, size = _HEAD.unpack_from(content, place)
    end = place + size
    if version != 1 or end > len(content):
        return  # HDF5 refuses it itself
    place += _HEAD.size
    while place + _OBJECT.size <= end:
        number, _, _, length = _OBJECT.unpack_from(content, place)
        step = _OBJECT.size + (length + 7) // 8 * 8 if number else length
        if step == 0:
            raise DataError("expected a whole HDF5 file, found a heap that is damaged; copy it again")
        place += step


def _check_free(content: Any, place: int, base: int, most: int) -> int:
    """The free blocks of a heap of names, each of which leads to the next; their number."""
    of_lengths, of_offsets = _widths(content, base)
    if place + 8 + 2 * of_lengths + of_offsets > len(content):
        return 0
    size = _number(content, place + 8, of_lengths)
    block = _number(content, place + 8 + of_lengths, of_lengths)
    data = base + _number(content, place + 8 + 2 * of_lengths, of_offsets)
    if data + size > len(content):
        return 0  # HDF5 refuses it itself, as what ends the loop below
    seen: set[int] = set()
    while block != _LAST and block + 2 * of_lengths <= size:
        if block in seen or len(seen) == most:
            raise DataError("expected a whole HDF5 file, found a heap of names that is damaged; copy it again")
        seen.add(block)
        following, extent = (_number(content, data + block + shift, of_lengths) for shift in (0, of_lengths))
        if following == 0 or block + extent > size:
            break
        block = following
    return len(seen)


def _base(content: Any) -> int | None:
    """Where HDF5 counts from: the superblock, behind a user block; None where there is none."""
    place = 0
    while place + 16 <= len(content):
        if content[place : place + len(_SUPERBLOCK)] == _SUPERBLOCK:
            return place
        place = 2 * place or _FIRST
    return None


def _widths(content: Any, base: int) -> tuple[int, int]:
    """Bytes of a length and of an offset in a file, by its superblock, whose versions 0 and 1 have them later."""
    first = base + (13 if content[base + 8] < 2 else 9)
    return content[first + 1], content[first]


def _number(content: Any, place: int, width: int) -> int:
    return int.from_bytes(content[place : place + width], "little")
