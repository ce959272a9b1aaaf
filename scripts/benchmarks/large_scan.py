"""Memory and speed of a scan that need not fit into memory: its patterns mapped from the file, or read.

A scan of `--gigabytes` is simulated straight to a file and read once, so that the page cache holds it where there is
room. Then every backend trains on groups drawn from the whole scan and reconstructs the first `--inference_points`
points as a scan of their own, with the patterns mapped and with the patterns in memory, `--repeat` times in alternating
order. With `--whole` it first reconstructs every point once, mapped. With `--processes 1 2 4` it does nothing of that:
the solver goes some iterations on the whole scan, mapped, with so many processes on this machine
(docs/several_processes.md), and the table has the memory of the process that needs most; with `--slices K` on an object
of so many; with `--trust` the trust is measured instead. With `--patterns` it simulates scans of so many patterns of
32 x 32 at places by chance, in a folder that goes again, and types `ptycho reconstruct` for each.

Each run has a process of its own, and this one watches its memory: anonymous memory (RssAnon) is what has to stay,
mapped files are in memory only while there is room. Shared memory (RssShmem) is listed beside it: where the folder of
temporary files is a tmpfs, patches are there. Figures in MiB are peaks above what the process had after its imports;
each phase inherits what the one before has left. Speeds are medians.

    python scripts/benchmarks/large_scan.py --output large_scan.json --folder scans [--gigabytes 4] [--whole]
    python scripts/benchmarks/large_scan.py --output processes.json --folder scans --gigabytes 0.25 --processes 1 2 4
    python scripts/benchmarks/large_scan.py ... --gigabytes 0.25 --step 40 --processes 1 2 4   # a large object
    python scripts/benchmarks/large_scan.py ... --gigabytes 0.06 --step 24 --processes 1 2 4 --slices 4   # a thick one
    python scripts/benchmarks/large_scan.py ... --gigabytes 0.125 --processes 1 2 1 2 --trust
    python scripts/benchmarks/large_scan.py --output million.json --folder scans --patterns 1e5 1e6 --iterations 3
"""

from __future__ import annotations

import argparse
import importlib
import itertools
import json
import math
import multiprocessing
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import scaling

from ptycho.core.formats.opening import MemoryMap
from ptycho.core.physics.near_field import NearField
from ptycho.core.simulation.exposure import expose_to_file
from ptycho.core.simulation.plan import ScanSettings, plan_scan
from ptycho.raw_data import RawData

if TYPE_CHECKING:
    from ptycho.workflows.backend import BackendName
    from ptycho.workflows.sharing.team import Team
    from ptycho.workflows.solver import Solver

N, STEP = 64, 4.0
EVERY = 0.05
"""Seconds between two looks at the memory."""
KEPT = 64.0
"""GiB that every process may keep beside a batch: all that it can."""
GAP = NearField(1.0)
"""Between two slices; the scan is of a thin object, whose patterns leave the others empty."""
PHASES = ("training", "inference", "stitching", "trust")
PACKAGES = {"pytorch": "ptycho_torch", "tensorflow": "ptycho"}
MEMORY_MAP: dict[str, MemoryMap] = {"mapped": "always", "in memory": "never"}
Row = dict[str, Any]


def simulated(folder: Path, gigabytes: float, step: float) -> Path:
    """A scan of `lines` of this size, so many pixels apart with a jitter of 1 px, 1e9 photons; made unless it is
    there.
    """
    side = round(math.sqrt(gigabytes * 2**30 / (4 * N * N)))
    path = folder / (f"lines-{side}x{side}.npz" if step == STEP else f"lines-{side}x{side}-{step:g}.npz")
    if path.is_file():
        return path
    width = round((side - 1) * step) + N + 2
    begun = time.perf_counter()
    settings = ScanSettings(kind="lines", shape=(width, width), N=N, step=step, jitter=1.0, photons=1e9)
    expose_to_file(*plan_scan(settings), path, {"kind": "lines"}, truth=False)
    print(f"simulated {side * side} patterns in {time.perf_counter() - begun:.0f} s", flush=True)
    return path


