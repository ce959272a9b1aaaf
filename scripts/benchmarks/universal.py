"""The weights of the package on scans and probes that nobody trained for, beside what a user would do otherwise.

Twelve pairs of an object and a probe that no draw of the training makes (photographs, a star, other seeds), and real
scans, their probes found by 60 iterations first. Of each, with the probe held: one pass with the package's weights; the
same pass without its learned stages; plain iteration for as many seconds as the pass took; one pass of a `cnn` that was
trained on the scan itself for `--train-seconds`. Errors are NRMSE of the complex object in the box of the positions, of
a real scan the relative Fourier error. Every cell is kept in OUTPUT/cells.json and measured once.

    python scripts/benchmarks/universal.py --output universal --train-seconds 150 --real SCANS
    python scripts/benchmarks/universal.py --output universal --fine-tune 60 300

The second trains `unrolled` on some of the scans from the package's weights and from none, for so many seconds each.
"""

from __future__ import annotations

import argparse
import importlib
import json
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from quality_cases import picture
from quality_methods import use_threads
from quality_scores import Snapshot, error_of, target_frame

from ptycho.config.config import InferenceConfig, ModelConfig, PyTorchExecutionConfig, TrainingConfig
from ptycho.core.files.atomic import atomic_path
from ptycho.core.geometry import ObjectFrame, object_frame
from ptycho.core.physics.diffraction import as_modes
from ptycho.core.physics.group_gradient import FIELD_FLOOR
from ptycho.core.physics.probes import make_probe
from ptycho.core.refinement.run import refine_scan
from ptycho.core.simulation.exposure import expose
from ptycho.core.simulation.objects import object_from_images
from ptycho.core.simulation.plan import ScanSettings, plan_scan
from ptycho.networks.universal import weights_file
from ptycho.raw_data import RawData
from ptycho.workflows.iteration.refine_probe import with_refined_probe
from ptycho.workflows.networks.canvas_pass import FIRST, LAST, MORE, Canvas, Descents
from ptycho.workflows.reconstruct import load_and_reconstruct, reconstruct
from ptycho.workflows.run_options import NEUTRAL_RUN, RunOptions
from ptycho.workflows.solver import Solver
from ptycho.workflows.train import train

SEED = 7_000_000
PROBE_ITERATIONS = 60
COLUMNS = ("universal", "no stages", "iteration", "cnn")


@dataclass(frozen=True)
class Pair:
    """An object and a probe that no training has seen."""

    name: str
    photons: float
    overlap: float
    probe: str = "zone_plate"
    probe_settings: dict[str, Any] = field(default_factory=dict)
    kind: str = "siemens_star"
    photograph: tuple[str, str] | None = None
    further: dict[str, Any] = field(default_factory=dict)
    """Other fields of ScanSettings."""


_ZONE_PLATE = {"pupil_radius": 12.0, "stop": 0.35, "defocus": 2.2}
_ASTIGMATIC = {"pupil_radius": 11.0, "stop": 0.1, "defocus": 1.9, "aberrations": {5: 0.8, 7: 0.5}}
_UNDER = {"pupil_radius": 17.0, "stop": 0.25, "defocus": -3.4}
PAIRS = (
    Pair("photograph, zone plate", 1e9, 0.65, "zone_plate", _ZONE_PLATE, photograph=("camera", "astronaut")),
    Pair("photograph, disk", 1e5, 0.7, "disk", {"diameter": 27.0, "sigma": 2.0}, photograph=("coffee", "chelsea")),
    Pair("star, Gaussian", 1e6, 0.6, "gaussian", {"fwhm": 15.0}),
    Pair("lines, astigmatic", 1e4, 0.5, "zone_plate", _ASTIGMATIC, kind="lines"),
    Pair("leaves, disk", 1e4, 0.65, "disk", {"diameter": 21.0, "sigma": 1.0}, kind="dead_leaves"),
    Pair("star, zone plate, 40 %", 1e5, 0.4, "zone_plate", _UNDER),
    Pair("photograph, two modes", 1e7, 0.7, "zone_plate", _UNDER, "", ("rocket", "hubble_deep_field"),
         {"modes": (1.0, 0.3)}),
    Pair("random field, disk, 20 %", 1e6, 0.2, "disk", {"diameter": 30.0, "sigma": 2.5}, kind="gaussian_field"),
    Pair("lines, zone plate, 0 %", 1e6, 0.0, "zone_plate", _UNDER, kind="lines"),
    Pair("photograph, Gaussian", 1e3, 0.65, "gaussian", {"fwhm": 13.0}, photograph=("retina", "coins")),
    Pair("star, N = 128", 1e5, 0.6, "zone_plate", {"pupil_radius": 26.0, "defocus": 5.5}, further={"N": 128}),
    Pair("perlin, three modes, gaps", 1e3, 0.6, "zone_plate", _ZONE_PLATE, "perlin", None,
         {"modes": (1.0, 0.25, 0.1), "gap_width": 2, "gap_offset": 9, "phase": (-1.6, 1.6)}),
)  # fmt: skip
REAL = {"Siemens star": "siemens_star_128.npz", "tungsten": "tungsten_64.npz"}
TUNED = ("photograph, disk", "lines, zone plate, 0 %")
"""What fine-tuning is measured on."""


