"""What the doctor says: one finding per question, a plain sentence and the numbers that led to it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

__all__ = ["SEVERITIES", "Diagnosis", "Finding", "Severity"]

Severity = Literal["ok", "note", "warning", "fault"]

SEVERITIES: tuple[Severity, ...] = ("ok", "note", "warning", "fault")
"""From nothing to say to nothing will work; a user has to act on the last two."""


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


@dataclass(frozen=True)
class Diagnosis:
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
