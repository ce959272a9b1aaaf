"""The resolution of a scan: its two halves, each reconstructed by itself, and how far they say the same."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ptycho.config.config import InferenceConfig
from ptycho.core.doctor.preflight import preflight, refuse_faults
from ptycho.core.files.atomic import atomic_path, output_folder
from ptycho.core.formats.placing import placed_result
from ptycho.core.formats.reconstruction_npz import write_npz
from ptycho.core.physics.diffraction import as_modes
from ptycho.core.quality.arithmetic import Arithmetic
from ptycho.core.quality.comparison import correlate
from ptycho.core.quality.resolution import HalvesOf, Resolution, resolution_csv, resolution_json
from ptycho.core.reconstruction import Reconstruction
from ptycho.core.refinement.steps.gauge import Scale
from ptycho.core.scan.stream import ScanStream
from ptycho.core.scan_edit.halves import half_scans
from ptycho.figures.resolution import save_resolution_png
from ptycho.raw_data import RawData
from ptycho.workflows.backend_selector import backend_named
from ptycho.workflows.effects.thick import slicing
from ptycho.workflows.front_door import Request, probe_asked_for
from ptycho.workflows.iteration.iterate import iterate
from ptycho.workflows.iteration.iteration_plan import Plan, planned
from ptycho.workflows.iteration.refined_result import measured_reconstruction
from ptycho.workflows.photon_parts import photon_parts
from ptycho.workflows.report import FRC_FILE
from ptycho.workflows.run_options import RunOptions
from ptycho.workflows.sharing.team import SINGLE
from ptycho.workflows.solver import Refine, Solver

__all__ = ["HalfScans", "reconstruct_halves", "save_halves"]


@dataclass(frozen=True)
class HalfScans:
    """Two independent reconstructions of one scan, and how like they are."""

    resolution: Resolution
    halves: tuple[Reconstruction, Reconstruction]


def reconstruct_halves(data: RawData, request: Request, halves_of: HalvesOf = "patterns") -> HalfScans:
    """Reconstruct both halves of a scan and correlate them ring by ring.

    Halves of the patterns (`ptycho.core.scan_edit.halves`) overlap less than the scan, and differ by all that is wrong
    with single positions. Halves of the photons (`ptycho.workflows.photon_parts`) have all positions, and differ by
    noise alone.

    Each half begins with a flat object and is reconstructed by `ptycho.workflows.iteration.iterate`. What is left open
    (modes of the probe, whether it is held first) is decided by the whole scan, whose neighbours are near enough to
    foretell each other, and both halves begin with the same probe: that of the scan, or the one that is asked for or
    found. The first is then brought onto the second (`ptycho.core.quality.alignment`), and both are compared in the box
    around the scan positions.

    Args:
        data: the scan.
        request: as of `reconstruct_scan`; a half has no start, model or folder.
        halves_of: what is halved.

    Raises:
        DataError: a scan of a single pattern, or with a fault, unless `request.force`; halves of photons of a scan that
            does not tell how many it has.
        ConfigError: a probe or a setting that cannot be used.
    """
    backend = backend_named(request.backend)
    with backend.team(RunOptions(execution=request.execution)) as team:
        run = backend.settled(RunOptions(execution=request.execution))
        config = InferenceConfig(backend=request.backend)
        shared, alone = (Solver.of(backend, config, run, each) for each in (team, SINGLE))
        return _halves(data, request, halves_of, shared, alone, backend.image_arithmetic(run))


def _halves(
    data: RawData, request: Request, halves_of: HalvesOf, shared: Solver, alone: Solver, arithmetic: Arithmetic
) -> HalfScans:
    """Both halves, each by all processes; what is decided before is by one."""
    source = data.source["content_sha256"]
    data, made_probe = _begun(data, request, alone.refine)
    refine = alone.with_settings(**slicing(data, request.iteration)).refine
    scale: Scale = "object" if made_probe else "probe"
    plan = planned(data, refine, request.iteration, as_modes(np.asarray(data.probeGuess)), flat=True, scale=scale)
    for note in plan.notes:
        request.tell(note)
    found = []
    for number, (half, of_half, told) in enumerate(_parts(data, plan, halves_of), 1):
        request.tell(f"Half {number}: {told}")
        told_to = request.watch, made_probe, request.tell
        made = iterate(half, shared, request.iteration, None, *told_to, of_half)
        found.append(measured_reconstruction(made.refinement, half, shared.trust))
    first, second = found
    curve = correlate(placed_result(first, "half 1"), placed_result(second, "half 2"), arithmetic)
    counts = len(first.xcoords), len(second.xcoords)
    resolution = Resolution(curve, counts, first.pixel_m, source, halves_of)
    return HalfScans(resolution, (first, second))


def _parts(data: RawData, plan: Plan, halves_of: HalvesOf) -> Iterator[tuple[RawData, Plan, str]]:
    """Both halves, what was decided for the whole, and what they are, in words."""
    if halves_of == "photons":
        for half in photon_parts(data):
            yield half, plan, f"{half.photons():.4g} of {data.photons():.4g} photons a pattern"
        return
    for chosen in half_scans(data.xcoords, data.ycoords):
        yield data.part(chosen), plan.part(chosen), f"{len(chosen)} of {len(data)} patterns"


def save_halves(found: HalfScans, folder: Path, pdf: bool = False) -> list[Path]:
    """Write `frc.json`, `frc.csv`, `frc.png` and both halves as `half_1.npz` and `half_2.npz`; return the paths."""
    folder, resolution = output_folder(folder), found.resolution
    paths = []
    for name, text in ((FRC_FILE, resolution_json(resolution)), ("frc.csv", resolution_csv(resolution))):
        with atomic_path(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
        paths.append(folder / name)
    paths.append(save_resolution_png(resolution, folder / "frc.png", pdf))
    return paths + [write_npz(half, folder / f"half_{k}.npz") for k, half in enumerate(found.halves, 1)]


def _begun(data: RawData, request: Request, refine: Refine) -> tuple[RawData, bool]:
    """The scan with the probe to begin with, and whether that was made here."""
    if not request.force:
        refuse_faults(preflight(ScanStream.of(data.scan_file())), str(data.path or data.name))
    found = probe_asked_for(data, refine, request.probe)
    if found is None:
        return data, False
    request.tell(found.sentence)
    return data.with_probe(found.probe), True
