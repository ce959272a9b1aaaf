"""Batches and epochs of a Lightning training, told to the report that both backends share."""

from __future__ import annotations

import logging
from functools import partial
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback

from ptycho.core.progress import Progress, TrainingReport

__all__ = ["EpochReport"]

logger = logging.getLogger(__name__)


class EpochReport(Callback):
    """Tells a `ptycho.core.progress.TrainingReport` of a training."""

    def __init__(self, report: TrainingReport) -> None:
        self.report = report
        self.groups = 0
        """Of this epoch that were trained on."""

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Let the first of several processes alone tell."""
        if not trainer.is_global_zero:
            self.report.watch = _nobody

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self.report.begin_epoch()
        self.groups = 0

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Tell of a batch."""
        _experiment, groups = batch
        self.groups += len(groups[0]) * trainer.world_size
        # Lightning has divided it for the steps that are added up
        loss = partial(_value, outputs["loss"], trainer.accumulate_grad_batches)
        self.report.batch(trainer.current_epoch, self.groups, loss)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Note and tell the losses."""
        losses = {k: float(v) for k, v in trainer.callback_metrics.items() if k in ("train_loss", "val_loss")}
        self.report.epoch(trainer.current_epoch + 1, losses)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Say so where a training goes on whose time was over: Lightning counts that of the part before."""
        if not self.report.history:
            spent = f"max_seconds={self.report.max_seconds or 0:g} was used up before it"
            logger.warning("%s: no epoch was trained, %s: raise it to go on", trainer.ckpt_path, spent)


def _value(loss: torch.Tensor, steps: int) -> float:
    return float(loss) * steps


def _nobody(_progress: Progress) -> None:
    """Told, and says nothing."""
