"""Error bars against the truth: how many pixels lie within them, and how near the errors come to what is possible.

Simulated scans of three kinds of object, three doses, the probe known and refined. Pixels are those of the box of the
scan positions, after global phase, phase plane and scale are taken out of the difference from the truth. The least
error is that of Cramer and Rao (arXiv:2003.05475): the trace of the inverse of the Gauss-Newton operator, by refining
amplitudes with Gaussian noise from the truth to the end, at a dose where everything is linear; it goes as the root of
the dose.

    python scripts/benchmarks/error_bars.py [--kinds lines dead_leaves siemens_star] [--photons 1e4 1e6 1e8]
        [--iterations 0 400] [--json error_bars.json] [--plot docs/images/coverage.png]

An iteration count of 0 is what `ptycho reconstruct` does when nobody says it. A row takes some ten seconds.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from quality_scores import LEVELS, errors_of, scanned_box, within_bars

import ptycho
from ptycho.config.config import InferenceConfig
from ptycho.core.files.atomic import atomic_path
from ptycho.core.geometry import ObjectFrame
from ptycho.core.physics.diffraction import as_modes, diffract
from ptycho.core.physics.patches import extract_rounded
from ptycho.core.reconstruction import Reconstruction
from ptycho.figures.drawing import save_figure
from ptycho.raw_data import RawData
from ptycho.workflows.backend import BackendName
from ptycho.workflows.backend_selector import backend_named
from ptycho.workflows.run_options import RunOptions

__all__ = ["Case", "coverage_plot", "least_error", "measure"]

Row = dict[str, Any]

N, SIDE, STEP = 32, 128, 4.0
"""576 patterns, whose neighbours overlap by 63 %."""
LINEAR = 1e8
"""Photons per pattern at which the least error is worked out."""
DRAWS, TO_THE_END = 3, 400


@dataclass(frozen=True)
class Case:
    """A scan, and how it is reconstructed."""

    kind: str
    photons: float
    refine_probe: bool
    iterations: int | None = None

    def scan(self, photons: float | None = None, noise: bool = True) -> RawData:
        """As it is recorded."""
        dose = photons or self.photons
        return ptycho.simulate(self.kind, photons=dose, N=N, shape=(SIDE, SIDE), step=STEP, seed=1, noise=noise)


def main() -> None:
    """Measure, print the table, and write what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", nargs="+", default=["lines", "dead_leaves", "siemens_star"])
    parser.add_argument("--photons", nargs="+", type=float, default=[1e4, 1e6, 1e8])
    parser.add_argument("--iterations", nargs="+", type=int, default=[0], help="0: what is done when nobody says it")
    parser.add_argument("--json", type=Path, help="file for the rows")
    parser.add_argument("--plot", type=Path, help="PNG file for the coverage at all levels")
    args = parser.parse_args()
    logging.disable(logging.WARNING)
    rows, bounds = [], {}
    print(HEAD, flush=True)
    for kind in args.kinds:
        for refine_probe in (False, True):
            bounds[kind, refine_probe] = least_error(Case(kind, LINEAR, refine_probe))
            for photons in args.photons:
                for count in args.iterations:
                    row = measure(Case(kind, photons, refine_probe, count or None), bounds[kind, refine_probe])
                    rows.append(row)
                    print(line_of(row), flush=True)
    if args.json is not None:
        with atomic_path(args.json) as temporary:
            temporary.write_text(json.dumps(rows, indent=1))
    if args.plot is not None:
        save_figure(coverage_plot(rows), args.plot)


COLUMNS = (
    *("object", "photons", "probe", "iterations", "68 %, amplitude", "68 %, phase", "95 %, amplitude", "95 %, phase"),
    *("error / least, amplitude", "phase", "way left", "misfit", "holds", "reconstruction s", "bars s"),
)
HEAD = f"| {' | '.join(COLUMNS)} |\n|{len(COLUMNS) * ' --- |'}"


def line_of(row: Row) -> str:
    """A row of the table."""
    within, share = row["within"], "{:.1f}".format
    cells = [
        *(row["kind"], f"{row['photons']:.0e}".replace("e+0", "e"), "refined" if row["refine_probe"] else "known"),
        f"{row['iterations']}{'' if row['asked'] is None else ' (asked)'}",
        *(share(100 * within[name][str(level)]) for level in (0.6827, 0.95) for name in ("amplitude", "phase")),
        *(f"{row['error'][name] / row['least'][name]:.3f}" for name in ("amplitude", "phase")),
        *(f"{row['unfinished']:.2f}", f"{row['misfit']:.3f}", "yes" if row["holds"] else "no"),
        *(f"{row['seconds']:.1f}", f"{row['bars_seconds']:.1f}"),
    ]
    return "| " + " | ".join(cells) + " |"


