"""Whether a training is still finite, and what to say when it is not; one definition for both backends."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.core.finite import non_finite
from ptycho.errors import ArchiveError, DivergedError

__all__ = [
    "LOOK_EVERY",
    "DivergenceWatch",
    "check_resumed",
]

LOOK_EVERY = 256
"""Batches on a GPU after which their losses are looked at: every look waits until the device has computed them."""

Named = Iterable[tuple[str, Any]]
"""Arrays, or what NumPy takes for one, by name."""


def check_resumed(path: Path, arrays: Named) -> None:
    """Refuse to go on from a checkpoint whose arrays are not finite.

    Raises:
        ArchiveError: naming it.
    """
    if found := non_finite(arrays):
        raise ArchiveError(
            f"{path}: expected a checkpoint of finite weights, found {found}: the training that wrote it diverged; "
            "name an earlier checkpoint, or leave --resume out to start afresh"
        )


class DivergenceWatch:
    """Stops a training with a `DivergedError` when a loss or a weight is not finite any more.

    Losses are kept as the framework gives them until there are `interval` of them, or `look` is called, which has to
    happen at the end of an epoch. Epochs and batches are counted from 1.

    Args:
        learning_rate: of the training, for the advice.
        best: finds the checkpoint of the best finite model of this training; None where there is none.
        interval: losses that are looked at together: 1 says at once which batch it was.
        to_host: makes one array of some losses.
    """

    def __init__(
        self,
        learning_rate: float,
        best: Callable[[], Path | None],
        interval: int = 1,
        to_host: Callable[[Sequence[Any]], NDArray[Any]] = np.asarray,
    ) -> None:
        self.learning_rate = learning_rate
        self.best = best
        self.interval = interval
        self.to_host = to_host
        self._kept: list[tuple[str, Any]] = []
        self._place = ""

    def see(self, loss: Any, epoch: int, batch: int, kind: str = "loss") -> None:
        """Note the loss of a batch."""
        self._place = f"epoch {epoch}, batch {batch}"
        self._kept.append((f"{kind} in {self._place}", loss))
        if len(self._kept) >= self.interval:
            self.look()

    def look(self) -> None:
        """Look at the losses that have been noted.

        Raises:
            DivergedError: naming the first that is not finite.
        """
        kept, self._kept = self._kept, []
        if not kept:
            return
        losses = self.to_host([loss for _, loss in kept])
        for (place, _), loss in zip(kept, losses.tolist(), strict=True):
            if not np.isfinite(loss):
                raise self._error(f"expected a finite {place}, found {loss}")

    def check(self, arrays: Named) -> None:
        """Look at what training has changed up to the batch that was seen last.

        Raises:
            DivergedError: naming the first array that is not finite.
        """
        if found := non_finite(arrays):
            raise self._error(f"expected finite weights after {self._place}, found {found}")

    def _error(self, fact: str) -> DivergedError:
        advice = f"a learning rate below {self.learning_rate:g}, or clip the gradient (--gradient_clip_val)"
        kept = self.best()
        if kept is None:
            begin = f"this training wrote no model: begin again with {advice}"
        else:
            begin = f"its best finite model is {kept}: go on from there with --resume {kept} and {advice}"
        return DivergedError(f"the training diverged and has stopped: {fact}; {begin}")
