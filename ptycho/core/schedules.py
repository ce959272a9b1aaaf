"""How the learning rate moves while a network is trained."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Plateau", "warmup_cosine"]


def warmup_cosine(steps: int, warmup: float, floor: float) -> Callable[[int], float]:
    """Factor of the learning rate at step i: linear from 0 over `warmup` steps, then a half cosine down to `floor`."""

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        progress = min(1.0, (step - warmup) / max(1.0, steps - warmup))
        return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress))

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
