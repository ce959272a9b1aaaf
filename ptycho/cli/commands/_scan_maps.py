"""`ptycho dataset map` and `unmap`: the map beside a scan, which is made once so that it can be memory-mapped."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import Any

from ptycho.errors import DataError

__all__ = ["OPERATIONS", "add_arguments", "add_operation", "run"]

logger = logging.getLogger(__name__)

OPERATIONS = ("map", "unmap")


def add_operation(operations: Any, name: str, text: str) -> argparse.ArgumentParser:
    """Add the subparser of an operation, with the flags that all have."""
    made: argparse.ArgumentParser = operations.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
    for flag, help_text in (("--quiet", "report warnings and errors only"), ("--debug", "log every step")):
        made.add_argument(flag, action="store_true", default=argparse.SUPPRESS, help=help_text)
    return made


def add_arguments(operations: Any) -> None:
    """Add both subparsers."""
    made = add_operation(operations, "map", "make the map of a scan, from which patterns are read by batch")
    made.add_argument("scan", type=Path, metavar="SCAN", help="scan file of any format")
    made.add_argument("-o", "--output", type=Path, metavar="FOLDER", help="the map (default: SCAN.map beside the scan)")
    made.add_argument("--renew", action="store_true", help="make it again, as after a change of the scan")
    gone = add_operation(operations, "unmap", "remove the map of a scan")
    gone.add_argument("scan", type=Path, metavar="SCAN_OR_FOLDER", help="the map, or the scan that it lies beside")


def run(options: argparse.Namespace) -> int:
    """Make or remove a map; 0."""
    from ptycho.core.scan.map_manifest import is_map, map_folder
    from ptycho.core.scan_edit.map_write import make_map, remove_map

    if options.operation == "map":
        make_map(options.scan, options.output, options.renew)
        return 0
    beside = map_folder(options.scan)
    folder = beside if not is_map(options.scan) and is_map(beside) else options.scan
    if folder.is_file():
        raise DataError(f"{folder}: expected its map {beside.name} beside it, found none; there is nothing to remove")
    remove_map(folder)
    logger.info("%s: removed", folder)
    return 0
