"""Finding what a training left."""

from __future__ import annotations

from pathlib import Path

import torch

from ptycho.core.files.damage import DAMAGE

__all__ = ["find_best_checkpoint"]


def find_best_checkpoint(run_dir: Path | str) -> Path | None:
    """The best checkpoint of a run: the best that `last.ckpt` knows of, else the newest; None where there is none.

    Args:
        run_dir: the `output_dir` of the training; checkpoints lie in its folder `checkpoints`.
    """
    folder = Path(run_dir) / "checkpoints"
    last = folder / "last.ckpt"
    named = _best_of(last)
    if named is not None and (folder / named).is_file():
        return folder / named
    found = sorted(folder.glob("best-checkpoint*.ckpt"), key=lambda path: path.stat().st_mtime)
    if found:
        return found[-1]
    return last if last.is_file() else None


def _best_of(last: Path) -> str | None:
    """Name of the best checkpoint, by the ModelCheckpoint that watches a metric; None where there is none."""
    if not last.is_file():
        return None
    try:
        states = torch.load(last, map_location="cpu", weights_only=True)["callbacks"]
        best = next(state["best_model_path"] for state in states.values() if state.get("monitor"))
    except (*DAMAGE, StopIteration):
        return None
    return Path(best).name or None