def measure(case: Case, least: tuple[float, float]) -> Row:
    """Reconstruct with error bars, and hold both against the truth.

    Args:
        case: what.
        least: error of amplitude and of phase at `LINEAR` photons, rms over the box.
    """
    scan = case.scan()
    begun = time.perf_counter()
    settings: dict[str, Any] = {} if case.iterations is None else {"iterations": case.iterations}
    found = ptycho.reconstruct(scan, uncertainty=True, refine_probe=case.refine_probe, modes=None, **settings)
    seconds, known = time.perf_counter() - begun, found.uncertainty
    assert known is not None
    errors = errors_of(found, scan, scanned_box(scan))
    scale = np.sqrt(LINEAR / case.photons)
    return {
        **{"kind": case.kind, "photons": case.photons, "refine_probe": case.refine_probe, "asked": case.iterations},
        "iterations": len(found.error_history) - 1,
        "within": within_bars(found, scan),
        "error": {name: float(np.sqrt(np.mean(error**2))) for name, error in errors.items()},
        "least": {name: scale * one for name, one in zip(errors, least, strict=True)},
        "unfinished": known.unfinished,
        "misfit": known.misfit,
        "holds": known.holds,
        "seconds": seconds - found.timings["uncertainty"],
        "bars_seconds": found.timings["uncertainty"],
    }


def least_error(case: Case) -> tuple[float, float]:
    """Rms error of amplitude and of phase in the box at the bound of Cramer and Rao, at `LINEAR` photons.

    An amplitude of many counts has the variance 1/4, so that its least squares are the Gauss-Newton operator's answer.
    """
    scan = case.scan(LINEAR, noise=False)
    truth, box = scan.objectGuess, scanned_box(scan)
    assert truth is not None
    probe = as_modes(scan.probeGuess).astype(np.complex128)
    patches, dx, dy = extract_rounded(truth.astype(np.complex128), scan.xcoords, scan.ycoords, N)
    amplitude = np.sqrt(diffract(probe, patches, dx, dy))
    start = solution(truth, scan)
    squares = np.zeros(2)
    for seed in range(DRAWS):
        noise = np.random.default_rng(seed).normal(0, 0.5, amplitude.shape)
        noisy = scan.replaced(diff3d=(amplitude + noise).astype(np.float32), units="amplitude")
        made = refined(noisy, start, case.refine_probe)
        squares += [np.mean(error**2) / DRAWS for error in errors_of(made, scan, box).values()]
    along, across = np.sqrt(squares)
    return float(along), float(across)


def solution(truth: NDArray[Any], scan: RawData) -> Reconstruction:
    """The truth as a result, to begin with."""
    light = np.ones(truth.shape, np.float32)
    return Reconstruction(
        object=truth.astype(np.complex64),
        coverage=light,
        probe=as_modes(scan.probeGuess).astype(np.complex64),
        xcoords=scan.xcoords,
        ycoords=scan.ycoords,
        frame=ObjectFrame(truth.shape[0], truth.shape[1], 0, 0),
        backend="truth",
        method="refined",
        subpixel="fourier",
        network_object=None,
        error_history=(),
        timings={},
        synchronised=False,
        agreement=(float("nan"), float("nan")),
    )


def refined(scan: RawData, start: Reconstruction, refine_probe: bool) -> Reconstruction:
    """From a start to the end."""
    name: BackendName = "pytorch"
    backend = backend_named(name)
    refine = partial(backend.refine, config=InferenceConfig(backend=name), run=backend.settled(RunOptions()))
    found = refine(scan, start, TO_THE_END, refine_probe=refine_probe, likelihood="amplitude", tolerance=0.0)
    return replace(start, object=found.object)


def coverage_plot(rows: list[Row]) -> Figure:
    """Share of the pixels within the intervals of each probability, a line of points for every reconstruction."""
    figure = Figure(figsize=(9.0, 4.4), layout="constrained")
    for axes, name in zip(figure.subplots(1, 2, sharey=True), ("amplitude", "phase"), strict=True):
        axes.plot([50, 100], [50, 100], color="0.6", linewidth=1)
        for row in rows:
            shares = [100 * row["within"][name][str(level)] for level in LEVELS]
            colour, marker = ("C0", "o") if row["holds"] else ("C3", "x")
            axes.plot([100 * level for level in LEVELS], shares, marker, color=colour, markersize=4, alpha=0.6)
        axes.set(xlabel="intervals of this probability (%)", title=f"{name.capitalize()}: {len(rows)} reconstructions")
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel("pixels that lie within (%)")
    for holds, label, colour, marker in ((True, "bars that hold", "C0", "o"), (False, "bars that say no", "C3", "x")):
        if any(row["holds"] == holds for row in rows):
            figure.axes[0].plot([], [], marker, color=colour, label=label)
    figure.axes[0].legend(frameon=False, fontsize=9)
    return figure


if __name__ == "__main__":
    main()
