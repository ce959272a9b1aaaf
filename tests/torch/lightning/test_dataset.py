"""Batches for Lightning: those of the shared order, of one experiment each, read from a memory map alike."""

from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from ptycho.config.config import PyTorchExecutionConfig
from ptycho.core.groups.batches import epoch_orders, split_batches
from ptycho.raw_data import RawData
from ptycho_torch.data_container_bridge import PtychoDataContainerTorch
from ptycho_torch.lightning.dataset import GroupBatches, GroupDataset, group_loader


def contained(scan: RawData, groups: int) -> PtychoDataContainerTorch:
    grouped = scan.generate_grouped_data(64, nsamples=groups, gridsize=1, sequential_sampling=True)
    return PtychoDataContainerTorch(grouped, scan.probeGuess)


@pytest.mark.parametrize("workers", [0, 2])
def test_every_epoch_has_the_order_that_both_backends_share(workers: int, scan, execution) -> None:
    """Also where the batch size divides the number of groups."""
    groups = contained(scan, 12)
    loader = group_loader([groups], 4, replace(execution, num_workers=workers), shuffle_seed=3)
    for order in islice(epoch_orders(12, 3), 3):
        found = list(loader)
        assert len(found) == len(loader) == 3
        for (number, batch), indices in zip(found, split_batches(order, 4), strict=True):
            assert number == 0
            torch.testing.assert_close(batch[0], groups.batch(indices)[0], rtol=0, atol=0)


def test_epochs_that_were_seen_are_left_out() -> None:
    whole, rest = GroupBatches([5, 4], 2, seed=1), GroupBatches([5, 4], 2, seed=1)
    list(whole), list(whole)
    rest.skip(2)
    for (one, ours), (other, theirs) in zip(whole, rest, strict=True):
        assert one == other
        np.testing.assert_array_equal(ours, theirs)


def test_experiments_without_groups_have_no_batches(scan, execution: PyTorchExecutionConfig) -> None:
    first, last = contained(scan, 3), contained(scan, 2)
    loader = group_loader([first, None, last], 2, execution)
    assert GroupDataset([first, None, last]).sizes == [3, 0, 2]
    assert [(number, len(batch[0])) for number, batch in loader] == [(0, 2), (0, 1), (2, 2)]


def test_a_memory_map_gives_the_same_batches(scan: RawData, tmp_path: Path, execution) -> None:
    scan.to_file(tmp_path / "scan.npz")
    mapped = RawData.from_file(tmp_path / "scan.npz", memory_map="always")
    assert isinstance(mapped.diff3d, np.memmap)
    settings = replace(execution, num_workers=1)
    both = (group_loader([contained(each, 10)], 4, settings, shuffle_seed=1) for each in (scan, mapped))
    for (_, ours), (_, theirs) in zip(*both, strict=True):
        for one, other in zip(ours, theirs, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=0)
