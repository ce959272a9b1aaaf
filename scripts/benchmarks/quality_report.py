"""The report of the quality benchmark: Markdown tables and pictures from the cells that are there."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import quality_figures
from quality_cases import CASES, Case
from quality_methods import METHODS

from ptycho.core.files.atomic import atomic_path

__all__ = ["seconds_to_quality", "seconds_until", "write_report"]

Row = dict[str, Any]
Table = dict[tuple[str, str], list[Row]]
"""The runs of each case and method."""

PEER_EPOCHS = (30, 80, 120, 180)
HARDEST = 3
"""Cases that get pictures beside the base case and the real scans."""
NONE = "–"

ABOUT = """\
* `flat`: an object without structure, the zero of the scale. `cnn`, `unrolled`: one pass of a network (gridsize 2) that
  was trained on other objects of the same kind, on real scans on the scan itself, with the probe that 60 iterations of
  refinement found on it (their time counts as training); `unrolled-1`: gridsize 1.
* `refine`: refinement of a flat object; `refine-pass`: of the network's object (of `unrolled-1` up to 40 %
  overlap and 1e4 photons, else of `unrolled`); `refine-pass-noise`: the same, stopped where photon noise is all
  that is left.
* `universal`: one pass of the network that comes with the package, which never saw such a scan.
* `reconstruct`: `ptycho.reconstruct` with nothing set, which finds out for itself what moves, and when to stop;
  `reconstruct-prior`: with `object_prior="network"`.
* `pty-chi`: its LSQML engine, batches of 64, from a flat object; `pty-chi-bh`: its bilinear Hessian, conjugate
  gradients on all patterns at once.
* Seconds leave out imports, reading and scoring; a refined pass includes the pass; training is listed apart. Iterative
  methods run for a fixed time or number of iterations, refinement until it stops by itself.
