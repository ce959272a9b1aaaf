"""The order in which training sees its groups; one definition for both backends."""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Sized

import numpy as np
from numpy.typing import NDArray

__all__ = ["batch_count", "epoch_orders", "experiment_batches", "group_counts", "split_batches"]


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


def experiment_batches(
    order: NDArray[np.int64], sizes: Sequence[int], batch_size: int
) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """Yield the batches of several experiments in turn: `(experiment, its groups)`, every group once.

    A batch is of one experiment, because it has one probe; with a single experiment they are those of `split_batches`.
    The groups of an experiment keep their order, and the batch whose last group comes first in `order` is yielded
    first.

    Args:
        order: a permutation of all groups, those of the experiments numbered one after the other.
        sizes: groups of each experiment; it may have none.
        batch_size: groups per batch; the last batch of an experiment is smaller where it does not divide.

    >>> [(e, groups.tolist()) for e, groups in experiment_batches(np.array([4, 0, 3, 1, 2]), [3, 2], 2)]
    [(1, [1, 0]), (0, [0, 1]), (0, [2])]
    """
    starts = np.cumsum([0, *sizes])
    owner = np.searchsorted(starts, order, side="right") - 1
    batches = []
    for experiment, first in enumerate(starts[:-1]):
        places = np.flatnonzero(owner == experiment)
        for batch in split_batches(places, batch_size):
            batches.append((batch[-1], experiment, order[batch] - first))
    # by the last group, so that small experiments are met all along the epoch and not at its end
    for _, experiment, groups in sorted(batches, key=lambda found: int(found[0])):
        yield experiment, groups


def group_counts(experiments: Sequence[Sized | None]) -> list[int]:
    """Groups of each experiment, 0 for one without any: the `sizes` of `experiment_batches`."""
    return [0 if groups is None else len(groups) for groups in experiments]


def batch_count(sizes: Sequence[int], batch_size: int) -> int:
    """Number of batches of `experiment_batches`."""
    return sum(-(-size // batch_size) for size in sizes)