def read_once(path: Path) -> None:
    """Leave the file in the page cache."""
    with path.open("rb") as file:
        while file.read(1 << 24):
            pass


def first_points(scan: RawData, points: int) -> RawData:
    """The beginning of a scan on the same array, which stays on disk where it is."""
    x, y, patterns = (array[:points] for array in (scan.xcoords, scan.ycoords, scan.diff3d))
    return RawData(x, y, None, None, patterns, scan.probeGuess, metadata=scan.metadata, units=scan.units)


class Phases:
    """What tells the watching process which phase begins; a reconstruction calls it where patches are looked at."""

    def __init__(self, watcher: Connection) -> None:
        self.watcher = watcher

    def begin(self, phase: str) -> None:
        """Wait until the watching process has taken note."""
        self.watcher.send(phase)
        self.watcher.recv()

    def predicted(self, *_: Any) -> None:
        """The patches are there."""
        self.begin("stitching")

    def stitched(self, *_: Any) -> None:
        """The object is there."""
        self.begin("trust")


def work(
    watcher: Connection, scan: Path, backend: BackendName, mode: str, args: argparse.Namespace, points: int
) -> None:
    """Train on the scan and reconstruct its first points; send the speeds."""
    from ptycho.config.config import InferenceConfig, ModelConfig, TrainingConfig
    from ptycho.workflows import backend_selector as door

    importlib.import_module(f"{PACKAGES[backend]}.workflows.components")
    phases: Any = Phases(watcher)
    phases.begin("opening")
    begun = time.perf_counter()
    data = RawData.from_file(scan, memory_map=MEMORY_MAP[mode])
    found: Row = {"opening s": time.perf_counter() - begun}
    with tempfile.TemporaryDirectory() as folder:
        settings = TrainingConfig(
            model=ModelConfig(N=N, gridsize=args.gridsize),
            n_groups=args.groups,
            nepochs=2,
            backend=backend,
            output_dir=Path(folder),
        )
        phases.begin("training")
        begun = time.perf_counter()
        results = door.train_cdi_model_with_backend(data, None, settings)
        found["training s"] = time.perf_counter() - begun
        first, second = results["history"]["seconds"]
        found["training groups/s"] = args.groups / (second - first)
        door.save_bundle_with_backend(results, settings, Path(folder))
        del results
        phases.begin("inference")
        asked = InferenceConfig(model=settings.model, model_path=Path(folder), backend=backend)
        made = door.reconstruct_with_backend(first_points(data, points), asked, diagnostics=phases)
    found["inference patches/s"] = points * args.gridsize**2 / made.timings["inference"]
    found |= {f"{name} patterns/s": points / made.timings[name] for name in ("stitching", "trust")}
    watcher.send(found)


def memory(process: int) -> dict[str, float]:
    """Anonymous and shared memory of a process, MiB; 0 where it has just ended."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    kib = dict(line.split(":", 1) for line in lines)
    return {key: int(kib.get(key, "0 kB").split()[0]) / 1024 for key in ("RssAnon", "RssShmem")}


def measure(scan: Path, backend: BackendName, mode: str, args: argparse.Namespace, points: int) -> Row:
    """Run one case in a process of its own: its speeds, and the peaks of its memory above that after the imports."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=work, args=(theirs, scan, backend, mode, args, points))
    process.start()
    theirs.close()
    peaks: dict[str, dict[str, float]] = {}
    phase, message = "imports", None
    start: dict[str, float] = {}
    try:
        while not isinstance(message, dict):
            message = ours.recv() if ours.poll(EVERY) else None
            assert process.pid is not None
            now = memory(process.pid)
            peaks[phase] = {key: max(now[key], peaks.get(phase, now)[key]) for key in now}
            if isinstance(message, str):
                start = now if phase == "imports" else start
                phase = message
                ours.send(phase)
    except EOFError:
        raise SystemExit(f"{backend}, {mode}: the run failed, see above") from None
    process.join()
    above = {phase: {key: peak[key] - start[key] for key in peak} for phase, peak in peaks.items()}
    anonymous = {f"{phase} MiB": above[phase]["RssAnon"] for phase in ("opening", *PHASES)}
    return {
        "backend": backend,
        "mode": mode,
        "points": points,
        **message,
        "imports MiB": start["RssAnon"],
        **anonymous,
        "anonymous MiB": max(anonymous.values()),
        "shared MiB": max(peak["RssShmem"] for peak in above.values()),
    }


