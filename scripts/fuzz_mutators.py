"""Ways to damage a file: by its bytes, and by what its container holds. Each depends on nothing but the generator."""

from __future__ import annotations

import functools
import io
import json
import random
import re
import struct
import zipfile
from typing import Any

import fuzz_hdf5
import numpy as np
from fuzz_hdf5 import VALUES

from ptycho.core.files.damage import DAMAGE

__all__ = ["mutated"]

_LONGEST = 1 << 20
"""Bytes of an input, at most."""
_ENDING = 22
"""Bytes after the directory of a ZIP archive."""
_NUMBERS = (0, 1, 2, 7, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 1 << 40, (1 << 63) - 1, (1 << 64) - 1)
_SHAPES: tuple[Any, ...] = (
    (),
    (0,),
    (1,),
    (2, 3),
    (1000000000000,),
    (4, 8, 8),
    (0, 10**12),
    (10**6, 10**6),
    (-1,),
    (1,) * 33,
)
_TYPES = (
    "<u2",
    "<f8",
    ">i4",
    "<c8",
    "<c16",
    "|b1",
    "<U9",
    "|S3",
    "|O",
    "<M8[s]",
    "|V0",
    "[('a', '<f4'), ('b', '<i2')]",
)
_TOKENS = (
    b"[",
    b"{",
    b'"',
    b"\0",
    b"\n",
    b"&a [*a, *a]",
    b"<<: *a",
    b"1e999",
    b"[" * 2000,
    b"\xff\xfe",
    b"-",
    b"9" * 60,
)


def mutated(content: bytes, others: list[bytes], rng: random.Random) -> bytes:
    """A damaged copy of a file, spliced with `others` of its kind now and then."""
    inner = [_bytes]
    if content.startswith(b"\x89HDF"):
        inner += [_hdf5] * 3
    elif content.startswith(b"PK"):
        inner += [_zip] * 4
    elif content.lstrip()[:1] in (b"{", b"["):
        inner += [_json] * 2
    chosen = [rng.choice(inner) for _ in range(rng.choice((1, 1, 1, 2, 4)))]
    for change in sorted(
        chosen, key=lambda change: change is _bytes
    ):  # HDF5 may crash where it writes to a damaged file
        content = change(content, others, rng)
    return content[:_LONGEST]


def _bytes(content: bytes, others: list[bytes], rng: random.Random) -> bytes:
    """Some bits, bytes, numbers, blocks or an end changed."""
    found = bytearray(content or b"\0")
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        place, length = rng.randrange(len(found)), min(rng.choice((1, 2, 4, 8, 64, 512)), len(found))
        kind = rng.randrange(8)
        if kind == 0:
            found[place] ^= 1 << rng.randrange(8)
        elif kind == 1:
            found[place] = rng.randrange(256)
        elif kind == 2:
            size = rng.choice((1, 2, 4, 8))
            number = rng.choice(_NUMBERS) & ((1 << 8 * size) - 1)
            found[place : place + size] = number.to_bytes(size, rng.choice(("little", "big")))
        elif kind == 3:
            del found[place : place + length]
        elif kind == 4:
            found[place:place] = found[place : place + length]
        elif kind == 5:
            other = rng.choice(others)
            start = rng.randrange(len(other) or 1)
            found[place : place + length] = other[start : start + length]
        elif kind == 6 and rng.random() < 0.3:
            del found[place:]
        else:
            found[place:place] = rng.choice(_TOKENS)
        found = found or bytearray(b"\0")
    return bytes(found)


def _json(content: bytes, others: list[bytes], rng: random.Random) -> bytes:
    """An entry of a JSON text replaced, removed, or buried."""
    try:
        found = json.loads(content)
    except DAMAGE:
        return _bytes(content, others, rng)
    places: list[tuple[Any, Any]] = []
    waiting = [found]
    while waiting:
        one = waiting.pop()
        keys: Any = list(one) if isinstance(one, dict) else range(len(one)) if isinstance(one, list) else ()
        places += [(one, key) for key in keys]
        waiting += [one[key] for key in keys]
    if not places or rng.random() < 0.02:
        return json.dumps(rng.choice(VALUES[:10] + VALUES[11:])).encode()
    where, key = rng.choice(places)
    if rng.random() < 0.2:
        del where[key]
    else:
        where[key] = rng.choice(VALUES[:10] + VALUES[11:])
    return json.dumps(found).encode()


