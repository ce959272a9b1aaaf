"""Lightning checkpoints: what they hold beside the weights, and whether a training can go on from one.

A file `.ckpt` holds tensors and plain values only and is read with `weights_only=True`. Beside Lightning's own entries:

    hyper_parameters.config   the shared TrainingConfig
    archive                   probe, mask, scales, settings: a `ptycho.core.archive.ModelArchive` without its weights,
                              its `others` a list of such entries
    canvas_size               side of the canvas of the training, pixels
    interface                 what `ptycho_torch.api` keeps with a model; empty where it took no part
    identity                  of scans and settings (`ptycho.core.training.identity`); missing where nobody said
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.fabric.plugins import TorchCheckpointIO
from torch import Tensor

from ptycho.config.config import TrainingConfig, config_from_dict
from ptycho.core.archive import ArchivedExperiment, ModelArchive
from ptycho.core.files.atomic import atomic_path, output_folder
from ptycho.core.files.damage import DAMAGE, one_line, readable
from ptycho.core.training.checkpoint_npz import CUT_OFF, cut_off
from ptycho.core.training.identity import TrainingIdentity
from ptycho.errors import ArchiveError, ConfigError, MissingFileError, PtychoError
from ptycho_torch.model_manager import archive_of, blank_model
from ptycho_torch.pinn import PtychoPINN

__all__ = [
    "WholeCheckpoints",
    "check_checkpoint",
    "describe",
    "models_of",
    "read_checkpoint",
    "training_of",
    "write_checkpoint",
]

_MOST = 1_000_000
"""Values in a checkpoint beside its tensors."""


def describe(models: Sequence[PtychoPINN], config: TrainingConfig, size: int | None) -> dict[str, Any]:
    """What a checkpoint holds of the models of its experiments beside weights, as tensors and plain values."""
    entries = dict(vars(archive_of(models, config)))
    del entries["weights"]
    others = [{name: _plain(value) for name, value in vars(other).items()} for other in entries.pop("others")]
    kept: dict[str, Any] = {name: _plain(value) for name, value in entries.items()}
    return {"archive": {**kept, "others": others}, "canvas_size": size}


def _plain(value: Any) -> Any:
    """An entry as what `weights_only` lets pass; a number or text of a derived class becomes one of its base."""
    return torch.tensor(value) if isinstance(value, np.ndarray) else json.loads(json.dumps(value))


def write_checkpoint(path: Path, module: pl.LightningModule) -> Path:
    """Write a module as a checkpoint, whole or not at all, without the state of a training; return the path."""
    content = {
        "state_dict": module.state_dict(),
        "hyper_parameters": dict(module.hparams),
        "epoch": 0,
        "global_step": 0,
        "pytorch-lightning_version": pl.__version__,
    }
    module.on_save_checkpoint(content)
    _write_whole(content, path)
    return path


class WholeCheckpoints(TorchCheckpointIO):
    """Lightning's checkpoints, whole or not at all; Lightning itself writes elsewhere and copies."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write a checkpoint; OutputError where that fails, and a former one stays."""
        output_folder(Path(path).parent)
        _write_whole(checkpoint, Path(path))