def refined(scan: Path, processes: int, strips: bool, iterations: int, slices: int) -> Row:
    """Refine the object of a mapped scan with so many processes, each with the whole object or a strip of it: peaks
    above what each had when all were there.
    """
    data, times = RawData.from_file(scan, memory_map="always"), []
    with solving(processes) as (solver, team, members):
        settings: Row = {"refine_probe": False, "patience": iterations + 1, "tolerance": 0.0, "strips": strips}
        settings |= {"slices": slices, "gap": GAP} if slices > 1 else {}
        settings["report"] = lambda *_: times.append(time.perf_counter())
        sent = getattr(team, "sent", 0)
        with taken(members) as spent:
            found = solver.refine(data, None, iterations, **settings)
        sent = getattr(team, "sent", 0) - sent
    return {
        "processes": processes,
        "strips": strips,
        "patterns": len(data),
        "object": " x ".join(map(str, found.layers.shape)),
        "s per iteration": statistics.median(later - sooner for sooner, later in itertools.pairwise(times)),
        "MiB of the first": spent.above[0],
        "most MiB of another": max([0.0, *spent.above[1:]]),
        "MiB sent per iteration": sent / iterations / 2**20,
        "error": found.error_history[-1],
    }


def compared(scan: Path, processes: int, repeat: int) -> Row:
    """Measure the trust of a flat object on a mapped scan with so many processes, after what is known of the whole
    scan: medians, and peaks above what each had when all were there.
    """
    from ptycho.core.geometry import object_frame
    from ptycho.workflows.trust import NOMINAL_PHOTONS, scan_trust

    data = RawData.from_file(scan, memory_map="always")
    data.scales(NOMINAL_PHOTONS)
    frame = object_frame(data.xcoords, data.ycoords, data.N)
    image, where = np.ones(frame.shape, np.complex64), frame.local(data.xcoords, data.ycoords)
    with solving(processes) as (solver, _, members):
        before, runs = [memory(one)["RssAnon"] for one in members], []
        for _ in range(repeat):
            with taken(members, before) as spent:
                trust = scan_trust(image, data.probeGuess[None], *where, data, NOMINAL_PHOTONS, solver.trust)
            runs.append(spent)
    return {
        "processes": processes,
        "patterns": len(data),
        "object": " x ".join(map(str, frame.shape)),
        "s": statistics.median(run.s for run in runs),
        "CPU s of the first": statistics.median(run.cpu[0] for run in runs),
        "most CPU s of another": statistics.median(max([0.0, *run.cpu[1:]]) for run in runs),
        "MiB of the first": max(run.above[0] for run in runs),
        "most MiB of another": max(max([0.0, *run.above[1:]]) for run in runs),
        "deviance": float(trust.deviance.sum()),
    }


@contextmanager
def solving(processes: int) -> Iterator[tuple[Solver, Team, list[int]]]:
    """The solver of so many processes on this machine, their team, and who they are."""
    from ptycho.config.config import InferenceConfig, PyTorchExecutionConfig
    from ptycho.workflows.run_options import RunOptions
    from ptycho.workflows.solver import Solver
    from ptycho_torch import backend

    execution = PyTorchExecutionConfig(accelerator="cpu", devices=processes, device_memory=KEPT)
    run = backend.settled(RunOptions(execution=execution))
    with backend.team(run) as team:
        members = [os.getpid(), *children()] if processes > 1 else [os.getpid()]
        yield Solver.of(backend, InferenceConfig(backend="pytorch"), run, team), team, members


