"""`ptycho convert`: scans and results from one file format into another."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from ptycho.cli.scan_flags import add_scan_flags, scan_of
from ptycho.core.formats.catalogue import FORMATS

if TYPE_CHECKING:
    from ptycho.core.formats.record import ScanRecord

__all__ = ["SUMMARY", "add_arguments", "run"]

SUMMARY = "convert a scan or a result into another file format, or put one together of its parts"

logger = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the files and the flags for what they do not say."""
    written = ", ".join(entry.name for entry in FORMATS if entry.writes)
    parser.add_argument(
        "inputs",
        type=Path,
        nargs="*",
        metavar="IN",
        help="file to read, its format found by its content; of several, such as patterns and a product, the later "
        "ones win where both say the same; none with --patterns",
    )
    parser.add_argument("output", type=Path, metavar="OUT", help="file to write, its format by its suffix or --to")
    parser.add_argument("--to", metavar="FORMAT", help=f"format of OUT: {written}, or that of another package")
    add_scan_flags(parser)


def run(options: argparse.Namespace) -> int:
    """Read, merge, convert and write; 0, or an exception with one line."""
    from ptycho.core.formats import registry
    from ptycho.core.formats.left_out import left_out

    entry = registry.target(options.output, options.to)
    record = scan_of(options, options.inputs)
    registry.write(options.output, record, entry.name)
    gone = left_out(record, options.output, entry)
    if gone:
        logger.warning("%s has no place for: %s", entry.title, "; ".join(gone))
    for path in registry.written(options.output, entry):
        logger.info("Wrote %s: %s, %s", path, entry.title, _described(record))
    return 0


def _described(record: ScanRecord) -> str:
    patterns = "no patterns" if record.patterns is None else "patterns {} x {} x {}".format(*record.patterns.shape)
    image = "no object" if record.object is None else "object {} x {}".format(*record.object.shape)
    return f"{patterns}, {record.count or 0} positions, {image}"
