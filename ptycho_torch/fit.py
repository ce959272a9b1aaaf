"""Training with Lightning: loss, optimiser, schedule, checkpoints, and one line per epoch for whoever watches."""

from __future__ import annotations

import ptycho_torch.lightning  # noqa: F401  # isort: skip

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping
from lightning.pytorch.strategies import DDPStrategy
from numpy.typing import NDArray
from torch import Tensor, nn

from ptycho.config.config import PyTorchExecutionConfig, TrainingConfig
from ptycho.config.files import config_to_dict
from ptycho.config.options import ObjectiveOptions, StageOptions
from ptycho.core.archive import check_experiment, to_json
from ptycho.core.geometry import canvas_size
from ptycho.core.groups.container import as_experiments
from ptycho.core.progress import TrainingReport, Watch, log_progress
from ptycho.core.training.checkpoint_npz import nothing_left
from ptycho.core.training.identity import TrainingIdentity
from ptycho.core.training.schedules import one_cycle
from ptycho.errors import ConfigError
from ptycho.legacy.retired import retired
from ptycho.networks.archiving import most_alike
from ptycho.workflows.sharing.team import SINGLE, Team
from ptycho_torch.distributed.environment import TeamEnvironment
from ptycho_torch.lightning.checkpoint import (
    WholeCheckpoints,
    check_checkpoint,
    describe,
    models_of,
    read_checkpoint,
    training_of,
)
from ptycho_torch.lightning.clipping import clip_adaptively
from ptycho_torch.lightning.dataset import group_loader
from ptycho_torch.lightning.divergence import FiniteTraining, check_finite
from ptycho_torch.lightning.epoch_report import EpochReport
from ptycho_torch.lightning.process_state import interrupts_raise, own_determinism, quiet_lightning
from ptycho_torch.lightning.run_files import checkpoints, metric_logger
from ptycho_torch.lightning.schedule import Stages, rate_curve, setting
from ptycho_torch.lightning.staging import Groups, set_apart
from ptycho_torch.lightning.tracking import log_model, own_store
from ptycho_torch.loader import PtychoDataContainerTorch
from ptycho_torch.objective import Objective
from ptycho_torch.optimizers import optimizer_of
from ptycho_torch.pinn import PtychoPINN
from ptycho_torch.precision import full_float32

__all__ = ["PtychoPINN_Lightning", "fit"]

logger = logging.getLogger(__name__)

Batch = Sequence[Tensor]
Experiments = PtychoDataContainerTorch | Sequence[PtychoDataContainerTorch | None]


