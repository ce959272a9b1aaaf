"""What a run tells about the patches of its network and the canvas made of them, in files beside the result.

`--log-patch-stats` leaves statistics batch by batch and a picture under `<output_dir>/analysis/`, `--debug-dump` all
that stitching works with in a folder of its own. Nothing is measured unless it is asked for.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from ptycho.config.config import INFERENCE_BATCH, InferenceConfig, TrainingConfig
from ptycho.config.options import NEUTRAL_PATCH_STATS, PatchStatsOptions
from ptycho.core.files.atomic import atomic_path, output_folder
from ptycho.core.geometry import LOCAL_OFFSET_SIGN, ObjectFrame
from ptycho.core.quality.patch_stats import Moments, Purpose, write_batch_statistics
from ptycho.figures.patches import save_patch_grid
from ptycho.workflows.run_options import RunOptions

if TYPE_CHECKING:
    from ptycho.workflows.networks.stitch_scan import StitchedObject

__all__ = ["Diagnostics", "configured_diagnostics", "make_diagnostics", "with_diagnostics"]

_SHOWN = 16
"""Patches in a picture."""
_PREFIX = {"pytorch": "torch", "tensorflow": "tf"}

Patches = NDArray[np.complex64]


@dataclass
class Diagnostics:
    """Where to write what; the steps of a run call its methods in their order."""

    output_dir: Path
    """Of the run."""
    backend: Literal["pytorch", "tensorflow"]
    stats: PatchStatsOptions = NEUTRAL_PATCH_STATS
    debug_dump: Path | None = None
    """Folder for what stitching works with; None: not written."""
    batch_size: int = INFERENCE_BATCH
    """Groups per batch of an inference."""
    written: list[Path] = field(default_factory=list)
    """Every file so far."""

    def trained(self, batches: Iterable[Patches]) -> None:
        """Log patches (b, C, N, N) of training batches after the last epoch; no more of them are made than asked."""
        self._log(batches, "train")

    def predicted(self, patches: Patches) -> None:
        """Log the patches (B, C, N, N) of a scan, which may be memory-mapped."""
        self._log(_batches(patches, self.batch_size), "inference")

    def stitched(
        self, patches: Patches, positions: NDArray[np.floating[Any]], found: StitchedObject, frame: ObjectFrame
    ) -> None:
        """Dump what stitching worked with and what it made.

        Args:
            patches: (B, C, N, N) of the scan.
            positions: (B, 1, 2, C) their centres (x, y), pixels of the object grid.
            found: the stitched object.
            frame: where on the object grid it lies.
        """
        if self.debug_dump is None:
            return
        folder = output_folder(self.debug_dump)
        of_patches, of_canvas = Moments(), Moments()
        for batch in _batches(patches, self.batch_size):
            of_patches.add(np.abs(batch))
        covered = found.coverage > 0
        of_canvas.add(np.abs(found.object[covered]))
        self._json(folder / "stats.json", {"patch": of_patches.as_dict(), "canvas": of_canvas.as_dict()})
        self._json(folder / "offsets.json", _offsets(positions), indent=None)
        self._json(folder / "canvas.json", _canvas(found, frame, covered, patches.shape))
        shown, title = _shown(patches)
        for name, normalised in (("", False), ("_normalized", True)):
            path = folder / f"pred_patches_amp_grid{name}.png"
            self._note(save_patch_grid(shown, path, title, normalised))

    def _log(self, batches: Iterable[Patches], purpose: Purpose) -> None:
        """Statistics after those of an earlier purpose of this run, and a picture of the first batch."""
        if not self.stats.log_patch_stats:
            return
        folder, prefix = output_folder(self.output_dir / "analysis"), _PREFIX[self.backend]
        path = folder / f"{prefix}_patch_stats.json"
        first: list[Patches] = []

        def watched() -> Iterator[Patches]:
            for batch in batches:
                first[:] = first or [batch]
                yield batch

        limit = self.stats.patch_stats_limit
        self._note(write_batch_statistics(path, watched(), purpose, limit, path if path in self.written else None))
        if first:
            shown, title = _shown(first[0])
            grid = folder / f"{prefix}_patch_grid.png"
            self._note(save_patch_grid(shown, grid, f"{purpose}, first batch: {title}", normalised=True))

    def _json(self, path: Path, content: dict[str, Any], indent: int | None = 1) -> None:
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(content, allow_nan=False, indent=indent) + "\n", encoding="utf-8")
        self._note(path)

    def _note(self, path: Path) -> None:
        if path not in self.written:
            self.written.append(path)


def make_diagnostics(
    output_dir: Path | str,
    backend: Literal["pytorch", "tensorflow"],
    batch_size: int | None = None,
    *,
    log_patch_stats: bool = False,
    patch_stats_limit: int | None = None,
    debug_dump: Path | str | None = None,
) -> Diagnostics | None:
    """The diagnostics of a run, or None where nothing is asked for.

    Args:
        output_dir: of the run.
        backend: whose patches they are; names the files.
        batch_size: groups per batch of an inference (None: 64).
        log_patch_stats, patch_stats_limit: as in `PatchStatsOptions`.
        debug_dump: folder for what stitching works with.

    Raises:
        ConfigError: a limit below 1, or one without statistics.
    """
    stats = PatchStatsOptions(log_patch_stats, patch_stats_limit)
    if not log_patch_stats and debug_dump is None:
        return None
    dump = None if debug_dump is None else Path(debug_dump)
    return Diagnostics(Path(output_dir), backend, stats, dump, batch_size or INFERENCE_BATCH)


def configured_diagnostics(
    config: TrainingConfig | InferenceConfig, batch_size: int | None = None, debug_dump: Path | None = None
) -> Diagnostics | None:
    """The diagnostics that a configuration asks for, and `debug_dump`; None where nothing is asked for."""
    asked = vars(config.patch_stats)
    return make_diagnostics(config.output_dir, config.backend, batch_size, debug_dump=debug_dump, **asked)


def with_diagnostics(run: RunOptions, config: TrainingConfig | InferenceConfig) -> RunOptions:
    """The options with the diagnostics that a configuration asks for, unless a caller brought some."""
    if run.diagnostics is not None:
        return run
    size = None if run.execution is None else run.execution.inference_batch_size
    return replace(run, diagnostics=configured_diagnostics(config, size))


def _batches(patches: Patches, size: int) -> Iterator[Patches]:
    return (patches[start : start + size] for start in range(0, len(patches), size))


def _shown(patches: Patches) -> tuple[NDArray[np.float32], str]:
    """Amplitudes (k, N, N) of some patches, spread over all, and what to call them."""
    flat = patches.reshape(-1, *patches.shape[-2:])
    count = min(len(flat), _SHOWN)
    chosen = np.linspace(0, len(flat) - 1, count).round().astype(int)
    return np.abs(flat[chosen]), f"{count} of {len(flat)} patches"


def _offsets(positions: NDArray[np.floating[Any]]) -> dict[str, Any]:
    """Centres of the groups and minus the members' positions seen from there, pixels, (x, y)."""
    members = np.moveaxis(positions[:, 0], 1, 2).astype(np.float64)
    centres = members.mean(axis=1)
    local = LOCAL_OFFSET_SIGN * (members - centres[:, None])
    return {
        "unit": "pixels of the object grid, (x, y)",
        "global_offsets": centres.round(6).tolist(),
        "local_offsets": local.round(6).tolist(),
    }


def _canvas(
    found: StitchedObject, frame: ObjectFrame, covered: NDArray[np.bool_], shape: tuple[int, ...]
) -> dict[str, Any]:
    """Size and place of the canvas, how much of it patches reach, and what was done about their phases."""
    return {
        "height": frame.height,
        "width": frame.width,
        "x0": frame.x0,
        "y0": frame.y0,
        "covered_pixels": int(covered.sum()),
        "groups": shape[0],
        "members": shape[1],
        "patch_size": shape[-1],
        "synchronised": found.synchronised,
        "agreement": [value if np.isfinite(value) else None for value in map(float, found.agreement)],
        "plane_rad_per_pixel": list(map(float, found.plane)),
    }
