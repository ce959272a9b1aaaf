"""`ptycho batch`: many scans, each into a folder of its own, with one table and one page of all."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from ptycho.errors import ConfigError

if TYPE_CHECKING:
    from ptycho.cli.batch import Row
    from ptycho.report.overview import Entry

__all__ = ["SUMMARY", "add_arguments", "run"]

SUMMARY = "reconstruct many scans: a failure stops nothing, what was done is not done again"

_log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the scans, the folder and what goes for all of them."""
    parser.add_argument(
        "scans",
        nargs="+",
        metavar="LIST",
        help="a file (.txt, .lst) with a scan to a line, or several of one object, with flags of their own behind; or "
        "the scans themselves",
    )
    parser.add_argument(
        "-o", "--output-dir", type=Path, default=Path("batch"), metavar="FOLDER", help="of the folders of all scans"
    )
    parser.add_argument("--flags", metavar="FLAGS", help="of ptycho reconstruct, for all scans: --flags='--modes 2'")
    parser.add_argument("--only", type=int, metavar="N", help="the N-th scan alone, from 1 on (for job arrays)")
    parser.add_argument(
        "--devices", type=int, default=1, metavar="N", help="scans at once, each with a GPU of its own, or none"
    )
    parser.add_argument("--overwrite", action="store_true", help="begin anew, also with scans that are done")


def run(options: argparse.Namespace) -> int:
    """Reconstruct what is not done yet, write the table and the page of all; 0, or 1 where a scan failed."""
    from ptycho.cli.batch import TABLE_FILE, jobs_of, row_of, run_jobs, write_table
    from ptycho.core.files.atomic import output_folder
    from ptycho.report.overview import save_overview

    if options.devices < 1:
        raise ConfigError(f"--devices {options.devices}: expected at least 1; correct it")
    jobs = jobs_of(options.scans, options.flags or "", options.output_dir)
    if options.only is not None and not 1 <= options.only <= len(jobs):
        raise ConfigError(f"--only {options.only}: expected 1 to {len(jobs)}, the number of scans; correct it")
    chosen = range(len(jobs)) if options.only is None else [options.only - 1]
    rows = [row_of(job, anew=options.overwrite and number in chosen) for number, job in enumerate(jobs)]
    output_folder(options.output_dir)
    left = [number for number in chosen if rows[number].status != "done"]

    def told(which: int) -> None:
        number = left[which]
        _log.info("%d of %d: %s -> %s", number + 1, len(jobs), jobs[number].name, jobs[number].folder)

    asked = [jobs[number] for number in left]
    try:
        with closing(run_jobs(asked, options.devices, options.overwrite, told)) as found:
            for which, row in found:
                rows[left[which]] = row
                _tell(row)
                write_table(rows, options.output_dir / TABLE_FILE)
    except KeyboardInterrupt as stop:
        stop.args = ("go on with the same command",)
        raise
    write_table(rows, options.output_dir / TABLE_FILE)
    page = save_overview([_entry(row) for row in rows], options.output_dir / "index.html")
    sys.stdout.write(_table(rows))
    _log.info("Look at %s", page)
    return int(any(rows[number].status == "failed" for number in chosen))


def _entry(row: Row) -> Entry:
    """A row on the page."""
    from ptycho.report.overview import Entry

    numbers = []
    if row.fourier_error is not None:
        numbers.append(f"error {row.fourier_error:.4g}")
    if row.height is not None and row.width is not None:
        sides = (row.width, row.height)
        numbers.append(
            "{} × {} px".format(*sides)
            if row.pixel_nm is None
            else "{:.4g} × {:.4g} µm".format(*(side * row.pixel_nm / 1e3 for side in sides))
        )
    if row.seconds is not None:
        numbers.append(f"{row.seconds:.0f} s")
    return Entry(row.scan, Path(row.folder), row.status, row.trust, ", ".join(numbers), row.said)


def _tell(row: Row) -> None:
    if row.status == "done":
        error = "" if row.fourier_error is None else f", relative Fourier error {row.fourier_error:.4g}"
        _log.info("%s: %s%s, %.0f s", row.scan, row.trust or "done", error, row.seconds)
    else:
        _log.warning("%s: %s: %s", row.scan, row.status, row.said)


def _table(rows: Sequence[Row]) -> str:
    """The rows in columns, to be read on a terminal."""
    head = ("scan", "status", "trust", "error", "seconds", "")
    cells = [head, *map(_cells, rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head) - 1)]
    lines = ("  ".join([f"{cell:<{width}}" for cell, width in zip(row, (*widths, 0), strict=True)]) for row in cells)
    return "".join(f"{line.rstrip()}\n" for line in lines)


def _cells(row: Row) -> tuple[str, ...]:
    error = "" if row.fourier_error is None else f"{row.fourier_error:.4g}"
    seconds = "" if row.seconds is None else f"{row.seconds:.0f}"
    return row.scan, row.status, row.trust, error, seconds, row.said if row.status == "failed" else ""
