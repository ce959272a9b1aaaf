"""The folder of a trained network: what is in it, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch

from ptycho.errors import ArchiveError, MissingFileError
from ptycho_torch.lightning.model_folder import checkpoint_in, write_model_folder


class Small(pl.LightningModule):
    """A module with one number."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(3.5))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_model_folder(tmp_path / "saved", Small(), {"N": 64, "output_prefix": Path("out")})


def changed(folder: Path, **changes: Any) -> None:
    manifest = folder / "manifest.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), **changes}))


def test_the_manifest_names_the_checkpoint(folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == ["manifest.json", "model.ckpt"]
    manifest = json.loads((folder / "manifest.json").read_text())
    assert (manifest["backend"], manifest["params"]["N"]) == ("pytorch", 64)
    path = checkpoint_in(folder)
    assert path == folder / "model.ckpt"
    assert torch.load(path, weights_only=True)["state_dict"]["weight"].item() == 3.5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "another"}, "expected 'ptychopinn-checkpoint' version 1 or older, found 'another' version 1"),
        ({"format_version": 2}, "found 'ptychopinn-checkpoint' version 2"),
        ({"sha256": "0" * 64}, "the checkpoint is damaged: its sha256"),
        ({"format_version": "a"}, "expected the manifest of a saved model, found: invalid literal"),
        ({"checkpoint": 7}, "expected the manifest of a saved model"),
        ({"checkpoint": "9" * 5000}, "expected the manifest of a saved model, found: File name too long"),
        ({"format": "a\n" * 2000}, "expected 'ptychopinn-checkpoint' version 1 or older, found 'a"),
    ],
)
def test_another_one_is_refused(folder: Path, changes: dict[str, Any], message: str) -> None:
    changed(folder, **changes)
    with pytest.raises(ArchiveError, match=message):
        checkpoint_in(folder)


def test_what_is_missing_is_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"expected manifest\.json and its checkpoint"):
        checkpoint_in(tmp_path)
    changed(folder, checkpoint="../other.ckpt")
    with pytest.raises(MissingFileError, match=r"saved/other\.ckpt: expected the checkpoint"):
        checkpoint_in(folder)
    (folder / "manifest.json").write_text("[]")
    with pytest.raises(ArchiveError, match="expected the manifest of a saved model"):
        checkpoint_in(folder)
