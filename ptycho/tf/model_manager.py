"""Models to and from `wts.h5.zip`, with the canonical names that both backends share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from ptycho.config.config import TrainingConfig
from ptycho.core.archive import ARCHIVE_NAME, ModelArchive, load_archive, save_archive
from ptycho.errors import ConfigError, MissingFileError
from ptycho.networks.archiving import (
    archived_arguments,
    checked_weights,
    choose_experiment,
    make_archive,
    restore_params,
)
from ptycho.tf.network import Network
from ptycho.tf.pinn import PtychoPINN

__all__ = [
    "ModelManager",
    "canonical_weights",
    "last_trained",
    "load_tf_bundle",
    "model_from_archive",
    "remember",
    "restored",
    "save",
    "save_tf_bundle",
    "set_canonical_weights",
]


def canonical_weights(network: Network) -> dict[str, NDArray[np.floating[Any]]]:
    """Trained arrays and running statistics by canonical name; kernels as `(row, column, in, out)`."""
    return {name: np.array(variable.numpy()) for name, variable in _named(network).items()}


def _named(network: Network) -> dict[str, keras.Variable]:
    """What an archive holds of a network, by canonical name."""
    return network.named_parameters() | network.named_statistics()


def set_canonical_weights(network: Network, weights: dict[str, NDArray[Any]], source: str) -> None:
    """Put arrays with canonical names into a network; names and shapes must be just those of its spec.

    Raises:
        ArchiveError: naming `source` and the first array that is missing, unexpected or of another shape.
    """
    checked = checked_weights(network.spec, weights, source)
    for name, variable in _named(network).items():
        variable.assign(checked[name])


def save_tf_bundle(path: Path, model: PtychoPINN | Sequence[PtychoPINN], config: TrainingConfig) -> Path:
    """Write a trained model as `wts.h5.zip` into the folder `path` (or as `path`, when it ends in `.zip`).

    `model` may be those of several experiments, which share one network.
    """
    models = [model] if isinstance(model, PtychoPINN) else list(model)
    versions = {"tensorflow": tf.__version__, "keras": keras.__version__}
    weights, masks = canonical_weights(models[0].network), [each.mask for each in models]
    return save_archive(Path(path), make_archive("tensorflow", models, weights, masks, config, versions))


def model_from_archive(archive: ModelArchive, source: str = "archive") -> PtychoPINN:
    """Build the model that an archive describes."""
    # its first weights are drawn, and give way to those of the archive
    model = PtychoPINN(**archived_arguments(archive, source), seed=0)
    set_canonical_weights(model.network, archive.weights, source)
    model.log_intensity_scale.assign(archive.log_intensity_scale)
    model.scan = dict(archive.scan)
    return model


def load_tf_bundle(
    path: Path, experiment: int | None = None, probe: NDArray[Any] | None = None
) -> tuple[PtychoPINN, ModelArchive]:
    """Load `wts.h5.zip` (its folder, the zip, or an unpacked archive), of either backend; restore `params.cfg`.

    `params.cfg` receives the archive's snapshot and the computed keys `probe`, `intensity_scale`, `input_scale`.

    Args:
        path: the archive.
        experiment: where the network was trained with several, the number of the one whose probe and scales are used.
        probe: of the scan to reconstruct, which else chooses (`choose_experiment`); without both it is the first.

    Raises:
        MissingFileError, ArchiveError: from reading the archive or from weights that do not fit the network.
        ConfigError: there is no such experiment.
    """
    return restored(choose_experiment(load_archive(Path(path)), experiment, probe), str(path))


def restored(archive: ModelArchive, source: str) -> tuple[PtychoPINN, ModelArchive]:
    """The model of an archive that is read, and the archive; `params.cfg` as by `load_tf_bundle`."""
    model = model_from_archive(archive, source)
    restore_params(archive, model.intensity_scale)
    return model, archive


class ModelManager:
    """Several models in one folder, each in an archive of its own, under the names that callers use."""

    @staticmethod
    def save_multiple_models(
        models: Mapping[str, PtychoPINN | Sequence[PtychoPINN]], path: Path | str, config: TrainingConfig
    ) -> Path:
        """Write every model to `path/<name>/wts.h5.zip` and return `path`.

        Args:
            models: by name; those of several experiments that share one network are one entry.
            path: the folder.
            config: of their training; its `model` gives way to the one that each model has.

        Raises:
            ConfigError: a name that is no name of a folder. OutputError: a place that cannot be written.
        """
        for name, model in models.items():
            if name in ("", ".", "..") or Path(name).name != name:
                raise ConfigError(f"model name: expected a word to name a folder with, found {name!r}; choose another")
            one = model if isinstance(model, PtychoPINN) else model[0]
            save_tf_bundle(Path(path) / name, model, replace(config, model=one.config))
        return Path(path)

    @staticmethod
    def load_multiple_models(path: Path | str, names: Sequence[str] | None = None) -> dict[str, PtychoPINN]:
        """The models in a folder by their names, all of them or those of `names`.

        `params.cfg` is restored with each, and so holds what belongs to the last.

        Raises:
            MissingFileError: no such model, or none at all. ArchiveError: one that is damaged.
        """
        folder = Path(path)
        found = sorted(one.parent.name for one in folder.glob(f"*/{ARCHIVE_NAME}")) if names is None else names
        if not found:
            raise MissingFileError(f"{folder}: expected models, <name>/{ARCHIVE_NAME}, found none; save some there")
        return {name: load_tf_bundle(folder / name)[0] for name in found}


_trained: list[tuple[Sequence[PtychoPINN], TrainingConfig]] = []
"""The models that this process trained last, and their configuration; empty before any training."""


def remember(models: Sequence[PtychoPINN], config: TrainingConfig) -> None:
    """Note the models that were trained last, one per experiment: what `save` writes."""
    _trained[:] = [(models, config)]


def last_trained() -> tuple[Sequence[PtychoPINN], TrainingConfig]:
    """The models that this process trained last, one per experiment, and their configuration.

    Raises:
        ConfigError: nothing was trained in this process.
    """
    if not _trained:
        raise ConfigError("no model was trained in this process: train one first, or use save_tf_bundle with a model")
    return _trained[0]


def save(path: Path | str) -> Path:
    """Write the model that this process trained last to `path/wts.h5.zip`; for callers that keep no model themselves.

    Raises:
        ConfigError: nothing was trained in this process.
    """
    return save_tf_bundle(Path(path), *last_trained())
