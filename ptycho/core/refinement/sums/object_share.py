"""The object of a search that several processes share: each has the whole of it, or a strip of its rows.

What is added, filtered, moved or measured of the whole object asks the share of the process for it. One process alone
has a share, too: all of it. `object_strips` has what a strip is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from ptycho.core.geometry import ObjectFrame
from ptycho.core.refinement.device.images import Image, Images
from ptycho.core.refinement.device.numbers import Number
from ptycho.core.refinement.sums.processes import ALONE, Processes, own_patterns

__all__ = ["WHOLE", "ObjectShare", "Rows", "WholeObject"]

Array = NDArray[Any]
Rows = NDArray[np.int64]
Value = TypeVar("Value")


class ObjectShare(Protocol):
    """What one of several processes has of an object; all of them call the same functions in the same order."""

    @property
    def processes(self) -> Processes:
        """The processes."""

    @property
    def whole(self) -> bool:
        """Whether it is all of it."""

    @property
    def first_row(self) -> int:
        """The row of the object that the first one held is."""

    @property
    def patterns(self) -> Rows | slice:
        """Those that the light on the object is added up over here."""

    def own_patterns(self, x: Array, y: Array) -> NDArray[np.bool_]:
        """(n,) True for the patterns at these positions that this process reads."""

    def shape(self, image: Image) -> tuple[int, int]:
        """(H, W) of the whole object, of which `image` is what is held."""

    def frame(self, whole: ObjectFrame) -> ObjectFrame:
        """That of what is held, from that of the whole object."""

    def images(self, engine: Images) -> Images:
        """The arithmetic on what is held, from that of the engine."""

    def sums(self, images: Images, numbers: Array, image: Image, *others: Image) -> tuple[Any, ...]:
        """The sums over all processes of numbers, of what each has found on the rows it holds, and of other images,
        each where it is.
        """

    def lit(self, light: Array) -> Array:
        """Light on the rows held, of all patterns, from that of `patterns`."""

    def mended(self, values: Array) -> Array:
        """Values `(..., h, W)` on the rows held whose outermost, which lack a neighbour, may be wrong; now right."""

    def total(self, values: Array) -> float:
        """The sum over the whole object of values `(h, W)` on the rows held."""

    def added(self, values: Array) -> Array:
        """The sum over all patterns of what was added up over `patterns`."""

    def largest(self, value: Number) -> Number:
        """The largest of the values of all processes, of what they hold."""

    def dot(self, images: Images, pairs: Sequence[tuple[Image, Image]]) -> Number:
        """`Re sum conj(a) b` of pairs, the first of objects, others of arrays that all have."""

    def frequencies(self, padded: tuple[int, int]) -> tuple[Array, Array]:
        """Frequencies (P, 1) and (1, Q) of the half spectrum of an object in this shape, those that `filtered` has
        here.
        """

    def filtered(self, images: Images, values: Any, factor: Any, padded: tuple[int, int]) -> Any:
        """Real values `(..., h, W)` on the rows held, arrays of the device, their half spectrum in the shape `padded`
        times a factor of `frequencies`.
        """

    def gathered(self, image: Image) -> Array | None:
        """The whole object in the first process; None in the others."""

    def scattered(self, image: Array | None) -> Array:
        """What this process holds of an object that the first has."""

    def of_whole(self, image: Image, make: Callable[[Array], Value]) -> Value:
        """What the first makes of the whole object, for all."""

    def fetched(self, image: Image, wanted: Callable[[Rows], Rows]) -> Array:
        """Rows of the object, from who owns them.

        Args:
            image: what is held.
            wanted: which rows a process asks for, by those that it holds.
        """


class WholeObject:
    """All of it, in every process, each of which looks at all positions.

    Args:
        processes: that have it.
    """

    whole, first_row, patterns = True, 0, slice(None)

    def __init__(self, processes: Processes = ALONE) -> None:
        self.processes = processes

    def own_patterns(self, x: Array, y: Array) -> NDArray[np.bool_]:
        """Those of a compact part of the scan."""
        return own_patterns(x, y, self.processes)

    def shape(self, image: Image) -> tuple[int, int]:
        """That of the image."""
        height, width = image.shape[-2:]
        return int(height), int(width)

    def frame(self, whole: ObjectFrame) -> ObjectFrame:
        """The frame itself."""
        return whole

    def images(self, engine: Images) -> Images:
        """That of the engine."""
        return engine

    def sums(self, images: Images, numbers: Array, image: Image, *others: Image) -> tuple[Any, ...]:
        """One sum of everything."""
        return self.processes.sum(numbers, image, *others)

    def lit(self, light: Array) -> Array:
        """The light itself."""
        return light

    def mended(self, values: Array) -> Array:
        """No row lacks a neighbour."""
        return values

    def total(self, values: Array) -> float:
        """Of what is here."""
        return float(values.sum(dtype=np.float64))

    def added(self, values: Array) -> Array:
        """The values themselves."""
        return values

    def largest(self, value: Number) -> Number:
        """The value itself."""
        return value

    def dot(self, images: Images, pairs: Sequence[tuple[Image, Image]]) -> Number:
        """That of all pairs."""
        return images.dot(pairs)

    def frequencies(self, padded: tuple[int, int]) -> tuple[Array, Array]:
        """All of them."""
        return np.fft.fftfreq(padded[0])[:, None], np.fft.rfftfreq(padded[1])[None, :]

    def filtered(self, images: Images, values: Any, factor: Any, padded: tuple[int, int]) -> Any:
        """By transforms of the whole."""
        return images.smoothed(values, factor, padded)

    def gathered(self, image: Image) -> Array | None:
        """The object."""
        return np.asarray(image)

    def scattered(self, image: Array | None) -> Array:
        """All of it."""
        return self.processes.first(lambda: np.asarray(image))

    def of_whole(self, image: Image, make: Callable[[Array], Value]) -> Value:
        """What every process makes."""
        return make(image)

    def fetched(self, image: Image, wanted: Callable[[Rows], Rows]) -> Array:
        """Rows of the image."""
        return np.asarray(image)[..., wanted(np.arange(image.shape[-2])), :]


WHOLE: ObjectShare = WholeObject()
"""That of one process."""