def _npy(content: bytes, others: list[bytes], rng: random.Random) -> bytes:
    """The header of an NPY array changed, or its values, or what a text says."""
    if rng.random() < 0.5 and b"'<U" in content[:64] and b"'shape': ()" in content[:80]:
        text = content[content.find(b"\n") + 1 :].decode("utf-32-le", "replace").encode("utf-8", "replace")
        room = io.BytesIO()
        np.save(room, np.array(_json(text, others, rng).decode("utf-8", "replace")))
        return room.getvalue()
    if rng.random() < 0.4 or not content.startswith(b"\x93NUMPY"):
        return _bytes(content, others, rng)
    end = content.find(b"\n") + 1
    header = content[10:end].decode("latin-1")
    header = re.sub(r"\([^)]*\)", lambda _: repr(rng.choice(_SHAPES)), header) if rng.random() < 0.5 else header
    if rng.random() < 0.5:
        header = re.sub(r"'descr': '[^']*'", lambda _: f"'descr': {rng.choice(_TYPES)!r}", header)
    header = header.replace("False", "True") if rng.random() < 0.2 else header
    raw = header.encode("latin-1")
    return content[:8] + min(len(raw), 0xFFFF).to_bytes(2, "little") + raw + content[end:]


def _zip(content: bytes, others: list[bytes], rng: random.Random) -> bytes:
    """Members of a ZIP archive changed, with checksums that are right."""
    try:
        members = list(_members(content))
    except DAMAGE:
        return _bytes(content, others, rng)
    if not members:
        return _bytes(content, others, rng)
    number = rng.randrange(len(members))
    name, inner, method = members[number]
    kind = rng.randrange(12)
    if kind == 0:
        del members[number]
    elif kind == 1:
        members[number] = (rng.choice([one for one, _, _ in members]), inner, method)
    elif kind == 2:
        size = 1 << 27 if rng.random() < 0.001 else 1 << 12
        members[number] = (name, inner + bytes(size), zipfile.ZIP_DEFLATED)
    elif kind == 3:
        members[number] = (name, inner, rng.choice((zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)))
    else:
        change = _json if inner[:1] == b"{" else _hdf5 if inner.startswith(b"\x89HDF") else _npy
        members[number] = (name, change(inner, [each for _, each, _ in members], rng), method)
    return _archive(list({one[0]: one for one in members}.values()))


@functools.lru_cache(64)
def _members(content: bytes) -> tuple[tuple[str, bytes, int], ...]:
    """Name, content and method of each member of a ZIP archive."""
    with zipfile.ZipFile(io.BytesIO(content)) as file:
        return tuple((info.filename, file.read(info), info.compress_type) for info in file.infolist())


def _archive(members: list[tuple[str, bytes, int]]) -> bytes:
    """A ZIP archive; `zipfile` takes longer for it than reading takes."""
    parts, entries, place = [], [], 0
    for member in members:
        local, entry = (_packed_member if len(member[1]) < _LONGEST else _packed_member.__wrapped__)(*member)
        parts.append(local)
        entries.append(entry[:42] + struct.pack("<L", place) + entry[46:])
        place += len(local)
    ending = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, len(entries), len(entries), sum(map(len, entries)), place, 0)
    return b"".join((*parts, *entries, ending))


@functools.lru_cache(256)
def _packed_member(name: str, inner: bytes, method: int) -> tuple[bytes, bytes]:
    """A member of a ZIP archive, and its entry in the directory of one where it comes first."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", method) as file:
        file.writestr(zipfile.ZipInfo(name), inner, method)
        place = file.start_dir
    return made.getvalue()[:place], made.getvalue()[place:-_ENDING]


def _hdf5(content: bytes, others: list[bytes], rng: random.Random) -> bytes:
    """What an HDF5 file holds changed."""
    return fuzz_hdf5.changed(content, rng)
