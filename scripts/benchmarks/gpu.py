"""What one CUDA GPU does: solver, networks, stitching, end to end; one table, with the share of what memory allows.

    python scripts/benchmarks/gpu.py --output gpu.json [--ptychi-python PYTHON [--ptychi-path PATH]] [--seconds 480]
    python scripts/benchmarks/gpu.py --output small.json --quick

Every part runs in a process of its own; what the time does not allow is named and left out, the most telling first, and
so is what is not installed. The scans are simulated once (dead leaves, 1e6 photons a pattern, 87 % overlap of windows);
rates of the solver are of further iterations, without reading the patterns and the first launches, medians of three.
The bound is the card's own copy bandwidth over 176 bytes a pixel and iteration: two transforms and fused element-wise
work on fields that are kept. A scan of few patterns tells what launches cost, which `launches.py` counts: they are not
recorded in CUDA graphs. `--quick` tries all of it on a CPU, with few patterns and iterations: whether it runs, not how
fast.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from peer import Peer, run_peer

import ptycho
from ptycho.core.files.atomic import atomic_path
from ptycho.core.geometry import object_frame
from ptycho.core.physics.diffraction import as_modes
from ptycho.core.physics.patches import extract_rounded
from ptycho.core.quality.comparison import PlacedObject, correlate
from ptycho.core.refinement.refinement import Refinement
from ptycho.core.scan_edit.halves import half_scans as halves_of_points
from ptycho.core.simulation.exposure import expose
from ptycho.core.simulation.plan import ScanSettings, plan_scan
from ptycho.core.stitching.stitch import probe_weight, stitch
from ptycho.raw_data import RawData
from ptycho.workflows.backend import BackendName
from ptycho.workflows.networks.stitch_scan import stitch_scan
from ptycho.workflows.run_options import RunOptions
from ptycho.workflows.trust import NOMINAL_PHOTONS, scan_trust

PATTERNS = {64: 16_384, 128: 10_304, 256: 2_500}
"""Patterns of each size: some 0.7 GB as float32, more than the caches of a card."""
BARS = {64: 2e6, 128: 0.5e6, 256: 0.12e6}
"""Patterns and iterations a second on one H100."""
BYTES_PER_PIXEL = 176
FEW = 961
"""Patterns of 64 x 64 that a card has done with sooner than it is told what to do."""
MODES_SHARE = 0.25
"""Of the patterns, those of a scan with several modes."""
STREAMED_GIB = 0.25
"""Memory of a solver whose patterns do not fit: they are streamed."""
END_TO_END_BAR = 1.0
"""Seconds on one H100 for 10,304 patterns of 128 x 128, from flat to within 1 % of the final error."""
WITHIN = 1.01
RATE = re.compile(r"epoch \d+/\d+:.* (\d+) groups/s")


@dataclass(frozen=True)
class Effort:
    """How much is done for a figure."""

    trials: int = 3
    few: int = 10
    many: int = 30
    """Iterations of the two runs whose difference is the rate."""
    epochs: int = 3
    groups: int = 2048
    """At most, of a training."""


@dataclass(frozen=True)
class Job:
    """What a part is measured with."""

    device: str
    scale: float
    """Of the numbers of patterns."""
    peer: Peer | None
    scans: Path | None = None
    """Folder of scans that an earlier part has simulated, and this one may."""
    effort: Effort = Effort()

    def execution(self, precision: str = "32-true") -> ptycho.PyTorchExecutionConfig:
        """How PyTorch runs."""
        return ptycho.PyTorchExecutionConfig(
            accelerator="cuda" if self.device == "cuda" else "cpu",
            precision=precision,  # type: ignore[arg-type]
            enable_progress_bar=False,
            logger_backend=None,
        )

    def scan(self, n: int, modes: tuple[float, ...] = (1.0,)) -> RawData:
        """A simulated scan of patterns of n pixels: a square raster, an eighth of a pattern apart."""
        file = None if self.scans is None else self.scans / f"{n}_{len(modes)}.npz"
        if file is not None and file.exists():
            return RawData.from_file(file)
        made = self._simulated(n, modes)
        if file is not None:
            made.to_file(file)
        return made

    def _simulated(self, n: int, modes: tuple[float, ...]) -> RawData:
        share = 1.0 if len(modes) == 1 else MODES_SHARE
        side = max(4, round((PATTERNS[n] * self.scale * share) ** 0.5))
        size = (side - 1) * n // 8 + n + 2
        settings = ScanSettings(
            "dead_leaves", shape=(size, size), N=n, step=n / 8, jitter=1.0, photons=1e6, modes=modes, seed=3
        )
        made = expose(*plan_scan(settings))
        x, y = made.xcoords, made.ycoords
        return RawData(x, y, None, None, made.diffraction, made.probe, units=made.units)


@dataclass(frozen=True)
class Row:
    """A figure."""

    part: str
    what: str
    figure: float
    unit: str
    bar: float | None = None
    """On one H100."""
    share: float | None = None
    """Of the bound."""


def bandwidth(device: str) -> float:
    """Bytes per second of a copy on the device, read and written, median of ten."""
    import torch

    source = torch.ones(1 << (28 if device == "cuda" else 26), device=device)
    target = torch.empty_like(source)
    seconds = []
    for _ in range(11):
        _wait(device)
        begun = time.perf_counter()
        target.copy_(source)
        _wait(device)
        seconds.append(time.perf_counter() - begun)
    return 2 * source.nbytes / statistics.median(seconds[1:])


def _wait(device: str) -> None:
    """Until the device has done its work."""
    import torch

    if device == "cuda":
        torch.cuda.synchronize()


def refined(job: Job, scan: RawData, iterations: int, **settings: Any) -> Refinement:
    """So many iterations of the solver from a flat object."""
    from ptycho_torch.refine import refine

    found = refine(scan, None, iterations, tolerance=0, device=job.device, **settings)
    _wait(job.device)
    return found


def rate(job: Job, scan: RawData, **settings: Any) -> float:
    """Patterns and iterations a second; NaN where more iterations took no longer, since others held up the fewer."""
    refined(job, scan, 2, **settings)
    rates, effort = [], job.effort
    for _ in range(effort.trials):
        few, many = (refined(job, scan, count, **settings) for count in (effort.few, effort.many))
        longer, more = many.seconds - few.seconds, many.iterations - few.iterations
        if longer > 0 and more > 0:
            rates.append(len(scan) * more / longer)
    return statistics.median(rates) if rates else math.nan


def solver(job: Job) -> Iterator[Row]:
    """Iterations with a known probe, a moving one, positions, few patterns, three modes, sums with the same bits, and
    streamed patterns.
    """
    bytes_per_second = bandwidth(job.device)
    yield Row("solver", "copy bandwidth", bytes_per_second / 1e9, "GB/s")
    for n, bar in BARS.items():
        bound = bytes_per_second / (BYTES_PER_PIXEL * n * n)
        scan = job.scan(n)
        known, moving = (rate(job, scan, refine_probe=moves) for moves in (False, True))
        yield Row("solver", f"{n} x {n}, known probe", known, "patterns iterations/s", bar, known / bound)
        yield Row("solver", f"{n} x {n}, moving probe", moving, "patterns iterations/s", None, moving / bound)
    few = replace(job, scale=job.scale * FEW / PATTERNS[64], scans=None).scan(64)
    milliseconds = 1e3 * len(few) / rate(job, few, refine_probe=True)
    yield Row("solver", f"{len(few)} patterns of 64 x 64, moving probe", milliseconds, "ms an iteration")
    three = rate(job, job.scan(128, (0.8, 0.1, 0.1)), refine_probe=True)
    yield Row("solver", "128 x 128, three moving modes", three, "patterns iterations/s")
    scan = job.scan(128)
    streamed = {"refine_probe": False, "device_memory": round(STREAMED_GIB * 2**30 * job.scale)}
    for what, settings in (
        ("moving probe and positions", {"refine_positions": True}),
        ("known probe, sums with the same bits", {"refine_probe": False, "deterministic": True}),
        ("known probe, patterns streamed", streamed),
    ):
        yield Row("solver", f"128 x 128, {what}", rate(job, scan, **settings), "patterns iterations/s")


def end_to_end(job: Job) -> Iterator[Row]:
    """Patterns in the host's memory to an object that is within 1 % of the final error."""
    scan = job.scan(128)
    errors = refined(job, scan, 80, refine_probe=False).error_history
    enough = next(k for k, error in enumerate(errors) if error <= WITHIN * errors[-1])
    seconds = []
    for _ in range(job.effort.trials):
        begun = time.perf_counter()
        refined(job, scan, enough, refine_probe=False)
        seconds.append(time.perf_counter() - begun)
    what = f"{len(scan)} patterns of 128 x 128, {enough} iterations"
    yield Row("end to end", what, statistics.median(seconds), "s", END_TO_END_BAR)


