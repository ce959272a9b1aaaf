"""Training with Lightning: loss, optimiser, schedule, checkpoints, and one line per epoch for whoever watches."""

from __future__ import annotations

import logging
import signal
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, Logger
from torch import Tensor

from ptycho.config.config import PyTorchExecutionConfig, TrainingConfig
from ptycho.core.archive import to_json
from ptycho.core.schedules import warmup_cosine
from ptycho.errors import ConfigError, MissingFileError
from ptycho_torch.data_container_bridge import PtychoDataContainerTorch
from ptycho_torch.dataset import group_loader
from ptycho_torch.losses import mae_loss, poisson_loss
from ptycho_torch.model import PtychoPINN

__all__ = ["PtychoPINN_Lightning", "fit", "refuse_unsupported"]

logger = logging.getLogger(__name__)

Batch = tuple[Tensor, Tensor, Tensor]


class PtychoPINN_Lightning(pl.LightningModule):
    """A `PtychoPINN` with its loss and optimiser; batches are `(X_norm, positions, mask)`.

    The measured counts are `(s_0 X_norm)^2`, s_0 the nominal intensity scale; the mean count per pixel that the loss
    is divided by follows from the definition of k: `s_0^2 / 4`.
    """

    def __init__(self, model: PtychoPINN, config: TrainingConfig, execution: PyTorchExecutionConfig, size: int) -> None:
        super().__init__()
        self.model = model
        self.config = config
        self.execution = execution
        self.size = size
        self.save_hyperparameters({"config": to_json(asdict(config))})

    def loss(self, batch: Batch) -> Tensor:
        """The weighted sum of the losses that the configuration asks for, per valid pixel."""
        normalised, positions, mask = batch
        scale = self.model.nominal_intensity_scale
        expected = self.model(normalised, positions, self.size, mask)
        counts, mean_count = (scale * normalised).square(), scale**2 / 4
        weights = (self.config.nll_weight, self.config.mae_weight)
        if self.config.torch_loss_mode == "mae":
            weights = (0.0, max(self.config.mae_weight, 1.0))
        terms = [
            weight * function(expected, counts, mean_count, mask)
            for weight, function in zip(weights, (poisson_loss, mae_loss), strict=True)
            if weight
        ]
        return torch.stack(terms).sum()

    def training_step(self, batch: Batch, _index: int) -> Tensor:
        """Loss of one batch."""
        value = self.loss(batch)
        self.log("train_loss", value, on_step=False, on_epoch=True, batch_size=len(batch[0]))
        return value

    def validation_step(self, batch: Batch, _index: int) -> None:
        """Loss of one batch that training does not see."""
        self.log("val_loss", self.loss(batch), on_step=False, on_epoch=True, batch_size=len(batch[0]))

    def configure_optimizers(self) -> Any:
        """Optimiser and schedule of the configuration."""
        optimiser = _optimiser(self.config, self.execution, [p for p in self.parameters() if p.requires_grad])
        name = _setting("scheduler", self.execution, self.config)
        if name == "Default":
            return optimiser
        return {"optimizer": optimiser, "lr_scheduler": self._schedule(name, optimiser)}

    def _schedule(self, name: str, optimiser: torch.optim.Optimizer) -> dict[str, Any]:
        if name == "Exponential":
            # the rate has fallen to lr_min_ratio when the last epoch ends
            gamma = self.config.lr_min_ratio ** (1 / self.config.nepochs)
            return {"scheduler": torch.optim.lr_scheduler.ExponentialLR(optimiser, gamma), "interval": "epoch"}
        if name == "ReduceLROnPlateau":
            plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimiser, factor=0.5, patience=3)
            return {"scheduler": plateau, "interval": "epoch", "monitor": monitored(self.trainer)}
        if name in ("WarmupCosine", "Cosine"):
            steps = int(self.trainer.estimated_stepping_batches)
            warmup = self.config.lr_warmup_epochs if name == "WarmupCosine" else 0
            curve = warmup_cosine(steps, steps * warmup / self.config.nepochs, self.config.lr_min_ratio)
            return {"scheduler": torch.optim.lr_scheduler.LambdaLR(optimiser, curve), "interval": "step"}
        raise ConfigError(f"scheduler {name!r} is not supported yet: use Default, Exponential or WarmupCosine")


