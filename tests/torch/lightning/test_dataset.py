"""Batches for Lightning: those of the shared order, of one experiment each, read from a memory map alike."""

from dataclasses import replace
from itertools import islice
from pathlib import Path

import lightning.pytorch as pl
import numpy as np
import pytest
import torch

from ptycho.config.config import ModelConfig, PyTorchExecutionConfig, TrainingConfig
from ptycho.core.groups.batches import epoch_orders, split_batches
from ptycho.raw_data import RawData
from ptycho_torch.data_container_bridge import PtychoDataContainerTorch
from ptycho_torch.fit import PtychoPINN_Lightning
from ptycho_torch.lightning.dataset import GroupBatches, GroupDataset, PtychoDataModule, group_loader
from ptycho_torch.pinn import PtychoPINN


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


@pytest.mark.filterwarnings("ignore:.*(does not have many workers|number of training batches|is deprecated).*")
def test_a_trainer_of_a_callers_own_takes_the_module(scan, execution, tmp_path: Path) -> None:
    """The order is that of this library; a module without a canvas takes the smallest for each batch."""
    groups, unseen = contained(scan, 6), contained(scan, 2)
    module = PtychoDataModule(groups, unseen, batch_size=4, execution=execution, seed=3)
    (order,) = islice(epoch_orders(6, 3), 1)
    found = [batch[0] for _, batch in module.train_dataloader()]
    for ours, indices in zip(found, split_batches(order, 4), strict=True):
        torch.testing.assert_close(ours, groups.batch(indices)[0], rtol=0, atol=0)
    assert PtychoDataModule(groups, execution=execution).val_dataloader() == []
    config = TrainingConfig(model=ModelConfig(N=64, n_filters_scale=1))
    model = PtychoPINN(config.model, scan.probeGuess, scan.input_scale(), 10.0)
    trained = PtychoPINN_Lightning(model, config, execution, None)
    options = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = pl.Trainer(max_epochs=1, accelerator="cpu", default_root_dir=tmp_path, **options)
    trainer.fit(trained, datamodule=module)
    assert torch.isfinite(trainer.callback_metrics["train_loss"])
    assert torch.isfinite(trainer.callback_metrics["val_loss"])