@dataclass
class Taken:
    """What something took of each of several processes."""

    above: list[float] = field(default_factory=list)
    """Peaks of their anonymous memory above what they had, MiB."""
    cpu: list[float] = field(default_factory=list)
    """Processor seconds."""
    s: float = 0.0


@contextmanager
def taken(members: list[int], before: list[float] | None = None) -> Iterator[Taken]:
    """Watch these processes, which had so many MiB; None: as many as now."""
    found, done = Taken(), threading.Event()
    before = [memory(one)["RssAnon"] for one in members] if before is None else before
    peaks, spent = list(before), [processor_seconds(one) for one in members]

    def watch() -> None:
        while not done.wait(EVERY):
            peaks[:] = [max(peak, memory(one)["RssAnon"]) for peak, one in zip(peaks, members, strict=True)]

    watcher, begun = threading.Thread(target=watch), time.perf_counter()
    watcher.start()
    yield found
    found.s = time.perf_counter() - begun
    done.set()
    watcher.join()
    found.cpu = [processor_seconds(one) - cpu for one, cpu in zip(members, spent, strict=True)]
    found.above = [peak - least for peak, least in zip(peaks, before, strict=True)]


def reconstructed(path: Path, patterns: int, iterations: int) -> Row:
    """What `ptycho reconstruct` takes on a mapped scan: processor seconds, and the peak of its anonymous and shared
    memory when iterations begin and when all is done.
    """
    asked = [*("--memory-map", "always", "--iterations", str(iterations), "--device", "cpu", "--backend", "pytorch")]
    with tempfile.TemporaryDirectory() as folder:
        line = [sys.executable, "-m", "ptycho", "reconstruct", str(path), "-o", f"{folder}/out", *asked]
        begun = time.perf_counter()
        process = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        peak, done = [0.0], threading.Event()

        def watch() -> None:
            while not done.wait(EVERY):
                peak[0] = max(peak[0], sum(memory(process.pid).values()))

        watcher = threading.Thread(target=watch)
        watcher.start()
        spent, peaks, said = [], [], ""
        assert process.stderr is not None
        for said in process.stderr:
            if re.search(r"iteration \d+/", said):
                spent.append(processor_seconds(process.pid))
                peaks.append(peak[0])
        done.set()
        watcher.join()
        if process.wait():
            raise SystemExit(f"{path}: the run failed: {said}")
    return {
        "patterns": patterns,
        "GiB": path.stat().st_size / 2**30,
        "CPU s before iterations": spent[0],
        "CPU s per iteration": statistics.median(later - sooner for sooner, later in itertools.pairwise(spent)),
        "MiB at iteration 0": peaks[0],
        "MiB in the end": peak[0],
        "s": time.perf_counter() - begun,
    }


