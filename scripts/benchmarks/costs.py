"""What the chain of a backend costs: training groups/s, inference patches/s, and the whole inference command.

Medians of some runs, on a simulated scan of 576 patterns, each command in a process of its own, so that its peak memory
is its own.

    python scripts/benchmarks/costs.py --output costs.json [--backend tensorflow [--use_xla]]
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parents[1]
PATTERNS = {
    "training groups/s": r"train_loss [\d.e-]+, (\d+) groups/s",
    "inference patches/s": r"\((\d+) patches/s\)",
    "stitching s": r"stitching: ([\d.]+) s",
}


def run(command: str) -> tuple[str, float, float]:
    """Run a script; return what it logged, its seconds and its peak memory in MB."""
    script, *arguments = shlex.split(command)
    line = [sys.executable, str(SCRIPTS / script), *arguments]
    begun = time.perf_counter()
    process = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    log = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(log)
    return log, time.perf_counter() - begun, usage.ru_maxrss / 1024


def found(log: str, name: str) -> float:
    """The median of a figure in a log; of the epochs of a training without the first, which warms up.

    A pass on one canvas stitches nothing: 0.
    """
    values = [float(value) for value in re.findall(PATTERNS[name], log)]
    return statistics.median(values[1:] or values or [0.0])


def measure(folder: Path, gridsize: int, epochs: int, backend: str, use_xla: bool) -> dict[str, float]:
    """Train and reconstruct once."""
    common = "--backend pytorch --torch-accelerator cpu" if backend == "pytorch" else "--backend tensorflow"
    common += " --use_xla" if use_xla else ""
    scan, model = folder / "scan.npz", folder / f"model{gridsize}"
    size = f"--gridsize {gridsize} --n_groups 576 --nepochs {epochs}"
    log, train_seconds, train_memory = run(
        f"training/train.py {common} {size} --train_data_file {scan} --output_dir {model}"
    )
    row = {"training groups/s": found(log, "training groups/s"), "training MB": train_memory}
    log, seconds, memory = run(
        f"inference/inference.py {common} --no-refine --model_path {model} --test_data {scan} "
        f"--output_dir {folder / 'result'}"
    )
    row |= {name: found(log, name) for name in ("inference patches/s", "stitching s")}
    return row | {"inference command s": seconds, "inference command MB": memory, "training command s": train_seconds}


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--backend", choices=("pytorch", "tensorflow"), default="pytorch")
    parser.add_argument("--use_xla", action="store_true")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=4)
    args = parser.parse_args()
    table = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run(f"simulation/simulate.py --output {folder / 'scan.npz'}")
        for gridsize in (1, 2):
            rows = [measure(folder, gridsize, args.epochs, args.backend, args.use_xla) for _ in range(args.runs)]
            table[f"gridsize {gridsize}"] = {key: statistics.median(row[key] for row in rows) for key in rows[0]}
    args.output.write_text(json.dumps(table, indent=1))
    print("| | gridsize 1 | gridsize 2 |\n| --- | --- | --- |")
    for key in table["gridsize 1"]:
        print(f"| {key} | {table['gridsize 1'][key]:.1f} | {table['gridsize 2'][key]:.1f} |")


if __name__ == "__main__":
    main()
