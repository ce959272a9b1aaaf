"""One pass of `unrolled` at gridsize 2: on the canvas of the scan, and in groups that are stitched, from one network.

Cases, trainings and errors are those of `quality.py` (NRMSE of the complex object, of a real scan the relative Fourier
error). Every case is reconstructed both ways in turn; processor seconds are those from the patterns to the object,
medians of `--runs`. A backend takes the networks that PyTorch has trained.

    python scripts/benchmarks/one_pass.py --output passes --train-seconds 130 [--real SCANS] [--backend tensorflow]
"""

from __future__ import annotations

import argparse
import importlib
import json
import logging
import statistics
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from quality_cases import Case, case_scan, chosen_cases
from quality_methods import Limits, Places, train, use_threads
from quality_scores import Snapshot, error_of, target_frame

from ptycho.config.config import InferenceConfig
from ptycho.raw_data import RawData
from ptycho.workflows import reconstruct as workflow
from ptycho.workflows.backend import Backend
from ptycho.workflows.run_options import NEUTRAL_RUN

NETWORK = "unrolled"
IN_GROUPS: Any = SimpleNamespace(predicted=lambda *_: None, stitched=lambda *_: None)
"""Looks at patches, of which there are none on one canvas."""


class Watch(logging.Handler):
    """Processor seconds up to the end of a pass, which the log tells."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.at = 0.0

    def emit(self, record: logging.LogRecord) -> None:
        """Note when a pass, or the stitching of its patches, is over."""
        if record.getMessage().startswith(("inference:", "stitching:")):
            self.at = time.process_time()


def one_pass(backend: Backend, folder: Path, data: RawData, groups: bool) -> tuple[float, float]:
    """Error of the object, and processor seconds."""
    model, _ = backend.load(folder / "wts.h5.zip", None, None, NEUTRAL_RUN)
    run = replace(NEUTRAL_RUN, diagnostics=IN_GROUPS if groups else None)
    config = InferenceConfig(model=model.config, backend=backend.name)
    watch = Watch()
    workflow.logger.addHandler(watch)
    workflow.logger.setLevel(logging.INFO)
    begun = time.process_time()
    made = workflow.reconstruct(backend, model, data, config, run)
    workflow.logger.removeHandler(watch)
    found = Snapshot(1, 0.0, made.object, made.probe, made.frame)
    return error_of(found, target_frame(data), data), watch.at - begun


def measured(backend: Backend, case: Case, places: Places, runs: int) -> dict[str, Any]:
    """A case both ways."""
    data, folder = case_scan(case, places.real), places.model(case.kind, NETWORK)
    found: dict[bool, list[tuple[float, float]]] = {False: [], True: []}
    for _ in range(runs):
        for groups, seen in found.items():
            seen.append(one_pass(backend, folder, data, groups))
    figures = {
        name: {"error": found[key][0][0], "seconds": statistics.median(seconds for _, seconds in found[key])}
        for name, key in (("canvas", False), ("groups", True))
    }
    return {"case": case.name, "patterns": len(data), **figures}


def table(rows: list[dict[str, Any]]) -> str:
    """The rows in Markdown."""
    lines = [
        "| case | patterns | error in groups | on one canvas | s in groups | on one canvas | times sooner |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        canvas, groups = row["canvas"], row["groups"]
        lines.append(
            f"| {row['case']} | {row['patterns']} | {groups['error']:.4f} | {canvas['error']:.4f} | "
            f"{groups['seconds']:.2f} | {canvas['seconds']:.2f} | {groups['seconds'] / canvas['seconds']:.1f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Train where there is no network yet, measure, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="folder of the networks and of passes.json")
    parser.add_argument("--train-seconds", type=float, default=130)
    parser.add_argument("--real", type=Path, help="folder of the real scans")
    parser.add_argument("--cases", nargs="+", help="names of quality_cases.CASES; default: all")
    parser.add_argument("--backend", choices=("pytorch", "tensorflow"), default="pytorch")
    parser.add_argument("--runs", type=int, default=3)
    args = parser.parse_args()
    backend: Any = importlib.import_module(
        {"tensorflow": "ptycho.tf", "pytorch": "ptycho_torch"}[args.backend] + ".backend"
    )
    use_threads(1)
    places = Places(args.output, args.real, None, None)
    rows = []
    for case in chosen_cases(args.cases, False, args.real is not None):
        train(case, NETWORK, places, Limits(args.train_seconds, 0, (1,), 1))
        rows.append(measured(backend, case, places, args.runs))
        (args.output / "passes.json").write_text(json.dumps(rows, indent=1))
    print(table(rows))


if __name__ == "__main__":
    main()
