"""Batches of patterns: how a scan is cut into them, what is kept of each, and where its patches lie."""

from __future__ import annotations

from dataclasses import dataclass
from operator import is_
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ptycho.core.refinement.device.kernels import Measured, Point
from ptycho.errors import DataError

__all__ = ["Look", "Part", "belonging", "cut_parts", "field_parts", "own_modes", "places", "same"]

Array = NDArray[Any]


@dataclass
class Part:
    """A batch of patterns, and what is kept of it together with the arrays it belongs to."""

    indices: NDArray[np.int64]
    own: slice | None = None
    """Which modes are those of its scan; None: all."""
    begin: int = 0
    """Which of all that are seen, or that are not, its first pattern is."""
    energy: float = 0.0
    measured: Measured | None = None
    held: Any = None
    """Its patterns in the memory of the host, where the device has no room for them."""
    places: tuple[Array, ...] = ()
    """First rows, first columns and remainders (dx, dy) of its patches."""
    corners: Any = None
    """First rows and columns on the device."""
    remainder: tuple[Any, ...] = ()
    """How far patches lie from whole pixels `(b,)` on the device, x and y."""
    moved: tuple[Any, ...] = ()
    """How far the probe is moved in its window `(b, S)` on the device, x and y."""
    root_flux: Any = None
    """What the probe is multiplied with `(b,)` at each of its places, on the device."""
    mixture: Any = None
    """Weights of a probe that varies; None: it is the same in all patterns."""
    ramps: Any = None
    transfer: Any = None
    probes: Any = None
    probed: tuple[Array, ...] = ()
    fields: Any = None
    patches: Any = None
    at: Point | None = None
    moves: Any = None
    probe_moves: Any = None


class Look(NamedTuple):
    """A part at a point: far fields, moved probes, and patches where they had to be cut."""

    fields: Any
    probes: Any
    patches: Any


def cut_parts(
    group: NDArray[np.int64], size: int, lanes: int, scans: NDArray[np.int64] | None, modes: int
) -> list[Part]:
    """Batches of at most `size` patterns of one group, as large as each other, each of one scan; where they are several
    they are as many for every lane.
    """
    if scans is None:
        return [Part(some) for some in _split(group, size, lanes)]
    parts = []
    for scan in np.unique(scans[group]):
        own = slice(scan * modes, (scan + 1) * modes)
        parts += [Part(some, own) for some in _split(group[scans[group] == scan], size, lanes)]
    return parts


def _split(group: NDArray[np.int64], size: int, lanes: int) -> list[NDArray[np.int64]]:
    count = -(-len(group) // size)
    if count > 1:
        count = min(-(-count // lanes) * lanes, len(group))
    return np.array_split(group, count) if count else []


def own_modes(part: Part, probes: Any) -> Any:
    """The modes of the scan of a part."""
    return probes if part.own is None else probes[part.own]


def places(x: Array, y: Array, n: int, shape: tuple[int, ...]) -> tuple[Array, Array, Array, Array]:
    """First row, first column, and remainders (dx, dy) of patches of n pixels: the `fourier` rule.

    Raises:
        DataError: a patch reaches beyond the object.
    """
    column, row = np.rint(x), np.rint(y)
    rows, cols = row.astype(np.int64) - n // 2, column.astype(np.int64) - n // 2
    if rows.min() < 0 or cols.min() < 0 or rows.max() + n > shape[0] or cols.max() + n > shape[1]:
        raise DataError(f"every patch must lie inside the object {shape}, found one outside: enlarge the object")
    return rows, cols, x - column, y - row


def belonging(point: Point) -> tuple[Array, ...]:
    """What moved probes are made of."""
    return point.probe, point.x, point.y, point.flux, point.variation, point.coefficients


def field_parts(point: Point) -> tuple[Array, ...]:
    """What far fields are made of: all but blur and background, which come after them."""
    return point.object, point.stretch, *belonging(point)


def same(some: tuple[Array, ...], others: tuple[Array, ...]) -> bool:
    """Whether these are the very same arrays; points are never changed in place."""
    return len(some) == len(others) and all(map(is_, some, others))