def scan_of(pair: Pair, number: int) -> RawData:
    """The scan of a pair, its amplitudes in the unit of its probe, of energy (N/2)^2."""
    N = pair.further.get("N", 64)
    shape = (3 * N, 3 * N)
    given = {name: getattr(pair, name) for name in ("photons", "overlap", "probe", "probe_settings")}
    kind = pair.kind or "lines"
    settings = ScanSettings(kind=kind, shape=shape, seed=SEED + number, **given, **pair.further)
    pictures = None
    if pair.photograph is not None:
        first, second = (picture(name) for name in pair.photograph)
        pictures = object_from_images(first, second, shape, settings.amplitude, settings.phase)
    found = expose(*plan_scan(settings, object=pictures, probe=make_probe(pair.probe, N, **pair.probe_settings)))
    unit = N / 2 / np.linalg.norm(found.probe)
    return RawData(
        found.xcoords,
        found.ycoords,
        None,
        None,
        found.diffraction * np.float32(unit),
        np.asarray(found.probe * unit, np.complex64),
        objectGuess=found.object,
        mask=found.mask,
        metadata={"nphotons": found.recorded},
        units="amplitude",
    )


def scans(names: list[str] | None, real: Path | None, backend: Any) -> dict[str, Callable[[], RawData]]:
    """The scans by name, each made when it is called for."""
    made: dict[str, Callable[[], RawData]] = {
        pair.name: partial(scan_of, pair, number) for number, pair in enumerate(PAIRS)
    }
    if real is not None:

        def measured(file: str) -> RawData:
            solver = Solver.of(backend, InferenceConfig(backend=backend.name), backend.settled(NEUTRAL_RUN))
            return with_refined_probe(RawData.from_file(real / file), solver, PROBE_ITERATIONS)

        made |= {name: partial(measured, file) for name, file in REAL.items()}
    return {name: make for name, make in made.items() if names is None or name in names}


def universal(backend: Any, data: RawData, path: Path) -> dict[str, float]:
    """One pass with weights that take the probe of the scan; seconds from the patterns to the object."""
    config = InferenceConfig(model_path=path, backend=backend.name)
    found = load_and_reconstruct(backend, data, config, NEUTRAL_RUN)
    snapshot = Snapshot(1, 0.0, found.object, found.probe, found.frame)
    return {"error": error_of(snapshot, target_frame(data), data), "seconds": found.timings["inference"]}


