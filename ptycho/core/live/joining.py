"""Frames and positions of one scan, joined by their numbers, whatever order they come in.

What is joined depends on what has come and on nothing else: not on the order, nor on how often it came. So that this
holds for what contradicts itself too, a number that comes with two different frames, or two different positions, is
left out: nobody can say which is right.
"""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Joined", "Joining", "PositionRow", "Tally"]


class PositionRow(NamedTuple):
    """The position of one frame."""

    number: int
    x: float
    y: float


class Tally(NamedTuple):
    """How many there are."""

    joined: int
    """Numbers with a frame and a position."""
    frames_alone: int
    """Frames without a position, so far."""
    positions_alone: int
    doubled: int
    """Frames and positions that came again, the same as before."""
    contradicted: int
    """Numbers that are left out, since two different frames or positions came for them."""


class Joined(NamedTuple):
    """Numbers that are joined; n may be 0."""

    numbers: NDArray[np.int64]
    """(n,)."""
    places: NDArray[np.intp]
    """(n,) which frame each has, counted from 0 in the order in which frames were new."""
    x: NDArray[np.float64]
    """(n,) as they came."""
    y: NDArray[np.float64]

    @classmethod
    def none(cls) -> Joined:
        """Nothing yet."""
        return cls(np.zeros(0, np.int64), np.zeros(0, np.intp), np.zeros(0), np.zeros(0))

    def only(self, which: NDArray[np.intp]) -> Joined:
        """Some of them, by their places here."""
        return Joined(self.numbers[which], self.places[which], self.x[which], self.y[which])

    def followed_by(self, others: Joined) -> Joined:
        """These, and then the others."""
        return Joined(
            np.concatenate([self.numbers, others.numbers]),
            np.concatenate([self.places, others.places]),
            np.concatenate([self.x, others.x]),
            np.concatenate([self.y, others.y]),
        )


class Joining:
    """What has come so far.

    >>> joining = Joining()
    >>> joining.frame(7, b"light"), joining.frame(3, b"dark"), joining.frame(7, b"light")
    (True, True, False)
    >>> joining.position(3, 0.5, 1.5)
    >>> joining.joined().numbers.tolist(), joining.joined().places.tolist()
    ([3], [1])
    >>> joining.position(3, 0.5, 1.75)
    >>> joining.tally
    Tally(joined=0, frames_alone=1, positions_alone=0, doubled=1, contradicted=1)
    """

    def __init__(self) -> None:
        self._frames: dict[int, tuple[bytes, int]] = {}
        self._positions: dict[int, tuple[float, float]] = {}
        self._contradicted: set[int] = set()
        self._order: list[int] = []
        self._kinds: Counter[str] = Counter()
        self._doubled = 0

    def frame(self, number: int, digest: bytes) -> bool:
        """A frame has come.

        Args:
            number: of the frame.
            digest: of its values, by which the same frame is known again.

        Returns:
            Whether it is the first of its number, and to be kept.
        """
        known = self._frames.get(number)
        if known is not None:
            self._came_again(number, known[0] == digest)
            return False
        before = self._kind(number)
        self._frames[number] = (digest, len(self._frames))
        self._changed(number, before)
        return True

    def position(self, number: int, x: float, y: float) -> None:
        """A position has come for the frame of this number."""
        known = self._positions.get(number)
        if known is not None:
            self._came_again(number, known == (x, y))
            return
        before = self._kind(number)
        self._positions[number] = (x, y)
        self._changed(number, before)

    def _came_again(self, number: int, same: bool) -> None:
        if same:
            self._doubled += 1
            return
        before = self._kind(number)
        self._contradicted.add(number)
        self._changed(number, before)

    def _kind(self, number: int) -> str:
        """What is known of a number."""
        if number in self._contradicted:
            return "contradicted"
        framed, placed = number in self._frames, number in self._positions
        return "both" if framed and placed else "frame" if framed else "position" if placed else ""

    def _changed(self, number: int, before: str) -> None:
        """Count a number anew."""
        now = self._kind(number)
        self._kinds[before] -= 1
        self._kinds[now] += 1
        if now == "both":
            self._order.append(number)

    def has(self, number: int) -> bool:
        """Whether frame and position of a number have come."""
        return number in self._frames and number in self._positions

    @property
    def contradicted(self) -> frozenset[int]:
        """Numbers that are left out."""
        return frozenset(self._contradicted)

    def joined(self) -> Joined:
        """All that has both and is not contradicted, by rising number."""
        return self._of(sorted(self._order))

    @property
    def count(self) -> int:
        """How many were joined so far, those that were contradicted later among them."""
        return len(self._order)

    def joined_since(self, known: int) -> tuple[Joined, int]:
        """What was joined lately, in the order in which that was, and what to ask with the next time; 0 asks for all.

        A number that was told and was contradicted later is in `contradicted`.
        """
        return self._of(self._order[known:]), len(self._order)

    def _of(self, numbers: list[int]) -> Joined:
        left = [number for number in numbers if number not in self._contradicted]
        places = np.array([self._frames[number][1] for number in left], np.intp)
        at = np.array([self._positions[number] for number in left], np.float64).reshape(-1, 2)
        return Joined(np.array(left, np.int64), places, at[:, 0], at[:, 1])

    @property
    def tally(self) -> Tally:
        """How many there are."""
        kinds = self._kinds
        return Tally(kinds["both"], kinds["frame"], kinds["position"], self._doubled, kinds["contradicted"])
