"""A trained network as a folder: `model.ckpt` and a manifest that names it, with its sha256 and a snapshot of settings.

`PtychoModel.save_pytorch` writes one, and so does a training that MLflow follows.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning.pytorch as pl

from ptycho.core.archive import json_snapshot
from ptycho.core.files.atomic import atomic_path, output_folder
from ptycho.core.files.damage import readable
from ptycho.core.files.digest import file_digest
from ptycho.errors import ArchiveError, MissingFileError
from ptycho_torch.lightning.checkpoint import write_checkpoint

__all__ = ["checkpoint_in", "write_model_folder"]

FORMAT = "ptychopinn-checkpoint"
FORMAT_VERSION = 1
CHECKPOINT, MANIFEST = "model.ckpt", "manifest.json"


def write_model_folder(folder: Path, module: pl.LightningModule, params: Mapping[str, Any]) -> Path:
    """Write a trained Lightning module and its manifest into a folder, which is made; return it.

    Args:
        folder: where to.
        module: a `PtychoPINN_Lightning`.
        params: settings by their names in `params.cfg`, for the manifest.

    Raises:
        OutputError: the folder cannot be written.
    """
    folder = output_folder(folder)
    checkpoint = write_checkpoint(folder / CHECKPOINT, module)
    manifest = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "backend": "pytorch",
        "checkpoint": CHECKPOINT,
        "sha256": file_digest(checkpoint),
        "params": json_snapshot(params),
    }
    with atomic_path(folder / MANIFEST) as temporary:
        temporary.write_text(json.dumps(manifest, indent=2, sort_keys=True) + "\n")
    return folder


def checkpoint_in(folder: Path) -> Path:
    """The checkpoint that the manifest of a folder names, intact.

    Raises:
        MissingFileError: no manifest, or not the checkpoint that it names.
        ArchiveError: another file, one of a newer version, or a damaged checkpoint.
    """
    manifest = folder / MANIFEST
    if not manifest.is_file():
        raise MissingFileError(f"{folder}: expected {MANIFEST} and its checkpoint, found none; name the .ckpt itself")
    with readable(manifest, "the manifest of a saved model", ArchiveError, "copy the folder again"):
        content = json.loads(manifest.read_text())
        version, expected = int(content["format_version"]), content["sha256"]
        path = folder / Path(content["checkpoint"]).name
        if content["format"] != FORMAT or version > FORMAT_VERSION:
            found = f"{content['format']!r} version {version}"
            raise ArchiveError(f"{manifest}: expected {FORMAT!r} version {FORMAT_VERSION} or older, found {found}")
        if not path.is_file():
            raise MissingFileError(f"{path}: expected the checkpoint that {MANIFEST} names, found none")
    if file_digest(path) != expected:
        raise ArchiveError(f"{path}: the checkpoint is damaged: its sha256 is not that of {MANIFEST}; copy it again")
    return path
