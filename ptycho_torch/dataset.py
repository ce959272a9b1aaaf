"""Batches for Lightning: a data set that is indexed by whole batches, so that a step is one gather."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Dataset, RandomSampler, SequentialSampler

from ptycho.config.config import PyTorchExecutionConfig
from ptycho_torch.data_container_bridge import PtychoDataContainerTorch

__all__ = ["GroupDataset", "group_loader"]


class GroupDataset(Dataset[tuple[Tensor, ...]]):
    """`dataset[indices]` is a batch `(X_norm, positions, mask)` of the container's groups, with `truth` also `Y`."""

    def __init__(self, container: PtychoDataContainerTorch, truth: bool = False) -> None:
        self.container = container
        self.truth = truth

    def __len__(self) -> int:
        return len(self.container)

    def __getitem__(self, indices: list[int]) -> tuple[Tensor, ...]:
        return self.container.batch(np.asarray(indices), self.truth)


def group_loader(
    container: PtychoDataContainerTorch,
    batch_size: int,
    execution: PyTorchExecutionConfig,
    shuffle_seed: int | None = None,
    truth: bool = False,
) -> DataLoader[tuple[Tensor, ...]]:
    """Loader of batches of `batch_size` groups, the last one smaller; shuffled when a seed is given."""
    dataset = GroupDataset(container, truth)
    if shuffle_seed is None:
        order: SequentialSampler | RandomSampler = SequentialSampler(dataset)
    else:
        order = RandomSampler(dataset, generator=torch.Generator().manual_seed(shuffle_seed))
    workers = execution.num_workers
    return DataLoader(
        dataset,
        sampler=BatchSampler(order, batch_size, drop_last=False),
        batch_size=None,
        num_workers=workers,
        pin_memory=execution.pin_memory,
        persistent_workers=execution.persistent_workers and workers > 0,
        prefetch_factor=execution.prefetch_factor if workers else None,
    )
