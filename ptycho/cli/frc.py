"""The command line `ptycho frc`: the resolution of a scan, from its two halves."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ptycho.cli.programs import FRC
from ptycho.cli.progress import shown_progress
from ptycho.cli.reconstruct import scan_asked_for
from ptycho.cli.run import (
    LOG_FILE,
    free_folder,
    input_path,
    output_folder,
    quiet_tensorflow,
    report_files,
    run_command,
    run_log,
    team_of,
)
from ptycho.cli.scan_flags import name_of
from ptycho.cli.settings import Settled

if TYPE_CHECKING:
    from ptycho.raw_data import RawData

__all__ = ["frc_main"]

_log = logging.getLogger(__name__)

_TAKEN = ("frc.json",)
"""By which a folder holds a resolution."""


def frc_main(argv: Sequence[str] | None = None) -> int:
    """Reconstruct both halves of a scan and write how far they agree.

    Args:
        argv: the arguments; those of the process when None.

    Returns:
        The exit status: 0, 2 for bad input, 130 for an interrupt.
    """
    return run_command(FRC, _frc, argv)


def _frc(asked: Settled, debug: bool) -> None:
    options = asked.options
    scan = options.scan
    if scan is not None or not options.patterns:
        scan = input_path(scan, "SCAN", "the scan to find the resolution of")

    quiet_tensorflow(asked.config.backend, debug)
    with team_of(asked) as first:
        if first:
            _resolved(asked, scan)


def _resolved(asked: Settled, scan: Path | None) -> None:
    """What the first process of a run does, and mostly there is one."""
    from ptycho.workflows.front_door import Request
    from ptycho.workflows.half_scans import reconstruct_halves, save_halves

    run, options = asked.run, asked.options
    named = Path(f"{Path(name_of(options, scan)).stem}_frc")
    folder = free_folder(run.output_dir or named, run.overwrite, "resolution", _TAKEN)
    with output_folder(folder), run_log(folder / LOG_FILE):
        data = scan_asked_for(asked, scan)
        with shown_progress(not run.quiet) as watch:
            request = Request(
                backend=asked.config.backend,
                iteration=asked.config.iteration,
                probe=run.probe,
                force=run.force,
                execution=asked.execution,
                watch=watch,
            )
            found = reconstruct_halves(data, request, run.halves_of)
        written = save_halves(found, folder, run.pdf)
        written += _with_report(folder, data)
        report_files(written)
        _log.info("Resolution: %s", found.resolution.summary)


def _with_report(folder: Path, data: RawData) -> list[Path]:
    """The report of the run in the folder, if it is one of this scan, made anew with the resolution."""
    from ptycho.core.files.atomic import RESULT_FILE
    from ptycho.core.formats.reconstruction_npz import read_npz
    from ptycho.report.page import REPORT_FILE
    from ptycho.workflows.report import write_report

    result = folder / RESULT_FILE
    if not result.is_file():
        return []
    found = read_npz(result)
    if (found.provenance.get("scan") or {}).get("content_sha256") != data.source["content_sha256"]:
        _log.warning("%s is of another scan: its report stays as it is", result)
        return []
    return [write_report(found, folder / REPORT_FILE, data)]
