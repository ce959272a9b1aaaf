"""Checkpoints that are damaged, made to fill the memory, or of a training that never was; the rest is in
tests/workflows/test_checkpoints.py.
"""

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ptycho.errors import ArchiveError, OutputError
from ptycho_torch.lightning.checkpoint import WholeCheckpoints, check_checkpoint, models_of, read_checkpoint

WEIGHTS = {"model.a": torch.ones(2, 3)}


def content(**entries: Any) -> dict[str, Any]:
    return {"state_dict": WEIGHTS, "hyper_parameters": {"config": {"optimizer": "adam"}}, "epoch": 3, **entries}


def loops(done: Any) -> dict[str, Any]:
    return {"fit_loop": {"epoch_progress": {"current": {"processed": done}}}}


def test_one_that_is_right(tmp_path: Path) -> None:
    torch.save(content(loops=loops(3)), tmp_path / "a.ckpt")
    assert check_checkpoint(tmp_path / "a.ckpt", WEIGHTS, "adam")["epoch"] == 3


def test_no_view_of_the_bytes_outlives_a_write_that_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a traceback it would be left to the collector, which some releases of Python do not survive."""
    written = []

    def fail(path: Path, content: memoryview) -> None:
        written.append(content)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(OutputError, match="No space left on device"):
        WholeCheckpoints().save_checkpoint(content(), tmp_path / "a.ckpt")
    with pytest.raises(ValueError, match="released"):
        len(written[0])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "entries",
    [
        {"loops": loops(10**12)},
        {"loops": loops(-1)},
        {"loops": loops("3")},
        {"loops": {"fit_loop": []}},
        {"epoch": -1},
        {"global_step": "9"},
        {"state_dict": {"model.a": 3}},
        {"state_dict": []},
        {"hyper_parameters": {"config": 3}},
        {"more": torch.ones(1).expand(10**12)},
        {"more": [{"nested": torch.ones(1).expand(10**9, 10**6)}]},
    ],
)
def test_what_cannot_be_gone_on_from(entries: dict[str, Any], tmp_path: Path) -> None:
    torch.save(content(**entries), tmp_path / "a.ckpt")
    with pytest.raises(ArchiveError, match=r"a\.ckpt: expected a checkpoint of the pytorch backend, found"):
        check_checkpoint(tmp_path / "a.ckpt", WEIGHTS, "adam")


def repacked(path: Path, change: Callable[[str, bytes], bytes], method: int) -> None:
    with zipfile.ZipFile(path) as file:
        members = {name: file.read(name) for name in file.namelist()}
    with zipfile.ZipFile(path, "w", method) as file:
        for name, inner in members.items():
            file.writestr(name, change(name, inner))


def test_a_bomb_and_damage(tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    torch.save(content(), path)
    whole = path.read_bytes()
    repacked(path, lambda name, inner: inner + bytes(10**7) * name.endswith("data/0"), zipfile.ZIP_DEFLATED)
    with pytest.raises(ArchiveError, match="found another file"):
        read_checkpoint(path)
    for length in range(0, len(whole), 97):
        path.write_bytes(whole[:length])
        with pytest.raises(ArchiveError, match=r"found (another file|the beginning of one)"):
            read_checkpoint(path)


def test_a_model_that_is_not_described(tmp_path: Path) -> None:
    for described in ([], {"others": 3}, {"probe": "x"}, {"others": [{"probe": 1}]}):
        with pytest.raises(ArchiveError, match=r"a\.ckpt: model and weights do not fit together"):
            models_of(content(archive=described), "a.ckpt")
