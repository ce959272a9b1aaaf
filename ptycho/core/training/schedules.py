"""How the learning rate moves while a network is trained."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from ptycho.errors import ConfigError

__all__ = ["Plateau", "RateCurve", "one_cycle", "warmup_cosine"]

WARMUP = 0.2
"""Part of a training in which the rate of `one_cycle` rises."""


def warmup_cosine(steps: int, warmup: float, floor: float) -> Callable[[int], float]:
    """Factor of the learning rate at step i: linear from 0 over `warmup` steps, then a half cosine down to `floor`."""

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        progress = min(1.0, (step - warmup) / max(1.0, steps - warmup))
        return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress))

    return factor


def one_cycle(
    steps: int, max_seconds: float | None = None, clock: Callable[[], float] = time.perf_counter
) -> Callable[[int], float]:
    """Factor of the learning rate at step i: linear from 0 over the first fifth, then a half cosine down to 0.

    A training that is stopped after `max_seconds` gets its whole cycle all the same: how far it has come is the larger
    of the parts of its steps and of its time, counted from the first call. After Smith & Topin, Proc. SPIE 11006,
    1100612 (2019).
    """
    begun: list[float] = []

    def factor(step: int) -> float:
        if not begun:
            begun.append(clock())
        elapsed = 0.0 if max_seconds is None else (clock() - begun[0]) / max_seconds
        progress = min(1.0, max((step + 1) / (steps + 1), elapsed))
        if progress < WARMUP:
            return progress / WARMUP
        return 0.5 * (1 + math.cos(math.pi * (progress - WARMUP) / (1 - WARMUP)))

    return factor


@dataclass
class Plateau:
    """Halve the learning rate after more than `patience` epochs in which the loss did not fall by `threshold`.

    The rule of PyTorch's `ReduceLROnPlateau`, whose defaults these are, but for the patience.
    """

    factor: float = 1.0
    best: float = math.inf
    waited: int = 0
    patience: int = 3
    threshold: float = 1e-4

    def see(self, loss: float) -> float:
        """Note the loss of an epoch; return the factor of the learning rate from now on."""
        if loss < self.best * (1 - self.threshold):
            self.best, self.waited = loss, 0
        else:
            self.waited += 1
        if self.waited > self.patience:
            self.factor, self.waited = self.factor / 2, 0
        return self.factor


def _constant(_step: int) -> float:
    return 1.0


@dataclass
class RateCurve:
    """Factor of the learning rate by the name of its schedule, of epoch and step counted from 0; `steps` are all.

    * `Default`: `default(step)`, the network's own;
    * `Exponential`: `floor^(epoch / epochs)`, so that it is `floor` when the last epoch ends;
    * `WarmupCosine`: `warmup_cosine` with `warmup_epochs`; `Cosine`: without;
    * `ReduceLROnPlateau`, `Adaptive`: that of `plateau`, which has to see the loss of every epoch;
    * `MultiStage`: 1.

    From epoch `lowered_from` on, all of it is multiplied by `lowered_by`.

    Raises:
        ConfigError: a name that is none of these.
    """

    name: str
    epochs: int
    steps: int
    warmup_epochs: int = 0
    floor: float = 0.1
    default: Callable[[int], float] = _constant
    lowered_from: float = math.inf
    lowered_by: float = 1.0
    plateau: Plateau = field(default_factory=Plateau)

    def __post_init__(self) -> None:
        warmup = 0 if self.name == "Cosine" else self.warmup_epochs
        cosine = warmup_cosine(self.steps, self.steps * warmup / self.epochs, self.floor)
        curves: dict[str, Callable[[int, int], float]] = {
            "Default": lambda _epoch, step: self.default(step),
            "Exponential": lambda epoch, _step: self.floor ** (epoch / self.epochs),
            "WarmupCosine": lambda _epoch, step: cosine(step),
            "Cosine": lambda _epoch, step: cosine(step),
            "ReduceLROnPlateau": lambda _epoch, _step: self.plateau.factor,
            "Adaptive": lambda _epoch, _step: self.plateau.factor,
            "MultiStage": lambda _epoch, _step: 1.0,
        }
        if self.name not in curves:
            raise ConfigError(f"scheduler must be one of {', '.join(curves)}, found {self.name!r}")
        self._curve = curves[self.name]

    def factor(self, epoch: int, step: int) -> float:
        """What the learning rate of a step is multiplied by."""
        lowered = self.lowered_by if epoch >= self.lowered_from else 1.0
        return lowered * self._curve(epoch, step)
