"""All that the doctor advises in one line that can be typed as it is."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

__all__ = ["mending", "named", "ranges"]

_STEPS = ("mask", "move", "subsample", "recentre", "turn")
"""Of `ptycho dataset`, in the order in which a scan is mended."""
_LONG = 80
"""Letters of a list of numbers that a sentence shows."""
_RENUMBERS = "--frames"
"""After this step patterns have other numbers: what is said of single ones is for the next look."""


def mending(asked: Sequence[str], scan: str, flags: Sequence[str] = ()) -> str:
    """The command that does what is asked for: steps of `ptycho dataset`, then `ptycho reconstruct`; '' for nothing.

    Args:
        asked: the `mend` of all findings that call for action (`ptycho.core.doctor.findings.Finding`).
        scan: its file, or that of its patterns where `flags` name them.
        flags: how the scan is read, as on the command line: `--units counts`, `--scan-positions POSITIONS.csv`.

    >>> mending(["mask --hot"], "a.npz")
    'ptycho dataset mask a.npz -o a-mended.npz --hot && ptycho reconstruct a-mended.npz'
    """
    if not asked:
        return ""
    steps = {step: _flags_of(step, asked) for step in _STEPS if any(word.split()[0] == step for word in asked)}
    if _RENUMBERS in steps.get("move", ""):
        steps.pop("subsample", None)
    reading = [*flags, *(word for words in asked if words.startswith("--") for word in shlex.split(words))]
    name, made = (
        "" if "--patterns" in flags else shlex.quote(scan),
        shlex.quote(f"{Path(scan).stem or 'scan'}-mended.npz"),
    )
    line: list[str] = []
    if steps:
        if any(word.startswith("--") and word != "--units" for word in reading):
            line.append(_joined("ptycho convert", name, made, shlex.join(reading)))
            name, reading = made, []
        for step, said in steps.items():
            line.append(_joined("ptycho dataset", step, name, f"-o {made}", said, shlex.join(reading)))
            name, reading = made, []
    line.append(_joined("ptycho reconstruct", name, shlex.join(reading), _flags_of("reconstruct", asked)))
    return " && ".join(line)


def ranges(numbers: ArrayLike) -> str:
    """Ascending whole numbers as the flags of `ptycho dataset` take them.

    >>> ranges([3, 10, 11, 12])
    '3,10-12'
    """
    values = np.asarray(numbers)
    parts = np.split(values, np.flatnonzero(np.diff(values) > 1) + 1)
    return ",".join(str(part[0]) if len(part) == 1 else f"{part[0]}-{part[-1]}" for part in parts if len(part))


def named(numbers: ArrayLike, noun: str) -> str:
    """Some things by their numbers, in words.

    >>> named([3], "pattern"), named([3, 4], "pattern")
    ('pattern 3', 'patterns 3-4')
    """
    values = np.asarray(numbers)
    listed = ranges(values)
    shown = listed if len(listed) < _LONG else listed[:_LONG].rpartition(",")[0] + ",..."
    return f"{noun}{'s' if len(values) > 1 else ''} {shown}"


def _flags_of(step: str, asked: Sequence[str]) -> str:
    """All flags of a step, each once."""
    flags = (word.partition(" ")[2] for word in asked if word.split()[0] == step)
    return " ".join(dict.fromkeys(flag for flag in flags if flag))


def _joined(*parts: str) -> str:
    return " ".join(part for part in parts if part)
