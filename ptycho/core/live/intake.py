"""Reading in a thread of its own: frames and positions from where they come to what is joined."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from ptycho.core.live.frame_store import FrameStore
from ptycho.core.live.joining import Joined, Joining, PositionRow, Tally

__all__ = ["FrameSource", "Intake", "News", "PositionSource"]

_PAUSE = 0.05
"""Seconds between two looks."""
_SHARE = 0.1
"""At most so much of the time is spent on looks that find nothing, as at a folder of very many files."""


class FrameSource(Protocol):
    """Where frames come."""

    troubles: list[str]
    """What could not be taken and was not told yet, a line each; whoever tells it empties the list."""

    @property
    def closed(self) -> bool:
        """Whether whoever writes them has said that no more come."""

    def news(self) -> Iterator[tuple[int, NDArray[np.number[Any]]]]:
        """Frames (H, W) that have come since the last call, each with its number."""

    def rest(self) -> None:
        """Between two looks: let go of files that others may want to write to."""

    def close(self) -> None:
        """Let go of all files."""


class PositionSource(Protocol):
    """Where positions come."""

    factor: float | None
    """From their unit to metres; None as long as nothing says it."""
    troubles: list[str]
    """As of `FrameSource`."""

    def news(self) -> Iterator[PositionRow]:
        """Positions that have come since the last call."""

    def rest(self) -> None:
        """Between two looks: let go of files that others may want to write to."""

    def close(self) -> None:
        """Let go of all files."""


class News(NamedTuple):
    """What there is by now."""

    fresh: Joined
    """What was joined since the last time, in that order."""
    since: NDArray[np.float64]
    """(n,) when frame and position of each of these were both there, `time.monotonic`."""
    known: int
    """What to ask with the next time."""
    gone: frozenset[int]
    """Numbers that contradict themselves, also those that were told before."""
    tally: Tally
    quiet: float
    """Seconds since something came; 0 before anything has."""
    closed: bool
    """Whether the writer has said that no more frames come."""


class Intake:
    """Reads until it is stopped; in a `with` block.

    Args:
        frames, positions: where they come.
        store: takes the frames, in the order in which they are new.
        offset: added to the number of a frame before it is joined.
        tell: told of what could not be taken, a line each, from the thread that reads.
        pause: seconds between two looks.
    """

    def __init__(
        self,
        frames: FrameSource,
        positions: PositionSource,
        store: FrameStore,
        offset: int = 0,
        tell: Callable[[str], None] = lambda line: None,
        pause: float = _PAUSE,
    ) -> None:
        self.frames, self.positions, self.store = frames, positions, store
        self.offset, self.tell, self.pause = offset, tell, pause
        self._joining = Joining()
        self._came: dict[int, float] = {}
        self._last = 0.0
        self._closed = False
        self._looks = 0
        self._changed = threading.Condition()
        self._stopping = threading.Event()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="intake")
        self._reading: Future[None] | None = None

    def __enter__(self) -> Intake:
        self._reading = self._pool.submit(self._read)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._pool.shutdown()

    def news(self, known: int = 0, seconds: float = 0.0) -> News:
        """What there is, as soon as something was joined since `known`, or after so many seconds.

        Raises:
            PtychoError, OSError: what reading has ended with.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._joining.count > known or self._ended, seconds)
            if self._ended and self._reading is not None:
                self._reading.result()
            fresh, known = self._joining.joined_since(known)
            since = np.array([self._came[number] for number in fresh.numbers.tolist()], np.float64)
            quiet = time.monotonic() - self._last if self._last else 0.0
            return News(fresh, since, known, self._joining.contradicted, self._joining.tally, quiet, self._closed)

    def joined(self) -> Joined:
        """All that is joined, by rising number."""
        with self._changed:
            return self._joining.joined()

    @property
    def factor(self) -> float | None:
        """From the unit of the positions to metres, where that is known."""
        return self.positions.factor

    @property
    def _ended(self) -> bool:
        return self._reading is not None and self._reading.done()

    def _read(self) -> None:
        try:
            while not self._stopping.is_set():
                begun = time.monotonic()
                came = self._look()
                spent = time.monotonic() - begun
                self._stopping.wait(self.pause if came else max(self.pause, spent / _SHARE))
        finally:
            self.frames.close()
            self.positions.close()
            with self._changed:
                self._changed.notify_all()

    def _look(self) -> int:
        """Take what has come; how much that is."""
        came = 0
        for row in self.positions.news():
            with self._changed:
                self._joining.position(row.number, row.x, row.y)
                self._note(row.number)
            came += 1
        for number, frame in self.frames.news():
            if self._stopping.is_set():
                return came
            self._take(number + self.offset, frame)
            came += 1
        for source in (self.frames, self.positions):
            for line in source.troubles:
                self.tell(line)
            source.troubles.clear()
            source.rest()
        with self._changed:
            # what was closed is read to its end at the next look
            self._closed = self._closed or (not came and self.frames.closed and self._looks > 1)
            self._changed.notify_all()
        self._looks = 0 if came else self._looks + 1
        return came

    def _take(self, number: int, frame: NDArray[np.number]) -> None:
        wrong = self.store.fits(frame)
        if wrong:
            self.tell(f"frame {number} is left out: {wrong}")
            return
        digest = hashlib.blake2b(np.ascontiguousarray(frame).data, digest_size=16).digest()
        with self._changed:
            if self._joining.frame(number, digest):
                self.store.add(frame)
            self._note(number)

    def _note(self, number: int) -> None:
        """Something came for a number."""
        self._last = now = time.monotonic()
        if self._joining.has(number):
            self._came.setdefault(number, now)
