"""What the quality benchmark measures: networks, refinement and a peer, each on the same scan, and their figures.

The functions from `train` to `by_default` are the only ones that call a backend; `peer` alone knows the peer's script.
Results come as snapshots along the way, so that quality over seconds can be drawn.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from peer import Peer, run_peer
from quality_cases import Case, case_scan, training_scan
from quality_scores import Snapshot, error_of, figures_of_merit, peak_memory, target_frame, within_bars

import ptycho
from ptycho.core.files.atomic import atomic_path
from ptycho.core.geometry import ObjectFrame, reframe
from ptycho.core.physics.diffraction import as_modes
from ptycho.core.refinement.trust import ON_HOST
from ptycho.raw_data import RawData
from ptycho.workflows.solver import Solver
from ptycho.workflows.trust import noise_error, photon_scale, scan_trust

__all__ = [
    "METHODS",
    "NETWORKS",
    "Limits",
    "Places",
    "file_name",
    "measure",
    "methods_of",
    "settings_of",
    "start_of",
    "use_threads",
]

Complex = NDArray[np.complex64]

NETWORKS: dict[str, tuple[Literal["cnn", "unrolled"], int]] = {
    "cnn": ("cnn", 2),
    "unrolled": ("unrolled", 2),
    "unrolled-1": ("unrolled", 1),
}
"""Architecture and gridsize."""
PEERS = {"pty-chi": "lsqml", "pty-chi-bh": "bh"}
"""Engines of pty-chi."""
FRONT_DOOR: dict[str, dict[str, Any]] = {"reconstruct": {}, "reconstruct-prior": {"object_prior": "network"}}
"""Settings of `ptycho.reconstruct`; without one a scan that has a dose has error bars, too."""
METHODS = (
    *("flat", *NETWORKS, "universal", "refine", "refine-pass", "refine-pass-noise"),
    *(*FRONT_DOOR, *PEERS),
)
"""'flat' is the zero of the scale; 'refine' starts flat, 'refine-pass' from one pass of the network (`start_of`).

'refine-pass-noise' ends where photon noise is all that is left, as `ptycho_inference --refine` does. 'universal' is
one pass with the weights of the package, 'reconstruct' `ptycho.reconstruct` with nothing set but the error bars.
"""
NO_DOSE = "tungsten_64.npz"
"""The scan that does not tell how many photons it has."""
PROBE_ITERATIONS = 60
"""Of the refinement that finds the probe of a real scan before networks are trained on it."""


@dataclass(frozen=True)
class Limits:
    """How long everything may take; kept with the results, which are worth nothing without."""

    train_seconds: float
    peer_seconds: float
    marks: tuple[int, ...]
    """Iterations after which a refinement is looked at. Each is a run of its own: looking costs it nothing."""
    threads: int = 2


@dataclass(frozen=True)
class Places:
    """Where things are."""

    output: Path
    real: Path | None
    peer_python: Path | None
    peer_path: str | None

    def result(self, case: str, method: str, run: int) -> Path:
        """The object of a cell."""
        return self.output / "objects" / f"{file_name(case)}-{method}-{run}.npz"

    def model(self, kind: str, network: str) -> Path:
        """Folder of a trained network."""
        return self.output / "models" / f"{file_name(kind)}-{network}"


@dataclass(frozen=True)
class Found:
    """What a method found, the last snapshot being the result."""

    snapshots: list[Snapshot]
    before_seconds: float = 0.0
    """Of what it started from."""
    peak_mb: float | None = None
    notes: dict[str, Any] = field(default_factory=dict)


def file_name(text: str) -> str:
    """A name as part of a file's."""
    return re.sub(r"[^a-z0-9.-]+", "-", text.lower().replace("%", "percent"))


def methods_of(case: Case, peer: bool) -> list[str]:
    """The methods that a case is measured with, in the order in which they run."""
    few = not case.real and case.photons <= 1e6
    single = case.name == "base" or case.starved or few
    left_out = {
        "unrolled-1": not single,
        "refine-pass-noise": not case.starved,
        "reconstruct-prior": case.file == NO_DOSE,
        **dict.fromkeys(PEERS, not peer),
        "flat": case.real,
    }
    if case.pair:
        left_out |= dict.fromkeys((*NETWORKS, "refine-pass", "refine-pass-noise"), True)
    return [method for method in METHODS if not left_out.get(method, False)]


