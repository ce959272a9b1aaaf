"""What every step costs as a scan grows: seconds and memory over two decades, with the exponent that fits them.

Each figure is taken in a process of its own: processor seconds, and the peak of its anonymous memory above what it held
when the step began; patterns and patches in files, which the system may drop, are not counted. The exponent is the
slope of log seconds over log number, least squares: 1 where the cost is linear, below it where something that does not
grow still counts. Scans are simulated patterns (`lines`, 1e6 photons, positions by chance, as dense as 4 px apart) of
32 x 32 pixels, where it is said of 64 x 64.

    python scripts/benchmarks/scaling.py --output scaling.json [--rows grouping doctor] [--runs 3]
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import multiprocessing
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from stitching import gaussian, planted_patches, scan

SIDE = 32
"""Pixels along a side of the simulated patterns."""
STEP = 4.0
"""Between scan positions, pixels."""
EVERY = 0.02
"""Seconds between two looks at the memory."""
ITERATIONS = 6
"""Of the refinement; the time between the first report and the last counts."""

Thunk = Callable[[], Any]


def simulated(folder: Path, n: int, side: int = SIDE) -> Path:
    """A scan of n patterns in a file, made unless it is there."""
    from ptycho.core.simulation.exposure import expose_to_file
    from ptycho.core.simulation.plan import ScanSettings, plan_scan

    path = folder / f"scan{n}-{side}.npz"
    if not path.is_file():
        width = math.ceil(math.sqrt(n) * STEP) + side + 8
        settings = ScanSettings(shape=(width, width), N=side, path="random", count=n, jitter=0.0, photons=1e6)
        expose_to_file(*plan_scan(settings), path, {"kind": "lines"}, truth=False)
    return path


def grouping(folder: Path, n: int) -> Thunk:
    """Groups of four of n positions."""
    from ptycho.core.groups.grouping import make_groups

    x, y = scan(n, STEP, np.random.default_rng(0))
    return lambda: make_groups(x, y, 2)


def grouped_set(folder: Path, n: int) -> Thunk:
    """The grouped data set of n groups of one scan, with its normalised copy of the patterns."""
    from ptycho.raw_data import RawData

    data = RawData.from_file(simulated(folder, n, 64), memory_map="never")
    return lambda: data.generate_grouped_data(64, nsamples=n, gridsize=2, seed=0)["X_full"]


def stitching(folder: Path, n: int) -> Thunk:
    """All that a reconstruction does with n patches whose phases disagree, the patches in a file."""
    from ptycho.core.geometry import object_frame
    from ptycho.core.stitching.patch_store import patch_array
    from ptycho.core.stitching.stitch import stitch_variants
    from ptycho.core.stitching.synchronise import synchronise

    patches, x, y, _ = planted_patches(n, SIDE, STEP)
    stored = patch_array(patches.shape, 0, folder)
    stored[:] = patches
    frame, weight = object_frame(x, y, SIDE), gaussian(SIDE)

    def run() -> None:
        found = synchronise(stored, x, y, weight)
        stitch_variants(stored, x, y, weight, frame, [None, found.solved])

    return run


def phases(folder: Path, n: int) -> Thunk:
    """The phases of n patches from what their overlaps measure, with noise."""
    from ptycho.core.stitching.overlaps import overlap_pairs
    from ptycho.core.stitching.phase_graph import solve_phases

    rng = np.random.default_rng(0)
    x, y = scan(n, STEP, rng)
    pairs = overlap_pairs(x, y, gaussian(SIDE))
    planted = np.exp(2j * np.pi * rng.random(n))
    error = rng.standard_normal((2, len(pairs)))
    products = planted[pairs[:, 0]] * planted[pairs[:, 1]].conj() + 0.1 * (error[0] + 1j * error[1])
    return lambda: solve_phases(products, pairs, np.stack([x, y], axis=1))


def refinement(folder: Path, n: int) -> Thunk:
    """An iteration of object and probe."""
    from ptycho.raw_data import RawData
    from ptycho_torch.refine import refine

    data = RawData.from_file(simulated(folder, n))

    def run() -> float:
        seen: list[float] = []
        refine(data, None, ITERATIONS, tolerance=0.0, report=lambda *_: seen.append(time.process_time()))
        return (seen[-1] - seen[0]) / (len(seen) - 1)

    return run


def one_pass(folder: Path, n: int) -> Thunk:
    """A pass of `unrolled` on the canvas of a scan; the weights, which cost the same, are those before training."""
    from ptycho.config.config import InferenceConfig, ModelConfig
    from ptycho.core.geometry import object_frame
    from ptycho.raw_data import RawData
    from ptycho.workflows.networks.canvas_pass import canvas_pass
    from ptycho.workflows.run_options import NEUTRAL_RUN
    from ptycho_torch import backend
    from ptycho_torch.pinn import PtychoPINN

    data = RawData.from_file(simulated(folder, n, 64))
    scales = data.scales(1e6)
    config = InferenceConfig(model=ModelConfig(N=64, gridsize=2, architecture="unrolled"))
    model = PtychoPINN(config.model, np.asarray(data.probeGuess), scales.input_scale, scales.intensity_scale).eval()
    frame = object_frame(data.xcoords, data.ycoords, 64)
    return lambda: canvas_pass(backend, model, data, frame, config, NEUTRAL_RUN)


def doctor(folder: Path, n: int) -> Thunk:
    """`ptycho doctor`, its short reconstructions included."""
    from ptycho.core.doctor import examine
    from ptycho.core.formats.opening import open_scan

    path = simulated(folder, n)
    return lambda: examine(open_scan(path))


def opening(folder: Path, n: int) -> Thunk:
    """A scan from its file, patterns mapped where there are many, checked and ready."""
    from ptycho.raw_data import RawData

    path = simulated(folder, n)
    path.read_bytes()  # from the page cache, not from the disk
    return lambda: RawData.from_file(path)


@dataclass(frozen=True)
class Row:
    """A step, at which numbers it is measured, and the seconds that it may take at the last of them."""

    name: str
    step: Callable[[Path, int], Thunk]
    sizes: tuple[int, ...]
    bar: float | None = None


ROWS = {
    "grouping": Row("grouping, gridsize 2", grouping, (10_000, 100_000, 1_000_000), 10),
    "grouped": Row("grouped data set, 64 x 64", grouped_set, (100, 1_000, 10_000), 1),
    "opening": Row("opening", opening, (1_000, 10_000, 100_000)),
    "doctor": Row("doctor", doctor, (1_000, 10_000, 100_000), 60),
    "refinement": Row("refinement, an iteration", refinement, (1_000, 10_000, 100_000)),
    "pass": Row("`unrolled`, one pass, 64 x 64", one_pass, (100, 1_000, 10_000)),
    "stitching": Row("stitching with phases", stitching, (1_000, 10_000, 100_000), 30),
    "phases": Row("phases from overlaps", phases, (10_000, 100_000, 1_000_000)),
}


def measure(row: str, folder: Path, n: int) -> dict[str, float]:
    """Seconds of a step, and MB that it took beyond what it was given; in a process of its own."""
    run = ROWS[row].step(folder, n)
    gc.collect()
    with anonymous_memory() as memory:
        begun = time.process_time()
        own = run()
        seconds = time.process_time() - begun
    # a step that repeats something says itself how long one of it takes
    return {"seconds": own if isinstance(own, float) else seconds, **memory}


@contextmanager
def anonymous_memory() -> Iterator[dict[str, float]]:
    """The most anonymous and shared memory of this process in the block, above that before, MB: `mb`."""
    found, ended = {"mb": 0.0}, threading.Event()
    before = _anonymous_mb()

    def look() -> None:
        while not ended.wait(EVERY):
            found["mb"] = max(found["mb"], _anonymous_mb() - before)

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield found
    finally:
        ended.set()
        watcher.join()
        found["mb"] = max(found["mb"], _anonymous_mb() - before)


def _anonymous_mb() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    kib = {key: value for key, _, value in (line.partition(":") for line in lines)}
    return sum(int(kib.get(key, "0 kB").split()[0]) for key in ("RssAnon", "RssShmem")) / 1024


def in_own_process(row: str, folder: Path, n: int) -> dict[str, float]:
    """`measure`, where no earlier step has left its memory."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(measure, (row, folder, n))


