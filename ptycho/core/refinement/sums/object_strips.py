"""Strips of an object that is too large for one process.

An object is worked on in a dozen arrays of its size. Where these are too large for one process, each *owns* some rows,
over the whole width, and *holds* these and a rim, as far as its patterns reach. What its patterns say of the rim goes
to who owns it, and comes back complete: sums along the seams are all that a pass exchanges. Sums over an object go over
the rows owned. The filter of slow modulations (`preconditioner`) is the one thing that sees all rows at once: rows are
transformed where they are, columns by who has these columns, which takes one exchange there and one back.

All slices of a thick object are cut in the same rows: patches are of one size in all of them, wherever the wave goes
within its window.

Everything is added in the order of the processes, so that a run gives the same digits again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from ptycho.core.geometry import ObjectFrame
from ptycho.core.refinement.device.images import Image, Images, NumpyImages
from ptycho.core.refinement.device.numbers import Number
from ptycho.core.refinement.sums.object_share import Rows
from ptycho.core.refinement.sums.processes import ALONE, Processes

__all__ = ["Strips"]

Array = NDArray[Any]
Value = TypeVar("Value")

SAVED = 0.25
"""Part of the rows of an object that a process has to be spared, else each has the whole."""


@dataclass(frozen=True)
class Strips:
    """Some rows of it; see `Strips.laid`."""

    processes: Processes
    height: int
    width: int
    parts: tuple[Rows, ...]
    """The patterns of every process."""
    owned: tuple[range, ...]
    """Rows of every process, each of one."""
    held: tuple[range, ...]
    """The same with the rim: a row more at least, wherever there is one."""

    whole = False

    @classmethod
    def laid(
        cls,
        parts: Sequence[Rows],
        home: Array,
        y: Array,
        n: int,
        shape: tuple[int, int],
        room: int,
        processes: Processes = ALONE,
    ) -> Strips:
        """The strip of every process.

        Args:
            parts: the patterns of each (`processes.strips`).
            home: (n,) y of the patterns in the object, where the scan has them.
            y: (n,) likewise, where they are now.
            n: pixels of a patch along an axis.
            shape: (H, W) of the object.
            room: how far from its home a pattern may go, pixels.
            processes: that share it, seen from one of them.
        """
        tops = [np.rint(np.minimum(y[some], home[some]).min()) - n // 2 for some in parts]
        ends = [np.rint(np.maximum(y[some], home[some]).max()) - n // 2 + n for some in parts]
        # patterns that have moved far may lie above those of the strip before
        cuts = np.maximum.accumulate(np.clip([0, *tops[1:], shape[0]], 0, shape[0]).astype(int)).tolist()
        owned = [range(begin, end) for begin, end in pairwise(cuts)]
        held = [
            range(int(max(0, min(own.start, top - room) - 1)), int(min(shape[0], max(own.stop, end + room) + 1)))
            for own, top, end in zip(owned, tops, ends, strict=True)
        ]
        return cls(processes, *shape, tuple(parts), tuple(owned), tuple(held))

    @property
    def spares(self) -> bool:
        """Whether it is worth it."""
        return max(map(len, self.held)) <= (1 - SAVED) * self.height

    @property
    def first_row(self) -> int:
        """The first one held."""
        return self.held[self._rank].start

    @property
    def patterns(self) -> Rows:
        """Those read here."""
        return self.parts[self._rank]

    @property
    def _rank(self) -> int:
        return self.processes.rank

    @property
    def _own(self) -> slice:
        """The rows owned, of those held."""
        owned = self.owned[self._rank]
        return slice(owned.start - self.first_row, owned.stop - self.first_row)

    def own_patterns(self, x: Array, y: Array) -> NDArray[np.bool_]:
        """Those of a strip."""
        own = np.zeros(len(x), bool)
        own[self.patterns] = True
        return own

    def shape(self, image: Image) -> tuple[int, int]:
        """That of all strips together."""
        return self.height, self.width

    def frame(self, whole: ObjectFrame) -> ObjectFrame:
        """Some rows of it."""
        return ObjectFrame(len(self.held[self._rank]), whole.width, whole.x0, whole.y0 + self.first_row)

    def images(self, engine: Images) -> Images:
        """NumPy's: what the processes exchange is in the memory of the host."""
        return NumpyImages()

    def sums(self, numbers: Array, image: Array, *others: Array) -> tuple[Array, ...]:
        """Objects are added along the seams."""
        numbers, *rest = self.processes.sum(numbers, *others)
        return (numbers, self._seamed(image), *rest)

    def _seamed(self, image: Array) -> Array:
        """What all have found, on the rows held here."""
        mine = self.held[self._rank]
        pieces = [image[..., _common(mine, owned, mine), :] for owned in self.owned]
        own = self.owned[self._rank]
        shapes = [(*image.shape[:-2], len(_overlap(held, own)), self.width) for held in self.held]
        total = np.zeros((*image.shape[:-2], len(own), self.width), image.dtype)
        for held, piece in zip(self.held, self.processes.exchange(pieces, shapes), strict=True):
            total[..., _common(held, own, own), :] += piece
        return self._with_rims(total)

    def _with_rims(self, owned: Array) -> Array:
        """The rows held, from those owned."""
        return self._taken(owned, self.owned[self._rank], [np.arange(held.start, held.stop) for held in self.held])

    def _taken(self, rows: Array, there: range, wanted: Sequence[Rows]) -> Array:
        """The rows that this process wants, from who owns them.

        Args:
            rows: (..., h, W).
            there: which rows these are, those owned at least.
            wanted: by every process.
        """
        owned = self.owned[self._rank]
        pieces = [rows[..., asked[_within(asked, owned)] - there.start, :] for asked in wanted]
        mine = wanted[self._rank]
        places = [_within(mine, other) for other in self.owned]
        shapes = [(*rows.shape[:-2], int(place.sum()), rows.shape[-1]) for place in places]
        made = np.empty((*rows.shape[:-2], len(mine), rows.shape[-1]), rows.dtype)
        for place, piece in zip(places, self.processes.exchange(pieces, shapes), strict=True):
            made[..., place, :] = piece
        return made

    def lit(self, light: Array) -> Array:
        """Added along the seams."""
        return self._seamed(light)

    def mended(self, values: Array) -> Array:
        """Two rows come from who owns them."""
        values[..., [0, -1], :] = self.fetched(values, lambda rows: rows[[0, -1]])
        return values

    def total(self, values: Array) -> float:
        """Every row counts once."""
        return float(self.processes.sum(values[self._own].sum(dtype=np.float64, keepdims=True))[0].item())

    def added(self, values: Array) -> Array:
        """Those of all strips."""
        return self.processes.sum(values)[0]

    def largest(self, value: float) -> float:
        """Told by all."""
        told = np.zeros(self.processes.size)
        told[self._rank] = value
        return float(self.processes.sum(told)[0].max())

    def dot(self, images: Images, pairs: Sequence[tuple[Image, Image]]) -> Number:
        """Every row counts once."""
        (one, other), *rest = pairs
        here = images.dot([(np.asarray(one)[..., self._own, :], np.asarray(other)[..., self._own, :])])
        return float(self.processes.sum(np.array([float(here)]))[0][0]) + float(images.dot(rest))

    def frequencies(self, padded: tuple[int, int]) -> tuple[Array, Array]:
        """Those of some columns of the spectrum."""
        columns = self._columns(padded)[self._rank]
        return np.fft.fftfreq(padded[0])[:, None], np.fft.rfftfreq(padded[1])[None, columns]

    def _columns(self, padded: tuple[int, int]) -> list[slice]:
        """Of the half spectrum, of every process."""
        cuts = np.linspace(0, padded[1] // 2 + 1, self.processes.size + 1).round().astype(int).tolist()
        return [slice(begin, end) for begin, end in pairwise(cuts)]

    def filtered(self, values: Array, factor: Array, padded: tuple[int, int]) -> Array:
        """Rows are transformed where they are, columns by who has them."""
        columns = self._columns(padded)
        mine = columns[self._rank]
        rows = scipy.fft.rfft(values[self._own], n=padded[1], axis=1)
        shapes = [(len(owned), mine.stop - mine.start) for owned in self.owned]
        blocks = self.processes.exchange([rows[:, each] for each in columns], shapes)
        spectrum = scipy.fft.fft(np.concatenate(blocks), n=padded[0], axis=0, overwrite_x=True)
        spectrum *= factor
        spectrum = scipy.fft.ifft(spectrum, axis=0, overwrite_x=True)
        shapes = [(len(self.held[self._rank]), each.stop - each.start) for each in columns]
        blocks = self.processes.exchange([spectrum[held.start : held.stop] for held in self.held], shapes)
        made = scipy.fft.irfft(np.concatenate(blocks, axis=1), n=padded[1], axis=1, overwrite_x=True)
        return np.ascontiguousarray(made[:, : self.width])

    def gathered(self, image: Image) -> Array | None:
        """All strips, in the first."""
        asked = [np.arange(self.height)] + [np.arange(0)] * (self.processes.size - 1)
        found = self._taken(np.asarray(image), self.held[self._rank], asked)
        return found if self._rank == 0 else None

    def scattered(self, image: Array | None) -> Array:
        """The rows held, from the first."""
        whole = np.zeros((0, self.width)) if image is None else np.asarray(image)
        dtype, slices = self.processes.first(lambda: (whole.dtype, whole.shape[:-2]))
        pieces = [np.zeros((*slices, 0, self.width), dtype)] * self.processes.size
        if self._rank == 0:
            pieces = [whole[..., held.start : held.stop, :] for held in self.held]
        shapes = [(*slices, 0, self.width)] * self.processes.size
        shapes[0] = (*slices, len(self.held[self._rank]), self.width)
        return self.processes.exchange(pieces, shapes)[0]

    def of_whole(self, image: Image, make: Callable[[Array], Value]) -> Value:
        """What the first makes of all strips."""
        found = self.gathered(image)
        return self.processes.first(lambda: make(np.asarray(found)))

    def fetched(self, image: Image, wanted: Callable[[Rows], Rows]) -> Array:
        """Rows of other strips, too."""
        asked = [wanted(np.arange(held.start, held.stop)) for held in self.held]
        return self._taken(np.asarray(image), self.held[self._rank], asked)


def _overlap(one: range, other: range) -> range:
    begin = max(one.start, other.start)
    return range(begin, max(begin, min(one.stop, other.stop)))


def _common(one: range, other: range, seen: range) -> slice:
    """The rows in both ranges, counted from the first of a third."""
    common = _overlap(one, other)
    return slice(common.start - seen.start, common.stop - seen.start)


def _within(rows: Rows, some: range) -> NDArray[np.bool_]:
    return (rows >= some.start) & (rows < some.stop)
