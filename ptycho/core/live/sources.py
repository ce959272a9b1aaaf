"""What a scan that is still being measured is read from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["FrameSource", "PositionRow", "PositionSource"]


class PositionRow(NamedTuple):
    """The position of one frame."""

    number: int
    x: float
    y: float


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
