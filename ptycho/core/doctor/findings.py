"""What the doctor says: one finding per question, a plain sentence and the numbers that led to it."""

from __future__ import annotations

import html
import textwrap
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from ptycho.core.doctor.mending import mending
from ptycho.core.result import ByValue, plural

__all__ = ["SEVERITIES", "Diagnosis", "Finding", "Severity"]

Severity = Literal["ok", "note", "warning", "fault"]

SEVERITIES: tuple[Severity, ...] = ("ok", "note", "warning", "fault")
"""From nothing to say to nothing will work; a user has to act on the last two."""

_MARKS: dict[Severity, str] = {"ok": "ok", "note": "note", "warning": "WARNING", "fault": "FAULT"}
_INDENT = 10
_COLOURS: dict[Severity, str] = {"ok": "#2e7d4f", "note": "#5a6472", "warning": "#a8690f", "fault": "#b3261e"}


@dataclass(frozen=True)
class Finding:
    """The answer to one question about a scan."""

    name: str
    """What was looked at, in a word or two: 'hot pixels'."""
    severity: Severity
    sentence: str
    """What was found, with the numbers, and what to do where there is something to do."""
    numbers: dict[str, Any] = field(default_factory=dict)
    """The same numbers by name, plain values."""
    mend: tuple[str, ...] = ()
    """What mends it, in flags: of a step of `ptycho dataset` ('mask --hot'), of 'reconstruct', or, where the first
    word is a flag, of how the scan is read ('--units counts')."""


@dataclass(frozen=True, eq=False, repr=False)
class Diagnosis(ByValue):
    """All findings about a scan, in the order in which a user should mend them."""

    findings: tuple[Finding, ...]

    @property
    def healthy(self) -> bool:
        """Whether there is neither a warning nor a fault."""
        return all(finding.severity in ("ok", "note") for finding in self.findings)

    def named(self, name: str) -> Finding:
        """The finding of this name; KeyError when there is none."""
        for finding in self.findings:
            if finding.name == name:
                return finding
        raise KeyError(name)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {"healthy": self.healthy, "findings": [asdict(finding) for finding in self.findings]}

    def __repr__(self) -> str:
        named = [f"{finding.name} ({finding.severity})" for finding in self._calling()]
        return f"Diagnosis({plural(len(self.findings), 'finding')}, {self.verdict}{''.join(f'; {n}' for n in named)})"

    def __str__(self) -> str:
        return self.text()

    @property
    def verdict(self) -> str:
        """'nothing wrong found', or how many faults and warnings there are."""
        severities = [finding.severity for finding in self.findings]
        counted = [plural(severities.count(word), word) for word in ("fault", "warning") if word in severities]
        return " and ".join(counted) or "nothing wrong found"

    def command(self, scan: str = "SCAN", flags: Sequence[str] = ()) -> str:
        """One line that does all that can be done about faults and warnings; '' for nothing (`mending`)."""
        return mending([word for finding in self._calling() for word in finding.mend], scan, flags)

    def text(self, name: str = "scan", brief: bool = False, flags: Sequence[str] = ()) -> str:
        """The findings as paragraphs, the command that mends them, and a last line with the verdict.

        `brief` leaves out what needs no action; `flags` are those with which the scan is read.
        """
        lines = []
        for finding in self._calling() if brief else self.findings:
            text = textwrap.wrap(f"{finding.name}: {finding.sentence}", 100 - _INDENT, break_on_hyphens=False)
            lines.append(f"{_MARKS[finding.severity]:{_INDENT}}{text[0]}")
            lines += [" " * _INDENT + line for line in text[1:]]
        command = self.command(name, flags)
        return "\n".join([*lines, *([f"Mend it: {command}"] if command else []), f"{name}: {self.verdict}."]) + "\n"

    def _calling(self) -> list[Finding]:
        """The findings that call for action."""
        return [finding for finding in self.findings if finding.severity in ("warning", "fault")]

    def _repr_html_(self) -> str:
        """The findings as a table, in a notebook."""
        rows = "".join(
            f'<tr><td style="color:{_COLOURS[found.severity]}"><b>{_MARKS[found.severity]}</b></td>'
            f'<td style="text-align:left">{html.escape(found.name)}</td>'
            f'<td style="text-align:left">{html.escape(found.sentence)}</td></tr>'
            for found in self.findings
        )
        return f"<table><caption>{html.escape(self.verdict)}</caption>{rows}</table>"
