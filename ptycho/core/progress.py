"""How far a long piece of work is: told to whoever watches, else in a line of the log now and then."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

__all__ = ["IterationReport", "Progress", "TrainingReport", "Watch", "both", "log_progress"]

logger = logging.getLogger(__name__)

_LINES = 10
"""Lines that a log gets of a whole iteration."""
_PAUSE = 0.2
"""Seconds between two looks at an epoch: the loss has to come from the device each time."""


@dataclass(frozen=True)
class Progress:
    """Where a training or an iteration is; a trial is a short iteration that something is decided by."""

    unit: Literal["epoch", "iteration", "trial"]
    done: float
    """Of `total`; inside an epoch with its part."""
    total: int
    """At most so many."""
    values: Mapping[str, float]
    """The losses of a training, or the relative error of an iteration, by name."""
    rate: float
    """Groups of patterns, or iterations, per second."""
    seconds_left: float

    @property
    def noteworthy(self) -> bool:
        """Whether a log has a line of it: every whole epoch, a tenth of the iterations, no trial."""
        if self.unit == "trial":
            return False
        if self.unit == "epoch":
            return self.done > 0 and float(self.done).is_integer()
        return self.done % max(1, self.total // _LINES) == 0 or self.done == self.total

    @property
    def line(self) -> str:
        """It in words."""
        values = ", ".join(f"{name} {value:.4g}" for name, value in self.values.items())
        if self.unit == "epoch":
            return (
                f"epoch {self.done:.0f}/{self.total}: {values}, {self.rate:.0f} groups/s, "
                f"{self.seconds_left:.0f} s left"
            )
        return f"{self.unit} {self.done:.0f}/{self.total}: {values}"


Watch = Callable[[Progress], None]


def both(first: Watch, second: Watch) -> Watch:
    """Both are told, one after the other."""

    def watch(progress: Progress) -> None:
        first(progress)
        second(progress)

    return watch


def _now() -> float:
    return time.perf_counter()


def log_progress(progress: Progress) -> None:
    """Write a line to the log, where this is worth one."""
    if progress.noteworthy:
        logger.info("%s", progress.line)


@dataclass
class IterationReport:
    """What a refinement reports its iterations to (`report` of `ptycho.core.refinement.run.refine_scan`).

    Args:
        total: at most so many iterations.
        watch: told of each.
        unit: 'trial' for iterations that only decide.
    """

    total: int
    watch: Watch = log_progress
    unit: Literal["iteration", "trial"] = "iteration"
    _begun: tuple[int, float] | None = None

    def __call__(self, iteration: int, error: float) -> None:
        """Iteration (0 = start) and its relative error."""
        now = _now()
        first, begun = self._begun = self._begun or (iteration, now)
        rate = (iteration - first) / max(now - begun, 1e-9)
        left = (self.total - iteration) / rate if rate else math.inf
        self.watch(Progress(self.unit, iteration, self.total, {"relative error": error}, rate, left))


@dataclass
class TrainingReport:
    """What a training reports its batches and epochs to; keeps the losses of every epoch.

    Args:
        epochs: at most so many.
        groups: of an epoch.
        max_seconds: after which the training ends; None has no limit.
        watch: told of each epoch, and a few times a second inside one.
    """

    epochs: int
    groups: int
    max_seconds: float | None = None
    watch: Watch = log_progress
    history: dict[str, list[float]] = field(default_factory=dict)
    """`{"train_loss", "val_loss", "seconds"}`, one entry per epoch of this run."""
    _begun: float = field(default_factory=_now)
    _epoch_begun: float = field(default_factory=_now)
    _looked: float = -math.inf

    def begin_epoch(self) -> None:
        """An epoch begins."""
        self._epoch_begun = _now()

    def batch(self, done: int, groups: int, loss: Callable[[], float]) -> None:
        """A batch is done.

        Args:
            done: whole epochs before.
            groups: of this epoch that were trained on.
            loss: of the batch; called only where somebody looks.
        """
        now = _now()
        if now - self._looked < _PAUSE or not 0 < groups < self.groups:
            return
        self._looked, part = now, groups / self.groups
        rate = groups / max(now - self._epoch_begun, 1e-9)
        self._tell(done + part, {"loss": loss()}, rate, self._mean_seconds(now, part), now)

    def epoch(self, done: int, losses: Mapping[str, float], groups: int | None = None) -> None:
        """An epoch is over.

        Args:
            done: whole epochs, this one counted.
            losses: of the epoch, by name.
            groups: that were trained on; None: all.
        """
        now = _now()
        for name, value in (*losses.items(), ("seconds", now - self._begun)):
            self.history.setdefault(name, []).append(value)
        rate = (self.groups if groups is None else groups) / max(now - self._epoch_begun, 1e-9)
        self._tell(done, losses, rate, self._mean_seconds(now, 0.0), now)

    def _mean_seconds(self, now: float, part: float) -> float:
        """Of an epoch, so far."""
        return (now - self._begun) / (len(self.history.get("seconds", ())) + part)

    def _tell(self, done: float, values: Mapping[str, float], rate: float, epoch_seconds: float, now: float) -> None:
        limit = math.inf if self.max_seconds is None else max(self.max_seconds - (now - self._begun), 0.0)
        left = min((self.epochs - done) * epoch_seconds, limit)
        self.watch(Progress("epoch", done, self.epochs, dict(values), rate, left))
