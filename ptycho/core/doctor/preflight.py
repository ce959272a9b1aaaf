"""What is looked at before a scan is reconstructed: the cheap questions of the doctor, and what must not be passed."""

from __future__ import annotations

import shlex

from ptycho.core.doctor import examine
from ptycho.core.doctor.findings import Diagnosis, Finding
from ptycho.core.doctor.mending import mending
from ptycho.core.scan.stream import ScanStream
from ptycho.errors import DataError

__all__ = ["preflight", "refuse_faults"]

MENDING = {
    "numbers": "ptycho doctor {scan}",
    "units": "add --units amplitude or --units counts to the command",
    "hung detector": "expose again, or leave the copies out with ptycho dataset subsample",
    "mask": "ptycho dataset mask --help shows how a mask is written anew",
    "duplicate positions": "ptycho reconstruct --patterns {scan} --scan-positions POSITIONS.csv:x,y --unit um",
    "place": "ptycho reconstruct {scan} --scan-positions {scan}:xcoords,ycoords --unit um --object-pixel-nm NM",
    "order": "ptycho reconstruct --patterns {scan} --scan-positions POSITIONS.csv:x,y --unit um",
    "examination": "ptycho doctor {scan}",
}
"""Faults with which no reconstruction means anything, and what mends each where the finding names nothing to type."""


def preflight(stream: ScanStream) -> Diagnosis:
    """Examine a scan without reconstructing anything: numbers, units, mask, detector, positions, overlap, dose."""
    return examine(stream, reconstructions=False)


def refuse_faults(diagnosis: Diagnosis, name: str) -> None:
    """Raise where going on would give an object that means nothing.

    Args:
        diagnosis: of `preflight`.
        name: of the scan, as a command line would name it.

    Raises:
        DataError: the first fault of `MENDING`, and what mends it.
    """
    found = blocking(diagnosis)
    if found:
        advice = mending(found[0].mend, name) or MENDING[found[0].name].format(scan=shlex.quote(name))
        more = f" ({len(found) - 1} more: ptycho doctor {shlex.quote(name)})" if len(found) > 1 else ""
        raise DataError(f"{name}: {found[0].name}: {found[0].sentence} Mend it: {advice}; or go on with --force{more}")


def blocking(diagnosis: Diagnosis) -> list[Finding]:
    """The faults that stop a reconstruction."""
    faults = (found for found in diagnosis.findings if found.severity == "fault")
    return [found for found in faults if found.name in MENDING or found.numbers.get("at_corner")]
