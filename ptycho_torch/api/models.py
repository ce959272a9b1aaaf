"""A network with its settings: new, from a checkpoint, and to one."""

from __future__ import annotations

import hashlib
import importlib
import json
import tempfile
from pathlib import Path
from typing import Any

from ptycho import params
from ptycho.core.archive import json_snapshot
from ptycho.core.atomic import atomic_path, output_folder
from ptycho.core.damage import DAMAGE
from ptycho.errors import ArchiveError, ConfigError, MissingFileError
from ptycho_torch.api.config_manager import ConfigManager, Configs, configs_from, configs_of
from ptycho_torch.config_params import DataConfig, InferenceConfig, ModelConfig, TrainingConfig
from ptycho_torch.fit import PtychoPINN_Lightning
from ptycho_torch.lightning.checkpoint import read_checkpoint, training_of, write_checkpoint

__all__ = ["PtychoModel"]

FORMAT = "ptychopinn-checkpoint"
FORMAT_VERSION = 1
CHECKPOINT, MANIFEST = "model.ckpt", "manifest.json"
ARTIFACTS = "ptychopinn"
"""Where MLflow keeps a model, inside the artifacts of its run."""


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
            path = _checkpoint_of(path)
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
        folder = output_folder(Path(dest))
        checkpoint = write_checkpoint(folder / CHECKPOINT, module)
        manifest = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "backend": "pytorch",
            "checkpoint": CHECKPOINT,
            "sha256": _sha256(checkpoint),
            "params": json_snapshot(params.cfg),
        }
        with atomic_path(folder / MANIFEST) as temporary:
            temporary.write_text(json.dumps(manifest, indent=2, sort_keys=True) + "\n")
        return folder

    def save_mlflow(self, run_id: str | None = None) -> str:
        """Log the trained network to MLflow, into a run (None: the active one, or a new one); return its address.

        Raises:
            ConfigError: MLflow is not installed, or as `save_pytorch`.
        """
        mlflow = _mlflow()
        with tempfile.TemporaryDirectory() as folder:
            self.save_pytorch(folder)
            active = mlflow.active_run()
            if active is not None and run_id in (None, active.info.run_id):
                mlflow.log_artifacts(folder, ARTIFACTS)
                return f"runs:/{active.info.run_id}/{ARTIFACTS}"
            with mlflow.start_run(run_id=run_id, nested=active is not None) as run:
                mlflow.log_artifacts(folder, ARTIFACTS)
                return f"runs:/{run.info.run_id}/{ARTIFACTS}"

    @classmethod
    def load_from_mlflow(cls, uri: str) -> PtychoModel:
        """The trained network at an address that `save_mlflow` returned.

        Raises:
            ConfigError: MLflow is not installed.
            MissingFileError, ArchiveError: as `from_checkpoint`.
        """
        mlflow = _mlflow()
        with tempfile.TemporaryDirectory() as folder:
            return cls.from_checkpoint(Path(mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=folder)))


def _checkpoint_of(folder: Path) -> Path:
    """The checkpoint that the manifest of a folder names, intact."""
    manifest = folder / MANIFEST
    if not manifest.is_file():
        raise MissingFileError(f"{folder}: expected {MANIFEST} and its checkpoint, found none; name the .ckpt itself")
    try:
        content = json.loads(manifest.read_text())
        version, named, expected = (content[key] for key in ("format_version", "checkpoint", "sha256"))
    except DAMAGE as error:
        raise ArchiveError(f"{manifest}: expected the manifest of a saved model, found another file") from error
    if content.get("format") != FORMAT or version > FORMAT_VERSION:
        found = f"{content.get('format')!r} version {version}"
        raise ArchiveError(f"{manifest}: expected {FORMAT!r} version {FORMAT_VERSION} or older, found {found}")
    path = folder / Path(named).name
    if not path.is_file():
        raise MissingFileError(f"{path}: expected the checkpoint that {MANIFEST} names, found none")
    if _sha256(path) != expected:
        raise ArchiveError(f"{path}: the checkpoint is damaged: its sha256 is not that of {MANIFEST}; copy it again")
    return path


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        digest = hashlib.sha256()
        for block in iter(lambda: stream.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def _mlflow() -> Any:
    try:
        return importlib.import_module("mlflow")
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"MLflow is not installed ({error.name}): pip install 'ptychopinn[tracking]', or use save_pytorch"
        ) from error
