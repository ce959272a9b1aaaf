"""How a command line names a scan."""

from __future__ import annotations

import argparse
from pathlib import Path

__all__ = ["add_scan"]


def add_scan(parser: argparse.ArgumentParser) -> None:
    """Add the scan; --resume names a run instead."""
    text = "scan file, of any format that ptycho convert reads"
    parser.add_argument("scan", nargs="?", type=Path, default=None, metavar="SCAN", help=text)
