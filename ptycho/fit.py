"""Training with TensorFlow: loss, schedule, checkpoints, and one line per epoch for whoever watches."""

from __future__ import annotations

import io
import json
import logging
import math
import time
import zipfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from ptycho.config.config import PyTorchExecutionConfig, TrainingConfig
from ptycho.core.archive import to_json
from ptycho.core.atomic import atomic_path, output_folder
from ptycho.core.batches import epoch_orders, split_batches
from ptycho.core.schedules import Plateau, warmup_cosine
from ptycho.errors import ArchiveError, ConfigError, MissingFileError
from ptycho.loader import PtychoDataContainer
from ptycho.losses import mae_loss, poisson_loss
from ptycho.model import PtychoPINN
from ptycho.optimizers import Optimizer, clip_gradients

__all__ = ["TrainingModule", "fit", "refuse_unsupported"]

logger = logging.getLogger(__name__)

Batch = tuple[tf.Tensor, tf.Tensor, tf.Tensor]
Step = Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor]

LEARNING_RATE = PyTorchExecutionConfig.learning_rate
PATIENCE = PyTorchExecutionConfig.early_stop_patience
CHECKPOINT = "ptychopinn-tensorflow-checkpoint"
VERSION = 1


class TrainingModule:
    """A `PtychoPINN` with its loss and optimiser; batches are `(X_norm, positions, mask)`.

    The measured counts are `(s_0 X_norm)^2`, s_0 the nominal intensity scale; the mean count per pixel that the loss
    is divided by follows from the definition of k: `s_0^2 / 4`.
    """

    def __init__(self, model: PtychoPINN, config: TrainingConfig, size: int) -> None:
        self.model = model
        self.config = config
        self.size = size
        self.variables = [variable.value for variable in model.trainable_variables]
        self.optimizer = Optimizer(config, self.variables, LEARNING_RATE)

    def loss(self, batch: Batch) -> tf.Tensor:
        """The weighted sum of the losses that the configuration asks for, per valid pixel."""
        normalised, positions, mask = batch
        scale = self.model.nominal_intensity_scale
        normalised = tf.cast(normalised, self.model.dtype)
        expected = self.model(normalised, positions, self.size, mask)
        counts, mean_count = tf.square(scale * normalised), scale**2 / 4
        weights = (self.config.nll_weight, self.config.mae_weight)
        terms = [
            weight * function(expected, counts, mean_count, mask)
            for weight, function in zip(weights, (poisson_loss, mae_loss), strict=True)
            if weight
        ]
        return tf.add_n(terms)

    def training_step(self, *batch: tf.Tensor) -> tf.Tensor:
        """Take one step of the optimiser; return the loss before it."""
        with tf.GradientTape() as tape:
            value = self.loss(batch)
        gradients = tape.gradient(value, self.variables, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        limit, algorithm = self.config.gradient_clip_val, self.config.gradient_clip_algorithm
        self.optimizer.apply(clip_gradients(gradients, limit, algorithm))
        return value

    def validation_step(self, *batch: tf.Tensor) -> tf.Tensor:
        """Loss of one batch that training does not see."""
        return self.loss(batch)


class Schedule:
    """The learning rate of every step, from the name in the configuration."""

    def __init__(self, config: TrainingConfig, steps_per_epoch: int) -> None:
        self.config = config
        self.plateau = Plateau()
        steps = steps_per_epoch * config.nepochs
        self._cosine = warmup_cosine(steps, steps_per_epoch * config.lr_warmup_epochs, config.lr_min_ratio)

    def rate(self, epoch: int, step: int) -> float:
        """The learning rate of a step, both counted from 0 and from the start of the training."""
        factors = {
            "Default": lambda: 1.0,
            # the rate has fallen to lr_min_ratio when the last epoch ends
            "Exponential": lambda: self.config.lr_min_ratio ** (epoch / self.config.nepochs),
            "WarmupCosine": lambda: self._cosine(step),
            "ReduceLROnPlateau": lambda: self.plateau.factor,
        }
        return LEARNING_RATE * factors[self.config.scheduler]()


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


def refuse_unsupported(config: TrainingConfig) -> None:
    """Raise ConfigError for settings whose effect this backend does not have yet, instead of ignoring them."""
    refused = {
        "model_type='supervised'": config.model.model_type == "supervised",
        "realspace_weight": config.realspace_weight > 0,
        "realspace_mae_weight": config.realspace_mae_weight > 0,
        "positions_provided=False": not config.positions_provided,
        "gradient_clip_algorithm='agc'": config.gradient_clip_algorithm == "agc",
        "torch_loss_mode='mae' (here it is mae_weight)": config.torch_loss_mode == "mae",
    }
    found = [name for name, present in refused.items() if present]
    if found:
        raise ConfigError(f"not supported by the tensorflow backend yet: {', '.join(found)}; leave it at its default")


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

    `output_dir/checkpoints/last.ckpt` is written after every epoch. The batches are those of the PyTorch backend for
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
        KeyboardInterrupt: training was interrupted; `last.ckpt` holds the last whole epoch.
    """
    config, begun, done = module.config, time.perf_counter(), 0
    schedule = Schedule(config, math.ceil(len(train) / config.batch_size))
    patience = Patience()
    if resume is not None:
        done = _load_checkpoint(resume, module, schedule.plateau, patience)
    last = output_folder(Path(config.output_dir) / "checkpoints") / "last.ckpt"
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
            losses["val_loss"] = _mean_loss(judge, validation, config.batch_size)
        for name, value in (*losses.items(), ("seconds", time.perf_counter() - begun)):
            history.setdefault(name, []).append(value)
        _report(epoch + 1, config.nepochs, losses, seen / (time.perf_counter() - started), history["seconds"])
        watched = losses.get("val_loss", loss)
        schedule.plateau.see(watched)
        stop = patience.gone(watched)
        _save_checkpoint(last, module, epoch + 1, schedule.plateau, patience)
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
        total += step(*train.batch(batch)) * len(batch)
        seen += len(batch)
        if time.perf_counter() > deadline:
            break
    return float(total) / seen, seen


def _mean_loss(judge: Step, container: PtychoDataContainer, batch_size: int) -> float:
    """Mean loss of groups that training does not see."""
    batches = split_batches(np.arange(len(container)), batch_size)
    losses = [(float(judge(*container.batch(batch))), len(batch)) for batch in batches]
    return sum(loss * count for loss, count in losses) / len(container)


def _report(done: int, epochs: int, losses: dict[str, float], rate: float, seconds: list[float]) -> None:
    """One line about an epoch."""
    text = ", ".join(f"{name} {value:.4g}" for name, value in losses.items())
    left = (epochs - done) * seconds[-1] / len(seconds)
    logger.info("epoch %d/%d: %s, %.0f groups/s, %.0f s left", done, epochs, text, rate, left)


def _save_checkpoint(path: Path, module: TrainingModule, epoch: int, plateau: Plateau, patience: Patience) -> None:
    """Write weights, optimiser and progress as an NPZ, whole or not at all."""
    about = {
        "format": CHECKPOINT,
        "version": VERSION,
        "epoch": epoch,
        "plateau": asdict(plateau),
        "patience": asdict(patience),
        "config": to_json(asdict(module.config)),
    }
    arrays = {f"{index}": variable.numpy() for index, variable in enumerate(_state(module))}
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez(file, about=np.array(json.dumps(about)), **arrays)


def _load_checkpoint(path: Path, module: TrainingModule, plateau: Plateau, patience: Patience) -> int:
    """Put a checkpoint into the module and its schedule; return the number of epochs it has seen."""
    if not path.is_file():
        raise MissingFileError(f"no checkpoint to resume from at {path}: leave --resume out to start afresh")
    arrays = _read(path)
    about: dict[str, Any] = json.loads(str(arrays.pop("about", "{}")))
    if about.get("format") != CHECKPOINT or about["version"] > VERSION:
        raise ArchiveError(
            f"{path}: expected a checkpoint of the tensorflow backend, version {VERSION} or older, found "
            f"{about.get('format', 'another file')} {about.get('version', '')}: name the last.ckpt of this training"
        )
    state = _state(module)
    shapes = [tuple(variable.shape) for variable in state]
    found = [arrays[str(index)].shape for index in range(len(arrays))]
    if found != shapes:
        raise ArchiveError(
            f"{path}: expected {len(shapes)} arrays of this network and optimiser, found {len(found)} or other shapes: "
            "resume with the settings of the training that wrote it"
        )
    for index, variable in enumerate(state):
        variable.assign(arrays[str(index)])
    vars(plateau).update(about["plateau"])
    vars(patience).update(about["patience"])
    return int(about["epoch"])


def _read(path: Path) -> dict[str, NDArray[Any]]:
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
            return {name: file[name] for name in file.files if name == "about" or name.isdecimal()}
    except (ValueError, EOFError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        raise ArchiveError(
            f"{path}: no checkpoint of the tensorflow backend ({error}): name the last.ckpt of this training"
        ) from error


def _state(module: TrainingModule) -> list[tf.Variable]:
    """Every variable that training changes, in a fixed order."""
    return [*module.variables, *module.optimizer.state]
