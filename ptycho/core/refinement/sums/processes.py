"""The processes that a refinement is shared by: each has some of the patterns, and all have the same point.

Every process goes the same steps. What a pattern says comes in by sums alone (`passes`), which are those of all
processes, and by a few numbers for each; whatever is decided is decided by these. Of an object that is large each has
a strip of rows (`object_strips`). How numbers go from one process to another is not said here:
`ptycho_torch.distributed` has them go through torch.distributed, and `ptycho.workflows.sharing.connected` by plain
connections.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from ptycho.core.refinement.device.images import Image

__all__ = ["ALONE", "Processes", "gathered", "own_patterns", "shares", "strips"]

Array = NDArray[Any]
Value = TypeVar("Value")


class Processes(Protocol):
    """The processes, seen from one of them; all of them call the same functions in the same order."""

    @property
    def rank(self) -> int:
        """The number of this one, from 0."""

    @property
    def size(self) -> int:
        """How many there are."""

    def sum(self, *arrays: Image) -> tuple[Image, ...]:
        """The sums over all processes of arrays that have the same shapes and types, and are of the same kind, in each
        of them: NumPy's, or images that stay on a device. Where a device adds by itself these stay there; else what
        comes back is NumPy's.
        """

    def first(self, make: Callable[[], Value]) -> Value:
        """What the first process makes, which alone calls `make`."""

    def exchange(self, pieces: Sequence[Image], shapes: Sequence[tuple[int, ...]]) -> list[Image]:
        """What all processes have for this one, wherever `sum` would have it.

        Args:
            pieces: for each process, by its rank; of one type and kind, in all processes.
            shapes: of what each has for this one.
        """


class _Alone:
    """A process of its own."""

    rank, size = 0, 1

    def sum(self, *arrays: Image) -> tuple[Image, ...]:
        """The arrays themselves."""
        return arrays

    def first(self, make: Callable[[], Value]) -> Value:
        """What this process makes."""
        return make()

    def exchange(self, pieces: Sequence[Image], shapes: Sequence[tuple[int, ...]]) -> list[Image]:
        """What this process has for itself."""
        return list(pieces)


ALONE: Processes = _Alone()
"""One process, which has all patterns."""


def shares(x: Array, y: Array, size: int) -> list[NDArray[np.int64]]:
    """The patterns of each of `size` processes, as nearly equal in number as can be, each in one piece of the scan.

    The scan is cut across its longer side, and every part again.

    Args:
        x, y: positions (n,).
        size: number of processes.

    Returns:
        Indices, sorted; all n of them once.

    >>> [part.tolist() for part in shares(np.arange(5.0), np.zeros(5), 2)]
    [[0, 1], [2, 3, 4]]
    """
    return [np.sort(part) for part in _parted(np.arange(len(x)), np.asarray(x), np.asarray(y), size)]


def _parted(some: NDArray[np.int64], x: Array, y: Array, size: int) -> list[NDArray[np.int64]]:
    if size == 1:
        return [some]
    along = x if len(some) < 2 or np.ptp(x[some]) >= np.ptp(y[some]) else y
    ordered = some[np.argsort(along[some], kind="stable")]
    first = size // 2
    cut = len(some) * first // size
    return [*_parted(ordered[:cut], x, y, first), *_parted(ordered[cut:], x, y, size - first)]


def strips(y: Array, size: int) -> list[NDArray[np.int64]]:
    """The patterns of each of `size` processes, as nearly equal in number as can be, one below the other.

    Args:
        y: positions (n,).
        size: number of processes.

    Returns:
        Indices, sorted; all n of them once.

    >>> [part.tolist() for part in strips(np.array([2.0, 0.0, 3.0, 1.0]), 2)]
    [[1, 3], [0, 2]]
    """
    return [np.sort(part) for part in np.array_split(np.argsort(y, kind="stable"), size)]


def own_patterns(x: Array, y: Array, processes: Processes) -> NDArray[np.bool_]:
    """(n,) True for the patterns at these positions that are those of this process."""
    own = np.zeros(len(x), bool)
    own[shares(x, y, processes.size)[processes.rank]] = True
    return own


def gathered(
    processes: Processes,
    found: Iterable[tuple[Any, ...]],
    order: NDArray[np.int64],
    shapes: Sequence[tuple[int, ...]],
) -> Iterator[tuple[Any, ...]]:
    """What was found for each pattern by the process that has it, for all patterns.

    Args:
        processes: each brings what it found.
        found: for some patterns their indices, and arrays of a row each; for every pattern of this process once.
        order: all patterns, (n,) indices.
        shapes: of a row of each array.

    Yields:
        Alone, what was found as it comes; else once, `order` and the arrays of all in that order.
    """
    if processes.size == 1:
        yield from found
        return
    place = np.zeros(1 + int(order.max(initial=-1)), np.int64)
    place[order] = np.arange(len(order))
    rows = [np.zeros((len(order), *shape)) for shape in shapes]
    for indices, *values in found:
        for sums, value in zip(rows, values, strict=True):
            sums[place[indices]] = value
    yield order, *processes.sum(*rows)
