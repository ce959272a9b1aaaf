"""Seconds to quality of the refinement, from a flat object, on a scan whose file holds the truth; or its plain speed.

    python scripts/benchmarks/refinement.py SCAN.npz [--truth object_true] [--backends pytorch tensorflow]
        [--marks 1 2 3 5 7 10 20 40] [--repeats 3] [--refine_probe] [--likelihood poisson] [--holdout 0.05]
        [--use_xla] [--threads 2] [--peer PEER.json] [--json OUT.json]

One row per number of iterations and backend: the seconds (median of the repeats, in which the backends take turns, so
that they share whatever else the machine does), the relative likelihood, and the complex error of the object within the
box of the scan positions after shift, phase plane and scale are removed. `--peer` sets another program's curve beside
ours: a JSON file with a list `rows` of objects that hold `s` (seconds) and `complex_nrmse`; each of its rows then shows
how much sooner we reached the same error.

    python scripts/benchmarks/refinement.py --rates [--sizes 64 128 256] [--backends pytorch] [--repeats 3]
        [--threads 2] [--json OUT.json]

Patterns and iterations a second, of whole refinements of 40 iterations and without their beginnings, of simulated scans
with the probe known and moving; the time of a core that each takes; and how fast memory and cache are (the triad
`a = b + s c`).
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from ptycho.core.files.atomic import atomic_path
from ptycho.core.geometry import ObjectFrame
from ptycho.core.quality.score import score
from ptycho.core.refinement.refinement import Refinement
from ptycho.core.simulation.plan import make_scan
from ptycho.raw_data import RawData

Row = dict[str, Any]

SCANS = {64: (256, 8.0), 128: (320, 12.0), 256: (448, 24.0)}
"""Pixels of the object and of a step, by the size of the patterns."""
ITERATIONS, BEGINNING = 40, 10
KEPT_BYTES = 80
"""Of what is kept, read or written in an iteration for each pixel of a pattern, of one known mode in single precision:
probes, far fields, their changes, intensities and amplitudes."""


def refiner(backend: str, threads: int, use_xla: bool) -> Callable[..., Refinement]:
    """`refine` of a backend, on so many threads."""
    if backend == "pytorch":
        import torch

        from ptycho_torch.refine import refine as refine_torch

        torch.set_num_threads(threads)
        return refine_torch
    from functools import partial

    import tensorflow as tf

    from ptycho.tf.refine import refine as refine_tensorflow

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    return partial(refine_tensorflow, use_xla=use_xla)


def inner_region(scan: RawData, margin: int = 2) -> tuple[int, int, int, int]:
    """Box of the scan positions (y0, y1, x0, x1), a margin inside: every method has data there."""
    x, y = scan.xcoords, scan.ycoords
    return (
        int(np.ceil(y.min())) + margin,
        int(np.floor(y.max())) - margin,
        int(np.ceil(x.min())) + margin,
        int(np.floor(x.max())) - margin,
    )


def measure(
    scan: RawData, truth: np.ndarray, backends: dict[str, Callable[..., Refinement]], marks: list[int], repeats: int,
    **settings: Any,
) -> list[Row]:  # fmt: skip
    """The curve of every backend."""
    frame, region = ObjectFrame(truth.shape[0], truth.shape[1], 0, 0), inner_region(scan)
    for refine in backends.values():  # what is done once in a process is not the refinement's
        refine(scan, None, 1, frame=frame, **settings)
    rows = []
    for mark in marks:
        runs: dict[str, list[Refinement]] = {name: [] for name in backends}
        for _ in range(repeats):
            for name, refine in backends.items():
                runs[name].append(refine(scan, None, mark, frame=frame, tolerance=0, **settings))
        for name, found in runs.items():
            rows.append(
                {
                    "backend": name,
                    "iterations": found[-1].iterations,
                    "s": statistics.median(run.seconds for run in found),
                    "error": found[-1].error_history[found[-1].kept],
                    "complex_nrmse": score(found[-1].object, truth, region).complex_nrmse,
                    "restarts": found[-1].restarts,
                }
            )
            row = rows[-1]
            print(
                f"{name:12s} {row['iterations']:4d} {row['s']:8.2f} {row['error']:10.3g} {row['complex_nrmse']:8.4f}",
                flush=True,
            )
    return rows


def compare(rows: list[Row], peer: list[Row]) -> None:
    """How much sooner than the peer each backend reached the peer's errors."""
    for name in dict.fromkeys(row["backend"] for row in rows):
        ours = [row for row in rows if row["backend"] == name]
        for theirs in peer:
            reached = [row["s"] for row in ours if row["complex_nrmse"] <= theirs["complex_nrmse"]]
            if not reached:
                continue
            ratio = theirs["s"] / min(reached)
            print(
                f"{name:12s} {theirs['complex_nrmse']:8.4f}: peer {theirs['s']:8.2f} s, "
                f"ours {min(reached):6.2f} s, {ratio:.0f} times sooner"
            )


def simulated(n: int) -> RawData:
    """A scan of patterns of n x n pixels, 1e9 photons each."""
    size, step = SCANS[n]
    made = make_scan("lines", size, n, step, 0.5, 1e9, 4)
    return RawData(made.xcoords, made.ycoords, None, None, made.diffraction, made.probe, units=made.units)


