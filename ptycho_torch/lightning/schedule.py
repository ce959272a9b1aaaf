"""The learning rate of every step and the stages of a training, as a Lightning callback; its state is checkpointed."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from torch import nn

from ptycho.config.config import PyTorchExecutionConfig, TrainingConfig
from ptycho.config.options import StageOptions
from ptycho.core.training.schedules import Plateau, RateCurve
from ptycho.errors import ArchiveError, ConfigError
from ptycho_torch.lightning.checkpoint import read_checkpoint
from ptycho_torch.lightning.staging import parts_of, physics_weight, plan

__all__ = ["Stages", "monitored", "rate_curve", "setting"]

logger = logging.getLogger(__name__)


def setting(name: str, execution: PyTorchExecutionConfig, config: TrainingConfig) -> Any:
    """A setting that both configurations have: the execution's, or else, where that is None, the training's."""
    value = getattr(execution, name)
    return getattr(config, name) if value is None else value


def monitored(trainer: pl.Trainer) -> str:
    """The loss that schedules watch: of unseen groups where there are any."""
    return "val_loss" if trainer.val_dataloaders is not None else "train_loss"


def rate_curve(
    name: str,
    config: TrainingConfig,
    options: StageOptions,
    steps: int,
    default: Callable[[int], float] | None = None,
    plateau: Plateau | None = None,
) -> RateCurve:
    """The schedule of the epochs before any fine-tuning.

    Args:
        name: one of those of `RateCurve`.
        config: epochs, warm-up, and the last rate.
        options: where the third stage begins and its rate; without stages `MultiStage` has it in the last third.
        steps: of the optimiser in these epochs.
        default: the network's own schedule; None: constant.
        plateau: kept between calls.

    Raises:
        ConfigError: an unknown name, or a warm-up that leaves no epoch.
    """
    epochs = options.epochs(config.nepochs)
    if name == "WarmupCosine" and config.lr_warmup_epochs >= epochs:
        raise ConfigError(
            f"lr_warmup_epochs={config.lr_warmup_epochs} leaves no epoch of the {epochs} of the stages: lower "
            "lr_warmup_epochs or raise stage_3_epochs"
        )
    third = 2 * epochs / 3 if name == "MultiStage" else math.inf
    begins = options.stage_1_epochs + options.stage_2_epochs if options.three_stages else third
    given: dict[str, Any] = {"default": default, "plateau": plateau}
    return RateCurve(
        name,
        epochs,
        steps,
        config.lr_warmup_epochs,
        config.lr_min_ratio,
        lowered_from=begins,
        lowered_by=options.stage_3_lr_factor,
        **{key: value for key, value in given.items() if value is not None},
    )


class Stages(Callback):
    """Where a training stands: its period, what it watches, and the learning rate of every part of the network.

    A period ends after its epochs, or when the watched loss has not improved for its patience; the next one begins
    with the best weights so far and a fresh optimiser where there is a checkpoint, else it goes on. While the weight
    of the likelihood still grows, losses of different epochs cannot be compared: patience and the best checkpoint
    count from the first epoch with the weight 1. The loss of unseen groups is always the whole likelihood.

    Args:
        options: the stages.
        nepochs: epochs of a training without stages.
        metric, mode: what is watched, and whether it has to fall (`min`) or rise (`max`).
        patience: of the periods that have none of their own.
    """

    def __init__(
        self,
        options: StageOptions,
        nepochs: int,
        metric: str = "train_loss",
        mode: str = "min",
        patience: int = PyTorchExecutionConfig.early_stop_patience,
    ) -> None:
        self.options = options
        self.periods = plan(options, nepochs, patience)
        self.metric, self.sign = metric, 1 if mode == "min" else -1
        self.best_checkpoint: ModelCheckpoint | None = None
        self.plateau = Plateau()
        self.curve: RateCurve | None = None
        self.period, self.begun = 0, 0
        self.best, self.waited = math.inf, 0

    @property
    def total_epochs(self) -> int:
        """Epochs of all periods, if none ends early."""
        return sum(period.epochs for period in self.periods)

    @property
    def several(self) -> bool:
        """Whether there are stages at all; otherwise Lightning's own callbacks do everything."""
        return len(self.periods) > 1 or self.options.three_stages

    @property
    def weighs_from(self) -> int:
        """The first epoch of the whole likelihood."""
        return self.options.stage_1_epochs + self.options.stage_2_epochs

    def parameter_groups(self, trained: Mapping[str, nn.Parameter]) -> list[Any]:
        """What an optimiser is made of: the parameters, by parts where the parts have rates of their own."""
        if not self.options.enable_staged_finetuning:
            return list(trained.values())
        found: dict[str, list[nn.Parameter]] = {}
        for name, part in parts_of(trained).items():
            found.setdefault(part, []).append(trained[name])
        return [{"params": parameters, "part": part} for part, parameters in found.items()]

    def schedule(self, optimiser: torch.optim.Optimizer, curve: RateCurve) -> dict[str, Any]:
        """The optimiser with its schedule, as Lightning takes it."""
        self.curve = curve
        factors: list[Callable[[int], float]] = [
            partial(self.factor, group.get("part", "decoder")) for group in optimiser.param_groups
        ]
        return {
            "optimizer": optimiser,
            "lr_scheduler": {"scheduler": torch.optim.lr_scheduler.LambdaLR(optimiser, factors), "interval": "step"},
        }

    def factor(self, part: str, step: int) -> float:
        """What the learning rate of a part is multiplied by at a step of the training."""
        rates, curve = self.periods[self.period].rates, self.curve
        if rates is not None:
            return rates[part]
        assert curve is not None
        return curve.factor(step * curve.epochs // max(curve.steps, 1), step)

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Before the first step of an epoch: the weight of the likelihood, the weights to begin with, the rates."""
        if batch_idx:
            return
        epoch = trainer.current_epoch
        pl_module.physics_weight = physics_weight(epoch, self.options)
        if self.several and epoch == self.weighs_from > 0:
            self._forget(trainer)
        if self.period + 1 < len(self.periods) and epoch - self.begun >= self.periods[self.period].epochs:
            # a training that was over has been resumed with further periods
            self._next(epoch)
        if self.period and epoch == self.begun:
            self._begin(trainer, pl_module)
        self._set_rates(trainer, pl_module)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """The loss of unseen groups is the whole likelihood."""
        pl_module.physics_weight = 1.0

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Note the loss; end a period that is over."""
        losses = {name: float(value) for name, value in trainer.callback_metrics.items()}
        done = trainer.current_epoch + 1
        if done > self.weighs_from:
            self.plateau.see(losses.get(monitored(trainer), math.inf))
        if not self.several:
            return
        loss = self.sign * losses.get(self.metric, math.inf)
        if done > self.weighs_from:
            self.waited = 0 if loss < self.best else self.waited + 1
            self.best = min(self.best, loss)
        period = self.periods[self.period]
        if done - self.begun < period.epochs and self.waited < period.patience:
            return
        if self.period + 1 == len(self.periods):
            trainer.should_stop = True
        else:
            self._next(done)

    def state_dict(self) -> dict[str, Any]:
        """Numbers alone."""
        return {
            "phase": self.period,  # the name in checkpoints
            "begun": self.begun,
            "best": self.best,
            "waited": self.waited,
            "plateau": asdict(self.plateau),
            "by_parts": self.options.enable_staged_finetuning,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there.

        Raises:
            ArchiveError: the checkpoint is of a training with other stages.
        """
        period, by_parts = state_dict["phase"], state_dict["by_parts"]
        if by_parts != self.options.enable_staged_finetuning or period >= len(self.periods):
            raise ArchiveError(
                f"the checkpoint is in period {period + 1} of a training {'with' if by_parts else 'without'} staged "
                f"fine-tuning, the settings ask for {len(self.periods)} periods "
                f"{'with' if self.options.enable_staged_finetuning else 'without'}: resume with the settings of the "
                "training that wrote it"
            )
        self.period, self.begun = period, state_dict["begun"]
        self.best, self.waited = state_dict["best"], state_dict["waited"]
        vars(self.plateau).update(state_dict["plateau"])

    def _next(self, epoch: int) -> None:
        """Go on to the next period, which begins with this epoch."""
        self.period, self.begun, self.waited = self.period + 1, epoch, 0

    def _forget(self, trainer: pl.Trainer) -> None:
        """Compare with no epoch of another loss."""
        self.best, self.waited = math.inf, 0
        self.plateau.best, self.plateau.waited = math.inf, 0
        best = self.best_checkpoint
        if best is None:
            return
        for path in best.best_k_models:
            trainer.strategy.remove_checkpoint(path)
        best.best_k_models, best.best_model_path, best.kth_best_model_path = {}, "", ""
        best.best_model_score, best.kth_value = None, torch.tensor(self.sign * math.inf)

    def _begin(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Begin a period with the best weights so far."""
        best = "" if self.best_checkpoint is None else self.best_checkpoint.best_model_path
        found = Path(best).is_file()
        if found:
            module.load_state_dict(read_checkpoint(Path(best))["state_dict"])
            trainer.optimizers[0].state.clear()
        period = self.periods[self.period]
        start = f"the best weights so far ({Path(best).name})" if found else "the last weights"
        logger.info("%s: %d epochs from %s", period.name, period.epochs, start)

    def _set_rates(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Rates of this epoch's first step; what has the rate 0 stays as it is, its statistics too."""
        for config in trainer.lr_scheduler_configs:
            # the end of an epoch may have changed what the schedule says
            schedule: Any = config.scheduler
            rates = zip(schedule.optimizer.param_groups, schedule.base_lrs, schedule.lr_lambdas, strict=True)
            for group, base, factor in rates:
                group["lr"] = base * factor(schedule.last_epoch)
        if not self.options.enable_staged_finetuning:
            return
        frozen = {group["part"] for group in trainer.optimizers[0].param_groups if group["lr"] == 0}
        for group in trainer.optimizers[0].param_groups:
            group["weight_decay"] = 0.0 if group["part"] in frozen else trainer.optimizers[0].defaults["weight_decay"]
        parts = parts_of(name for name, _ in module.named_parameters())
        for name, layer in module.named_modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.train(parts.get(f"{name}.weight") not in frozen)
