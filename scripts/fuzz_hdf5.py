"""Ways to damage an HDF5 file by what it holds: its objects, links and attributes."""

from __future__ import annotations

import functools
import random
import zlib
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import h5py
import numpy as np

from ptycho.core.files.damage import DAMAGE

__all__ = ["VALUES", "changed"]

_WRITABLE = 1
"""As HDF5 is told that a file in memory may be changed."""
_LARGEST = 10_000
"""Values of a data set that others of its shape replace."""
VALUES: tuple[Any, ...] = (
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


def changed(content: bytes, rng: random.Random) -> bytes:
    """Objects, links and attributes of a whole HDF5 file changed; HDF5 may crash where it writes to a damaged one."""
    with h5py.File(h5py.h5f.open_file_image(content, _WRITABLE)) as file:
        names: list[str] = []
        file.visit(names.append)
        for _ in range(rng.choice((1, 1, 2, 3))):
            change = rng.choice((_object, _object, _attribute))
            with suppress(*DAMAGE):  # what the change before has left may not take this one
                change(file, rng.choice(names), rng.choice(names), rng)
        file.flush()
        return bytes(file.id.get_file_image())


def _attribute(file: h5py.File, name: str, other: str, rng: random.Random) -> None:
    place = file[rng.choice((name, name, "/"))]
    known = ("units", "NX_class", "default", "signal", "axes", "type", *place.attrs)
    value = rng.choice((*VALUES, other, np.zeros((2, 3)), h5py.Empty("f4"), np.arange(3), ["y", "x"], b"\xb5m"))
    key = rng.choice(known)
    if rng.random() < 0.2 and key in place.attrs:
        del place.attrs[key]
    else:
        place.attrs[key] = value


def _object(file: h5py.File, name: str, other: str, rng: random.Random) -> None:
    """What is at a path removed, and something else put there; 16 MiB are rare, for they take long to read."""
    old = file.get(name)
    shape = old.shape if isinstance(old, h5py.Dataset) and old.size and old.size <= _LARGEST else (4, 8, 8)
    del file[name]
    replace = _packed if rng.random() < 0.01 else rng.choice(_REPLACEMENTS)
    replace(file, name, other, shape, rng)


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
