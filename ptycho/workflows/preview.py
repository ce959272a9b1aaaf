"""A picture of a run while it goes, in its folder."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ptycho.config.config import TrainingConfig
from ptycho.core.geometry import object_frame
from ptycho.core.progress import Progress, Watch
from ptycho.core.reconstruction import Reconstruction
from ptycho.core.stitching.stitch import probe_weight, stitch
from ptycho.workflows.backend import Backend, ScanModel
from ptycho.workflows.run_options import RunOptions
from ptycho.workflows.training_data import TrainingSet

__all__ = ["PREVIEW", "Preview", "watched_training"]

PREVIEW = "preview.png"
"""The picture, in the folder of a run; it goes when that has its result."""
_PAUSE = 15.0
"""Seconds before the first picture, and at least between two."""
_PATCHES_SECONDS = 2.0
"""Time for which a network predicts patches for a picture."""
_SHARE = 0.04
"""At most so much of the time of a run is spent on pictures."""


@dataclass
class Preview:
    """Draws what there is so far every now and then; to be called with the progress of a run.

    Args:
        path: of the picture, PNG, which is replaced whole.
        so_far: returns what there is; None as long as there is nothing.
        pause: seconds before the first picture, and at least between two.
    """

    path: Path
    so_far: Callable[[], Reconstruction | None]
    pause: float = _PAUSE
    _due: float = field(init=False)

    def __post_init__(self) -> None:
        self._due = time.monotonic() + self.pause

    def __call__(self, progress: Progress) -> None:
        """Draw it, if it is time."""
        if progress.noteworthy or progress.unit == "iteration":
            self.draw(only_when_due=True)

    def draw(self, only_when_due: bool = False) -> bool:
        """Draw it; False where it was not."""
        begun = time.monotonic()
        if only_when_due and begun < self._due:
            return False
        found = self.so_far()
        if found is None:
            return False
        from ptycho.figures.reconstruction import save_summary_png  # matplotlib is loaded only where there are pictures

        save_summary_png(found, self.path)
        now = time.monotonic()
        self._due = now + max(self.pause, (now - begun) / _SHARE)
        return True


def watched_training(
    backend: Backend, model: ScanModel, found: TrainingSet[Any], config: TrainingConfig, run: RunOptions
) -> RunOptions:
    """The options of a run whose training leaves a preview in its folder, where somebody watches it."""
    if run.watch is None:
        return run
    seen = partial(_seen_by_network, backend, model, found, config, run)
    preview = Preview(Path(config.output_dir) / PREVIEW, seen)
    return replace(run, watch=partial(_both, run.watch, preview))


def _both(watch: Watch, preview: Preview, progress: Progress) -> None:
    watch(progress)
    preview(progress)


def _seen_by_network(
    backend: Backend, model: ScanModel, found: TrainingSet[Any], config: TrainingConfig, run: RunOptions
) -> Reconstruction:
    """The object of as many training groups as the network sees in a moment."""
    begun, batches = time.monotonic(), []
    with closing(backend.predict_batches(model, found.train, config, run)) as predicted:
        for patches in predicted:
            batches.append(patches)
            if time.monotonic() - begun > _PATCHES_SECONDS:
                break
    patches, probe = np.concatenate(batches), model.probe.file_units()
    positions = found.train.pixel_positions
    N = probe.shape[-1]
    frame = object_frame(positions[:, 0, 0].ravel(), positions[:, 0, 1].ravel(), N)
    x, y = frame.local(*(positions[: len(patches), 0, axis].ravel() for axis in (0, 1)))
    image, coverage = stitch(patches.reshape(-1, N, N), x, y, probe_weight(probe), frame)
    return Reconstruction(
        object=image,
        coverage=coverage,
        probe=probe,
        xcoords=x,
        ycoords=y,
        frame=frame,
        backend=backend.name,
        method="network",
        subpixel=model.subpixel,
        network_object=None,
        error_history=(),
        timings={},
        synchronised=False,
        agreement=(float("nan"), float("nan")),
        metadata=dict(found.scan.get("metadata", {})),
    )
