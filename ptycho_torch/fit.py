"""Training with Lightning: loss, optimiser, schedule, checkpoints, and one line per epoch for whoever watches."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence
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
from ptycho.core.losses import detector_weights
from ptycho.core.schedules import one_cycle, warmup_cosine
from ptycho.errors import ConfigError
from ptycho_torch.checkpoint import check_checkpoint
from ptycho_torch.data_container_bridge import PtychoDataContainerTorch
from ptycho_torch.dataset import group_loader
from ptycho_torch.losses import mae_loss, poisson_loss, realspace_mae, total_variation
from ptycho_torch.model import PtychoPINN
from ptycho_torch.precision import full_float32
from ptycho_torch.process_state import interrupts_raise, own_determinism, quiet_lightning

__all__ = ["PtychoPINN_Lightning", "fit", "refuse_unsupported"]

logger = logging.getLogger(__name__)

Batch = Sequence[Tensor]


class PtychoPINN_Lightning(pl.LightningModule):
    """A `PtychoPINN` with its loss and optimiser; batches are `(X_norm, positions, mask)`, for real space also `Y`.

    The measured counts are `(s_0 X_norm)^2`, s_0 the nominal intensity scale; the mean count per pixel that the loss
    is divided by follows from the definition of k: `s_0^2 / 4`. The nominal scale of the object is `a / k`.
    """

    def __init__(self, model: PtychoPINN, config: TrainingConfig, execution: PyTorchExecutionConfig, size: int) -> None:
        super().__init__()
        self.model = model
        self.config = config
        self.execution = execution
        self.size = size
        self.max_seconds: float | None = None
        self.save_hyperparameters({"config": to_json(asdict(config))})

    @property
    def needs_truth(self) -> bool:
        """Whether a batch has to bring the ground-truth patches."""
        return self.config.realspace_mae_weight > 0

    def loss(self, batch: Batch) -> Tensor:
        """The weighted sum of the losses that the configuration asks for."""
        normalised, positions, mask, *truth = batch
        members = self.model.canvas_and_members(normalised, positions, self.size, mask)[1]
        losses = [
            *self._detector_losses(members, positions, normalised, mask),
            *self._realspace_losses(members, *truth),
        ]
        return torch.stack(losses).sum()

    def _detector_losses(self, members: Tensor, positions: Tensor, normalised: Tensor, mask: Tensor) -> list[Tensor]:
        """What the patches would give on the detector against the measurement, per valid pixel."""
        config, scale = self.config, self.model.nominal_intensity_scale
        expected = self.model.expected_counts(members, positions)
        counts, mean_count = (scale * normalised).square(), scale**2 / 4
        weights = detector_weights(config.nll_weight, config.mae_weight, config.torch_loss_mode)
        return [
            weight * function(expected, counts, mean_count, mask)
            for weight, function in zip(weights, (poisson_loss, mae_loss), strict=True)
            if weight
        ]

    def _realspace_losses(self, members: Tensor, truth: Tensor | None = None) -> list[Tensor]:
        """Roughness and error of the patches, per pixel, relative to the object's nominal scale."""
        config, losses = self.config, []
        nominal = self.model.probe.scale / self.model.input_scale
        objects = self.model.object_scale / nominal * members
        if config.realspace_weight:
            losses.append(config.realspace_weight * total_variation(objects))
        if config.realspace_mae_weight:
            assert truth is not None
            losses.append(config.realspace_mae_weight * realspace_mae(objects, truth / nominal))
        return losses

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
        rate = self.execution.learning_rate
        if rate == PyTorchExecutionConfig.learning_rate:
            rate = self.model.network.spec.recipe.learning_rate
        optimiser = _optimiser(self.config, rate, [p for p in self.parameters() if p.requires_grad])
        name = _setting("scheduler", self.execution, self.config)
        if name == "Default" and not self.model.network.spec.recipe.one_cycle:
            return optimiser
        return {"optimizer": optimiser, "lr_scheduler": self._schedule(name, optimiser)}

    def _schedule(self, name: str, optimiser: torch.optim.Optimizer) -> dict[str, Any]:
        if name == "Default":
            curve = one_cycle(int(self.trainer.estimated_stepping_batches), self.max_seconds)
            return {"scheduler": torch.optim.lr_scheduler.LambdaLR(optimiser, curve), "interval": "step"}
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


def _optimiser(config: TrainingConfig, rate: float, parameters: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
    if config.optimizer == "sgd":
        return torch.optim.SGD(parameters, rate, momentum=config.momentum, weight_decay=config.weight_decay)
    kind = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
    betas = (config.adam_beta1, config.adam_beta2)
    return kind(parameters, rate, betas=betas, eps=1e-8, weight_decay=config.weight_decay)


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


def refuse_unsupported(config: TrainingConfig, execution: PyTorchExecutionConfig) -> None:
    """Raise ConfigError for settings whose effect this backend does not have yet, instead of ignoring them."""
    refused = {
        "model_type='supervised'": config.model.model_type == "supervised",
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
    limit = _setting("gradient_clip_val", execution, config)
    return pl.Trainer(
        accelerator=accelerator,
        devices=execution.devices,
        strategy=execution.strategy,
        precision=execution.precision,
        deterministic=execution.deterministic,
        max_epochs=config.nepochs,
        max_time=None if max_seconds is None else {"seconds": max_seconds},
        accumulate_grad_batches=execution.accum_steps,
        gradient_clip_val=module.model.network.spec.recipe.clip if limit is None else limit,
        gradient_clip_algorithm="norm" if limit is None else _setting("gradient_clip_algorithm", execution, config),
        callbacks=_callbacks(report, execution, folder, validates),
        logger=_metric_logger(execution.logger_backend, folder),
        enable_checkpointing=execution.enable_checkpointing,
        enable_progress_bar=execution.enable_progress_bar,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
        default_root_dir=folder,
    )


@full_float32()
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
        MissingFileError, ArchiveError: `resume` is not there, or is no checkpoint of this training.
        DataError: the settings need ground truth that a scan does not have.
        KeyboardInterrupt: training was interrupted; `last.ckpt` holds the last whole epoch.
    """
    config, execution = module.config, module.execution
    if resume is not None:
        check_checkpoint(resume, module.state_dict(), config.optimizer)
    report, truth = EpochReport(len(train), max_seconds), module.needs_truth
    for container in (train, validation):
        if truth and container is not None:
            container.check_truth()
    train_loader = group_loader(train, config.batch_size, execution, seed, truth)
    validation_loader = None
    if validation is not None:
        validation_loader = group_loader(validation, config.batch_size, execution, truth=truth)
    with quiet_lightning(), interrupts_raise(), own_determinism():
        module.max_seconds = max_seconds
        trainer = _trainer(module, report, accelerator, max_seconds, validation is not None)
        trainer.fit(module, train_loader, validation_loader, ckpt_path=resume)
    return report.history
