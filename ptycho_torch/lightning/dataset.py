"""Batches for Lightning: a data set that is indexed by whole batches, so that a step is one gather."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from itertools import islice

import lightning.pytorch as pl
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from ptycho.config.config import PyTorchExecutionConfig
from ptycho.core.groups.batches import batch_count, epoch_orders, experiment_batches, group_counts
from ptycho.core.groups.container import as_experiments
from ptycho_torch.lightning.staging import Groups
from ptycho_torch.loader import PtychoDataContainerTorch

__all__ = ["GroupBatches", "GroupDataset", "PtychoDataModule", "group_loader"]

Batch = tuple[int, tuple[Tensor, ...]]
Place = tuple[int, NDArray[np.int64]]
"""An experiment, and the numbers of some of its groups."""


class GroupDataset(Dataset[Batch]):
    """`dataset[experiment_id, indices]` is that number and a batch `(X_norm, positions, mask)` of its groups.

    Patterns are read when they are asked for; a scan whose patterns are memory-mapped is never in memory as a whole.

    Args:
        experiments: the groups of each; None where an experiment has none.
        truth: whether a batch also brings `Y`.
        part: of every batch that this process works on; there may be none in it.
    """

    def __init__(self, experiments: Sequence[Groups | None], truth: bool = False, part: slice = slice(None)) -> None:
        self.experiments = experiments
        self.truth = truth
        self.part = part

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
        return experiment_id, groups.batch(np.asarray(indices), self.truth, self.part)


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
    part: slice = slice(None),
) -> DataLoader[Batch]:
    """Loader of batches `(experiment_id, groups)`, the last ones smaller; shuffled when a seed is given.

    `epochs_seen` is how many epochs a training that goes on has had: their orders are left out. `part`
    of every batch is that of this process.
    """
    dataset = GroupDataset(experiments, truth, part)
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


class PtychoDataModule(pl.LightningDataModule):
    """The groups of a training for a Trainer of Lightning that a caller makes; `fit` of this library needs none.

        pl.Trainer(max_epochs=3).fit(module, datamodule=PtychoDataModule(groups))

    Args:
        train, validation: the groups, of several experiments a list in the order of their models; None validates none.
        batch_size: groups per step.
        execution: loader processes and so on; None: the defaults.
        seed: order of the batches.
        truth: whether a batch also brings `Y`, as learning from a known object needs.
    """

    def __init__(
        self,
        train: PtychoDataContainerTorch | Sequence[PtychoDataContainerTorch | None],
        validation: PtychoDataContainerTorch | Sequence[PtychoDataContainerTorch | None] | None = None,
        batch_size: int = 16,
        execution: PyTorchExecutionConfig | None = None,
        seed: int = 0,
        truth: bool = False,
    ) -> None:
        super().__init__()
        self.train, self.validation = as_experiments(train), as_experiments(validation)
        self.batch_size, self.seed, self.truth = batch_size, seed, truth
        self.execution = execution or PyTorchExecutionConfig()

    def train_dataloader(self) -> DataLoader[Batch]:
        """Batches in an order of their own in every epoch."""
        return group_loader(self.train, self.batch_size, self.execution, self.seed, self.truth)

    def val_dataloader(self) -> DataLoader[Batch] | list[DataLoader[Batch]]:
        """Batches as they were grouped; none without groups to validate with."""
        if not any(self.validation):
            return []
        return group_loader(self.validation, self.batch_size, self.execution, truth=self.truth)
