"""A scan that comes at a rate, followed: whether it is kept up with, and how old the picture is.

    python scripts/benchmarks/live.py --output live.json [--rate 200] [--count 6000] [--repeats 3]
        [--sources folder file]

Each row is a simulated scan of 64 x 64 pixels, brought by `ptycho replay` in a process of its own and followed here as
by `ptycho live`, up to the end of the scan and without the last reconstruction: patterns joined per second between the
first and the last, seconds from frame to picture (median
and 95 % of all frames, from when frame and position were both read), pictures, and processor seconds of the follower
per second. Medians of the repeats. The load average says what else the machine did.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from ptycho.core.files.atomic import atomic_path
from ptycho.core.formats.assembled import ScanParts
from ptycho.core.live.frame_store import FrameStore
from ptycho.core.live.intake import Intake
from ptycho.core.live.opening import open_source
from ptycho.workflows.front_door import Request
from ptycho.workflows.live.arrivals import LiveScan
from ptycho.workflows.live.following import Ends, LiveView, Shown

SOURCES = {"folder": "feed", "file": "feed.h5"}


def command(*words: str) -> list[str]:
    """A subcommand in a process of its own."""
    return [sys.executable, "-m", "ptycho", *words, "--quiet"]


def followed(scan: Path, source: str, rate: float, folder: Path) -> dict[str, float]:
    """One run: what was seen of it."""
    counts: list[tuple[float, int]] = []
    pictures = 0

    def show(shown: Shown) -> None:
        nonlocal pictures
        counts.append((time.monotonic(), shown.tally.joined))
        pictures = shown.number

    folder.mkdir()
    target = folder / SOURCES[source]
    with FrameStore(folder / "frames.raw") as store:
        intake = Intake(*open_source(str(target)), store)
        live_scan = LiveScan(ScanParts(like=scan, position_unit="px"), store, lambda: None)
        view = LiveView(live_scan, Request("pytorch", tell=lambda line: None), folder, show)
        words = ("replay", str(scan), "--to", str(target), "--rate", f"{rate:g}")
        with intake, subprocess.Popen(command(*words)) as replay:
            begun = time.process_time()
            view.follow(intake, Ends(idle=4.0))
            spent = time.process_time() - begun
            replay.wait()
    some = [(moment, count) for moment, count in counts if count]
    last = some[-1][1]
    first, end = some[0], next(one for one in some if one[1] == last)
    latency = view.latency
    assert latency is not None
    return {
        "joined": last,
        "joined_per_second": (last - first[1]) / (end[0] - first[0]),
        "latency_median_s": latency.median,
        "latency_95_s": latency.most,
        "pictures": pictures,
        "cpu_share": spent / (counts[-1][0] - first[0]),
        "load": os.getloadavg()[0],
    }


def row(source: str, options: argparse.Namespace, folder: Path, scan: Path) -> dict[str, Any]:
    """The medians of the repeats."""
    runs = [followed(scan, source, options.rate, folder / f"{source}_{k}") for k in range(options.repeats)]
    return {
        "source": source,
        "rate": options.rate,
        **{key: statistics.median(run[key] for run in runs) for key in runs[0]},
    }


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--rate", type=float, default=200.0)
    parser.add_argument("--count", type=int, default=6000, help="patterns, about")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--sources", nargs="+", choices=SOURCES, default=list(SOURCES))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        scan = folder / "scan.npz"
        words = ("simulate", "-o", str(scan), "--no-truth", "--count", str(options.count), "--seed", "4")
        subprocess.run(command(*words), check=True)
        rows = [row(source, options, folder, scan) for source in options.sources]
    for each in rows:
        print(
            " ".join(
                f"{key} {value:.3g}" if isinstance(value, float) else f"{key} {value}" for key, value in each.items()
            )
        )
    with atomic_path(options.output) as made:
        made.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
