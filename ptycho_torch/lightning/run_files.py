"""What Lightning leaves in the folder of a training: checkpoints and metrics."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, Logger

from ptycho.config.config import PyTorchExecutionConfig
from ptycho.errors import ConfigError

__all__ = ["LastCheckpoint", "checkpoints", "metric_logger"]


class LastCheckpoint(ModelCheckpoint):
    """`last.ckpt` after every epoch, whether it is better or not; a class of its own has a state of its own."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, filename="last", enable_version_counter=False)


def checkpoints(execution: PyTorchExecutionConfig, folder: Path, metric: str) -> list[ModelCheckpoint]:
    """The best weights by the metric, `best-checkpoint.ckpt`, and those of the last whole epoch, `last.ckpt`.

    More than one of the best have the version in their names.
    """
    best = ModelCheckpoint(
        folder / "checkpoints",
        filename="best-checkpoint",
        monitor=metric,
        mode=execution.checkpoint_mode,
        save_top_k=execution.checkpoint_save_top_k,
        enable_version_counter=execution.checkpoint_save_top_k not in (0, 1),
    )
    # the last one second, so that its state knows the best of the same epoch
    return [best, LastCheckpoint(folder / "checkpoints")]


def metric_logger(backend: str | None, folder: Path, labels: Mapping[str, Any]) -> Logger | bool:
    """Where the metrics of an epoch go: `folder/logs`, by the name in the settings; False: nowhere.

    MLflow takes the server that its own settings name, if they do, and names experiment and run by the user's labels
    (`ptycho_torch.lightning.tracking`).

    Raises:
        ConfigError: the package that the logger needs is not installed.
    """
    if backend is None:
        return False
    if backend == "csv":
        return CSVLogger(folder, name="logs")
    try:
        if backend == "tensorboard":
            from lightning.pytorch.loggers import TensorBoardLogger

            return TensorBoardLogger(folder, name="logs")
        from ptycho_torch.lightning.tracking import mlflow_logger

        return mlflow_logger(folder / "logs", labels)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"logger_backend={backend!r} needs a package that is not installed ({error.name or backend}): "
            "pip install 'ptychopinn[tracking]', or use logger_backend='csv'"
        ) from error
