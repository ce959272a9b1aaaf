"""Seconds to quality of the refinement, from a flat object, on a scan whose file holds the truth.

    python scripts/benchmarks/refinement.py SCAN.npz [--truth object_true] [--backends pytorch tensorflow]
        [--marks 1 2 3 5 7 10 20 40] [--repeats 3] [--refine_probe] [--likelihood poisson] [--holdout 0.05]
        [--use_xla] [--threads 2] [--peer PEER.json] [--json OUT.json]

One row per number of iterations and backend: the seconds (median of the repeats, in which the backends take turns, so
that they share whatever else the machine does), the relative likelihood, and the complex error of the object within the
box of the scan positions after shift, phase plane and scale are removed. `--peer` sets another program's curve beside
ours: a JSON file with a list `rows` of objects that hold `s` (seconds) and `complex_nrmse`; each of its rows then shows
how much sooner we reached the same error.
"""

import argparse
import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ptycho.core.files.atomic import atomic_path
from ptycho.core.geometry import ObjectFrame
from ptycho.core.quality.score import score
from ptycho.core.refinement.refinement import Refinement
from ptycho.raw_data import RawData

Row = dict[str, Any]


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


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scan", type=Path)
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
    scan = RawData.from_file(arguments.scan)
    with np.load(arguments.scan, allow_pickle=False) as file:
        truth = file[arguments.truth]
    backends = {name: refiner(name, arguments.threads, arguments.use_xla) for name in arguments.backends}
    settings = {key: getattr(arguments, key) for key in ("refine_probe", "likelihood", "holdout")}
    print(f"{'backend':12s} {'iter':>4s} {'seconds':>8s} {'error':>10s} {'NRMSE':>8s}")
    rows = measure(scan, truth, backends, arguments.marks, arguments.repeats, **settings)
    if arguments.peer is not None:
        compare(rows, json.loads(arguments.peer.read_text())["rows"])
    if arguments.json is not None:
        with atomic_path(arguments.json) as temporary:
            temporary.write_text(json.dumps({"scan": arguments.scan.name, **settings, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