def _write_whole(content: dict[str, Any], path: Path) -> None:
    # by way of the memory: on a full disk torch's own writer of files says RuntimeError and nothing about the disk
    stream = io.BytesIO()
    torch.save(content, stream)
    # the view is let go at once: where it stays in a traceback, Python before 3.11.8 and 3.12.2 may crash (gh-111049)
    with atomic_path(path) as temporary, stream.getbuffer() as written:
        temporary.write_bytes(written)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The content of a checkpoint, its tensors on the CPU.

    Raises:
        MissingFileError: there is no such file.
        ArchiveError: it is no checkpoint of the pytorch backend.
    """
    if not path.is_file():
        raise MissingFileError(f"{path}: expected a checkpoint (.ckpt), found no such file; correct the path")
    try:
        _check_members(path)
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        _check_content(content, path.stat().st_size)
    except DAMAGE as error:
        raise ArchiveError(
            f"{path}: expected a checkpoint of the pytorch backend, found {_other_kind(path)}: name the last.ckpt of "
            "this training"
        ) from error
    return content


def _check_members(path: Path) -> None:
    """Raise where a file is no archive as torch writes it, or its members unpack to more than there is."""
    with zipfile.ZipFile(path) as file:
        for info in file.infolist():
            if info.compress_type != zipfile.ZIP_STORED or info.file_size > path.stat().st_size:
                raise ValueError(f"{info.filename}: expected a member that is stored, found a compressed one")


def _check_content(content: dict[str, Any], size: int) -> None:
    """Raise where a checkpoint lacks what it is read for, or has tensors larger than its file of `size` bytes."""
    weights, settings = content["state_dict"], content["hyper_parameters"]["config"]
    settings["optimizer"]
    if not all(isinstance(name, str) and isinstance(one, Tensor) for name, one in weights.items()):
        raise TypeError("weights that are no tensors")
    waiting, seen = [content], set()
    while waiting:
        one: Any = waiting.pop()
        if isinstance(one, Tensor) and one.numel() * one.element_size() > size:
            raise ValueError(f"a tensor {tuple(one.shape)} in a file of {size} bytes")
        if not isinstance(one, (dict, list, tuple)) or id(one) in seen:
            continue
        seen.add(id(one))
        waiting += one.values() if isinstance(one, dict) else one
        if len(waiting) + len(seen) > _MOST:
            raise ValueError(f"more than {_MOST} values")


def models_of(content: Mapping[str, Any], source: str) -> list[PtychoPINN]:
    """The trained models of a checkpoint, one per experiment, on the CPU and in evaluation mode.

    Raises:
        ArchiveError: naming `source`; the checkpoint does not describe its model, or the weights are of another.
    """
    described = content.get("archive")
    if described is None:
        raise ArchiveError(
            f"{source}: expected a checkpoint that describes its model, found one of an older version: load the "
            "wts.h5.zip of that training, or train again"
        )
    try:
        others = tuple(ArchivedExperiment(**_arrays(other)) for other in described.get("others", ()))
        archive = ModelArchive(weights={}, **{**_arrays(described), "others": others})
        models: list[PtychoPINN] = []
        for number in range(len(archive.experiments)):
            network = models[0].network if models else None
            models.append(blank_model(archive.of_experiment(number), source, network))
            models[-1].load_state_dict(_weights(content, f"others.{number - 1}." if number else "model."))
    except PtychoError:
        raise
    except DAMAGE as error:
        shown = one_line(" ".join(str(error).split()))
        raise ArchiveError(f"{source}: model and weights do not fit together: {shown}") from error
    for model in models:
        model.measure_light()
    return [model.eval() for model in models]


def _arrays(entries: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value.numpy() if isinstance(value, Tensor) else value for name, value in entries.items()}


def _weights(content: Mapping[str, Any], prefix: str) -> dict[str, Tensor]:
    """The weights of one model."""
    state = content["state_dict"].items()
    return {name.removeprefix(prefix): tensor for name, tensor in state if name.startswith(prefix)}


def training_of(content: Mapping[str, Any], source: str) -> TrainingConfig:
    """The settings of the training that wrote a checkpoint.

    Raises:
        ArchiveError: naming `source` and the setting that is not known here.
    """
    try:
        return config_from_dict(TrainingConfig, content["hyper_parameters"]["config"])
    except ConfigError as error:
        raise ArchiveError(f"{source}: {error}: update this library") from error


def check_checkpoint(
    path: Path, weights: Mapping[str, Tensor], optimizer: str, identity: TrainingIdentity | None = None
) -> dict[str, Any]:
    """The content of a file that has to be a checkpoint of a training with these weights and this optimiser.

    `identity` is that of the scans and settings that it has to have been trained on; None does not compare them.

    It is read with `weights_only=True`: a file that passes holds tensors and plain values, and no code.

    Raises:
        MissingFileError: there is no such file.
        ArchiveError: it is no checkpoint of the pytorch backend, or of other scans, settings, network or optimiser.
    """
    if not path.is_file():
        raise MissingFileError(f"no checkpoint to resume from at {path}: leave --resume out to start afresh")
    content = read_checkpoint(path)
    with readable(path, "a checkpoint of the pytorch backend", ArchiveError, "name the last.ckpt of this training"):
        if identity is not None:
            identity.check(content.get("identity"), path)
        _check_progress(content)
    state, used = content["state_dict"], content["hyper_parameters"]["config"]["optimizer"]
    expected, found = ({name: array.shape for name, array in one.items()} for one in (weights, state))
    if expected != found or used != optimizer:
        raise ArchiveError(
            f"{path}: expected {len(expected)} arrays of this network and the optimiser {optimizer}, found "
            f"{len(found)} or other shapes and {used}: resume with the settings of the training that wrote it"
        )
    return content


def _other_kind(path: Path) -> str:
    """What a file is that cannot be read as a checkpoint."""
    if cut_off(path):
        return CUT_OFF
    return "one of the tensorflow backend" if _is_of_tensorflow(path) else "another file"


def _check_progress(content: Mapping[str, Any]) -> None:
    """Raise where a checkpoint cannot be gone on from; what Lightning takes for granted is what it reads."""
    loops = content.get("loops")
    if loops is not None:
        done = loops["fit_loop"]["epoch_progress"]["current"]["processed"]
        if not isinstance(done, int) or not 0 <= done < _MOST:
            raise ValueError(f"{done!r} epochs")
    for name in ("epoch", "global_step"):
        if not isinstance(content.get(name, 0), int) or content.get(name, 0) < 0:
            raise ValueError(f"{content[name]!r} as {name}")


def _is_of_tensorflow(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as content:
            return "about.npy" in content.namelist()
    except DAMAGE:
        return False
