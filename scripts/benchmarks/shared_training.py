"""A training that several processes share, in both backends: its losses beside those of one process, memory, seconds.

A scan is simulated and `ptycho_train` typed for each backend and each number of processes on this machine
(docs/several_processes.md), `--repeat` times in turn. Of every process the anonymous memory (RssAnon) is watched, that
of its imports included; the table has the one that needs most. Seconds are those from the end of the first epoch to
that of the last, so without the making of graphs, by the clock and of all processors; medians over the runs. How far
losses and weights of several are off is relative to those of one; with the plain steps of `--optimizer sgd` it is
rounding that is seen.

    python scripts/benchmarks/shared_training.py --output shared_training.json [--processes 1 2] [--backends tensorflow]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from large_scan import EVERY, memory, processor_seconds, table

from ptycho.core.archive import load_archive
from ptycho.core.simulation.plan import make_scan
from ptycho.raw_data import RawData

BEGIN = "from ptycho.cli.train import train_main; raise SystemExit(train_main())"
Row = dict[str, Any]


def trained(scan: Path, backend: str, processes: int, args: argparse.Namespace, output: Path) -> Row:
    """One training by the command: the losses of its epochs, the weights, seconds per epoch, and the largest peak."""
    asked = {
        **{"train-data": scan, "backend": backend, "output-dir": output, "devices": processes, "nepochs": args.epochs},
        **{"n-groups": args.groups, "batch-size": args.batch_size, "architecture": args.architecture},
        **{"gridsize": args.gridsize, "optimizer": "sgd", "learning-rate": 0.05},
        **{"find-probe": 0, "memory-map": "always"},
    }
    line = [sys.executable, "-c", BEGIN, *(word for name, value in asked.items() for word in (f"--{name}", str(value)))]
    process = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    peaks: dict[int, float] = {}
    done = threading.Event()

    def watch() -> None:
        listed = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        while not done.wait(EVERY) and listed.exists():
            for one in (process.pid, *map(int, listed.read_text().split())):
                if Path(f"/proc/{one}/status").exists():
                    peaks[one] = max(peaks.get(one, 0.0), memory(one)["RssAnon"])

    watcher = threading.Thread(target=watch)
    watcher.start()
    times, spent, said = [], [], ""
    assert process.stderr is not None
    for said in process.stderr:
        if " epoch " in said:
            times.append(time.perf_counter())
            spent.append(sum(map(processor_seconds, peaks)))
    done.set()
    watcher.join()
    if process.wait():
        raise SystemExit(f"{backend}, {processes} processes: the run failed: {said}")
    [metrics] = output.glob("logs/*/metrics.csv")
    losses = np.loadtxt(metrics, delimiter=",", skiprows=1, usecols=2)
    weights = np.concatenate([values.ravel() for _, values in sorted(load_archive(output).weights.items())])
    return {
        "losses": losses,
        "weights": weights,
        "s per epoch": (times[-1] - times[0]) / (args.epochs - 1),
        "CPU s per epoch": (spent[-1] - spent[0]) / (args.epochs - 1),
        "MiB": max(peaks.values()),
    }


def compared(scan: Path, args: argparse.Namespace, folder: Path) -> list[Row]:
    """A row for every backend and number of processes."""
    rows = []
    for backend in args.backends:
        runs: dict[int, list[Row]] = {size: [] for size in args.processes}
        for turn in range(args.repeat):
            for size in args.processes:
                runs[size].append(trained(scan, backend, size, args, folder / f"{backend}_{size}_{turn}"))
        one = runs[args.processes[0]][0]
        for size, found in runs.items():
            off = (
                float(np.linalg.norm(found[0][name] - one[name]) / np.linalg.norm(one[name]))
                for name in ("losses", "weights")
            )
            rows.append(
                {
                    "backend": backend,
                    "processes": size,
                    "loss of the last epoch": f"{found[0]['losses'][-1]:.7g}",
                    **dict(zip(("losses off", "weights off"), off, strict=True)),
                    "most MiB of a process": max(run["MiB"] for run in found),
                    **{
                        name: statistics.median(run[name] for run in found)
                        for name in ("s per epoch", "CPU s per epoch")
                    },
                }
            )
    return rows


def main() -> None:
    """Simulate, train and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="JSON file")
    parser.add_argument("--backends", nargs="+", default=["tensorflow", "pytorch"])
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--groups", type=int, default=160, help="of every epoch")
    parser.add_argument("--batch_size", type=int, default=33, help="groups of all processes together")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--architecture", default="cnn")
    parser.add_argument("--gridsize", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        made = make_scan("lines", 160, N=64, step=7.0, jitter=1.0, photons=1e6, seed=3)
        scan = Path(folder) / "scan.npz"
        plain = RawData(made.xcoords, made.ycoords, None, None, made.diffraction, made.probe, units="amplitude")
        plain.to_file(scan)
        print(f"{len(plain)} patterns of 64 x 64, {os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}")
        rows = compared(scan, args, Path(folder))
    args.output.write_text(json.dumps({"settings": vars(args), "rows": rows}, indent=1, default=str))
    print(table(rows))


if __name__ == "__main__":
    main()