def start_of(case: Case) -> str:
    """The network whose pass a refinement starts from: where the data leave much open, the one that fits them least."""
    return "unrolled-1" if case.starved else "unrolled"


def use_threads(count: int) -> None:
    """Let the backend compute with so many threads."""
    import torch

    torch.set_num_threads(count)


def measure(case: Case, method: str, run: int, places: Places, limits: Limits) -> dict[str, Any]:
    """Measure one cell; its object is saved, its figures are returned."""
    data = case_scan(case, places.real)
    target = target_frame(data)
    if method == "flat":
        ones = np.ones(target.shape, np.complex64)
        found = Found([Snapshot(0, 0.0, ones, as_modes(np.asarray(data.probeGuess)), target)])
    elif method in NETWORKS:
        found = _one_pass(case, method, data, places, limits)
    elif method in PEERS:
        found = _run_peer(case, method, run, data, places, limits)
    elif method == "universal":
        found = _universal(data)
    elif method in FRONT_DOOR:
        found = by_default(data, FRONT_DOOR[method])
    else:
        found = _refinements(case, method, run, data, target, places, limits)
    last = found.snapshots[-1]
    image = reframe(last.object, last.frame, target, 1)
    path = places.result(case.name, method, run)
    path.parent.mkdir(exist_ok=True)
    with atomic_path(path) as temporary:
        np.savez(temporary, object=image, probe=last.probe, seconds=found.before_seconds + last.seconds)
    return {
        "case": case.name,
        "method": method,
        "run": run,
        "seconds": found.before_seconds + last.seconds,
        "before_seconds": found.before_seconds,
        "steps": last.step,
        "peak_mb": found.peak_mb,
        "figures": figures_of_merit(image, last.probe, target, data),
        "curve": _curve(found, target, data),
        **found.notes,
    }


def _curve(found: Found, target: ObjectFrame, data: RawData) -> list[list[float]]:
    """(step, seconds, error) of the snapshots."""
    return [[each.step, found.before_seconds + each.seconds, error_of(each, target, data)] for each in found.snapshots]


def train(case: Case, network: str, places: Places, limits: Limits) -> None:
    """Train a network for a kind of object and archive it, unless that was done."""
    from ptycho import params
    from ptycho.config.config import ModelConfig, TrainingConfig, update_legacy_dict
    from ptycho_torch.workflows.components import save_torch_bundle, train_cdi_model_torch

    folder = places.model(case.kind, network)
    if (folder / "training.json").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    architecture, gridsize = NETWORKS[network]
    data, begun = training_scan(case, places.real), time.perf_counter()
    if case.real:
        data = _with_own_probe(data)
    probe_seconds = time.perf_counter() - begun
    config = TrainingConfig(
        model=ModelConfig(N=data.N, gridsize=gridsize, architecture=architecture),
        nepochs=10_000,
        n_groups=len(data),
        subsample_seed=0,
        backend="pytorch",
        output_dir=folder,
        nphotons=data.photons(data.mean_energy),
    )
    update_legacy_dict(params.cfg, config)
    results = train_cdi_model_torch(data, None, config, execution_config=_execution(), max_seconds=limits.train_seconds)
    save_torch_bundle(folder, results["model"], config)
    seconds = results["train_seconds"] + probe_seconds
    told = {"seconds": seconds, "epochs": len(results["history"]["seconds"]), "patterns": len(data)}
    with atomic_path(folder / "training.json") as path:
        path.write_text(json.dumps(told))


def _with_own_probe(data: RawData) -> RawData:
    """The scan with the probe that its patterns tell, not that of an optics model."""
    from ptycho.workflows.iteration.refine_probe import with_refined_probe
    from ptycho_torch.refine import refine

    return with_refined_probe(data, Solver(refine, ON_HOST), PROBE_ITERATIONS)


def _execution() -> Any:
    from ptycho.config.config import PyTorchExecutionConfig

    return PyTorchExecutionConfig(
        accelerator="cpu",
        enable_progress_bar=False,
        enable_checkpointing=False,
        logger_backend=None,
        deterministic=False,
    )


