"""Training with TensorFlow: loss, schedule, checkpoints, and one line per epoch for whoever watches."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from ptycho.config.config import PyTorchExecutionConfig, TrainingConfig
from ptycho.config.schema import settings_of
from ptycho.core.archive import to_json
from ptycho.core.atomic import output_folder
from ptycho.core.batches import epoch_orders, split_batches
from ptycho.core.objective import ObjectiveOptions
from ptycho.core.schedules import Plateau, RateCurve, one_cycle
from ptycho.core.training_files import MetricsFile, read_checkpoint, write_checkpoint
from ptycho.loader import PtychoDataContainer
from ptycho.model import PtychoPINN
from ptycho.objective import Objective
from ptycho.optimizers import Optimizer, clip_adaptively, clip_gradients
from ptycho.precision import full_float32

__all__ = ["TrainingModule", "fit"]

logger = logging.getLogger(__name__)

Batch = Sequence[tf.Tensor]
Step = Callable[..., tf.Tensor]

PATIENCE = PyTorchExecutionConfig.early_stop_patience


class TrainingModule:
    """A `PtychoPINN` with its loss (`ptycho.objective`) and its optimiser."""

    def __init__(
        self,
        model: PtychoPINN,
        config: TrainingConfig,
        size: int,
        learning_rate: float | None = None,
        objective: ObjectiveOptions = ObjectiveOptions(),  # noqa: B008 - frozen
    ) -> None:
        self.model = model
        self.config = config
        self.size = size
        self.objective = Objective(config, objective, model)
        self.physics_weight = 1.0
        self.learning_rate = model.network.spec.recipe.learning_rate if learning_rate is None else learning_rate
        settings_of(PyTorchExecutionConfig)["learning_rate"].check(self.learning_rate)
        self.variables = [variable.value for variable in model.trainable_variables]
        names = {id(variable): name for name, variable in model.network.named_parameters().items()}
        self.network_names = [names.get(id(variable)) for variable in model.trainable_variables]
        self.optimizer = Optimizer(config, self.variables, self.learning_rate)

    @property
    def needs_truth(self) -> bool:
        """Whether a batch has to bring the ground-truth patches."""
        return self.objective.needs_truth

    def loss(self, batch: Batch) -> tf.Tensor:
        """The weighted sum of the losses that are asked for."""
        return self.objective.loss(self.model, batch, self.size, self.physics_weight)

    def training_step(self, *batch: tf.Tensor) -> tf.Tensor:
        """Take one step of the optimiser; return the loss before it."""
        with self.model.training_mode(), tf.GradientTape() as tape:
            value = self.loss(batch)
        gradients = tape.gradient(value, self.variables, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        self.optimizer.apply(self._clipped(gradients))
        return value

    def _clipped(self, gradients: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """The gradients within the limit of the configuration, or else of the network's recipe."""
        limit, algorithm = self.config.gradient_clip_val, self.config.gradient_clip_algorithm
        if limit is None:
            return clip_gradients(gradients, self.model.network.spec.recipe.clip, "norm")
        if algorithm == "agc":
            return clip_adaptively(gradients, self.variables, self.network_names, limit)
        return clip_gradients(gradients, limit, algorithm)

    def validation_step(self, *batch: tf.Tensor) -> tf.Tensor:
        """Loss of one batch that training does not see."""
        return self.loss(batch)


class Schedule:
    """The learning rate of every step, from the name in the configuration."""

    def __init__(
        self,
        config: TrainingConfig,
        steps_per_epoch: int,
        learning_rate: float = PyTorchExecutionConfig.learning_rate,
        default: Callable[[int], float] = lambda _step: 1.0,
    ) -> None:
        self.learning_rate = learning_rate
        self._curve = RateCurve(
            config.scheduler,
            config.nepochs,
            steps_per_epoch * config.nepochs,
            config.lr_warmup_epochs,
            config.lr_min_ratio,
            default,
        )
        self.plateau = self._curve.plateau

    def rate(self, epoch: int, step: int) -> float:
        """The learning rate of a step, both counted from 0 and from the start of the training."""
        return self.learning_rate * self._curve.factor(epoch, step)


def _schedule(module: TrainingModule, steps_per_epoch: int, max_seconds: float | None) -> Schedule:
    """The schedule of a training, with the network's own for `Default`."""
    config, recipe = module.config, module.model.network.spec.recipe
    if not recipe.one_cycle:
        return Schedule(config, steps_per_epoch, module.learning_rate)
    cycle = one_cycle(steps_per_epoch * config.nepochs, max_seconds)
    return Schedule(config, steps_per_epoch, module.learning_rate, cycle)


@dataclass
class Patience:
    """When to stop early: the loss has not fallen for `PATIENCE` epochs, or is no number any more."""

    best: float = math.inf
    waited: int = 0

    def gone(self, loss: float) -> bool:
        """Note the loss of an epoch; whether to stop."""
        if not math.isfinite(loss):
            logger.warning("the loss is %s: training stops; lower the learning rate or clip the gradient", loss)
            return True
        self.waited = 0 if loss < self.best else self.waited + 1
        self.best = min(self.best, loss)
        return self.waited >= PATIENCE


