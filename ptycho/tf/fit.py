"""Training with TensorFlow: loss, schedule and checkpoints."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, cast

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from ptycho.config.config import PyTorchExecutionConfig, TrainingConfig
from ptycho.config.files import config_to_dict
from ptycho.config.options import ObjectiveOptions
from ptycho.config.schema import settings_of
from ptycho.core.archive import to_json
from ptycho.core.files.atomic import output_folder
from ptycho.core.groups.batches import batch_count, epoch_orders, experiment_batches, group_counts
from ptycho.core.groups.container import as_experiments
from ptycho.core.progress import TrainingReport, Watch, log_progress
from ptycho.core.training.checkpoint_npz import (
    MetricsFile,
    epochs_of,
    nothing_left,
    read_checkpoint,
    restore,
    write_checkpoint,
)
from ptycho.core.training.divergence import LOOK_EVERY, DivergenceWatch, check_resumed
from ptycho.core.training.identity import TrainingIdentity
from ptycho.core.training.schedules import Plateau, RateCurve, one_cycle
from ptycho.tf.distributed.crew import Crew
from ptycho.tf.distributed.replica import SharedStep
from ptycho.tf.graphs import graph_of
from ptycho.tf.loader import PtychoDataContainer
from ptycho.tf.objective import Objective
from ptycho.tf.optimizers import clip_adaptively, clip_gradients, optimizer_of
from ptycho.tf.pinn import PtychoPINN
from ptycho.tf.precision import full_float32
from ptycho.workflows.sharing.team import SINGLE, Team

__all__ = ["TrainingModule", "fit"]

logger = logging.getLogger(__name__)

Batch = Sequence[tf.Tensor]
Step = Callable[[int, Batch, int], tf.Tensor]
"""Of an experiment, with the groups of this process, of so many in all: the loss of all before it."""
See = Callable[..., None]
"""`DivergenceWatch.see` of an epoch."""
Experiments = PtychoDataContainer | Sequence[PtychoDataContainer | None]

PATIENCE: int = settings_of(PyTorchExecutionConfig)["early_stop_patience"].default


class TrainingModule:
    """A `PtychoPINN` with its loss (`ptycho.tf.objective`) and its optimiser.

    Args:
        model: the model, or those of several experiments, which share one network.
        config: settings of the training.
        size: side of the canvas, pixels.
        learning_rate: None is the network's own.
        objective: further terms of the loss; None: those of the configuration.

    `identity`, of scans and settings, travels in the checkpoints and is compared with that of one to go on from.
    """

    def __init__(
        self,
        model: PtychoPINN | Sequence[PtychoPINN],
        config: TrainingConfig,
        size: int,
        learning_rate: float | None = None,
        objective: ObjectiveOptions | None = None,
    ) -> None:
        self.models = [model] if isinstance(model, PtychoPINN) else list(model)
        self.model = self.models[0]
        network = self.model.network
        self.config = config
        self.size = size
        terms = config.objective if objective is None else objective
        self.objectives = [Objective(config, terms, each) for each in self.models]
        self.physics_weight = 1.0
        self.identity: TrainingIdentity | None = None
        self.learning_rate = network.spec.recipe.learning_rate if learning_rate is None else learning_rate
        settings_of(PyTorchExecutionConfig)["learning_rate"].check(self.learning_rate)
        trained = {id(variable): variable for each in self.models for variable in each.trainable_variables}
        self.variables = [variable.value for variable in trained.values()]
        names = {id(variable): name for name, variable in network.named_parameters().items()}
        self.network_names = [names.get(identity) for identity in trained]
        self.optimizer = optimizer_of(config, self.variables, self.learning_rate)

    @property
    def needs_truth(self) -> bool:
        """Whether a batch has to bring the ground-truth patches."""
        return self.objectives[0].needs_truth

    def loss(self, batch: Batch, experiment_id: int = 0) -> tf.Tensor:
        """The weighted sum of the losses that are asked for, of a batch of one experiment."""
        model = self.models[experiment_id]
        return self.objectives[experiment_id].loss(model, batch, self.size, self.physics_weight)

    def training_step(self, *batch: tf.Tensor, experiment_id: int = 0) -> tf.Tensor:
        """Take one step of the optimiser; return the loss before it."""
        value, gradients = self.gradients(*batch, experiment_id=experiment_id)
        self.apply(gradients)
        return value

    def gradients(self, *batch: tf.Tensor, experiment_id: int = 0) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """The loss of a batch, and its gradients with respect to `variables`."""
        with self.model.training_mode(), tf.GradientTape() as tape:
            value = self.loss(batch, experiment_id)
        return value, tape.gradient(value, self.variables, unconnected_gradients=tf.UnconnectedGradients.ZERO)

    def apply(self, gradients: Sequence[tf.Tensor]) -> None:
        """Take one step of the optimiser with these gradients."""
        self.optimizer.apply(self._clipped(gradients))

    def _clipped(self, gradients: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """The gradients within the limit of the configuration, or else of the network's recipe."""
        limit, algorithm = self.config.gradient_clip_val, self.config.gradient_clip_algorithm
        if limit is None:
            return clip_gradients(gradients, self.model.network.spec.recipe.clip, "norm")
        if algorithm == "agc":
            return clip_adaptively(gradients, self.variables, self.network_names, limit)
        return clip_gradients(gradients, limit, algorithm)

    def validation_step(self, *batch: tf.Tensor, experiment_id: int = 0) -> tf.Tensor:
        """Loss of one batch that training does not see."""
        return self.loss(batch, experiment_id)