def verdict(job: Job) -> Iterator[Row]:
    """The trust of a result, where it was refined."""
    from ptycho_torch.backend import trust_engine

    scan, engine = job.scan(128), trust_engine(RunOptions(execution=job.execution()))
    found = refined(job, scan, job.effort.few, refine_probe=False)
    where, seconds = (found.probe, found.xcoords, found.ycoords), []
    for _ in range(job.effort.trials + 1):
        begun = time.perf_counter()
        scan_trust(found.object, *where, scan, NOMINAL_PHOTONS, engine, recording=found.recording)
        seconds.append(time.perf_counter() - begun)
    yield Row("verdict", f"trust of {len(scan)} patterns of 128 x 128", statistics.median(seconds[1:]), "s")


def networks(job: Job, backend: BackendName) -> Iterator[Row | str]:
    """Training and pass of both architectures."""
    if find_spec("torch" if backend == "pytorch" else "tensorflow") is None:
        yield f"{backend}: not installed"
        return
    if backend == "tensorflow":
        yield from _about_tensorflow(job)
    scan, rates = job.scan(64), _Rates()
    precisions = ("32-true", "bf16-mixed") if backend == "pytorch" else ("32-true",)
    log = logging.getLogger("ptycho")
    log.setLevel(logging.INFO)
    log.addHandler(rates)
    for architecture in ("cnn", "unrolled"):
        for precision in precisions:
            name = f"{architecture}, {backend}, {precision}"
            model = ptycho.ModelConfig(architecture=architecture, N=64)
            config = ptycho.TrainingConfig(
                model=model, nepochs=job.effort.epochs, n_groups=min(job.effort.groups, len(scan)), backend=backend
            )
            execution = job.execution(precision) if backend == "pytorch" else None
            rates.found.clear()
            with tempfile.TemporaryDirectory() as folder:
                trained = ptycho.train(scan, replace(config, output_dir=Path(folder)), execution=execution)
            yield Row("training", name, statistics.median(rates.found[1:] or rates.found), "groups/s")
            passes = [ptycho.infer(trained, scan, execution=execution).timings for _ in range(2)]
            yield Row("pass", name, len(scan) / passes[-1]["inference"], "patterns/s")