def speeds(refine: Callable[..., Refinement], scan: RawData, refine_probe: bool) -> tuple[float, float, float, float]:
    """Patterns and iterations a second, of all iterations and without the first ones, microseconds of a core for each,
    and the error in the end.
    """
    times: list[float] = []

    def report(iteration: int, error: float) -> None:
        times.append(time.perf_counter())

    begun, busy = time.perf_counter(), time.process_time()
    found = refine(scan, None, ITERATIONS, refine_probe=refine_probe, tolerance=0, report=report)
    whole, busy, steady = time.perf_counter() - begun, time.process_time() - busy, times[-1] - times[BEGINNING]
    count = len(scan) * (len(times) - 1)
    rate = len(scan) * (len(times) - 1 - BEGINNING) / steady
    return count / whole, rate, 1e6 * busy / count, found.error_history[-1]


def triad(mebibytes: float, threads: int) -> float:
    """Bytes a second of `a = b + s c` on all threads, each on its own arrays of together so many MiB."""
    count = int(mebibytes * 2**20 / 4 / 3 / threads)
    arrays = [np.ones((3, count), np.float32) for _ in range(threads)]
    repeats = max(1, int(2e8 / count))

    def work(three: np.ndarray) -> None:
        for _ in range(repeats):
            np.multiply(three[2], np.float32(1.5), out=three[0])
            np.add(three[0], three[1], out=three[0])

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, arrays))
        begun = time.perf_counter()
        list(pool.map(work, arrays))
    # a multiplication reads one array and writes one, the addition reads two and writes one
    return 5 * 4 * count * threads * repeats / (time.perf_counter() - begun)


def rates(backends: dict[str, Callable[..., Refinement]], sizes: list[int], repeats: int, threads: int) -> list[Row]:
    """The table of speeds; backends take turns."""
    memory, cache = (statistics.median(triad(size, threads) for _ in range(repeats)) for size in (768, 0.75 * threads))
    print(f"triad: {memory / 1e9:.1f} GB/s from memory, {cache / 1e9:.1f} GB/s from the cache, {threads} threads")
    columns = f"{'whole':>9s} {'steady':>9s} {'core us':>8s} {'kept':>10s} {'error':>10s}"
    print(f"{'N':>4s} {'probe':7s} {'backend':12s} {columns}")
    rows = []
    for n in sizes:
        scan = simulated(n)
        for refine_probe in (False, True):
            found: dict[str, list[tuple[float, float, float, float]]] = {name: [] for name in backends}
            for refine in backends.values():  # what is done once in a process is not the refinement's
                refine(scan, None, 2, refine_probe=refine_probe)
            for _ in range(repeats):
                for name, refine in backends.items():
                    found[name].append(speeds(refine, scan, refine_probe))
            for name, runs in found.items():
                whole, steady, core, error = (statistics.median(values) for values in zip(*runs, strict=True))
                kept = None if refine_probe else steady * n**2 * KEPT_BYTES
                row = {
                    "n": n,
                    "moving": refine_probe,
                    "backend": name,
                    "whole": whole,
                    "steady": steady,
                    "core_us": core,
                }
                rows.append({**row, "kept_bytes_per_s": kept, "error": error, "triad": memory, "cached_triad": cache})
                probe, moved = "moving" if refine_probe else "known", "" if kept is None else f"{kept / 1e9:5.1f} GB/s"
                print(
                    f"{n:4d} {probe:7s} {name:12s} {whole:9.0f} {steady:9.0f} {core:8.1f} {moved:>10s} {error:10.4g}",
                    flush=True,
                )
    return rows


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scan", type=Path, nargs="?")
    parser.add_argument("--rates", action="store_true", help="patterns and iterations a second of simulated scans")
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SCANS), choices=list(SCANS))
    parser.add_argument("--truth", default="object_true", help="key of the true object, on the scan's pixel grid")
    parser.add_argument("--backends", nargs="+", default=["pytorch", "tensorflow"], choices=["pytorch", "tensorflow"])
    parser.add_argument("--marks", type=int, nargs="+", default=[1, 2, 3, 4, 5, 7, 10, 15, 20, 40])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--refine_probe", action="store_true")
    parser.add_argument("--likelihood", choices=["amplitude", "poisson"], default="amplitude")
    parser.add_argument("--holdout", type=float, default=0.0)
    parser.add_argument("--use_xla", action="store_true", help="compile TensorFlow's work")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--peer", type=Path, help="JSON file of another program's curve")
    parser.add_argument("--json", type=Path, help="write the rows there")
    arguments = parser.parse_args()
    if (arguments.scan is None) != arguments.rates:
        parser.error("expected a scan, or --rates")
    backends = {name: refiner(name, arguments.threads, arguments.use_xla) for name in arguments.backends}
    if arguments.rates:
        rows = rates(backends, arguments.sizes, arguments.repeats, arguments.threads)
        if arguments.json is not None:
            with atomic_path(arguments.json) as temporary:
                temporary.write_text(json.dumps({"threads": arguments.threads, "rows": rows}, indent=1))
        return
    scan = RawData.from_file(arguments.scan)
    settings = {key: getattr(arguments, key) for key in ("refine_probe", "likelihood", "holdout")}
    with np.load(arguments.scan, allow_pickle=False) as file:
        truth = file[arguments.truth]
    print(f"{'backend':12s} {'iter':>4s} {'seconds':>8s} {'error':>10s} {'NRMSE':>8s}")
    rows = measure(scan, truth, backends, arguments.marks, arguments.repeats, **settings)
    if arguments.peer is not None:
        compare(rows, json.loads(arguments.peer.read_text())["rows"])
    if arguments.json is not None:
        with atomic_path(arguments.json) as temporary:
            temporary.write_text(json.dumps({"scan": arguments.scan.name, **settings, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
