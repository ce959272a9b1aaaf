"""How good, and how fast: networks, refinement and pty-chi on the same scans, one factor changed at a time.

Every cell (case, method, run) is kept in the output folder as soon as it is measured, so that an interrupted run goes
on where it was; trained networks and objects are kept there too. The report is made of what is there.

    python scripts/benchmarks/quality.py --output quality --real SCANS --ptychi-python VENV/bin/python    # hours
    python scripts/benchmarks/quality.py --output quick --quick --real SCANS --ptychi-python ...          # minutes
    python scripts/benchmarks/quality.py --output quality --report                                        # only render
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from quality_cases import Case, chosen_cases, pair_case
from quality_methods import METHODS, Limits, Places, measure, methods_of, settings_of, start_of, use_threads
from quality_report import write_report

from ptycho.core.files.atomic import atomic_path

FULL = Limits(300.0, 60.0, (1, 2, 3, 4, 5, 6, 8, 10, 14, 20, 30, 45, 70, 100))
SHORT = Limits(25.0, 15.0, (1, 2, 4, 7, 12, 20, 40))
"""Of the whole run, and of `--quick`."""

Cell = tuple[str, str, int]
"""Case, method, run."""


class Cache:
    """Cells in a file, one JSON object a line; the first line says how they were measured.

    Raises:
        SystemExit: the file holds cells that were measured with other settings.
    """

    def __init__(self, path: Path, settings: dict[str, Any]) -> None:
        self.path = path
        self.rows = read_rows(path)
        found = self.rows.pop(0)["settings"] if self.rows else None
        if found not in (None, settings):
            raise SystemExit(f"{path}: expected cells measured with {settings}, found {found}; choose another --output")
        # written anew, so that a line torn by an interrupt does not spoil the next
        with atomic_path(path) as temporary:
            temporary.write_text("".join(json.dumps(row) + "\n" for row in [{"settings": settings}, *self.rows]))

    def __contains__(self, cell: Cell) -> bool:
        return any((row["case"], row["method"], row["run"]) == cell for row in self.rows)

    def add(self, row: dict[str, Any]) -> None:
        """Keep a cell."""
        self.rows.append(row)
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The lines of a cache; a last one that was torn by an interrupt is left out."""
    lines = path.read_text().splitlines() if path.exists() else []
    rows = []
    for number, line in enumerate(lines, 1):
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError as error:
            if number < len(lines):
                raise SystemExit(f"{path}:{number}: expected a JSON object, found: {error}; repair it") from error
    return rows


def plan(cases: Iterable[Case], methods: list[str] | None, peer: bool, runs: int | None) -> list[tuple[Case, str, int]]:
    """The cells of a run: case by case, and in each run all methods side by side.

    Args:
        cases: which.
        methods: those wanted, with the networks that they start from; None is all that a case has.
        peer: whether there is one.
        runs: of every case; None is its own number.
    """
    cells = []
    for case in cases:
        offered = methods_of(case, peer)
        wanted = set(offered if methods is None else methods)
        if wanted & {"refine-pass", "refine-pass-noise"}:
            wanted.add(start_of(case))
        count = runs or case.runs
        cells += [(case, method, run) for run in range(count) for method in offered if method in wanted]
    return cells


def fill(
    cells: list[tuple[Case, str, int]], cache: Cache, measured: Callable[[Case, str, int], dict[str, Any]]
) -> None:
    """Measure what the cache lacks."""
    for number, (case, method, run) in enumerate(cells, 1):
        if (case.name, method, run) in cache:
            continue
        begun = time.perf_counter()
        row = measured(case, method, run)
        cache.add(row)
        error = row["curve"][-1][-1]
        took = time.perf_counter() - begun
        print(f"{number}/{len(cells)} {case.name}, {method}, run {run}: {error:.4f} ({took:.0f} s)", flush=True)


def main() -> None:
    """Measure what is missing and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="folder of cells, networks, objects and report")
    parser.add_argument("--real", type=Path, help="folder of the real scans (default: left out)")
    parser.add_argument("--ptychi-python", type=Path, help="interpreter with pty-chi (default: left out)")
    parser.add_argument("--ptychi-path", help="PYTHONPATH for it")
    parser.add_argument("--pairs", type=Path, nargs="+", default=[], help="NPZ files with probeGuess and objectGuess")
    parser.add_argument("--quick", action="store_true", help="few cases, short training, one run each")
    parser.add_argument("--report", action="store_true", help="measure nothing, render what is there")
    parser.add_argument("--cases", nargs="+", metavar="NAME", help="only these")
    parser.add_argument("--methods", nargs="+", choices=METHODS, help="only these, and the networks they start from")
    parser.add_argument("--train-seconds", type=float, help="training time of a network (default: 300, quick 25)")
    parser.add_argument("--peer-seconds", type=float, help="time of a run of pty-chi (default: 60, quick 15)")
    parser.add_argument("--runs", type=int, help="of every case (default: three of the base case and real scans)")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    args.output.mkdir(parents=True, exist_ok=True)
    file = args.output / "cells.jsonl"
    if not args.report:
        given = {"train_seconds": args.train_seconds, "peer_seconds": args.peer_seconds, "threads": args.threads}
        chosen: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
        limits = replace(SHORT if args.quick else FULL, **chosen)
        places = Places(args.output, args.real, args.ptychi_python, args.ptychi_path)
        cases = chosen_cases(args.cases, args.quick, args.real is not None) + [pair_case(path) for path in args.pairs]
        cells = plan(cases, args.methods, args.ptychi_python is not None, 1 if args.quick else args.runs)
        use_threads(args.threads)
        fill(
            cells,
            Cache(file, settings_of(limits)),
            lambda case, method, run: measure(case, method, run, places, limits),
        )
    if not file.exists():
        sys.exit(f"{file}: expected measured cells, found none; leave --report out")
    print(write_report(read_rows(file), args.output))


if __name__ == "__main__":
    main()