def _about_tensorflow(job: Job) -> Iterator[str]:
    """What its rows are not."""
    import tensorflow as tf

    yield "tensorflow: no rows in mixed precision, it computes in float32 alone"
    if job.device == "cuda" and not tf.config.list_physical_devices("GPU"):
        yield "tensorflow: its rows are of the CPU, it sees no GPU"


class _Rates(logging.Handler):
    """Rates of the epochs as they are logged."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.found: list[float] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Note the rate of an epoch."""
        if found := RATE.search(record.getMessage()):
            self.found.append(float(found[1]))


def stitching(job: Job) -> Iterator[Row]:
    """Patches in the host's memory to one object: their sums, on the device, and all of it with unknown phases."""
    from ptycho_torch import backend

    scan, run = job.scan(128), RunOptions(execution=job.execution())
    x, y, n = scan.xcoords, scan.ycoords, scan.N
    probe, frame, sums = as_modes(scan.probeGuess), object_frame(x, y, n), backend.canvas_sums(run)
    rng = np.random.default_rng(0)
    texture = np.exp(1j * rng.uniform(-1, 1, frame.shape)).astype(np.complex64)
    patches = extract_rounded(texture, *frame.local(x, y), n)[0]
    patches *= np.exp(2j * np.pi * rng.random(len(scan)))[:, None, None].astype(np.complex64)
    positions = np.stack([x, y], axis=1)[:, None, :, None]
    work: dict[str, Callable[[], Any]] = {
        "sums of": lambda: stitch(patches, x, y, probe_weight(probe), frame, sums=sums),
        "phases and sums of": lambda: stitch_scan(patches[:, None], positions, scan, probe, frame, sums=sums),
    }
    for what, done in work.items():
        seconds = []
        for _ in range(job.effort.trials):
            begun = time.perf_counter()
            done()
            seconds.append(time.perf_counter() - begun)
        yield Row("stitching", f"{what} {len(scan)} patches of 128 x 128", statistics.median(seconds), "s")