def _one_pass(case: Case, network: str, data: RawData, places: Places, limits: Limits) -> Found:
    """One pass of a network; training and loading are not part of its seconds."""
    from ptycho.config.config import InferenceConfig
    from ptycho_torch.workflows.components import load_inference_bundle_torch, reconstruct_scan

    train(case, network, places, limits)
    folder = places.model(case.kind, network)
    model, _ = load_inference_bundle_torch(folder, _execution())
    with peak_memory() as memory:
        begun = time.perf_counter()
        made = reconstruct_scan(model, data, InferenceConfig(model=model.config), execution_config=_execution())
        seconds = time.perf_counter() - begun - made.timings["trust"]
    notes = {"training": json.loads((folder / "training.json").read_text())}
    return Found([Snapshot(1, seconds, made.object, made.probe, made.frame)], notes=notes, **memory)


def refined(
    data: RawData,
    start: Complex,
    frame: ObjectFrame,
    iterations: int,
    refine_probe: bool,
    probe: Complex | None = None,
    noise: float = 0.0,
) -> tuple[Snapshot, bool]:
    """Refine for some iterations; the result, and whether it stopped by itself."""
    from ptycho_torch.refine import refine

    made = refine(data, start, iterations, frame=frame, refine_probe=refine_probe, probe=probe, noise=noise)
    return Snapshot(made.iterations, made.seconds, made.object, made.probe, made.frame), made.iterations < iterations


def _refinements(
    case: Case, method: str, run: int, data: RawData, frame: ObjectFrame, places: Places, limits: Limits
) -> Found:
    """A refinement as far as each mark, from the same start."""
    start, before, probe, notes = np.ones(frame.shape, np.complex64), 0.0, None, {}
    if method != "refine":
        with np.load(places.result(case.name, start_of(case), run), allow_pickle=False) as file:
            start, before, probe = file["object"], float(file["seconds"]), file["probe"]
        notes = {"start": start_of(case)}
    noise = 0.0
    if method == "refine-pass-noise":
        assert probe is not None
        x, y = frame.local(data.xcoords, data.ycoords)
        noise = noise_error(scan_trust(start, probe, x, y, data, data.mean_energy, ON_HOST), "amplitude")
    snapshots: list[Snapshot] = []
    with peak_memory() as memory:
        for mark in limits.marks:
            snapshot, stopped = refined(data, start, frame, mark, case.refine_probe, probe, noise)
            snapshots.append(snapshot)
            if stopped:
                break
    return Found(snapshots, before, notes=notes, **memory)


def _universal(data: RawData) -> Found:
    """One pass of the package's own network."""
    with peak_memory() as memory:
        begun = time.perf_counter()
        made = ptycho.infer("universal", data, backend="pytorch")
        seconds = time.perf_counter() - begun - made.timings["trust"]
    return Found([Snapshot(1, seconds, made.object, made.probe, made.frame)], notes={}, **memory)


def by_default(data: RawData, settings: Mapping[str, Any]) -> Found:
    """What `ptycho.reconstruct` makes of a scan; its error bars are not part of its seconds."""
    wanted = not settings and photon_scale(data, data.mean_energy)[1] != "nominal"
    with peak_memory() as memory:
        begun = time.perf_counter()
        made = ptycho.reconstruct(data, uncertainty=wanted, backend="pytorch", **settings)
        seconds = time.perf_counter() - begun
    notes: dict[str, Any] = {}
    if made.uncertainty is not None:
        seconds -= made.timings["uncertainty"]
        notes = {"bars_seconds": made.timings["uncertainty"], "bars_hold": made.uncertainty.holds}
        if data.objectGuess is not None:
            notes["bars"] = within_bars(made, data)
    last = Snapshot(len(made.error_history) - 1, seconds, made.object, made.probe, made.frame)
    return Found([last], notes=notes, **memory)


def _run_peer(case: Case, method: str, run: int, data: RawData, places: Places, limits: Limits) -> Found:
    """An engine of pty-chi on the same file, in its own environment."""
    assert places.peer_python is not None
    peer = Peer(places.peer_python, places.peer_path, limits.peer_seconds, limits.threads)
    settings = ["--engine", PEERS[method], *(["--refine-probe"] if case.refine_probe else [])]
    found = run_peer(data, peer, run, settings)
    return Found(found.snapshots, peak_mb=found.peak_mb, notes={"version": found.version})


def settings_of(limits: Limits) -> dict[str, Any]:
    """The limits as they are kept with the results."""
    return json.loads(json.dumps(asdict(limits)))
