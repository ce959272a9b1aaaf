"""The one command on scans, no flag: seconds of the whole program, and how good the object is.

    python scripts/benchmarks/one_command.py --output one_command.json [--folder FOLDER] [--repeats 3] SCAN [SCAN ...]
        [--backends pytorch tensorflow] [--without-probe]

Each row is `ptycho reconstruct SCAN --backend B` in a process of its own: the median of the wall seconds with the start
of the program, the relative Fourier error of the result, and where the scan holds the true object (`--truth`) the error
of the complex object over the box of the scan positions with the scale left in. `--without-probe` takes the probe out
of the file first.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import ptycho
from ptycho.core.files.atomic import atomic_path


def prepared(scan: Path, folder: Path, without_probe: bool) -> Path:
    """The scan to reconstruct: the file, or a copy of it that has no probe."""
    if not without_probe:
        return scan
    path = folder / f"{scan.stem}_no_probe.npz"
    with np.load(scan, allow_pickle=False) as file:
        np.savez(path, **{key: file[key] for key in file.files if key != "probeGuess"})
    return path


def timed(scan: Path, backend: str, result: Path) -> float:
    """Seconds of the whole program."""
    command = [sys.executable, "-m", "ptycho", "reconstruct", str(scan), "--backend", backend, "-o", str(result)]
    begun = time.perf_counter()
    subprocess.run([*command, "--overwrite", "--quiet"], check=True)
    return time.perf_counter() - begun


def row(scan: Path, backend: str, repeats: int, folder: Path, truth: bool) -> dict[str, Any]:
    """One row of the table."""
    result = folder / f"{scan.stem}_{backend}"
    seconds = [timed(scan, backend, result) for _ in range(repeats)]
    found = ptycho.load_reconstruction(result)
    assert found.trust is not None
    made = {
        "scan": scan.name,
        "backend": backend,
        "seconds": statistics.median(seconds),
        "all_seconds": seconds,
        "relative_fourier_error": found.trust.fourier_error,
        "modes": len(found.probe),
        "trust": found.trust.grade,
    }
    if truth:
        made["error"] = ptycho.compare(found, scan).score.complex_nrmse_unscaled
    return made


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("scans", nargs="+", type=Path)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--folder", type=Path, help="keep the results there")
    parser.add_argument("--backends", nargs="+", default=["pytorch", "tensorflow"])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--without-probe", action="store_true")
    parser.add_argument("--truth", action="store_true", help="objectGuess of the scans is the true object")
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) if options.folder is None else options.folder
        folder.mkdir(parents=True, exist_ok=True)
        for scan in options.scans:
            for backend in options.backends:
                path = prepared(scan, folder, options.without_probe)
                rows.append(row(path, backend, options.repeats, folder, options.truth))
                sys.stdout.write(json.dumps(rows[-1]) + "\n")
    with atomic_path(options.output) as target:
        target.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
