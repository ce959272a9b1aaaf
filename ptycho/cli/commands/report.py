"""`ptycho report`: the report of a result, made anew."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

__all__ = ["SUMMARY", "add_arguments", "run"]

SUMMARY = "write the report of a result, a page that any browser shows"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the result and what it is held against."""
    parser.add_argument("result", type=Path, metavar="RESULT", help="folder of a run, or its reconstruction.npz")
    parser.add_argument("--scan", type=Path, metavar="SCAN", help="the scan of the result: brings its patterns")
    parser.add_argument("--units", choices=("amplitude", "counts"), help="what the patterns of SCAN hold")
    parser.add_argument("--compare", type=Path, metavar="OTHER", help="a truth or an earlier result to compare it with")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="HTML", help="the page (default: report.html beside the result)"
    )


def run(options: argparse.Namespace) -> int:
    """Write the page; 0."""
    from ptycho.cli.run import check_compared
    from ptycho.core.formats.reconstruction_npz import read_npz
    from ptycho.core.formats.registry import in_folder
    from ptycho.raw_data import RawData
    from ptycho.report.page import REPORT_FILE
    from ptycho.workflows.report import write_report

    check_compared(options.compare)
    result = in_folder(options.result)
    found = read_npz(result)
    data = None if options.scan is None else RawData.from_file(options.scan, options.units)
    output = options.output or result.with_name(REPORT_FILE)
    sys.stdout.write(f"report: {write_report(found, output, data, options.compare)}\n")
    return 0