class Schedule:
    """The learning rate of every step, from the name in the configuration."""

    def __init__(
        self,
        config: TrainingConfig,
        steps_per_epoch: int,
        learning_rate: float,
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
    """When to stop early: the loss has not fallen for `PATIENCE` epochs."""

    best: float = math.inf
    waited: int = 0

    def gone(self, loss: float) -> bool:
        """Note the loss of an epoch; whether to stop."""
        self.waited = 0 if loss < self.best else self.waited + 1
        self.best = min(self.best, loss)
        return self.waited >= PATIENCE


@full_float32()
def fit(
    module: TrainingModule,
    train: Experiments,
    validation: Experiments | None = None,
    *,
    resume: Path | None = None,
    max_seconds: float | None = None,
    seed: int = 0,
    watch: Watch | None = None,
    team: Team = SINGLE,
) -> dict[str, list[float]]:
    """Train a model; return the history `{"train_loss", "val_loss", "seconds"}`, one entry per epoch.

    `output_dir/checkpoints/last.ckpt` is written after every epoch, `best-checkpoint.ckpt` beside it after one that is
    better than all before, and the losses go to `output_dir/logs`. The batches are those of the PyTorch backend for
    the same seed; going on from a checkpoint takes them up where it was written.

    A training that diverges stops before anything of it is written: the checkpoints are those of finite epochs.

    A last batch of another size makes the graph a second time, and never a third; each of several experiments has
    graphs of its own.

    Args:
        module: model, loss and settings.
        train, validation: the groups, of several experiments a list in the order of their models, None for one without
            any; where there is no `validation` the training loss is watched.
        resume: a checkpoint to go on from, with its optimiser and epoch.
        max_seconds: stop after this time, at the end of a step.
        seed: order of the batches.
        watch: told how far it is, in the place of the log.
        team: the processes that train together (`ptycho.tf.distributed.crew`), all of which call this function with the
            same arguments, but for `watch` of the first. Each works on its part of the groups of every batch, and their
            gradients are summed: it is the training of one process, but for rounding. The first alone writes.

    Raises:
        MissingFileError, ArchiveError: `resume` is not there, is no checkpoint of this training, or is not finite.
        DataError: the settings need ground truth that a scan does not have.
        DivergedError: a loss or a weight is not finite any more.
        LostProcessError: one of the others is gone.
        KeyboardInterrupt: training was interrupted; `last.ckpt` holds the last whole epoch.
    """
    config, begun, done = module.config, time.perf_counter(), 0
    seen, unseen = as_experiments(train), as_experiments(validation)
    for container in (*seen, *unseen):
        if module.needs_truth and container is not None:
            container.check_truth()
    sizes = group_counts(seen)
    schedule = _schedule(module, batch_count(sizes, config.batch_size), max_seconds)
    patience = Patience()
    if resume is not None:
        done = _load_checkpoint(resume, module, schedule.plateau, patience)
        if done >= config.nepochs:
            logger.warning("%s", nothing_left(resume, done, config.nepochs))
    folder, metrics = Path(config.output_dir) / "checkpoints", MetricsFile(Path(config.output_dir))
    if team.rank == 0:
        output_folder(folder)
    step, look = _steps(module, team)
    kept = resume
    interval = LOOK_EVERY if tf.config.list_physical_devices("GPU") else 1
    divergence = DivergenceWatch(module.learning_rate, lambda: kept, interval)
    report = TrainingReport(config.nepochs, sum(sizes), max_seconds, watch or log_progress)
    deadline = math.inf if max_seconds is None else begun + max_seconds
    for epoch, order in islice(enumerate(epoch_orders(sum(sizes), seed)), done, config.nepochs):
        report.begin_epoch()
        see, tell = partial(divergence.see, epoch=epoch + 1), partial(report.batch, epoch)
        loss, count = _train_epoch(module, step, seen, order, partial(schedule.rate, epoch), deadline, see, tell, team)
        divergence.look()
        divergence.check(_changed(module))
        losses = {"train_loss": loss}
        if any(unseen):
            losses["val_loss"] = _mean_loss(module, look, unseen, partial(see, kind="validation loss"), team)
            divergence.look()
        report.epoch(epoch + 1, losses, count)
        watched = losses.get("val_loss", loss)
        schedule.plateau.see(watched)
        best = watched < patience.best
        stop = patience.gone(watched)
        for name in ("last.ckpt", "best-checkpoint.ckpt") if best else ("last.ckpt",):
            if team.rank == 0:
                _save_checkpoint(folder / name, module, epoch + 1, schedule.plateau, patience)
            if kept != folder / "best-checkpoint.ckpt":
                kept = folder / name
        if team.rank == 0:
            metrics.add(epoch, int(module.optimizer.steps) - 1, losses)
        if _agreed(team, 0.0, deadline)[1] or stop:
            break
    return report.history


def _steps(module: TrainingModule, team: Team) -> tuple[Step, Sequence[Callable[..., tf.Tensor]]]:
    """A step of the optimiser, and what gives the loss of a batch of each experiment."""
    use_xla = module.config.use_xla
    train, look = (
        [graph_of(partial(function, experiment_id=number), use_xla) for number in range(len(module.models))]
        for function in (module.training_step, module.validation_step)
    )
    if team.size > 1:
        return SharedStep(module, cast(Crew, team), use_xla), look
    return lambda number, batch, _groups: train[number](*batch), look


def _agreed(team: Team, rate: float, deadline: float) -> tuple[float, bool]:
    """A learning rate, and whether the deadline has passed, as the first process has them: its clock is that of all."""
    own = (rate, time.perf_counter() > deadline) if team.rank == 0 else (0, 0)
    (said,) = team.sum(np.array(own, float))
    return float(said[0]), bool(said[1])


def _batch(module: TrainingModule, groups: PtychoDataContainer | None, indices: NDArray[np.int64], team: Team) -> Batch:
    """The part of this process of some groups of an experiment, read from its scan."""
    assert groups is not None  # an experiment without groups has no batches
    return groups.batch(indices, module.needs_truth, slice(team.rank, None, team.size))


def _train_epoch(
    module: TrainingModule,
    step: Step,
    experiments: Sequence[PtychoDataContainer | None],
    order: NDArray[np.int64],
    rate: Callable[[int], float],
    deadline: float,
    see: See,
    tell: Callable[[int, Callable[[], float]], None],
    team: Team,
) -> tuple[float, int]:
    """Train on the groups in this order until the deadline; the mean loss and the number of groups seen."""
    seen, total = 0, tf.zeros((), module.model.dtype)
    batches = experiment_batches(order, group_counts(experiments), module.config.batch_size)
    now, _ = _agreed(team, rate(int(module.optimizer.steps)), deadline)
    for count, (number, batch) in enumerate(batches, 1):
        module.optimizer.rate.assign(now)
        loss = step(number, _batch(module, experiments[number], batch, team), len(batch))
        see(loss, batch=count)
        total += loss * len(batch)
        seen += len(batch)
        tell(seen, partial(float, loss))
        now, over = _agreed(team, rate(int(module.optimizer.steps)), deadline)
        if over:
            break
    return float(total) / seen, seen


def _mean_loss(
    module: TrainingModule,
    look: Sequence[Callable[..., tf.Tensor]],
    experiments: Sequence[PtychoDataContainer | None],
    see: See,
    team: Team,
) -> float:
    """Mean loss of groups that training does not see."""
    sizes = group_counts(experiments)
    batches = list(experiment_batches(np.arange(sum(sizes)), sizes, module.config.batch_size))
    totals = np.zeros(len(batches))
    for count, (number, batch) in enumerate(batches):
        own = _batch(module, experiments[number], batch, team)
        totals[count] = float(look[number](*own)) * len(own[0]) if len(own[0]) else 0.0
    (totals,) = team.sum(totals)
    for count, (total, (_, batch)) in enumerate(zip(totals, batches, strict=True), 1):
        see(total / len(batch), batch=count)
    return float(totals.sum()) / sum(sizes)


def _save_checkpoint(path: Path, module: TrainingModule, epoch: int, plateau: Plateau, patience: Patience) -> None:
    """Write weights, optimiser and progress, whole or not at all."""
    about = {
        "epoch": epoch,
        "plateau": asdict(plateau),
        "patience": asdict(patience),
        "config": to_json(config_to_dict(module.config)),
        "identity": None if module.identity is None else module.identity.content(),
    }
    write_checkpoint(path, [variable.numpy() for variable in _state(module)], about)


def _load_checkpoint(path: Path, module: TrainingModule, plateau: Plateau, patience: Patience) -> int:
    """Put a checkpoint into the module and its schedule; return the number of epochs it has seen."""
    state = _state(module)
    arrays, about = read_checkpoint(path, [tuple(variable.shape) for variable in state], module.identity)
    check_resumed(path, ((variable.name, array) for variable, array in zip(state, arrays, strict=True)))
    for variable, array in zip(state, arrays, strict=True):
        variable.assign(array)
    for target, name in ((plateau, "plateau"), (patience, "patience")):
        restore(target, about.get(name, {}), path)
    return epochs_of(about, path)


def _state(module: TrainingModule) -> list[tf.Variable]:
    """Every variable that training changes, in a fixed order."""
    return [*module.variables, *module.model.running_statistics, *module.optimizer.state]


def _changed(module: TrainingModule) -> Iterator[tuple[str, NDArray[Any]]]:
    """What has to stay finite, by name: all that a checkpoint keeps, and what scales of the models are made of it.

    A scale is to be a number above 0: its inverse is finite, too.
    """
    yield from ((variable.name, variable.numpy()) for variable in _state(module))
    for model in module.models:
        yield "intensity_scale", tf.exp(tf.abs(model.log_intensity_scale.value)).numpy()
