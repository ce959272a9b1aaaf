"""`ptycho doctor`: what is wrong with a scan, in plain sentences, before an hour is lost on it."""

from __future__ import annotations

import argparse
import json
import math
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ptycho.core.doctor import Diagnosis

__all__ = ["SUMMARY", "add_arguments", "diagnosis_text", "run"]

SUMMARY = "examine a scan: what is wrong with it, and the settings to begin with"

_MARKS = {"ok": "ok", "note": "note", "warning": "WARNING", "fault": "FAULT"}
_INDENT = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the scan and what to print."""
    parser.add_argument("scan", type=Path, metavar="SCAN", help="scan file, of any format that ptycho convert reads")
    parser.add_argument("--units", choices=("amplitude", "counts"), help="what the diffraction patterns hold")
    parser.add_argument("--json", action="store_true", help="print all findings with their numbers as JSON")
    parser.add_argument("--brief", action="store_true", help="print only what calls for action")
    parser.add_argument("--no-trials", action="store_true", help="leave out the short reconstructions (some seconds)")


def run(options: argparse.Namespace) -> int:
    """Examine and print; 0 for a clean scan, 1 where there are warnings or faults."""
    from ptycho.core.doctor import examine
    from ptycho.core.formats.opening import open_scan

    diagnosis = examine(open_scan(options.scan, options.units), trials=not options.no_trials)
    if options.json:
        values = {"scan": str(options.scan)} | diagnosis.as_dict()
        sys.stdout.write(json.dumps(_finite(values), indent=2) + "\n")
    else:
        sys.stdout.write(diagnosis_text(diagnosis, str(options.scan), options.brief))
    return 0 if diagnosis.healthy else 1


def diagnosis_text(diagnosis: Diagnosis, name: str, brief: bool = False) -> str:
    """The findings as paragraphs, and a last line that says how many call for action."""
    lines = []
    for finding in diagnosis.findings:
        if brief and finding.severity in ("ok", "note"):
            continue
        text = textwrap.wrap(f"{finding.name}: {finding.sentence}", 100 - _INDENT, break_on_hyphens=False)
        lines.append(f"{_MARKS[finding.severity]:{_INDENT}}{text[0]}")
        lines += [" " * _INDENT + line for line in text[1:]]
    faults, warnings = (
        sum(finding.severity == severity for finding in diagnosis.findings) for severity in ("fault", "warning")
    )
    if diagnosis.healthy:
        lines.append(f"{name}: nothing wrong found.")
    else:
        counted = [f"{n} {word}{'s' * (n > 1)}" for n, word in ((faults, "fault"), (warnings, "warning")) if n]
        lines.append(f"{name}: {' and '.join(counted)}.")
    return "\n".join(lines) + "\n"


def _finite(value: Any) -> Any:
    """The value with NaN and infinity as None, which JSON can say."""
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
