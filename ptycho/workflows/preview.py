"""A picture of a run while it goes, in its folder."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from ptycho.config.config import TrainingConfig
from ptycho.core.geometry import object_frame
from ptycho.core.progress import Progress, both
from ptycho.core.reconstruction import Reconstruction
from ptycho.core.stitching.stitch import probe_weight, stitch
from ptycho.raw_data import RawData
from ptycho.workflows.backend import Backend, ScanModel
from ptycho.workflows.networks.training_data import group_scan, prepared_scan
from ptycho.workflows.run_options import RunOptions

__all__ = ["PREVIEW", "Preview", "watched_training"]

PREVIEW = "preview.png"
"""The picture, in the folder of a run; it goes when that has its result."""
_PAUSE = 15.0
"""Seconds before the first picture, and at least between two."""
_GROUPS = 96
"""So many groups of a scan a network predicts for a picture."""
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
    backend: Backend, model: ScanModel, scan: RawData, config: TrainingConfig, run: RunOptions
) -> RunOptions:
    """The options of a run whose training leaves a preview in its folder, where somebody watches it.

    Args:
        backend, model: that trains, and what.
        scan: of several the first.
        config: of the training.
        run: as it was asked for.
    """
    if run.watch is None:
        return run
    preview = Preview(Path(config.output_dir) / PREVIEW, _Seen(backend, model, scan, config, run))
    return replace(run, watch=both(run.watch, preview))


@dataclass
class _Seen:
    """The object as a network sees it that is being trained: some groups, spread over the scan, in one pass."""

    backend: Backend
    model: ScanModel
    scan: RawData
    config: TrainingConfig
    run: RunOptions

    @cached_property
    def groups(self) -> Any:
        """Groups of their own: those of the training are drawn anew at each look."""
        model, settings = self.model, replace(self.config, model=self.model.config)
        scan = prepared_scan(self.scan, settings, model.scaling.straight_probe)
        grouped = group_scan(scan, settings, min(_GROUPS, len(scan)), False, model.input_scale)
        on_grid = model.subpixel == "fourier"
        return self.backend.container(grouped, scan.probeGuess, scan.mask, model.intensity_scale, on_grid=on_grid)

    def __call__(self) -> Reconstruction:
        """What it sees now."""
        patches, probe = (
            self.backend.predict(self.model, self.groups, self.config, self.run),
            self.model.probe.file_units(),
        )
        positions, N = self.groups.pixel_positions, probe.shape[-1]
        columns, rows = positions[:, 0, 0].ravel(), positions[:, 0, 1].ravel()
        frame = object_frame(columns, rows, N)
        x, y = frame.local(columns, rows)
        image, coverage = stitch(patches.reshape(-1, N, N), x, y, probe_weight(probe), frame)
        return Reconstruction(
            object=image,
            coverage=coverage,
            probe=probe,
            xcoords=x,
            ycoords=y,
            frame=frame,
            backend=self.backend.name,
            method="network",
            subpixel=self.model.subpixel,
            network_object=None,
            error_history=(),
            timings={},
            synchronised=False,
            agreement=(float("nan"), float("nan")),
            metadata=self.scan.known_metadata,
        )
