"""One line per epoch for whoever watches, and the losses of all of them."""

from __future__ import annotations

import logging
import math
import time

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback

__all__ = ["EpochReport"]

logger = logging.getLogger(__name__)


class EpochReport(Callback):
    """Keeps the losses of every epoch and logs one line about it."""

    def __init__(self, groups: int, max_seconds: float | None = None) -> None:
        self.max_seconds = math.inf if max_seconds is None else max_seconds
        self.history: dict[str, list[float]] = {}
        self.groups = groups
        self.started = self.epoch_started = time.perf_counter()

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self.epoch_started = time.perf_counter()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Note and log the losses."""
        now = time.perf_counter()
        losses = {k: float(v) for k, v in trainer.callback_metrics.items() if k in ("train_loss", "val_loss")}
        for name, value in losses.items():
            self.history.setdefault(name, []).append(value)
        self.history.setdefault("seconds", []).append(now - self.started)
        rate = self.groups / max(now - self.epoch_started, 1e-9)
        text = ", ".join(f"{name} {value:.4g}" for name, value in losses.items())
        done, total = trainer.current_epoch + 1, trainer.max_epochs or 0
        elapsed = now - self.started
        left = min((total - done) * elapsed / max(len(self.history["seconds"]), 1), max(self.max_seconds - elapsed, 0))
        logger.info("epoch %d/%d: %s, %.0f groups/s, %.0f s left", done, total, text, rate, left)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Say so where a training goes on whose time was over: Lightning counts that of the part before."""
        if not self.history:
            spent = f"max_seconds={self.max_seconds:g} was used up before it"
            logger.warning("%s: no epoch was trained, %s: raise it to go on", trainer.ckpt_path, spent)
