"""Batches for Lightning: a data set that is indexed by whole batches, so that a step is one gather."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from ptycho.config.config import PyTorchExecutionConfig
from ptycho.core.groups.batches import batch_count, epoch_orders, experiment_batches, group_counts
from ptycho_torch.lightning.staging import Groups

__all__ = ["GroupBatches", "GroupDataset", "group_loader"]

Batch = tuple[int, tuple[Tensor, ...]]
Place = tuple[int, NDArray[np.int64]]
"""An experiment, and the numbers of some of its groups."""


class GroupDataset(Dataset[Batch]):
    """`dataset[experiment_id, indices]` is that number and a batch `(X_norm, positions, mask)` of its groups.

    Patterns are read when they are asked for; a scan whose patterns are memory-mapped is never in memory as a whole.

    Args:
        experiments: the groups of each; None where an experiment has none.
        truth: whether a batch also brings `Y`.
    """

    def __init__(self, experiments: Sequence[Groups | None], truth: bool = False) -> None:
        self.experiments = experiments
        self.truth = truth

    @property
    def sizes(self) -> list[int]:
        """Groups of each experiment."""
        return group_counts(self.experiments)

    def __len__(self) -> int:
        return sum(self.sizes)

    def __getitem__(self, place: Place) -> Batch:
        experiment_id, indices = place
        groups = self.experiments[experiment_id]
        assert groups is not None  # an experiment without groups has no place
        return experiment_id, groups.batch(np.asarray(indices), self.truth)


class GroupBatches(Sampler[Place]):
    """The batches of an epoch, those of `ptycho.core.groups.batches`, so that both backends train on the same.

    Args:
        sizes: groups of each experiment.
        batch_size: groups per batch.
        seed: of the order, another one in every epoch; None keeps the groups in theirs.
    """

    def __init__(self, sizes: Sequence[int], batch_size: int, seed: int | None = None) -> None:
        self.sizes = list(sizes)
        self.batch_size = batch_size
        self._orders = None if seed is None else epoch_orders(sum(sizes), seed)

    def __len__(self) -> int:
        return batch_count(self.sizes, self.batch_size)

    def __iter__(self) -> Iterator[Place]:
        # a generator: loaders with processes of their own begin one that they never ask for a batch
        order = np.arange(sum(self.sizes)) if self._orders is None else next(self._orders)
        yield from experiment_batches(order, self.sizes, self.batch_size)

    def skip(self, epochs: int) -> None:
        """Leave out the orders of so many epochs."""
        if self._orders is not None:
            next(islice(self._orders, epochs, epochs), None)


def group_loader(
    experiments: Sequence[Groups | None],
    batch_size: int,
    execution: PyTorchExecutionConfig,
    shuffle_seed: int | None = None,
    truth: bool = False,
    epochs_seen: int = 0,
) -> DataLoader[Batch]:
    """Loader of batches `(experiment_id, groups)`, the last ones smaller; shuffled when a seed is given.

    `epochs_seen` is how many epochs a training that goes on has had: their orders are left out.
    """
    dataset = GroupDataset(experiments, truth)
    batches = GroupBatches(dataset.sizes, batch_size, shuffle_seed)
    batches.skip(epochs_seen)
    workers = execution.num_workers
    # a forked process shares the memory maps of the scans; to any other one they would be copied
    forked = workers > 0 and sys.platform == "linux"
    return DataLoader(
        dataset,
        sampler=batches,
        batch_size=None,
        num_workers=workers,
        multiprocessing_context="fork" if forked else None,
        pin_memory=execution.pin_memory,
        persistent_workers=execution.persistent_workers and workers > 0,
        prefetch_factor=execution.prefetch_factor if workers else None,
        generator=torch.Generator(),  # the seeds of workers; that of the process is left to whoever uses it
    )