def processor_seconds(process: int) -> float:
    """What a process has taken so far, with all of its threads."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def children() -> list[int]:
    """The processes that this one has started."""
    return [int(one) for one in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]


def table(rows: list[Row]) -> str:
    """A line for every number of processes."""
    heads = list(rows[0])
    lines = [heads, ["---"] * len(heads)]
    lines += [[f"{value:.4g}" if isinstance(value, float) else str(value) for value in row.values()] for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def measured(scan: Path, args: argparse.Namespace) -> list[Row]:
    """Every run that is asked for, the two modes of a backend one after the other, in alternating order."""
    points = len(RawData.from_file(scan, memory_map="always"))
    cases = [(backend, "mapped", points) for backend in args.backends if args.whole]
    cases += [
        (backend, mode, min(args.inference_points, points))
        for backend in args.backends
        for turn in range(args.repeat)
        for mode in list(MEMORY_MAP)[:: 1 if turn % 2 == 0 else -1]
    ]
    rows = []
    for backend, mode, count in cases:
        rows.append(measure(scan, backend, mode, args, count))
        print(json.dumps(rows[-1]), flush=True)
        args.output.write_text(json.dumps({"settings": vars(args), "rows": rows}, indent=1, default=str))
    return rows


def summary(rows: list[Row]) -> str:
    """The table: medians of speeds and largest peaks of each kind of run, and what mapping makes of the speed."""
    kinds: dict[tuple[str, str, int], list[Row]] = {}
    for row in rows:
        kinds.setdefault((row["backend"], row["mode"], row["points"]), []).append(row)
    merged = {
        kind: {
            key: (max if key.endswith("MiB") else statistics.median)(row[key] for row in group)
            for key, value in group[0].items()
            if isinstance(value, float)
        }
        for kind, group in kinds.items()
    }
    figures = next(iter(merged.values()))
    heads = [f"{backend}, {mode}, {points} points" for backend, mode, points in merged]
    lines = ["| | " + " | ".join(heads) + " |", "| --- " * (len(merged) + 1) + "|"]
    lines += [f"| {key} | " + " | ".join(f"{kind[key]:.4g}" for kind in merged.values()) + " |" for key in figures]
    for backend, mode, points in merged:
        if mode == "mapped" and (backend, "in memory", points) in merged:
            pair = merged[backend, mode, points], merged[backend, "in memory", points]
            ratios = (f"{key} {pair[0][key] / pair[1][key]:.2f}" for key in figures if key.endswith("/s"))
            lines.append(f"{backend}, mapped over in memory: {', '.join(ratios)}")
    return "\n".join(lines)


def main() -> None:
    """Simulate, measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="JSON file")
    parser.add_argument("--folder", type=Path, required=True, help="where the scan is, or is made")
    parser.add_argument("--gigabytes", type=float, default=4.0, help="of patterns, GiB")
    parser.add_argument("--backends", nargs="+", choices=PACKAGES, default=list(PACKAGES))
    parser.add_argument("--gridsize", type=int, default=1)
    parser.add_argument("--groups", type=int, default=2048, help="to train on, two epochs")
    parser.add_argument("--inference_points", type=int, default=4096, help="to reconstruct")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--processes", type=int, nargs="+", help="the solver with so many")
    parser.add_argument("--step", type=float, default=STEP, help="between patterns, pixels")
    parser.add_argument("--iterations", type=int, default=6, help="of the solver")
    parser.add_argument("--slices", type=int, default=1, help="of the object of --processes")
    parser.add_argument("--trust", action="store_true", help="with --processes: measure the trust, no iteration")
    parser.add_argument("--patterns", type=float, nargs="+", help="reconstruct scans of so many, 32 x 32")
    parser.add_argument("--whole", action="store_true", help="also reconstruct every point, mapped")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    if args.patterns is not None:
        rows = []
        for count in map(int, args.patterns):
            with tempfile.TemporaryDirectory(dir=args.folder) as folder:
                rows.append(reconstructed(scaling.simulated(Path(folder), count), count, args.iterations))
            args.output.write_text(json.dumps({"settings": vars(args), "rows": rows}, indent=1, default=str))
        print(table(rows))
        return
    scan = simulated(args.folder, args.gigabytes, args.step)
    read_once(scan)
    print(f"{scan}: {scan.stat().st_size / 2**30:.2f} GiB, {os.cpu_count()} cores")
    if args.processes is None:
        print(summary(measured(scan, args)))
        return
    # each in a process of its own, so that none inherits what the one before has left
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        if args.trust:
            rows = [pool.apply(compared, (scan, size, args.repeat)) for size in args.processes]
        else:
            kinds = [(size, strips) for size in args.processes for strips in ((False, True) if size > 1 else (False,))]
            rows = [pool.apply(refined, (scan, *kind, args.iterations, args.slices)) for kind in kinds]
    args.output.write_text(json.dumps({"settings": vars(args), "rows": rows}, indent=1, default=str))
    print(table(rows))


if __name__ == "__main__":
    main()