def half_scans(job: Job) -> Iterator[Row]:
    """Two halves of a scan: solved, brought onto each other and correlated on the device."""
    from ptycho_torch import backend

    scan, arithmetic = job.scan(128), backend.image_arithmetic(RunOptions(execution=job.execution()))
    begun, halves = time.perf_counter(), []
    for chosen in halves_of_points(scan.xcoords, scan.ycoords):
        half = scan.part(chosen)
        found = refined(job, half, job.effort.many, refine_probe=False)
        halves.append(PlacedObject("half", found.object, (0.0, 0.0), found.xcoords, found.ycoords))
    what = f"{len(scan)} patterns of 128 x 128 in halves, {job.effort.many} iterations each"
    yield Row("half scans", what, time.perf_counter() - begun, "s")
    begun = time.perf_counter()
    correlate(halves[0], halves[1], arithmetic)
    shape = " x ".join(map(str, halves[0].object.shape))
    yield Row("half scans", f"correlation of objects of {shape}", time.perf_counter() - begun, "s")


def peers(job: Job) -> Iterator[Row | str]:
    """pty-chi on the same patterns: epochs, and how far it comes meanwhile."""
    if job.peer is None:
        yield "pty-chi: not installed beside this library; name its interpreter, --ptychi-python"
        return
    scan = job.scan(128)
    on = ["--gpu"] if job.device == "cuda" else []
    for engine in ("lsqml", "bh"):
        found = run_peer(scan, job.peer, 0, ["--engine", engine, *on]).snapshots
        epochs, seconds = (getattr(found[-1], name) - getattr(found[0], name) for name in ("step", "seconds"))
        yield Row("pty-chi", f"128 x 128, {engine}", len(scan) * epochs / seconds, "patterns epochs/s")


QUICK, QUICK_SCALE, QUICK_PEER_SECONDS = Effort(trials=1, few=2, many=4, epochs=1, groups=16), 0.002, 3.0
"""Of `--quick`."""
PARTS: dict[str, Callable[[Job], Iterator[Row | str]]] = {
    "solver": solver,
    "end to end": end_to_end,
    "networks in PyTorch": lambda job: networks(job, "pytorch"),
    "pty-chi": peers,
    "verdict": verdict,
    "stitching": stitching,
    "half scans": half_scans,
    "networks in TensorFlow": lambda job: networks(job, "tensorflow"),
}
"""The most telling first."""


def card(device: str) -> dict[str, Any]:
    """What it is measured on.

    Raises:
        SystemExit: there is none.
    """
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("gpu.py: error: expected a CUDA device, found none; try all of it on the CPU with --quick")
    known: dict[str, Any] = {
        "torch": torch.__version__,
        "machine": platform.machine(),
        "ptychopinn": ptycho.__version__,
    }
    if device != "cuda":
        return known | {"card": f"CPU, {torch.get_num_threads()} threads", "driver": None}
    memory = torch.cuda.get_device_properties(0).total_memory / 2**30
    name = f"{torch.cuda.get_device_name()}, {memory:.0f} GiB"
    return known | {"card": name, "driver": _driver(), "cuda": torch.version.cuda}