@full_float32()
def fit(
    module: TrainingModule,
    train: PtychoDataContainer,
    validation: PtychoDataContainer | None = None,
    *,
    resume: Path | None = None,
    max_seconds: float | None = None,
    seed: int = 0,
) -> dict[str, list[float]]:
    """Train a model; return the history `{"train_loss", "val_loss", "seconds"}`, one entry per epoch.

    `output_dir/checkpoints/last.ckpt` is written after every epoch, `best-checkpoint.ckpt` beside it after one that is
    better than all before, and the losses go to `output_dir/logs`. The batches are those of the PyTorch backend for
    the same seed; going on from a checkpoint takes them up where it was written.

    A last batch of another size makes the graph a second time, and never a third.

    Args:
        module: model, loss and settings.
        train, validation: the groups; without `validation` the training loss is watched.
        resume: a checkpoint to go on from, with its optimiser and epoch.
        max_seconds: stop after this time, at the end of a step.
        seed: order of the batches.

    Raises:
        MissingFileError, ArchiveError: `resume` is not there, or is no checkpoint of this training.
        DataError: the settings need ground truth that a scan does not have.
        KeyboardInterrupt: training was interrupted; `last.ckpt` holds the last whole epoch.
    """
    config, begun, done = module.config, time.perf_counter(), 0
    for container in (train, validation):
        if module.needs_truth and container is not None:
            container.check_truth()
    schedule = _schedule(module, math.ceil(len(train) / config.batch_size), max_seconds)
    patience = Patience()
    if resume is not None:
        done = _load_checkpoint(resume, module, schedule.plateau, patience)
    folder, metrics = output_folder(Path(config.output_dir) / "checkpoints"), MetricsFile(Path(config.output_dir))
    step, judge = (
        tf.function(function, autograph=False, jit_compile=config.use_xla)
        for function in (module.training_step, module.validation_step)
    )
    deadline = math.inf if max_seconds is None else begun + max_seconds
    history: dict[str, list[float]] = {}
    for epoch, order in islice(enumerate(epoch_orders(len(train), seed)), done, config.nepochs):
        started = time.perf_counter()
        loss, seen = _train_epoch(module, step, train, order, partial(schedule.rate, epoch), deadline)
        losses = {"train_loss": loss}
        if validation is not None:
            losses["val_loss"] = _mean_loss(module, judge, validation)
        for name, value in (*losses.items(), ("seconds", time.perf_counter() - begun)):
            history.setdefault(name, []).append(value)
        rate, limit = seen / (time.perf_counter() - started), deadline - begun
        _report(epoch + 1, config.nepochs, losses, rate, history["seconds"], limit)
        watched = losses.get("val_loss", loss)
        schedule.plateau.see(watched)
        best = watched < patience.best
        stop = patience.gone(watched)
        for name in ("last.ckpt", "best-checkpoint.ckpt") if best else ("last.ckpt",):
            _save_checkpoint(folder / name, module, epoch + 1, schedule.plateau, patience)
        metrics.add(epoch, int(module.optimizer.steps) - 1, losses)
        if stop or time.perf_counter() > deadline:
            break
    return history


def _train_epoch(
    module: TrainingModule,
    step: Step,
    train: PtychoDataContainer,
    order: NDArray[np.int64],
    rate: Callable[[int], float],
    deadline: float,
) -> tuple[float, int]:
    """Train on the groups in this order until the deadline; the mean loss and the number of groups seen."""
    seen, total = 0, tf.zeros((), module.model.dtype)
    for batch in split_batches(order, module.config.batch_size):
        module.optimizer.rate.assign(rate(int(module.optimizer.steps)))
        total += step(*train.batch(batch, module.needs_truth)) * len(batch)
        seen += len(batch)
        if time.perf_counter() > deadline:
            break
    return float(total) / seen, seen


def _mean_loss(module: TrainingModule, judge: Step, container: PtychoDataContainer) -> float:
    """Mean loss of groups that training does not see."""
    batches = split_batches(np.arange(len(container)), module.config.batch_size)
    losses = [(float(judge(*container.batch(batch, module.needs_truth))), len(batch)) for batch in batches]
    return sum(loss * count for loss, count in losses) / len(container)


def _report(
    done: int, epochs: int, losses: dict[str, float], rate: float, seconds: list[float], max_seconds: float
) -> None:
    """One line about an epoch."""
    text = ", ".join(f"{name} {value:.4g}" for name, value in losses.items())
    left = min((epochs - done) * seconds[-1] / len(seconds), max(max_seconds - seconds[-1], 0))
    logger.info("epoch %d/%d: %s, %.0f groups/s, %.0f s left", done, epochs, text, rate, left)


def _save_checkpoint(path: Path, module: TrainingModule, epoch: int, plateau: Plateau, patience: Patience) -> None:
    """Write weights, optimiser and progress, whole or not at all."""
    about = {
        "epoch": epoch,
        "plateau": asdict(plateau),
        "patience": asdict(patience),
        "config": to_json(asdict(module.config)),
    }
    write_checkpoint(path, [variable.numpy() for variable in _state(module)], about)


def _load_checkpoint(path: Path, module: TrainingModule, plateau: Plateau, patience: Patience) -> int:
    """Put a checkpoint into the module and its schedule; return the number of epochs it has seen."""
    state = _state(module)
    arrays, about = read_checkpoint(path, [tuple(variable.shape) for variable in state])
    for variable, array in zip(state, arrays, strict=True):
        variable.assign(array)
    vars(plateau).update(about["plateau"])
    vars(patience).update(about["patience"])
    return int(about["epoch"])


def _state(module: TrainingModule) -> list[tf.Variable]:
    """Every variable that training changes, in a fixed order."""
    return [*module.variables, *module.model.running_statistics, *module.optimizer.state]
