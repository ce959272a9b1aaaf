"""MLflow: one run holds the parameters, the metrics and the model of a training.

The address of a model is `STORE#runs:/RUN/ptychopinn`: where MLflow keeps its runs, then the model as MLflow itself
names it. So another process finds it, whatever store that one works with, and there need be no server.
"""

from __future__ import annotations

import importlib.util
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.loggers import Logger, MLFlowLogger

from ptycho.config.legacy import dataclass_to_legacy_dict
from ptycho.core.files.atomic import output_folder
from ptycho.errors import ConfigError
from ptycho_torch.lightning.model_folder import write_model_folder

__all__ = ["fetched", "log_folder", "log_model", "mlflow_logger", "own_store", "require_mlflow"]

ARTIFACTS = "ptychopinn"
"""Where a model lies, inside the artifacts of its run."""
_STORE = "MLFLOW_TRACKING_URI"
EXPERIMENT = "ptychopinn"
"""Name of the experiment where the user gives none."""


def require_mlflow() -> Any:
    """The package MLflow; ConfigError where it is not installed."""
    try:
        return importlib.import_module("mlflow")
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"MLflow is not installed ({error.name}): pip install 'ptychopinn[tracking]', or use save_pytorch"
        ) from error


def mlflow_logger(folder: Path, labels: Mapping[str, Any]) -> MLFlowLogger:
    """The logger of a training: in the store that MLflow's settings name, else in files below `folder`.

    Args:
        folder: for the files, or (from version 3 on) for `mlflow.db` and the folder `mlflow` beside it; it is made.
        labels: words of the user; `experiment_name` names the experiment, `model_name` the run.
    """
    import mlflow
    from mlflow.exceptions import MlflowException

    named: dict[str, Any] = {
        "experiment_name": labels.get("experiment_name") or EXPERIMENT,
        "run_name": labels.get("model_name"),
    }
    if mlflow.is_tracking_uri_set():
        return MLFlowLogger(**named, tracking_uri=mlflow.get_tracking_uri())
    there = output_folder(folder).resolve()
    try:
        return MLFlowLogger(**named, tracking_uri=there.as_uri())
    except MlflowException:  # it keeps no more files
        database = f"sqlite:///{there / 'mlflow.db'}"
        return MLFlowLogger(**named, tracking_uri=database, artifact_location=str(there / "mlflow"))


@contextmanager
def own_store(wanted: bool) -> Iterator[None]:
    """Lightning sets MLflow's store for the whole process and for those it starts: afterwards it is as it was."""
    if not wanted or importlib.util.find_spec("mlflow") is None:  # `metric_logger` says what is missing
        yield
        return
    import mlflow

    before = os.environ.get(_STORE)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(None)
        os.environ.pop(_STORE, None)
        os.environ.update({} if before is None else {_STORE: before})  # where one was set, it stands there


def log_model(logger: Logger | None, module: pl.LightningModule) -> str | None:
    """Put a trained module into the run that its training was logged to; the address, None for another logger."""
    if not isinstance(logger, MLFlowLogger) or logger._run_id is None:  # its property would begin another run
        return None
    config: Any = module.config
    store, run = _absolute(str(logger._tracking_uri)), logger._run_id
    with tempfile.TemporaryDirectory() as folder:
        write_model_folder(Path(folder), module, dataclass_to_legacy_dict(config))
        _client(store).log_artifacts(run, folder, ARTIFACTS)
    return _address(store, run)


def log_folder(folder: Path, run_id: str | None, tracked: str | None = None) -> str:
    """Put the folder of a model into a run and return its address.

    Args:
        folder: what `write_model_folder` wrote.
        run_id: of the run; None is the active one, else the one of `tracked`, else a new one.
        tracked: address of the model in the run of its training.
    """
    import mlflow

    store, active = _absolute(mlflow.get_tracking_uri()), mlflow.active_run()
    if run_id is None and active is not None:
        run_id = active.info.run_id
    if run_id is None and tracked is not None:
        store, uri = _parts(tracked)
        run_id = uri.split("/")[1]
    if run_id is None:
        with mlflow.start_run() as run:
            run_id = run.info.run_id
    _client(store).log_artifacts(run_id, str(folder), ARTIFACTS)
    return _address(store, run_id)


def fetched(address: str, folder: Path) -> Path:
    """Copy the model at an address, or at MLflow's own `runs:/...`, into a folder; where it lies there."""
    import mlflow

    store, uri = _parts(address)
    return Path(mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=str(folder), tracking_uri=store or None))


def _client(store: str) -> Any:
    from mlflow.tracking import MlflowClient

    return MlflowClient(store)


def _address(store: str, run_id: str) -> str:
    return f"{store}#runs:/{run_id}/{ARTIFACTS}"


def _parts(address: str) -> tuple[str, str]:
    """Store and MLflow's own address; the store is empty where it is not said."""
    store, _, uri = address.rpartition("#")
    return store, uri


def _absolute(store: str) -> str:
    """A store that is a place on this machine, whatever the working directory."""
    for scheme in ("sqlite:///", "file:"):
        rest = store.removeprefix(scheme)
        if rest != store:
            return store if rest.startswith("/") else f"{scheme}{Path(rest).resolve()}"
    return store if ":" in store else Path(store).resolve().as_uri()
