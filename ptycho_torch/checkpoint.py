"""Checkpoints that Lightning wrote: whether a training can go on from one, said in one line before anything runs."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from ptycho.errors import ArchiveError, MissingFileError

__all__ = ["check_checkpoint"]


def check_checkpoint(path: Path, weights: Mapping[str, Tensor], optimizer: str) -> None:
    """Make sure that a file is a checkpoint of a training with these weights and this optimiser.

    It is read with `weights_only=True`: a file that passes holds tensors and plain values, and no code.

    Raises:
        MissingFileError: there is no such file.
        ArchiveError: it is no checkpoint of the pytorch backend, or of another network or optimiser.
    """
    if not path.is_file():
        raise MissingFileError(f"no checkpoint to resume from at {path}: leave --resume out to start afresh")
    state, used = _read(path)
    expected, found = ({name: array.shape for name, array in one.items()} for one in (weights, state))
    if expected != found or used != optimizer:
        raise ArchiveError(
            f"{path}: expected {len(expected)} arrays of this network and the optimiser {optimizer}, found "
            f"{len(found)} or other shapes and {used}: resume with the settings of the training that wrote it"
        )


def _read(path: Path) -> tuple[dict[str, Tensor], str]:
    """The weights and the name of the optimiser."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        return content["state_dict"], content["hyper_parameters"]["config"]["optimizer"]
    except (RuntimeError, pickle.UnpicklingError, EOFError, LookupError, TypeError, ValueError) as error:
        found = "one of the tensorflow backend" if _is_of_tensorflow(path) else "another file"
        raise ArchiveError(
            f"{path}: expected a checkpoint of the pytorch backend, found {found}: name the last.ckpt of this training"
        ) from error


def _is_of_tensorflow(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as content:
        return "about.npy" in content.namelist()
