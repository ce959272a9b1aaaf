"""Patterns that a device has no room for: they go there in each pass, a batch ahead of the one that is worked on.

What makes a copy run beside the work is the engine's (`ptycho.core.refinement.device.kernels.Stream`); the order is
said here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import zip_longest
from typing import Any

from ptycho.core.refinement.device.kernels import Measured, Stream
from ptycho.core.refinement.sums.parts import Part

__all__ = ["Streamed"]


class Streamed:
    """Patterns that go to the device again in each pass.

    Args:
        stream: of the engine.
        read: the patterns of a part in NumPy.
        keeps: whether what is held stays in the memory of the host; else it is read again in each pass.
    """

    def __init__(self, stream: Stream, read: Callable[[Part], Measured], keeps: bool) -> None:
        self._stream, self._read, self._keeps = stream, read, keeps

    def over(self, parts: Sequence[Part]) -> Iterator[tuple[Part, Measured]]:
        """The parts with their patterns, those of the next part on their way."""
        sent: Any = None
        for part, following in zip_longest(parts, parts[1:]):
            now = self._sent(part) if sent is None else sent
            sent = None if following is None else self._sent(following)
            yield part, self._stream.arrived(now)

    def _sent(self, part: Part) -> Any:
        held = self._stream.hold(self._read(part)) if part.held is None else part.held
        if self._keeps:
            part.held = held
        return self._stream.send(held)
