"""Error bars of a network's pass against the truth: how many pixels lie within them.

Simulated scans of three kinds of object and three doses, 196 patterns of 64 x 64 at steps of 8 pixels, the probe known,
one pass of the package's weights without refinement. Shares are of the pixels in the box of the scan positions, after
global phase, phase plane and scale are taken out of the difference from the truth. The time is held against that of
`ptycho reconstruct --uncertainty` of the scan without its error bars.

    python scripts/benchmarks/pass_error_bars.py [--kinds lines dead_leaves siemens_star] [--photons 1e4 1e6 1e8]
        [--seeds 1 2] [--json pass_error_bars.json]

A row takes some ten seconds.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from pathlib import Path
from typing import Any

import numpy as np
from quality_scores import errors_of, scanned_box, target_frame

import ptycho
from ptycho.core.files.atomic import atomic_path
from ptycho.core.geometry import reframe
from ptycho.core.reconstruction import Reconstruction
from ptycho.networks.universal import UNIVERSAL
from ptycho.raw_data import RawData

__all__ = ["COLUMNS", "line_of", "measure", "within_both"]

Row = dict[str, Any]

N, SIDE, STEP = 64, 176, 8.0
"""196 patterns."""
ASKED = {"68": (65.0, 71.0), "95": (93.0, 97.0)}
"""Per cent of the pixels that are to lie within the bar, and within the wide one."""
COLUMNS = (
    *("object", "photons", "scan", "68 %, amplitude", "phase", "95 %, amplitude", "phase", "wide, amplitude", "phase"),
    *("error, amplitude", "phase (rad)", "reference moves", "misfit", "holds", "pass s", "bars s", "reconstruction s"),
)


def main() -> None:
    """Measure, print the table, and write what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", nargs="+", default=["lines", "dead_leaves", "siemens_star"])
    parser.add_argument("--photons", nargs="+", type=float, default=[1e4, 1e6, 1e8])
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2], help="of the object and the noise of each scan")
    parser.add_argument("--json", type=Path, help="file for the rows")
    args = parser.parse_args()
    logging.disable(logging.WARNING)
    print(f"| {' | '.join(COLUMNS)} |\n|{len(COLUMNS) * ' --- |'}", flush=True)
    rows = []
    for kind in args.kinds:
        for photons in args.photons:
            for seed in args.seeds:
                scan = ptycho.simulate(kind, photons=photons, N=N, shape=(SIDE, SIDE), step=STEP, seed=seed)
                rows.append({"kind": kind, "photons": photons, "seed": seed, **measure(scan)})
                print(line_of(rows[-1]), flush=True)
    good, count = (sum(counted) for counted in zip(*map(_hits, rows), strict=True))
    print(f"\n{good} of {count} shares within what is asked for")
    if args.json is not None:
        with atomic_path(args.json) as temporary:
            temporary.write_text(json.dumps(rows, indent=1))


def measure(scan: RawData) -> Row:
    """One pass with error bars, held against the truth; a reconstruction for its time."""
    found = ptycho.infer(UNIVERSAL, scan, uncertainty=True)
    begun = time.perf_counter()
    other = ptycho.reconstruct(scan, refine_probe=False, modes=None, uncertainty=True)
    seconds, known = time.perf_counter() - begun - other.timings["uncertainty"], found.uncertainty
    assert known is not None
    errors = errors_of(found, scan, scanned_box(scan))
    return {
        "within": within_both(found, scan),
        "wide": {"amplitude": known.wide_amplitude, "phase": known.wide_phase},
        "error": {name: float(np.sqrt(np.mean(error**2))) for name, error in errors.items()},
        **{name: getattr(known, name) for name in ("unfinished", "misfit", "holds")},
        "pass_seconds": found.timings["inference"],
        "bars_seconds": found.timings["uncertainty"],
        "seconds": seconds,
    }


def within_both(found: Reconstruction, scan: RawData) -> dict[str, dict[str, float]]:
    """Per cent of the pixels of the box whose error of amplitude, of phase, is within the bar, and the wide one."""
    assert found.uncertainty is not None
    box, frame, shares = scanned_box(scan), target_frame(scan), {}
    for name, error in errors_of(found, scan, box).items():
        bars = reframe(getattr(found.uncertainty, name), found.frame, frame, np.nan)[box]
        wide = getattr(found.uncertainty, f"wide_{name}")
        shares[name] = {key: float(100 * np.mean(abs(error) < k * bars)) for key, k in (("68", 1.0), ("95", wide))}
    return shares


def line_of(row: Row) -> str:
    """A row of the table."""
    both = ("amplitude", "phase")
    cells = [
        *(row["kind"].replace("_", " "), f"{row['photons']:.0e}".replace("e+0", "e"), str(row["seed"])),
        *(f"{row['within'][name][level]:.1f}" for level in ASKED for name in both),
        *(f"{row['wide'][name]:.2f}" for name in both),
        *(f"{row['error'][name]:.2g}" for name in both),
        *(f"{row['unfinished']:.2f}", f"{row['misfit']:.3f}", "yes" if row["holds"] else "no"),
        *(f"{row[name]:.1f}" for name in ("pass_seconds", "bars_seconds", "seconds")),
    ]
    return "| " + " | ".join(cells) + " |"


def _hits(row: Row) -> tuple[int, int]:
    """How many shares are within what is asked for, and of how many."""
    shares = [(each[level], *limits) for each in row["within"].values() for level, limits in ASKED.items()]
    return sum(least <= share <= most for share, least, most in shares), len(shares)


if __name__ == "__main__":
    main()
