"""The refinements of a reconstruction, kept one by one, so that a run that was killed does none of them twice.

A reconstruction is a row of refinements: short ones that decide, then the long one. Each step of the row depends on
nothing but the scan, the settings and the steps before it. So a run that begins again in the same folder takes the
results of the steps that are there, and goes on in the middle of the one that was cut off.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.core.files.atomic import atomic_path, output_folder
from ptycho.core.files.damage import readable
from ptycho.core.files.npz import open_npz, write_arrays
from ptycho.core.geometry import ObjectFrame
from ptycho.core.physics.near_field import NearField
from ptycho.core.physics.scan_probes import ScanProbes
from ptycho.core.physics.variable_probe import ProbeVariation
from ptycho.core.refinement.refinement import Refinement
from ptycho.core.refinement.state_file import StateFile
from ptycho.core.refinement.steps.gauge import Gauge
from ptycho.errors import DataError
from ptycho.workflows.solver import Refine

__all__ = ["Journal", "run_digest"]

_ARRAYS = ("object", "probe", "xcoords", "ycoords", "flux", "background", "error_history", "unseen_history")
_NOT_FACTS = (*_ARRAYS, "frame", "fly_path", "slices", "gap", "variation")


def run_digest(asked: Sequence[Any], image: NDArray[Any] | None = None) -> str:
    """What tells a run from others: what was asked for, as JSON, and the object that it begins with, by a digest."""
    digest = hashlib.sha256(json.dumps(asked, default=str).encode())
    if image is not None:
        digest.update(np.ascontiguousarray(image).tobytes())
    return digest.hexdigest()[:12]


@dataclass
class Journal:
    """The steps of one run, in a folder.

    Args:
        folder: of the steps; made when the first is written.
        run: what tells the run from others, its scan and settings: steps of another one are refused.
        seen: called when a step begins and when it is done, with a function that returns its result if it ended now.
        step: how many were asked for so far.
    """

    folder: Path
    run: str
    seen: Callable[[Callable[[], Refinement]], None]
    step: int = 0

    def recorded(self, refine: Refine) -> Refine:
        """`refine(scan, start, iterations, ...)` of a backend, each call a step of the journal."""

        def step(scan: Any, start: Any = None, iterations: int = 40, **settings: Any) -> Refinement:
            number = self.step
            self.step += 1
            search = f"step {number}: {len(scan)} patterns, {iterations} iterations{self.run and f' of run {self.run}'}"
            done = self.folder / f"step_{number}.npz"
            if done.exists():
                return read_step(done, search)
            output_folder(self.folder)
            running = self.folder / "running.npz"
            state = StateFile(running, search, seen=self.seen)
            found = refine(scan, start, iterations, state_file=state, **settings)
            write_step(done, found, search)
            running.unlink(missing_ok=True)
            self.seen(lambda: found)
            return found

        return step


def write_step(path: Path, found: Refinement, search: str) -> None:
    """Write the result of a step, whole or not at all."""
    facts = {one.name: getattr(found, one.name) for one in fields(Refinement) if one.name not in _NOT_FACTS}
    frame = found.frame
    arrays: dict[str, Any] = {name: np.asarray(getattr(found, name)) for name in _ARRAYS}
    if found.fly_path is not None:
        arrays["fly_path"] = found.fly_path
    if found.slices is not None and found.gap is not None:
        arrays |= {"slices": found.slices, "gap": found.gap.as_array()}
    if found.variation is not None:
        arrays |= {f"variation_{name}": array for name, array in vars(found.variation).items()}
    arrays["frame"] = np.array([frame.height, frame.width, frame.x0, frame.y0], np.int64)
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        write_arrays(stream, {"facts": json.dumps(facts | {"search": search}), **arrays})


def read_step(path: Path, search: str) -> Refinement:
    """The result of a step.

    Raises:
        DataError: the file is damaged, or of another step.
    """
    with readable(path, "a step of a run", advice="remove it"):
        with open_npz(path) as file:
            stored = dict(file)
        facts = json.loads(str(stored.pop("facts")))
        height, width, x0, y0 = (int(value) for value in stored.pop("frame"))
        found = facts.pop("search")
        values: dict[str, Any] = {**stored, **facts, "frame": ObjectFrame(height, width, x0, y0)}
        if "gap" in stored:
            values["gap"] = NearField.from_array(stored["gap"])
        if "variation_others" in values:
            values["variation"] = ScanProbes(values.pop("variation_others"), values.pop("variation_scan"))
        if "variation_modes" in values:
            values["variation"] = ProbeVariation(values.pop("variation_modes"), values.pop("variation_coefficients"))
        values["gauge"] = Gauge.of(facts["gauge"])
        values |= {name: tuple(stored[name].tolist()) for name in ("error_history", "unseen_history")}
        refinement = Refinement(**values)
        if found != search:
            raise DataError(f"{path}: expected {search}, found {found}; remove it, or go on with the same settings")
    return refinement
