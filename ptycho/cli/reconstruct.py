"""The command line `ptycho reconstruct`: from a scan to a judged object in a folder of its own."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ptycho.cli.programs import RECONSTRUCTION
from ptycho.cli.progress import shown_progress
from ptycho.cli.resuming import TAKEN, begin, meant_by, resumable
from ptycho.cli.run import (
    LOG_FILE,
    check_compared,
    check_inputs,
    free_folder,
    input_path,
    output_folder,
    quiet_tensorflow,
    report_run,
    run_command,
    run_log,
    team_of,
)
from ptycho.cli.scan_flags import data_from, name_of, recorded
from ptycho.cli.settings import Settled
from ptycho.errors import ConfigError
from ptycho.networks.universal import weights_file

if TYPE_CHECKING:
    from ptycho.core.reconstruction import Reconstruction
    from ptycho.raw_data import RawData
    from ptycho.workflows.front_door import Request

__all__ = ["reconstruct_main", "scan_asked_for"]

_log = logging.getLogger(__name__)


def reconstruct_main(argv: Sequence[str] | None = None) -> int:
    """Reconstruct a scan and write the object as pictures, NPZ and HDF5.

    Args:
        argv: the arguments; those of the process when None.

    Returns:
        The exit status: 0, 2 for bad input, 130 for an interrupt.
    """
    return run_command(RECONSTRUCTION, _reconstruct, argv, partial(meant_by, RECONSTRUCTION))


def _reconstruct(asked: Settled, debug: bool) -> None:
    run, options = asked.run, asked.options
    scan = options.scan
    if scan is not None or not options.patterns:
        scan = input_path(scan, "SCAN", "the scan to reconstruct")
    others = [input_path(one, "SCAN", "a further scan of the same object") for one in options.others]
    _check(run, others, options)

    quiet_tensorflow(asked.config.backend, debug)
    with team_of(asked) as first:
        if first:
            _found(asked, scan, others)


def _found(asked: Settled, scan: Path | None, others: Sequence[Path]) -> None:
    """What the first process of a run does, and mostly there is one."""
    from ptycho.workflows.front_door import reconstruct_scan
    from ptycho.workflows.outputs import save_run

    run, options = asked.run, asked.options
    named = Path(f"{Path(name_of(options, scan)).stem}_reconstruction")
    folder = run.resume or free_folder(run.output_dir or named, run.overwrite, results=TAKEN)
    with output_folder(folder), resumable(RECONSTRUCTION, folder, run.resume is not None), run_log(folder / LOG_FILE):
        data = _together(asked, [scan, *others]) if others else scan_asked_for(asked, scan)
        data = recorded(data, run.recording)
        request = _request(asked, folder)
        if run.resume is None:
            begin(RECONSTRUCTION, folder, asked.arguments)
        with shown_progress(not run.quiet) as watch:
            outcome = reconstruct_scan(data, replace(request, watch=watch))
        written = save_run(outcome, data, folder, compare_with=run.compare, pdf=run.pdf)
        if run.frc:
            written = _with_halves(data, request, outcome.reconstruction, folder, run) + written
        report_run(outcome.reconstruction, written, folder)


def scan_asked_for(asked: Settled, scan: Path | None) -> RawData:
    """The scan of the flags, ready to be reconstructed; told, with what computes."""
    data = data_from(asked.options, scan, asked.run.memory_map, asked.run.crop)
    if asked.run.bin > 1:
        data = data.fitted(asked.run.crop, asked.run.bin)
    _log.info("Scan: %s", data)
    chosen = "" if "backend" in asked.stated else ", the first that is installed"
    _log.info("Backend: %s%s", asked.config.backend, chosen)
    return data


def _together(asked: Settled, scans: Sequence[Path | None]) -> RawData:
    """Several scans of one object as one, and told."""
    from ptycho.workflows.shared_object import joined

    data = joined([scan_asked_for(asked, scan) for scan in scans])
    _log.info("One object from %d scans: %s", len(scans), data)
    return data


def _with_halves(data: RawData, request: Request, found: Reconstruction, folder: Path, run: Any) -> list[Path]:
    """Reconstruct both halves too, with what the whole was reconstructed with, and bring them into the report."""
    from ptycho.report.page import REPORT_FILE
    from ptycho.workflows.half_scans import reconstruct_halves, save_halves
    from ptycho.workflows.report import write_report

    with shown_progress(not run.quiet) as watch:
        halves = reconstruct_halves(data, replace(request, watch=watch))
    _log.info("Resolution: %s", halves.resolution.summary)
    written = save_halves(halves, folder, run.pdf)
    write_report(found, folder / REPORT_FILE, data, run.compare)
    return written


def _check(run: Any, others: Sequence[Path], options: Any) -> None:
    """What can be known to be wrong before anything is read."""
    for flag, given in (
        ("--frc", run.frc),
        ("--uncertainty", run.uncertainty),
        ("--patterns", options.patterns),
        ("--scan-positions", options.scan_positions),
    ):
        if others and given:
            raise ConfigError(f"{flag}: expected one scan, found {1 + len(others)}; leave one of both out")
    beginnings = [f"--{name}" for name in ("start", "model", "train") if getattr(run, name) is not None]
    if len(beginnings) > 1:
        raise ConfigError(f"{' and '.join(beginnings)} each say where to begin: give one of them")
    check_inputs(
        (None if run.model is None else weights_file(run.model), "--model", "a trained network"),
        (run.start, "--start", "a result"),
        (run.recording, "--recording", "a result"),
    )
    check_compared(run.compare)


def _request(asked: Settled, folder: Path) -> Request:
    """What the flags ask for."""
    from ptycho.workflows.front_door import Request
    from ptycho.workflows.iteration.start_from import read_start

    run = asked.run
    return Request(
        backend=asked.config.backend,
        iteration=asked.config.iteration,
        probe=run.probe,
        model=None if run.model is None else weights_file(run.model),
        train_seconds=run.train,
        start=None if run.start is None else read_start(run.start),
        force=run.force,
        uncertainty=run.uncertainty,
        folder=folder,
        execution=asked.execution,
    )
