"""Ways to damage a file: by its bytes, and by what its container holds. Each depends on nothing but the generator."""

from __future__ import annotations

import functools
import io
import json
import random
import re
import zipfile
import zlib
from collections.abc import Callable
from typing import Any

import h5py
import numpy as np

from ptycho.core.files.damage import DAMAGE

__all__ = ["mutated"]

_LONGEST = 1 << 20
"""Bytes of an input, at most."""
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
_VALUES: tuple[Any, ...] = (
    *(
        None,
        True,
        False,
        0,
        -1,
        1,
        3.5,
        1e308,
        -1e-308,
        10**12,
        10**400,
        "",
        "x",
        "\u00b5m\n",
        "/",
        ".",
        "../../x",
        "\0",
    ),
    *([], {}, [[]], [1, "a"], {"a": 1}, ["."] * 9, "9" * 5000, float("nan"), float("inf")),
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
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        content = rng.choice(inner)(content, others, rng)
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
        return json.dumps(rng.choice(_VALUES[:10] + _VALUES[11:])).encode()
    where, key = rng.choice(places)
    if rng.random() < 0.2:
        del where[key]
    else:
        where[key] = rng.choice(_VALUES[:10] + _VALUES[11:])
    return json.dumps(found).encode()


def _npy(content: bytes, others: list[bytes], rng: random.Random) -> bytes:
    """The header of an NPY array changed, or its values."""
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
        with zipfile.ZipFile(io.BytesIO(content)) as file:
            members = [(info.filename, file.read(info), info.compress_type) for info in file.infolist()]
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
        size = 1 << 27 if rng.random() < 0.01 else 1 << 12
        members[number] = (name, inner + bytes(size), zipfile.ZIP_DEFLATED)
    elif kind == 3:
        members[number] = (name, inner, rng.choice((zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)))
    else:
        change = _json if inner[:1] == b"{" else _hdf5 if inner.startswith(b"\x89HDF") else _npy
        members[number] = (name, change(inner, [each for _, each, _ in members], rng), method)
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as file:
        for name, inner, method in {one[0]: one for one in members}.values():
            info = zipfile.ZipInfo(name)
            info.compress_type = method
            file.writestr(info, inner)
    return made.getvalue()


def _hdf5(content: bytes, others: list[bytes], rng: random.Random) -> bytes:
    """Objects, links and attributes of an HDF5 file changed."""
    room = io.BytesIO(content)
    try:
        with h5py.File(room, "r+") as file:
            names: list[str] = []
            file.visit(names.append)
            for _ in range(rng.choice((1, 1, 2, 3))):
                if names:
                    rng.choice((_object, _object, _attribute))(file, rng.choice(names), rng.choice(names), rng)
    except DAMAGE:
        return _bytes(content, others, rng)
    return room.getvalue()


def _attribute(file: h5py.File, name: str, other: str, rng: random.Random) -> None:
    place = file[rng.choice((name, name, "/"))]
    known = ("units", "NX_class", "default", "signal", "axes", "type", *place.attrs)
    value = rng.choice((*_VALUES, other, np.zeros((2, 3)), h5py.Empty("f4"), np.arange(3), ["y", "x"], b"\xb5m"))
    key = rng.choice(known)
    if rng.random() < 0.2 and key in place.attrs:
        del place.attrs[key]
    else:
        place.attrs[key] = value


def _object(file: h5py.File, name: str, other: str, rng: random.Random) -> None:
    """What is at a path removed, and something else put there."""
    old = file.get(name)
    shape = old.shape if isinstance(old, h5py.Dataset) else (4, 8, 8)
    del file[name]
    rng.choice(_REPLACEMENTS)(file, name, other, shape, rng)


def _declared(file: h5py.File, name: str, other: str, shape: Any, rng: random.Random) -> None:
    size = rng.choice((10**12, 10**9, 10**7, 1 << 40))
    file.create_dataset(name, (size, *shape[1:]), "u2", chunks=(1, *shape[1:]), fillvalue=rng.randrange(3))


@functools.cache
def _zeros() -> bytes:
    """16 MiB of zeros, deflated."""
    return zlib.compress(bytes(1 << 24))


def _packed(file: h5py.File, name: str, other: str, shape: Any, rng: random.Random) -> None:
    chunks = rng.choice((1, 1, 1, 50))
    made = file.create_dataset(name, (16 * chunks, 1024, 1024), "u1", chunks=(16, 1024, 1024), compression="gzip")
    for number in range(chunks):
        made.id.write_direct_chunk((16 * number, 0, 0), _zeros())


def _virtual(file: h5py.File, name: str, other: str, shape: Any, rng: random.Random) -> None:
    layout = h5py.VirtualLayout(shape or (1,), "u2")
    layout[...] = h5py.VirtualSource(rng.choice((".", "/etc/passwd", "x%b.h5", "gone.h5")), other, shape or (1,))
    file.create_virtual_dataset(name, layout)


def _elsewhere(file: h5py.File, name: str, other: str, shape: Any, rng: random.Random) -> None:
    size = int(np.prod(shape)) * 2
    file.create_dataset(name, shape, "u2", external=[(rng.choice(("/etc/passwd", "../x", "x")), 0, size)])


def _other_values(file: h5py.File, name: str, other: str, shape: Any, rng: random.Random) -> None:
    kinds = (
        "u2",
        "f8",
        "c8",
        "S3",
        h5py.string_dtype(),
        h5py.vlen_dtype("u2"),
        "bool",
        [("real", "f4"), ("imag", "f4")],
    )
    kind, size = (
        rng.choice(kinds),
        rng.choice((shape, shape[1:], (*shape, 1), (), (0,), (3,), (1, *shape), shape[::-1])),
    )
    file.create_dataset(name, size, kind)


def _link(file: h5py.File, name: str, other: str, shape: Any, rng: random.Random) -> None:
    soft = (other, f"/{other}", "/", ".", name, "..", f"{other}/{other}", "./" * 2000 + other)
    choice = rng.randrange(3)
    if choice == 0:
        file[name] = h5py.SoftLink(rng.choice(soft))
    elif choice == 1:
        file[name] = h5py.ExternalLink(rng.choice(("/etc/passwd", "../x.h5", "input.h5", "gone.h5")), f"/{other}")
    else:
        file[name] = file[rng.choice((other, "/"))] if other in file else file["/"]


def _plain(file: h5py.File, name: str, other: str, shape: Any, rng: random.Random) -> None:
    value = rng.choice(
        (0, -1, 3.5, float("nan"), "text", np.zeros(shape, "u2"), h5py.Empty("f8"), np.arange(5.0), b"\xff")
    )
    file[name] = value


def _nothing(file: h5py.File, name: str, other: str, shape: Any, rng: random.Random) -> None:
    if rng.random() < 0.5:
        file.create_group(name)


_REPLACEMENTS: tuple[Callable[..., None], ...] = (
    *(
        _declared,
        _declared,
        _packed,
        _virtual,
        _virtual,
        _elsewhere,
        _elsewhere,
        _other_values,
        _other_values,
        _link,
        _link,
        _plain,
        _plain,
        _nothing,
    ),
)
