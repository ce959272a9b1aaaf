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
from numpy.typing import NDArray

from ptycho.core.geometry import ObjectFrame
from ptycho.core.refinement.device.images import Image, Images, NumpyImages
from ptycho.core.refinement.device.numbers import Number
from ptycho.core.refinement.sums.object_share import Rows
from ptycho.core.refinement.sums.processes import ALONE, Processes

__all__ = ["Strips"]

Array = NDArray[Any]
Value = TypeVar("Value")
Box = tuple[range, range]
"""Rows and columns of an array."""

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
        """That of the engine on a device; on the host NumPy's, which asks for memory in larger pages: of strips of
        2600 x 5144 pixels the filter takes a third of what it takes in PyTorch.
        """
        return NumpyImages() if engine.on_host else engine

    def sums(self, images: Images, numbers: Array, image: Image, *others: Image) -> tuple[Any, ...]:
        """Objects are added along the seams."""
        numbers, *rest = self.processes.sum(numbers, *others)
        return (numbers, images.of(self._seamed(images, images.array(image))), *rest)

    def _seamed(self, images: Images, values: Any) -> Any:
        """What all have found, on the rows held here."""
        owned, held = self._over(self.owned), self._over(self.held)
        return self._moved(images, self._moved(images, values, held, owned), owned, held)

    def _over(self, rows: Sequence[range]) -> list[Box]:
        """Rows over the whole width."""
        return [(each, range(self.width)) for each in rows]

    def _moved(self, images: Images, values: Any, have: Sequence[Box], want: Sequence[Box]) -> Any:
        """What this process wants of an array that the processes have in boxes, added where several have it.

        Args:
            images: what does it on the device.
            values: (..., h, w), an array of the device: the box that this process has.
            have, want: rows and columns of every process.
        """
        here, mine, slices = have[self._rank], want[self._rank], values.shape[:-2]
        pieces = [values[_common(here, other, here)] for other in want]
        shapes = [(*slices, *map(len, _overlap(other, mine))) for other in have]
        found = self.processes.exchange([images.of(piece) for piece in pieces], shapes)
        made = images.zeros((*slices, *map(len, mine)), values)
        for other, piece in zip(have, found, strict=True):
            made[_common(other, mine, mine)] += images.array(piece)
        return made

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
        made: Array = self._seamed(NumpyImages(), light)
        return made

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

    def largest(self, value: Number) -> float:
        """Told by all."""
        told = np.zeros(self.processes.size)
        told[self._rank] = float(value)
        return float(self.processes.sum(told)[0].max())

    def dot(self, images: Images, pairs: Sequence[tuple[Image, Image]]) -> Number:
        """Every row counts once, and what all have in the first."""
        first, *rest = ((images.array(one), images.array(other)) for one, other in pairs)
        own = tuple(each[..., self._own, :] for each in first)
        here = images.dot([own, *rest] if self._rank == 0 else [own])
        return float(self.processes.sum(np.array([float(here)]))[0][0])

    def frequencies(self, padded: tuple[int, int]) -> tuple[Array, Array]:
        """Those of some columns of the spectrum."""
        columns = self._columns(padded)[self._rank]
        return np.fft.fftfreq(padded[0])[:, None], np.fft.rfftfreq(padded[1])[None, columns.start : columns.stop]

    def _columns(self, padded: tuple[int, int]) -> list[range]:
        """Of the half spectrum, of every process."""
        cuts = np.linspace(0, padded[1] // 2 + 1, self.processes.size + 1).round().astype(int).tolist()
        return [range(begin, end) for begin, end in pairwise(cuts)]

    def filtered(self, images: Images, values: Any, factor: Any, padded: tuple[int, int]) -> Any:
        """Rows are transformed where they are, columns by who has them."""
        along = range(padded[1] // 2 + 1)
        columns = [(range(padded[0]), each) for each in self._columns(padded)]
        owned, held = ([(rows, along) for rows in each] for each in (self.owned, self.held))
        # nothing that is done with is kept: these are the largest arrays of a search
        spectra = self._moved(images, images.row_spectra(values[..., self._own, :], padded[1]), owned, columns)
        spectra = self._moved(images, images.smoothed_columns(spectra, factor), columns, held)
        return images.rows_of(spectra, padded[1])[..., : self.width]

    def gathered(self, image: Image) -> Array | None:
        """All strips, in the first."""
        found = self._moved(NumpyImages(), np.asarray(image)[..., self._own, :], self._over(self.owned), self._first)
        return found if self._rank == 0 else None

    def scattered(self, image: Array | None) -> Array:
        """The rows held, from the first."""
        whole = np.zeros((0, self.width)) if image is None else np.asarray(image)
        dtype, slices = self.processes.first(lambda: (whole.dtype, whole.shape[:-2]))
        if self._rank:
            whole = np.zeros((*slices, 0, self.width), dtype)
        made: Array = self._moved(NumpyImages(), whole, self._first, self._over(self.held))
        return made

    @property
    def _first(self) -> list[Box]:
        """All in the first, and nothing in the others."""
        return self._over([range(self.height)] + [range(0)] * (self.processes.size - 1))

    def of_whole(self, image: Image, make: Callable[[Array], Value]) -> Value:
        """What the first makes of all strips."""
        found = self.gathered(image)
        return self.processes.first(lambda: make(np.asarray(found)))

    def fetched(self, image: Image, wanted: Callable[[Rows], Rows]) -> Array:
        """Rows of other strips, too."""
        asked = [wanted(np.arange(held.start, held.stop)) for held in self.held]
        return self._taken(np.asarray(image), self.held[self._rank], asked)


def _overlap(one: Box, other: Box) -> Box:
    """What is in both."""
    (rows, columns), (more_rows, more_columns) = one, other
    return _both(rows, more_rows), _both(columns, more_columns)


def _both(one: range, other: range) -> range:
    begin = max(one.start, other.start)
    return range(begin, max(begin, min(one.stop, other.stop)))


def _common(one: Box, other: Box, seen: Box) -> tuple[Any, ...]:
    """Where in an array `(..., h, w)` of a third box what is in both lies."""
    pairs = zip(_overlap(one, other), seen, strict=True)
    return (..., *(slice(common.start - of.start, common.stop - of.start) for common, of in pairs))


def _within(rows: Rows, some: range) -> NDArray[np.bool_]:
    return (rows >= some.start) & (rows < some.stop)
