"""Training through the interface: settings and scan to `train_cdi_model_torch`, its result into the model."""

from __future__ import annotations

import ptycho_torch.lightning  # noqa: F401  # isort: skip

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback

from ptycho.config import config as shared
from ptycho.errors import ConfigError
from ptycho.workflows.experiments import read_experiments
from ptycho_torch.api.config_manager import ConfigManager, plain_configs
from ptycho_torch.api.models import PtychoModel
from ptycho_torch.api.scans import PtychoDataLoader
from ptycho_torch.config.options import options_of
from ptycho_torch.config_bridge import labels_of, to_execution_config, to_model_config, to_training_config
from ptycho_torch.config_factory import TrainingPayload, populate_legacy_params
from ptycho_torch.config_params import DataConfig
from ptycho_torch.fit import PtychoPINN_Lightning
from ptycho_torch.workflows.components import train_cdi_model_torch

__all__ = ["Trainer", "training_payload"]

Orchestration = Literal["lightning", "mlflow"]
Orchestrator = Literal["Lightning", "Mlflow"]

_ORCHESTRATORS: dict[Orchestration, Orchestrator] = {"lightning": "Lightning", "mlflow": "Mlflow"}

_IN_MEMORY = Path("scan in memory")


@dataclass
class LightningRun:
    """What is handed to Lightning's trainer, which is made when training begins."""

    callbacks: list[Callback] = field(default_factory=list)


class Trainer:
    """Trains a model on a scan.

    `_trainer.callbacks` takes callbacks of Lightning; with one device, training stays in this process and they see it.
    """

    def __init__(
        self,
        model: PtychoModel,
        dataloader: PtychoDataLoader,
        config_manager: ConfigManager,
        orchestration: Orchestration | None = None,
    ) -> None:
        _checked(orchestration)
        self.model = model
        self.dataloader = dataloader
        self.config_manager = config_manager
        self.orchestration = orchestration
        self._trainer = LightningRun()

    @classmethod
    def _from_lightning(
        cls,
        model: PtychoModel,
        dataloader: PtychoDataLoader,
        orchestration: Orchestration | None = None,
        config_manager: ConfigManager | None = None,
    ) -> Trainer:
        """A trainer; without `config_manager`, by the settings of the data loader."""
        return cls(model, dataloader, config_manager or dataloader.config_manager, orchestration)

    def train(self, orchestration: Orchestration | None = None, experiment_name: str = "") -> dict[str, Any]:
        """Train, and put the network into the model; checkpoints go to `dataloader.output_dir`.

        Args:
            orchestration: where metrics go, `lightning`: CSV files beside the checkpoints, `mlflow`: MLflow; None: as
                the trainer was made, else as the training configuration says.
            experiment_name: a label that is kept with the model; MLflow's experiment has this name.

        Returns:
            What `train_cdi_model_torch` returns, with MLflow among it `mlflow_uri`.

        Raises:
            ConfigError, DataError: settings or data that cannot work; one line.
        """
        asked = orchestration or self.orchestration
        payload = training_payload(self.config_manager, self.dataloader, asked, experiment_name)
        populate_legacy_params(
            payload.tf_training_config, labels_of(payload.pt_model_config, payload.pt_training_config)
        )
        configs = (
            payload.pt_data_config,
            payload.pt_model_config,
            payload.pt_training_config,
            payload.pt_inference_config,
        )
        kept: dict[str, Any] = {"configs": plain_configs(configs)}
        others, unseen = read_experiments(self.dataloader.others(payload.pt_training_config.training_directories))
        results = train_cdi_model_torch(
            [self.dataloader.train, *others],
            [self.dataloader.validation, *unseen],
            payload.tf_training_config,
            execution_config=payload.execution_config,
            training_payload=payload,
            callbacks=[KeepInterface(kept), *self._trainer.callbacks],
        )
        self.model.adopt(configs, trained_module(self.model, results, payload, kept))
        return results


class KeepInterface(Callback):
    """Lets every checkpoint of a training say what its settings and its scan were, in the words of the interface."""

    def __init__(self, kept: dict[str, Any]) -> None:
        self.kept = kept

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Hand it to the module, which writes it beside what the training itself has to say of its scan."""
        module: Any = pl_module  # a PtychoPINN_Lightning
        self.kept.update(module.interface)
        module.interface = self.kept


def trained_module(
    model: PtychoModel, results: dict[str, Any], payload: TrainingPayload, kept: dict[str, Any]
) -> PtychoPINN_Lightning:
    """The Lightning module of the network that a training returned."""
    containers = [*results["train_containers"], *results["test_containers"]]
    size = max(container.canvas_size for container in containers if container is not None)
    kind = model.model if isinstance(model.model, type) else type(model.model)
    module = kind(results["models"], payload.tf_training_config, payload.execution_config, size)
    module.interface = kept
    return module.eval()


def training_payload(
    manager: ConfigManager, loader: PtychoDataLoader, orchestration: Orchestration | None, experiment_name: str
) -> TrainingPayload:
    """The settings of a training in both spellings; files and folder are the loader's.

    Where `n_groups` is not given, every scan point that may be is the seed of a group, or of as many as `n_subsample`
    says. The dose of counts is measured; `nphotons` of DataConfig counts for amplitude, or where it was changed.

    Raises:
        ConfigError: settings that are not allowed, contradictory or not supported.
    """
    _checked(orchestration)
    data, model = replace(manager.data_config), replace(manager.model_config)
    inference, training = replace(manager.inference_config), manager.training_config
    training = replace(
        training,
        train_data_file=loader.train_file,
        test_data_file=loader.test_file,
        output_dir=loader.output_dir,
        orchestrator=_ORCHESTRATORS[orchestration] if orchestration else training.orchestrator,
        experiment_name=experiment_name or training.experiment_name,
    )
    tf_model = to_model_config(data, model)
    groups = options_of(data, model).groups
    claimed = data.nphotons != DataConfig.nphotons or loader.train.units == "amplitude"
    overrides = {
        "train_data_file": loader.train_file or _IN_MEMORY,
        "n_groups": training.n_groups or loader.train.group_count(tf_model.gridsize, data.K, options=groups),
        "nphotons": data.nphotons if claimed else shared.TrainingConfig.nphotons,
    }
    tf_training = to_training_config(tf_model, data, model, training, overrides, inference)
    tf_training.train_data_file = loader.train_file
    shared.validate_training_config(tf_training)
    execution = replace(to_execution_config(training, inference), enable_progress_bar=False)
    shared.validate_execution_config(execution)
    return TrainingPayload(
        tf_training_config=tf_training,
        pt_data_config=data,
        pt_model_config=model,
        pt_training_config=training,
        pt_inference_config=inference,
        execution_config=execution,
    )


def _checked(orchestration: str | None) -> None:
    if orchestration is not None and orchestration not in _ORCHESTRATORS:
        raise ConfigError(f"orchestration={orchestration!r}: expected {' or '.join(_ORCHESTRATORS)}")