def exponent(sizes: tuple[int, ...], seconds: list[float]) -> float:
    """The slope of log seconds over log sizes, least squares."""
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])


def measured(row: str, folder: Path, runs: int) -> dict[str, Any]:
    """Medians at every number, and the exponents over all of them and over the last two."""
    sizes, cells = ROWS[row].sizes, []
    for n in ROWS[row].sizes:
        found = [in_own_process(row, folder, n) for _ in range(runs)]
        cells.append({key: statistics.median(each[key] for each in found) for key in found[0]})
        print(f"{row} {n}: {cells[-1]['seconds']:.3g} s, {cells[-1]['mb']:.0f} MB", flush=True)
    seconds = [cell["seconds"] for cell in cells]
    return {
        "sizes": sizes,
        "cells": cells,
        "exponent": exponent(sizes, seconds),
        "last": exponent(sizes[-2:], seconds[-2:]),
        "bar": ROWS[row].bar,
    }


def table(found: dict[str, dict[str, Any]]) -> str:
    """All rows in Markdown."""
    lines = [
        "| step | from | | | to | at most | exponent | last decade |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row, values in found.items():
        shown = [f"{cell['seconds']:.2g} s, {cell['mb']:.0f} MB" for cell in values["cells"]]
        bar = "" if values["bar"] is None else f"{values['bar']:g} s"
        lines.append(
            f"| {ROWS[row].name} | {values['sizes'][0]:,} | {' | '.join(shown)} | {bar} | "
            f"{values['exponent']:.2f} | {values['last']:.2f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--rows", nargs="+", choices=tuple(ROWS), default=list(ROWS))
    parser.add_argument("--runs", type=int, default=1)
    args = parser.parse_args()
    found = {}
    with tempfile.TemporaryDirectory() as name:
        for row in args.rows:
            found[row] = measured(row, Path(name), args.runs)
            args.output.write_text(json.dumps(found, indent=1))
    print(table(found))


if __name__ == "__main__":
    main()