class PtychoPINN_Lightning(pl.LightningModule):
    """A `PtychoPINN` with its loss (`ptycho_torch.objective`) and its optimiser.

    A checkpoint holds all that `load_from_checkpoint` needs (`ptycho_torch.lightning.checkpoint`).

    Args:
        model: the model, or those of several experiments, which share one network.
        config: settings of the training.
        execution: how PyTorch runs.
        size: side of the canvas, pixels; None: the smallest that holds each batch.
        objective: further terms of the loss; None: those of the configuration.

    `identity`, of scans and settings, travels in the checkpoints and is compared with that of one to go on from.
    """

    loss_name = "train_loss"
    """Name of the metric of a training epoch."""
    val_loss_name = "val_loss"
    """Name of the metric of a validation epoch."""

    def __new__(cls, *_arguments: Any, **settings: Any) -> PtychoPINN_Lightning:
        """Refuse settings in the place of a model, as older code has them."""
        if "model_config" in settings:
            raise ConfigError(retired("PtychoPINN_Lightning(model_config=)"))
        return super().__new__(cls)

    def __init__(
        self,
        model: PtychoPINN | Sequence[PtychoPINN],
        config: TrainingConfig,
        execution: PyTorchExecutionConfig,
        size: int | None,
        objective: ObjectiveOptions | None = None,
    ) -> None:
        super().__init__()
        models = [model] if isinstance(model, PtychoPINN) else list(model)
        self.model = models[0]
        self.others = nn.ModuleList(models[1:])
        self.config = config
        self.execution = execution
        self.size = size
        terms = config.objective if objective is None else objective
        self.objectives = [Objective(config, terms, each) for each in models]
        self.physics_weight = 1.0
        self.stages = Stages(StageOptions(), config.nepochs)
        self.max_seconds: float | None = None
        self.clock: Callable[[], float] = time.perf_counter
        """That of all processes, which would part at different learning rates."""
        self.parts = 1  # processes that share a batch
        self.interface: dict[str, Any] = {}
        self.identity: TrainingIdentity | None = None
        self.save_hyperparameters({"config": to_json(config_to_dict(config))})

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what the weights alone do not say."""
        checkpoint.update(describe(self.models, self.config, self.size), interface=self.interface)
        if self.identity is not None:
            checkpoint["identity"] = self.identity.content()

    @classmethod
    def load_from_checkpoint(  # type: ignore[override]
        cls, checkpoint_path: Path | str, map_location: torch.device | str = "cpu", **_settings: Any
    ) -> PtychoPINN_Lightning:
        """The trained model of a checkpoint, in evaluation mode; nothing is unpickled.

        Further keywords (`model_config=`, `data_config=`, ...), which other programs pass along, change nothing: a
        checkpoint brings its settings.

        Raises:
            MissingFileError, ArchiveError: there is no such file, or it is no checkpoint of this backend.
        """
        path = Path(checkpoint_path)
        content = read_checkpoint(path)
        models = [model.to(map_location) for model in models_of(content, str(path))]
        config = replace(training_of(content, str(path)), network=models[0].options)
        module = cls(models, config, PyTorchExecutionConfig(), content["canvas_size"])
        module.interface = content.get("interface", {})
        return module.eval()

    @property
    def models(self) -> list[PtychoPINN]:
        """One per experiment."""
        return [self.model, *self.others]

    def of_experiment(self, number: int | None, probe: NDArray[Any] | None = None) -> PtychoPINN:
        """The model of one experiment, counted from 0; None takes the one whose probe is most like this one.

        Raises:
            ConfigError: there is no such experiment.
        """
        if number is None:
            number = most_alike([model.probe.file_units(masked=False) for model in self.models], probe)
        check_experiment(number, len(self.models))
        return self.models[number]

    def forward_predict(self, *arguments: Any, **settings: Any) -> Tensor:
        """`PtychoPINN.forward_predict` of the first experiment's model."""
        return self.model.forward_predict(*arguments, **settings)

    @property
    def needs_truth(self) -> bool:
        """Whether a batch has to bring the ground-truth patches."""
        return self.objectives[0].needs_truth

    def loss(self, batch: Batch, experiment_id: int = 0) -> Tensor:
        """The weighted sum of the losses that are asked for, of a batch of one experiment."""
        model, size = self.models[experiment_id], self.size
        if size is None:
            size = canvas_size(model.config.N, batch[1].detach().cpu().numpy())
        return self.objectives[experiment_id].loss(model, batch, size, self.physics_weight)

    def training_step(self, batch: tuple[int, Batch], _index: int) -> Tensor:
        """Loss of one batch, an experiment and its groups."""
        experiment_id, groups = batch
        value, count = self._of_part(experiment_id, groups)
        self.log("train_loss", value, on_step=False, on_epoch=True, batch_size=count, sync_dist=True)
        return value

    def validation_step(self, batch: tuple[int, Batch], _index: int) -> Tensor:
        """Loss of one batch that training does not see."""
        experiment_id, groups = batch
        value, count = self._of_part(experiment_id, groups)
        self.log("val_loss", value, on_step=False, on_epoch=True, batch_size=count, sync_dist=True)
        return value

    def _of_part(self, experiment_id: int, groups: Batch) -> tuple[Tensor, int]:
        """Loss of the groups of this process, which all processes together take the mean of, and the groups of all.

        The loss of a batch is the mean over its groups, and not every process may have as many, or any.
        """
        own = len(groups[0])
        if self.parts == 1:
            return self.loss(groups, experiment_id), own
        together = self.trainer.strategy.reduce(torch.tensor(own, device=self.device), reduce_op="sum")
        if not own:
            return torch.stack([0 * parameter.sum() for parameter in self.parameters()]).sum(), int(together)
        return self.loss(groups, experiment_id) * (own * self.parts / int(together)), int(together)

    def on_train_start(self) -> None:
        """Go on with the learning rate of the settings; a checkpoint brings that of its training."""
        for config in self.trainer.lr_scheduler_configs:
            schedule: Any = config.scheduler
            schedule.base_lrs = [self.rate] * len(schedule.base_lrs)
        if self.trainer.lr_scheduler_configs:
            return
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = self.rate

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Let the optimiser see every parameter: those of the experiments that no batch was of have a gradient of 0."""
        if not len(self.others):
            return
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)

    @property
    def rate(self) -> float:
        """The learning rate before any schedule: of the settings, or else of the network's recipe."""
        asked = self.execution.learning_rate
        return self.model.network.spec.recipe.learning_rate if asked is None else asked

    def configure_optimizers(self) -> Any:
        """Optimiser and schedule of the configuration."""
        trained = {name: parameter for name, parameter in self.named_parameters() if parameter.requires_grad}
        optimiser = optimizer_of(self.config, self.stages.parameter_groups(trained), self.rate)
        name, cycles = setting("scheduler", self.execution, self.config), self.model.network.spec.recipe.one_cycle
        if name == "Default" and not cycles and not self.stages.several:
            return optimiser
        options, stages = self.stages.options, self.stages
        steps = int(self.trainer.estimated_stepping_batches)
        steps = steps * options.epochs(self.config.nepochs) // stages.total_epochs
        default = one_cycle(steps, self.max_seconds, self.clock) if cycles else None
        return stages.schedule(optimiser, rate_curve(name, self.config, options, steps, default, stages.plateau))

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip the gradients: adaptively by ourselves, otherwise as the Trainer was told."""
        ratio = _clip_ratio(self.config, self.execution)
        if ratio is None:
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)
        else:
            clip_adaptively(self.model.network, ratio)


def _clip_ratio(config: TrainingConfig, execution: PyTorchExecutionConfig) -> float | None:
    """The limit of adaptive clipping; None: it was not asked for."""
    if setting("gradient_clip_algorithm", execution, config) != "agc":
        return None
    limit: float | None = setting("gradient_clip_val", execution, config)
    return limit


def _callbacks(
    module: PtychoPINN_Lightning,
    report: EpochReport,
    folder: Path,
    options: StageOptions,
    validates: bool,
    resume: Path | None,
) -> list[Callback]:
    """Those of this library; they watch the training loss where there is nothing to validate with."""
    execution = module.execution
    metric, mode, patience = (
        execution.checkpoint_monitor_metric,
        execution.checkpoint_mode,
        execution.early_stop_patience,
    )
    if metric == "val_loss" and not validates:
        metric = "train_loss"
    module.stages = stages = Stages(options, module.config.nepochs, metric, mode, patience)
    kept = checkpoints(execution, folder, metric) if execution.enable_checkpointing else []
    if kept:
        stages.best_checkpoint = kept[0]
    # first of all, so that no other one sees or writes an epoch that is not finite
    callbacks: list[Callback] = [FiniteTraining(module.rate, kept, resume), report, stages, *kept]
    if not stages.several:
        callbacks.append(EarlyStopping(metric, patience=patience, mode=mode))
    return callbacks


def _trainer(
    module: PtychoPINN_Lightning,
    callbacks: list[Callback],
    accelerator: str,
    max_seconds: float | None,
    bar: bool,
    team: Team,
) -> pl.Trainer:
    config, execution, folder = module.config, module.execution, Path(module.config.output_dir)
    limit, algorithm = setting("gradient_clip_val", execution, config), "norm"
    if _clip_ratio(config, execution) is not None:
        limit = None
    elif limit is None:
        limit = module.model.network.spec.recipe.clip
    else:
        algorithm = setting("gradient_clip_algorithm", execution, config)
    return pl.Trainer(
        accelerator=accelerator,
        devices=[torch.cuda.current_device()] if accelerator == "cuda" else 1,
        num_nodes=team.size,  # each with its process, so that the team says which GPU that has (`TeamEnvironment`)
        strategy="auto" if team.size == 1 else DDPStrategy(find_unused_parameters=_leaves_some_out(module)),
        use_distributed_sampler=False,  # each has its part of every batch already
        precision=execution.precision,
        deterministic=execution.deterministic,
        max_epochs=module.stages.total_epochs,
        max_time=None if max_seconds is None else timedelta(seconds=max_seconds),
        accumulate_grad_batches=execution.accum_steps,
        gradient_clip_val=limit,
        gradient_clip_algorithm=algorithm,
        callbacks=callbacks,
        # whatever a batch system says of its tasks: a training goes on where it is told to, nowhere else
        plugins=[WholeCheckpoints(), TeamEnvironment(team)],
        logger=metric_logger(execution.logger_backend, folder, module.model.labels),
        enable_checkpointing=execution.enable_checkpointing,
        enable_progress_bar=bar,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
        default_root_dir=folder / "checkpoints",  # where no `hpc_ckpt_*.ckpt` is that Lightning would go on from
    )


def _leaves_some_out(module: PtychoPINN_Lightning) -> bool:
    """Whether the loss of a batch may leave out some of the parameters: of other experiments, of later stages, or the
    intensity scale where nothing is counted.
    """
    return len(module.models) > 1 or module.stages.several or module.config.model.model_type == "supervised"


@full_float32()
def fit(
    module: PtychoPINN_Lightning,
    train: Experiments,
    validation: Experiments | None = None,
    *,
    accelerator: str = "cpu",
    resume: Path | None = None,
    max_seconds: float | None = None,
    seed: int = 0,
    stages: StageOptions | None = None,
    callbacks: Sequence[Callback] = (),
    watch: Watch | None = None,
    team: Team = SINGLE,
) -> dict[str, list[float]]:
    """Train a model; return the history `{"train_loss", "val_loss", "seconds"}`, one entry per epoch.

    Checkpoints go to `output_dir/checkpoints` (`last.ckpt` after every epoch), metrics to `output_dir/logs`, pictures,
    where the settings ask for them, to `output_dir/recon_log`. A training that was interrupted and goes on from
    `last.ckpt` is, on a CPU, to the last bit the one that was never interrupted. A training that diverges stops before
    anything of it is written: the checkpoints are those of finite epochs.

    Args:
        module: model, loss and settings.
        train, validation: the groups, of several experiments a list in the order of their models, None for one without
            any; where there is no `validation` the training loss is watched.
        accelerator: what Lightning runs on, resolved (`cpu`, `cuda`, `mps`).
        resume: a checkpoint to go on from, with its optimiser and epoch.
        max_seconds: stop after this time, at the end of a step.
        seed: order of the batches.
        stages: stages of the training and fine-tuning; None: those of the configuration.
        callbacks: of Lightning, besides those of this library.
        watch: told how far it is, in the place of Lightning's bar and of the log.
        team: the processes that train together, all of which call this function with the same arguments, but for
            `watch` and `callbacks` of the first. Each works on its part of the groups of every batch, and their
            gradients are summed: it is the training of one process, but for rounding. The first alone writes.

    Raises:
        ConfigError: settings that cannot work together.
        MissingFileError, ArchiveError: `resume` is not there, is no checkpoint of this training, or is not finite.
        DataError: the settings need ground truth that a scan does not have.
        DivergedError: a loss or a weight is not finite any more.
        KeyboardInterrupt: training was interrupted; `last.ckpt` holds the last whole epoch.
    """
    config, execution = module.config, module.execution
    stages = config.stages if stages is None else stages
    begun = None
    if resume is not None:
        begun = check_checkpoint(resume, module.state_dict(), config.optimizer, module.identity)
        check_finite(resume, begun)
    truth, folder = module.needs_truth, Path(config.output_dir)
    given, known = as_experiments(train), as_experiments(validation)
    for container in (*given, *known):
        if truth and container is not None:
            container.check_truth()
    seen: Sequence[Groups | None] = given
    unseen: Sequence[Groups | None] = known
    if not any(known) and stages.enable_staged_finetuning and stages.finetune_val_split:
        pairs = [set_apart(groups, stages.finetune_val_split, seed) for groups in given if groups is not None]
        seen, unseen = zip(*pairs, strict=True)
    if team.size == 1 and execution.devices * execution.nodes > 1:
        raise ConfigError(
            f"devices={execution.devices}, nodes={execution.nodes}: expected the processes of a team, found one; train "
            "with ptycho.workflows.train, which has them"
        )
    module.parts, module.clock = team.size, partial(team.first, time.perf_counter)
    pictures = [] if team.rank else _pictures(module, next(filter(None, (*known, *given))), seed)
    epochs_seen = 0 if begun is None else _epochs_of(begun)
    part, size = slice(team.rank, None, team.size), config.batch_size
    train_loader = group_loader(seen, size, execution, seed, truth, epochs_seen, part)
    validation_loader = group_loader(unseen, size, execution, truth=truth, part=part) if any(unseen) else None
    report = TrainingReport(1, len(train_loader.dataset), max_seconds, watch or log_progress)  # type: ignore[arg-type]
    tracked = own_store(execution.logger_backend == "mlflow")
    with quiet_lightning(), interrupts_raise(), own_determinism(execution.deterministic), tracked:
        module.max_seconds = max_seconds
        ours = _callbacks(module, EpochReport(report), folder, stages, validation_loader is not None, resume)
        report.epochs = module.stages.total_epochs
        if resume is not None and begun is not None and epochs_seen >= module.stages.total_epochs:
            logger.warning("%s", nothing_left(resume, epochs_seen, module.stages.total_epochs))
            module.load_state_dict(begun["state_dict"])
            return report.history
        bar = execution.enable_progress_bar and watch is None
        trainer = _trainer(module, [*ours, *pictures, *callbacks], accelerator, max_seconds, bar, team)
        with team.watched():
            trainer.fit(module, train_loader, validation_loader, ckpt_path=resume)
        if execution.logger_backend == "mlflow" and trainer.is_global_zero:
            module.model.tracked = log_model(trainer.logger, module)
            logger.info("MLflow has the model at %s", module.model.tracked)
    return report.history


def _pictures(module: PtychoPINN_Lightning, groups: PtychoDataContainerTorch, seed: int) -> list[Callback]:
    """The log of reconstructions, where the settings ask for one."""
    if module.execution.recon_log_every_n_epochs is None:
        return []
    from ptycho_torch.lightning.recon_log import ReconstructionLog  # matplotlib is loaded only where there are pictures

    return [ReconstructionLog(groups, module.execution, Path(module.config.output_dir), seed)]


def _epochs_of(checkpoint: Mapping[str, Any]) -> int:
    """The epochs that a checkpoint has seen."""
    loops = checkpoint.get("loops")
    return 0 if loops is None else int(loops["fit_loop"]["epoch_progress"]["current"]["processed"])