def _setting(name: str, execution: PyTorchExecutionConfig, config: TrainingConfig) -> Any:
    """A setting that both configurations have: the execution's, unless it is at its default."""
    value = getattr(execution, name)
    return getattr(config, name) if value == getattr(PyTorchExecutionConfig, name) else value


def monitored(trainer: pl.Trainer) -> str:
    """The loss that checkpoints and schedules watch: of unseen groups where there are any."""
    return "val_loss" if trainer.val_dataloaders is not None else "train_loss"


def _optimiser(
    config: TrainingConfig, execution: PyTorchExecutionConfig, parameters: list[torch.nn.Parameter]
) -> torch.optim.Optimizer:
    rate = execution.learning_rate
    if config.optimizer == "sgd":
        return torch.optim.SGD(parameters, rate, momentum=config.momentum, weight_decay=config.weight_decay)
    kind = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
    betas = (config.adam_beta1, config.adam_beta2)
    return kind(parameters, rate, betas=betas, eps=1e-8, weight_decay=config.weight_decay)


class EpochReport(Callback):
    """Keeps the losses of every epoch and logs one line about it."""

    def __init__(self, groups: int) -> None:
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
        left = (total - done) * (now - self.started) / max(len(self.history["seconds"]), 1)
        logger.info("epoch %d/%d: %s, %.0f groups/s, %.0f s left", done, total, text, rate, left)


def refuse_unsupported(config: TrainingConfig, execution: PyTorchExecutionConfig) -> None:
    """Raise ConfigError for settings whose effect this backend does not have yet, instead of ignoring them."""
    refused = {
        "model_type='supervised'": config.model.model_type == "supervised",
        "realspace_weight": config.realspace_weight > 0,
        "realspace_mae_weight": config.realspace_mae_weight > 0,
        "positions_provided=False": not config.positions_provided,
        "gradient_clip_algorithm='agc'": _setting("gradient_clip_algorithm", execution, config) == "agc",
        "recon_log_every_n_epochs": execution.recon_log_every_n_epochs is not None,
        f"scheduler={execution.scheduler!r}": execution.scheduler in ("MultiStage", "Adaptive"),
        f"accelerator={execution.accelerator!r}": execution.accelerator == "tpu",
    }
    found = [name for name, present in refused.items() if present]
    if found:
        raise ConfigError(f"not supported by the pytorch backend yet: {', '.join(found)}; leave it at its default")


def _metric_logger(backend: str | None, folder: Path) -> Logger | bool:
    if backend is None:
        return False
    if backend == "csv":
        return CSVLogger(folder, name="logs")
    try:
        if backend == "tensorboard":
            from lightning.pytorch.loggers import TensorBoardLogger

            return TensorBoardLogger(folder, name="logs")
        from lightning.pytorch.loggers import MLFlowLogger

        return MLFlowLogger(save_dir=str(folder / "logs"))
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"logger_backend={backend!r} needs a package that is not installed ({error.name}): "
            "pip install 'ptychopinn[tracking]', or use logger_backend='csv'"
        ) from error


def _callbacks(report: EpochReport, execution: PyTorchExecutionConfig, folder: Path, validates: bool) -> list[Callback]:
    callbacks: list[Callback] = [report]
    metric = execution.checkpoint_monitor_metric
    if metric == "val_loss" and not validates:
        metric = "train_loss"
    if execution.enable_checkpointing:
        callbacks.append(
            ModelCheckpoint(
                folder / "checkpoints",
                filename="best-checkpoint",
                monitor=metric,
                mode=execution.checkpoint_mode,
                save_top_k=execution.checkpoint_save_top_k,
                save_last=True,
                enable_version_counter=execution.checkpoint_save_top_k not in (0, 1),
            )
        )
    callbacks.append(EarlyStopping(metric, patience=execution.early_stop_patience, mode=execution.checkpoint_mode))
    return callbacks