def _driver() -> str | None:
    """The version of the driver; None where nothing tells it, as in many a container."""
    if shutil.which("nvidia-smi") is None:
        return None
    asked = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    lines = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.splitlines()
    return lines[0] if lines else None


def table(rows: list[Row]) -> str:
    """The figures as Markdown."""
    lines = ["| part | what | figure | bar on one H100 | share of the bound |", "| --- | --- | --- | --- | --- |"]
    for row in rows:
        bar = "" if row.bar is None else f"{row.bar:,.4g}"
        share = "" if row.share is None else f"{row.share:.0%}"
        lines.append(f"| {row.part} | {row.what} | {row.figure:,.4g} {row.unit} | {bar} | {share} |")
    return "\n".join(lines)


def run_parts(args: argparse.Namespace) -> tuple[list[Row], list[str]]:
    """The rows of the parts that the time allows, each part in a process of its own, and what was left out."""
    until, rows, left_out = time.monotonic() + args.seconds, [], []
    with tempfile.TemporaryDirectory() as folder:
        for name in args.parts:
            left, output = until - time.monotonic(), Path(folder) / "rows.json"
            output.unlink(missing_ok=True)
            command = [sys.executable, *sys.argv, "--only", name, "--output", str(output), "--scans", folder]
            try:
                status = subprocess.run(command, timeout=max(left, 1), check=False).returncode
                why = f"status {status}" if status else ""
            except subprocess.TimeoutExpired:
                why = f"{max(left, 0):.0f} s were left"
            if output.exists():  # of a part that was cut off, the rows so far
                found = json.loads(output.read_text())
                rows += [Row(**row) for row in found["rows"]]
                left_out += found["left out"]
            if why:
                left_out.append(f"{name}: not whole, {why}")
    return rows, left_out


def run_part(args: argparse.Namespace) -> None:
    """The rows of one part, written as they come."""
    python = args.ptychi_python or (Path(sys.executable) if find_spec("ptychi") else None)
    peer = None if python is None else Peer(python, args.ptychi_path, args.peer_seconds, 2)
    effort = QUICK if args.quick else Effort()
    rows: list[Row] = []
    left_out: list[str] = []
    for found in PARTS[args.only](Job(args.device, args.scale, peer, args.scans, effort)):
        if isinstance(found, str):
            left_out.append(found)
            print(found, flush=True)
        else:
            rows.append(found)
            print(table([found]).splitlines()[-1], flush=True)
        write(args.output, {"rows": [asdict(each) for each in rows], "left out": left_out})


def write(path: Path, values: Any) -> None:
    """JSON, whole."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(values, indent=1))


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="JSON")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--scale", type=float, default=1.0, help="of the numbers of patterns, to try it on a CPU")
    parser.add_argument(
        "--quick", action="store_true", help="on a CPU, whether all of it runs: few patterns, one trial"
    )
    parser.add_argument("--seconds", type=float, default=480.0, help="that all of it may take")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--ptychi-python", type=Path, help="interpreter with pty-chi (default: this one)")
    parser.add_argument("--ptychi-path", help="PYTHONPATH for it")
    parser.add_argument("--peer-seconds", type=float, default=20.0, help="of each of its engines")
    parser.add_argument("--only", choices=PARTS, help=argparse.SUPPRESS)
    parser.add_argument("--scans", type=Path, help=argparse.SUPPRESS)
    return parser


def main() -> None:
    """Measure, print and write."""
    args = parser().parse_args()
    if args.quick:
        args.device, args.scale, args.peer_seconds = "cpu", QUICK_SCALE, QUICK_PEER_SECONDS
    if args.only:
        run_part(args)
        return
    on = card(args.device)
    print(json.dumps(on), flush=True)
    rows, left_out = run_parts(args)
    write(args.output, {"on": on, "scale": args.scale, "rows": [asdict(row) for row in rows], "left out": left_out})
    print(table(rows), *left_out, sep="\n")


if __name__ == "__main__":
    main()
