"""`ptycho doctor`: what is wrong with a scan, in plain sentences, before an hour is lost on it."""

from __future__ import annotations

import argparse
import json
import math
import sys
from typing import Any

from ptycho.cli.scan_flags import add_scan, name_of, said, stream_from

__all__ = ["SUMMARY", "add_arguments", "run"]

SUMMARY = "examine a scan: what is wrong with it, and the settings to begin with"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the scan and what to print."""
    add_scan(parser)
    parser.add_argument("--json", action="store_true", help="print all findings with their numbers as JSON")
    parser.add_argument("--brief", action="store_true", help="print only what calls for action")
    parser.add_argument("--no-trials", action="store_true", help="leave out the short reconstructions (some seconds)")


def run(options: argparse.Namespace) -> int:
    """Examine and print; 0 for a clean scan, 1 where there are warnings or faults."""
    from ptycho.core.doctor import examine

    diagnosis = examine(stream_from(options, options.scan), reconstructions=not options.no_trials)
    name, flags = name_of(options, options.scan), said(options)
    if options.json:
        values = {"scan": name, "command": diagnosis.command(name, flags)} | diagnosis.as_dict()
        sys.stdout.write(json.dumps(_finite(values), indent=2) + "\n")
    else:
        sys.stdout.write(diagnosis.text(name, options.brief, flags))
    return 0 if diagnosis.healthy else 1


def _finite(value: Any) -> Any:
    """The value with NaN and infinity as None, which JSON can say."""
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
