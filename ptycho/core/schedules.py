"""How the learning rate moves while a network is trained."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Plateau", "one_cycle", "warmup_cosine"]

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