"""


def write_report(rows: list[Row], folder: Path) -> Path:
    """Write `report.md` and its pictures into a folder, from the lines of its cache; return the path."""
    settings, *cells = rows
    table: Table = {}
    for cell in cells:
        table.setdefault((cell["case"], cell["method"]), []).append(cell)
    cases = [case for case in CASES if any(name == case.name for name, _ in table)]
    known = {case.name for case in CASES}
    cases += [
        Case(name, kind=name, pair=True) for name in dict.fromkeys(name for name, _ in table) if name not in known
    ]
    pictures = [quality_figures.save_curves(cases, table, folder / "curves.png")]
    for case in pictured_cases(cases, table):
        pictures += quality_figures.save_objects(case, table, folder)
    parts = [
        "# Quality: networks, refinement and pty-chi side by side\n",
        ABOUT,
        f"Settings: `{json.dumps(settings['settings'])}`; figures are medians of the runs of a case.\n",
        *tables(cases, table),
        *(f"![{path.stem}]({path.name})\n" for path in pictures),
    ]
    with atomic_path(folder / "report.md") as path:
        path.write_text("\n".join(parts))
    return folder / "report.md"


def pictured_cases(cases: Sequence[Case], table: Table) -> list[Case]:
    """The base case, those whose best object is the worst, and the real scans."""

    def best(case: Case) -> float:
        errors = (figure(table, case, method, "complex_nrmse") for method in METHODS if method != "flat")
        return min((error for error in errors if error is not None), default=-math.inf)

    ours = (case for case in cases if not (case.real or case.pair or case.name == "base"))
    hard = sorted(ours, key=best, reverse=True)[:HARDEST]
    return [case for case in cases if case.name == "base" or case.real or case in hard]


def median(values: Sequence[float | None]) -> float | None:
    """The median of what is there."""
    there = [value for value in values if value is not None]
    return statistics.median(there) if there else None


def figure(table: Table, case: Case, method: str, name: str) -> float | None:
    """The median over the runs of a figure of merit."""
    return median([row["figures"].get(name) for row in table.get((case.name, method), [])])


def of_cell(table: Table, case: Case, method: str, name: str) -> float | None:
    """The median over the runs of a number of the cells themselves."""
    return median([row[name] for row in table.get((case.name, method), [])])


def tables(cases: Sequence[Case], table: Table) -> list[str]:
    """All tables, with their headings."""
    simulated = [case for case in cases if not case.real]

    def pair(first: str, second: str, digits: int) -> Callable[[Case, str], str]:
        return lambda case, method: " / ".join(
            number(figure(table, case, method, name), digits) for name in (first, second)
        )

    def one(name: str, digits: int) -> Callable[[Case, str], str]:
        return lambda case, method: number(figure(table, case, method, name), digits)

    def error(case: Case, method: str) -> str:
        value = figure(table, case, method, "fourier_error" if case.real else "complex_nrmse")
        return number(value, 4)

    def ranges(case: Case) -> str:
        one_of = next(rows[0] for (name, _), rows in table.items() if name == case.name)["figures"]
        return f"{case.name} ({number(one_of.get('amplitude_range'), 2)}; {number(one_of.get('phase_range'), 2)} rad)"

    return [
        "## Relative error\n\nNRMSE of the complex object; relative Fourier error of the patterns for real scans.\n",
        grid(cases, table, error, best=True),
        "## SSIM, amplitude / phase\n",
        grid(simulated, table, pair("amplitude_ssim", "phase_ssim", 3)),
        "## PSNR in dB, amplitude / phase\n\nData range of amplitude and phase in brackets.\n",
        grid(simulated, table, pair("amplitude_psnr", "phase_psnr", 1), label=ranges),
        "## Resolution\n\nFourier ring correlation with the truth above 1/2 up to this frequency, cycles per pixel\n"
        "(not looking below 0.05, where slow phases are the last to converge).\n",
        grid(simulated, table, one("frc50_mid", 3)),
        "## Deviance over that of photon noise\n\n1 for a model that explains the data, below where noise is fitted.\n",
        grid(cases, table, lambda case, method: significant(figure(table, case, method, "deviance_ratio"))),
        "## Seconds\n",
        grid(cases, table, lambda case, method: number(of_cell(table, case, method, "seconds"), 2)),
        "## Peak memory, MB\n\nBeyond libraries and data in memory.\n",
        grid(cases, table, lambda case, method: number(of_cell(table, case, method, "peak_mb"), 0)),
        "## Error bars\n\nPixels whose error is within them, amplitude / phase, of `reconstruct`: 68 and 95 %"
        " are what they\npromise where they say that they hold.\n",
        error_bars(cases, table),
        "## Training\n",
        training(cases, table),
        "## Seconds to the quality of pty-chi\n\nSeconds in which a refinement reaches the error that pty-chi has after"
        " some epochs (between two looks the\nlogarithm of the error is taken as linear), and how many times sooner.\n",
        to_quality(cases, table),
    ]


def number(value: float | None, digits: int) -> str:
    """A number, or a dash."""
    return NONE if value is None else f"{value:.{digits}f}"


def significant(value: float | None) -> str:
    """Three significant digits, or a dash."""
    return NONE if value is None else f"{value:.3g}"


def grid(
    cases: Sequence[Case],
    table: Table,
    text: Callable[[Case, str], str],
    *,
    best: bool = False,
    label: Callable[[Case], str] = lambda case: case.name,
) -> str:
    """Cases down, methods across; with `best` the smallest number of a row is bold."""
    methods = [method for method in METHODS if any((case.name, method) in table for case in cases)]
    lines = [["", *methods], ["---"] * (len(methods) + 1)]
    for case in cases:
        cells = [text(case, method) for method in methods]
        smallest = min((cell for cell in cells if cell != NONE), key=float, default=None) if best else None
        lines.append([label(case), *(f"**{cell}**" if cell == smallest else cell for cell in cells)])
    return markdown(lines)


def markdown(lines: Sequence[Sequence[str]]) -> str:
    """Cells as a Markdown table."""
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def error_bars(cases: Sequence[Case], table: Table) -> str:
    """What the error bars promise and what they hold, a line for each case that has some; medians over its runs."""
    lines = [["", "68 %", "95 %", "hold", "seconds"], ["---"] * 5]
    for case in cases:
        rows = [row for row in table.get((case.name, "reconstruct"), []) if "bars" in row]
        if not rows:
            continue
        shares = [
            " / ".join(
                number(median([100 * row["bars"][name][level] for row in rows]), 1) for name in ("amplitude", "phase")
            )
            for level in ("0.6827", "0.95")
        ]
        hold = ", ".join(dict.fromkeys("yes" if row["bars_hold"] else "no" for row in rows))
        lines.append([case.name, *shares, hold, number(median([row["bars_seconds"] for row in rows]), 1)])
    return markdown(lines)


def training(cases: Sequence[Case], table: Table) -> str:
    """What was trained, for how long."""
    lines = [["object", "network", "patterns", "epochs", "seconds"], ["---"] * 5]
    seen = set()
    for case in cases:
        for method in METHODS:
            told = next((row["training"] for row in table.get((case.name, method), []) if "training" in row), None)
            if told is None or (case.kind, method) in seen:
                continue
            seen.add((case.kind, method))
            lines.append([case.kind, method, str(told["patterns"]), str(told["epochs"]), f"{told['seconds']:.0f}"])
    return markdown(lines)


def seconds_until(curve: Sequence[Sequence[float]], error: float) -> float | None:
    """When a curve of (step, seconds, error) reaches an error; None if it never does."""
    before: Sequence[float] | None = None
    for point in curve:
        if point[2] <= error:
            if before is None or before[2] == math.inf or not point[2] > 0:
                return point[1]
            part = math.log(before[2] / error) / math.log(before[2] / point[2])
            return before[1] + part * (point[1] - before[1])
        before = point
    return None


def seconds_to_quality(table: Table, case: Case, method: str, epoch: int) -> tuple[float, float, float | None] | None:
    """Error and seconds of the peer after an epoch, and seconds in which a method reaches it; None without the epoch.

    Medians over the runs; the third is None where a run never reaches it.
    """
    errors, peer, ours = [], [], []
    for row in table.get((case.name, "pty-chi"), []):
        point = next((point for point in row["curve"] if point[0] == epoch), None)
        other = next((other for other in table.get((case.name, method), []) if other["run"] == row["run"]), None)
        if point is None or other is None:
            continue
        errors.append(point[2])
        peer.append(point[1])
        ours.append(seconds_until(other["curve"], point[2]))
    if not errors:
        return None
    reached = [seconds for seconds in ours if seconds is not None]
    whole = len(reached) == len(ours)
    return statistics.median(errors), statistics.median(peer), statistics.median(reached) if whole else None


def to_quality(cases: Sequence[Case], table: Table) -> str:
    """One line per case and epoch of the peer."""
    lines = [["", "epoch", "error", "pty-chi", "refine", "times sooner", "refine-pass", "times sooner"], ["---"] * 8]
    for case in cases:
        for epoch in PEER_EPOCHS:
            found = {method: seconds_to_quality(table, case, method, epoch) for method in ("refine", "refine-pass")}
            there = [one for one in found.values() if one is not None]
            if not there:
                continue
            error, peer, _ = there[0]
            line = [case.name, str(epoch), f"{error:.4f}", f"{peer:.2f}"]
            for one in found.values():
                if one is None:
                    line += [NONE, NONE]
                elif one[2] is None:
                    line += ["never", NONE]
                else:
                    line += [f"{one[2]:.2f}", f"{one[1] / one[2]:.1f}"]
            lines.append(line)
    return markdown(lines) if len(lines) > 2 else f"Nothing yet: pty-chi did not get to its epoch {PEER_EPOCHS[0]}.\n"