def _trainer(
    module: PtychoPINN_Lightning, report: EpochReport, accelerator: str, max_seconds: float | None, validates: bool
) -> pl.Trainer:
    config, execution, folder = module.config, module.execution, Path(module.config.output_dir)
    return pl.Trainer(
        accelerator=accelerator,
        devices=execution.devices,
        strategy=execution.strategy,
        precision=execution.precision,
        deterministic=execution.deterministic,
        max_epochs=config.nepochs,
        max_time=None if max_seconds is None else {"seconds": max_seconds},
        accumulate_grad_batches=execution.accum_steps,
        gradient_clip_val=_setting("gradient_clip_val", execution, config),
        gradient_clip_algorithm=_setting("gradient_clip_algorithm", execution, config),
        callbacks=_callbacks(report, execution, folder, validates),
        logger=_metric_logger(execution.logger_backend, folder),
        enable_checkpointing=execution.enable_checkpointing,
        enable_progress_bar=execution.enable_progress_bar,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
        default_root_dir=folder,
    )


def fit(
    module: PtychoPINN_Lightning,
    train: PtychoDataContainerTorch,
    validation: PtychoDataContainerTorch | None = None,
    *,
    accelerator: str = "cpu",
    resume: Path | None = None,
    max_seconds: float | None = None,
    seed: int = 0,
) -> dict[str, list[float]]:
    """Train a model; return the history `{"train_loss", "val_loss", "seconds"}`, one entry per epoch.

    Checkpoints go to `output_dir/checkpoints` (`last.ckpt` after every epoch), metrics to `output_dir/logs`.

    Args:
        module: model, loss and settings.
        train, validation: the groups; without `validation` the training loss is watched.
        accelerator: what Lightning runs on, resolved (`cpu`, `cuda`, `mps`).
        resume: a checkpoint to go on from, with its optimiser and epoch.
        max_seconds: stop after this time, at the end of a step.
        seed: order of the batches.

    Raises:
        MissingFileError: `resume` is not there.
        KeyboardInterrupt: training was interrupted; `last.ckpt` holds the last whole epoch.
    """
    config, execution = module.config, module.execution
    if resume is not None and not resume.is_file():
        raise MissingFileError(f"no checkpoint to resume from at {resume}: leave --resume out to start afresh")
    report = EpochReport(len(train))
    train_loader = group_loader(train, config.batch_size, execution, shuffle_seed=seed)
    validation_loader = None if validation is None else group_loader(validation, config.batch_size, execution)
    with _quiet_lightning(), _interrupts_raise(), _own_determinism():
        trainer = _trainer(module, report, accelerator, max_seconds, validation is not None)
        trainer.fit(module, train_loader, validation_loader, ckpt_path=resume)
    return report.history


@contextmanager
def _interrupts_raise() -> Iterator[None]:
    """Lightning turns an interrupt into SystemExit and switches further interrupts off: undo both."""
    in_main_thread = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as stop:
        if in_main_thread:
            signal.signal(signal.SIGINT, handler)
        raise KeyboardInterrupt from stop


@contextmanager
def _own_determinism() -> Iterator[None]:
    """Lightning switches determinism on for the whole process: put it back as it was."""
    enabled, warn_only = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(enabled, warn_only=warn_only)


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Leave out what Lightning says about itself; our own line per epoch stays."""
    chatty = [logging.getLogger(name) for name in ("lightning.pytorch.utilities.rank_zero", "lightning.pytorch")]
    levels = [one.level for one in chatty]
    for one in chatty:
        one.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            for message in (
                ".*does not have many workers.*",
                ".*no `val_dataloader`.*",
                ".*isinstance\\(treespec, LeafSpec\\).*",
                ".*Checkpoint directory .* exists and is not empty.*",
            ):
                warnings.filterwarnings("ignore", message=message)
            yield
    finally:
        for one, level in zip(chatty, levels, strict=True):
            one.setLevel(level)