def plain(backend: Any, data: RawData, path: Path, seconds: float | None) -> dict[str, float]:
    """Iteration from a flat object: as in the pass, or for so many seconds."""
    run = backend.settled(NEUTRAL_RUN)
    model, _ = backend.load(path, None, data, run)
    network = backend.scan_network(model, InferenceConfig(backend=backend.name), run)
    probe = as_modes(np.asarray(data.probeGuess))
    around = object_frame(data.xcoords, data.ycoords, data.N)
    frame = ObjectFrame(-(-around.height // 8) * 8, -(-around.width // 8) * 8, around.x0, around.y0)
    descended = Descents(backend.name, network, data, probe, frame)
    begun_at, floor = time.perf_counter(), FIELD_FLOOR / network.amplitude_scale**2
    with closing(network.kernels(floor)) as kernels:
        begun = descended.begun(Canvas(kernels, data, probe, frame)).object
    if seconds is None:
        image, steps = descended(descended(begun, FIRST, floor)[0], MORE + LAST, 0.0)[0], FIRST + MORE + LAST
    else:
        held: dict[str, Any] = {"probe": probe, "frame": frame, "refine_probe": False, "seconds": seconds}
        found = refine_scan(data, begun, 1000, engine=backend.name, tolerance=0.0, **held)
        image, steps = found.object, len(found.error_history) - 1
    took = time.perf_counter() - begun_at
    error = error_of(Snapshot(1, 0.0, image, probe, frame), target_frame(data), data)
    return {"error": error, "seconds": took, "iterations": steps}


def trained(
    backend: Any, data: RawData, architecture: str, seconds: float, folder: Path, start: Path | None = None
) -> dict[str, float]:
    """One pass of a network that was trained on the scan itself, from the weights of an archive where one is given."""
    config = TrainingConfig(
        model=ModelConfig(N=data.N, gridsize=2, architecture=architecture),
        nepochs=10_000,
        n_groups=len(data),
        batch_size=8 if architecture == "unrolled" else 16,
        backend=backend.name,
        output_dir=folder,
        nphotons=data.photons(data.mean_energy),
    )
    execution = PyTorchExecutionConfig(
        accelerator="cpu", enable_progress_bar=False, enable_checkpointing=False, logger_backend=None
    )
    run = RunOptions(execution if backend.name == "pytorch" else None, max_seconds=seconds, start_from=start)
    begun, processor = time.perf_counter(), time.process_time()
    results = train(backend, data, None, config, run)
    took, worked = time.perf_counter() - begun, time.process_time() - processor
    settings = InferenceConfig(model=config.model, backend=backend.name)
    found = reconstruct(backend, results["models"][0], data, settings, backend.settled(NEUTRAL_RUN))
    error = error_of(Snapshot(1, 0.0, found.object, found.probe, found.frame), target_frame(data), data)
    epochs = len(next(iter(results["history"].values())))
    return {"error": error, "seconds": took, "processor_seconds": worked, "epochs": epochs}


class Cells:
    """What was measured, by scan and column."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.found: dict[str, dict[str, Any]] = json.loads(path.read_text()) if path.exists() else {}

    def measure(
        self, name: str, column: str, measured: Callable[..., dict[str, float]], *asked: Any
    ) -> dict[str, float]:
        """A cell; `measured(*asked)` where that was not done."""
        row = self.found.setdefault(name, {})
        if column not in row:
            row[column] = measured(*asked)
            with atomic_path(self.path) as path:
                path.write_text(json.dumps(self.found, indent=1))
        return dict(row[column])


def table(found: dict[str, dict[str, Any]]) -> str:
    """The cells in Markdown."""
    lines = [f"| scan | {' | '.join(COLUMNS)} |", "| --- " * (1 + len(COLUMNS)) + "|"]
    for name, row in found.items():
        cells = [row.get(column) for column in COLUMNS]
        shown = ["" if one is None else f"{one['error']:.4f} ({one['seconds']:.3g})" for one in cells]
        lines.append(f"| {name} | {' | '.join(shown)} |")
    both = [row for row in found.values() if {"universal", "cnn"} <= row.keys()]
    wins = sum(row["universal"]["error"] < row["cnn"]["error"] for row in both)
    return "\n".join([*lines, "", f"better than the cnn: {wins} of {len(both)}"])


def main() -> None:
    """Measure what is not there yet, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--train-seconds", type=float, default=150, help="of the cnn")
    parser.add_argument("--columns", nargs="+", choices=COLUMNS, default=list(COLUMNS), help="the cnn, or the others")
    parser.add_argument("--fine-tune", type=float, nargs=2, metavar=("TUNED", "SCRATCH"))
    parser.add_argument("--real", type=Path, help="folder of the real scans")
    parser.add_argument("--scans", nargs="+", help="names; default: all")
    parser.add_argument("--model", type=Path, help="other weights than those of the package")
    parser.add_argument("--backend", choices=("pytorch", "tensorflow"), default="pytorch")
    args = parser.parse_args()
    backend: Any = importlib.import_module(
        {"tensorflow": "ptycho.tf", "pytorch": "ptycho_torch"}[args.backend] + ".backend"
    )
    use_threads(1)
    args.output.mkdir(parents=True, exist_ok=True)
    cells, path = Cells(args.output / "cells.json"), weights_file(args.model)
    for name, make in scans(args.scans, args.real, backend).items():
        data = make()
        if args.fine_tune is not None:
            if name in (args.scans or TUNED):
                for kind, seconds, start in zip(("tuned", "scratch"), args.fine_tune, (path, None), strict=True):
                    asked = backend, data, "unrolled", seconds, args.output / "tuned", start
                    print(name, kind, cells.measure(name, f"{kind} {seconds:g} s", trained, *asked), flush=True)
            continue
        if "cnn" in args.columns:
            cells.measure(name, "cnn", trained, backend, data, "cnn", args.train_seconds, args.output / "cnn")
        if args.columns != ["cnn"]:
            passed = cells.measure(name, "universal", universal, backend, data, path)
            cells.measure(name, "no stages", plain, backend, data, path, None)
            cells.measure(name, "iteration", plain, backend, data, path, passed["seconds"])
        print(name, len(data), cells.found[name], flush=True)
    print(table(cells.found))


if __name__ == "__main__":
    main()
