"""The order in which training sees its groups; one definition for both backends."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

__all__ = ["epoch_orders", "split_batches"]


def epoch_orders(count: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """Yield one permutation of `count` groups per epoch, without end.

    They are those of PyTorch's `RandomSampler` with a generator of this seed, so that both backends train on the
    same batches: Fisher-Yates on the raw numbers of the Mersenne Twister, every second permutation thrown away as
    the sampler does.
    """
    # the legacy seeding is the one that PyTorch has
    numbers = np.random.RandomState(seed % 2**32)
    while True:
        yield _permutation(count, numbers)
        _permutation(count, numbers)


def _permutation(count: int, numbers: np.random.RandomState) -> NDArray[np.int64]:
    order = list(range(count))
    draws = numbers.randint(0, 2**32, max(count - 1, 0), np.uint32).tolist()
    for here, draw in enumerate(draws):
        there = here + draw % (count - here)
        order[here], order[there] = order[there], order[here]
    return np.asarray(order, np.int64)


def split_batches(order: NDArray[np.int64], batch_size: int) -> Iterator[NDArray[np.int64]]:
    """Yield an order in batches of `batch_size`, the last one smaller where it does not divide."""
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]
