"""A network with its settings: new, from a checkpoint, and to one."""

from __future__ import annotations

import tempfile
from pathlib import Path

from ptycho import params
from ptycho.errors import ArchiveError, ConfigError
from ptycho_torch.api.config_manager import ConfigManager, Configs, configs_from, configs_of
from ptycho_torch.config_params import DataConfig, InferenceConfig, ModelConfig, TrainingConfig
from ptycho_torch.fit import PtychoPINN_Lightning
from ptycho_torch.lightning.checkpoint import read_checkpoint, training_of
from ptycho_torch.lightning.model_folder import checkpoint_in, write_model_folder
from ptycho_torch.lightning.tracking import fetched, log_folder, require_mlflow

__all__ = ["PtychoModel"]


class PtychoModel:
    """Settings, and in `model` the network: a Lightning module, or its class as long as it was not trained.

    Probe and scales of a network are those of the scan that it is trained on, so that it is made when training begins.
    `loss_name` and `val_loss_name`, the names of its metrics, are there before.
    """

    def __init__(
        self,
        model_config: ModelConfig | None = None,
        data_config: DataConfig | None = None,
        training_config: TrainingConfig | None = None,
        inference_config: InferenceConfig | None = None,
    ) -> None:
        self.model_config = model_config or ModelConfig()
        self.data_config = data_config or DataConfig()
        self.training_config = training_config or TrainingConfig()
        self.inference_config = inference_config or InferenceConfig()
        self.model: PtychoPINN_Lightning | type[PtychoPINN_Lightning] = PtychoPINN_Lightning

    @property
    def configs(self) -> Configs:
        """The settings, in the order of `_extract_configs_from_checkpoint`."""
        return self.data_config, self.model_config, self.training_config, self.inference_config

    @property
    def module(self) -> PtychoPINN_Lightning:
        """The trained network.

        Raises:
            ConfigError: there is none yet.
        """
        if isinstance(self.model, type):
            raise ConfigError("the model was not trained: train it with Trainer, or load a checkpoint first")
        return self.model

    def adopt(self, configs: Configs, module: PtychoPINN_Lightning) -> None:
        """Take a trained network and the settings that it was trained with."""
        self.data_config, self.model_config, self.training_config, self.inference_config = configs
        self.model = module

    @classmethod
    def _new_model(
        cls, model: type[PtychoPINN_Lightning] = PtychoPINN_Lightning, config_manager: ConfigManager | None = None
    ) -> PtychoModel:
        """A network to be trained."""
        manager = config_manager or ConfigManager()
        made = cls(manager.model_config, manager.data_config, manager.training_config, manager.inference_config)
        made.model = model
        return made

    @staticmethod
    def _extract_configs_from_checkpoint(path: Path | str) -> Configs:
        """The settings that a checkpoint came from: data, model, training, inference.

        A checkpoint that was not written through this interface gives what its shared configuration says.

        Raises:
            MissingFileError, ArchiveError: there is no such file, or it is no checkpoint of this backend.
        """
        content = read_checkpoint(Path(path))
        kept = content.get("interface", {}).get("configs")
        if kept is None:
            return configs_of(training_of(content, str(path)))
        try:
            return configs_from(kept, str(path))
        except ConfigError as error:
            raise ArchiveError(f"{error}: update this library") from error

    @classmethod
    def from_checkpoint(cls, path: Path | str) -> PtychoModel:
        """The trained model of a checkpoint, or of a folder that `save_pytorch` wrote.

        Raises:
            MissingFileError, ArchiveError: nothing there, damaged, or something else.
        """
        path = Path(path)
        if path.is_dir():
            path = checkpoint_in(path)
        data, model, training, inference = cls._extract_configs_from_checkpoint(path)
        made = cls(model, data, training, inference)
        made.model = PtychoPINN_Lightning.load_from_checkpoint(path)
        return made

    def save_pytorch(self, dest: Path | str) -> Path:
        """Write the trained network as the folder `dest`: `model.ckpt` and `manifest.json`; return that folder.

        The manifest names the backend, the checkpoint with its sha256, and holds a snapshot of `params.cfg`.

        Raises:
            ConfigError: not trained yet, or `params.cfg` is empty.
            OutputError: the folder cannot be written.
        """
        module = self.module
        if not params.cfg:
            raise ConfigError("params.cfg is empty: update_legacy_dict(params.cfg, config) before saving the model")
        return write_model_folder(Path(dest), module, params.cfg)

    def save_mlflow(self, run_id: str | None = None) -> str:
        """Log the trained network to MLflow and return its address, which says where MLflow keeps it too.

        Args:
            run_id: the run to log it into; None is the active one, else the one that MLflow followed its training in,
                else a new one.

        Raises:
            ConfigError: MLflow is not installed, or as `save_pytorch`.
        """
        require_mlflow()
        with tempfile.TemporaryDirectory() as folder:
            return log_folder(self.save_pytorch(folder), run_id, self.module.model.tracked)

    @classmethod
    def load_from_mlflow(cls, uri: str) -> PtychoModel:
        """The trained network at an address that a training or `save_mlflow` returned, or at MLflow's `runs:/...`.

        Raises:
            ConfigError: MLflow is not installed.
            MissingFileError, ArchiveError: as `from_checkpoint`.
        """
        require_mlflow()
        with tempfile.TemporaryDirectory() as folder:
            return cls.from_checkpoint(fetched(uri, Path(folder)))
