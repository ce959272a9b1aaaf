"""A picture of a run while it goes, in its folder."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from ptycho.core.progress import Progress
from ptycho.core.reconstruction import Reconstruction

__all__ = ["PREVIEW", "Preview"]

PREVIEW = "preview.png"
"""The picture, in the folder of a run; it goes when that has its result."""
_PAUSE = 15.0
"""Seconds before the first picture, and at least between two."""
_SHARE = 0.04
"""At most so much of the time of a run is spent on pictures."""


@dataclass
class Preview:
    """Draws what there is so far every now and then; to be called with the progress of a run.

    Args:
        path: of the picture, PNG, which is replaced whole.
        so_far: returns what there is; None as long as there is nothing.
        pause: seconds before the first picture, and at least between two.
    """

    path: Path
    so_far: Callable[[], Reconstruction | None]
    pause: float = _PAUSE
    _due: float = field(init=False)

    def __post_init__(self) -> None:
        self._due = time.monotonic() + self.pause

    def __call__(self, progress: Progress) -> None:
        """Draw it, if it is time."""
        if progress.noteworthy or progress.unit == "iteration":
            self.draw(only_when_due=True)

    def draw(self, only_when_due: bool = False) -> bool:
        """Draw it; False where it was not."""
        begun = time.monotonic()
        if only_when_due and begun < self._due:
            return False
        found = self.so_far()
        if found is None:
            return False
        from ptycho.figures.reconstruction import save_summary_png  # matplotlib is loaded only where there are pictures

        save_summary_png(found, self.path)
        now = time.monotonic()
        self._due = now + max(self.pause, (now - begun) / _SHARE)
        return True
