"""Which way to go with a scan, by the doctor's numbers: iteration alone, or from a network's pass."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ptycho.config.config import ModelConfig, TrainingConfig
from ptycho.core.doctor.findings import Diagnosis
from ptycho.workflows.backend import BackendName

__all__ = ["Choice", "choose_method", "network_for_scan", "training_for_scan"]

PAYS_OVERLAP = 0.4
"""Linear overlap below which a trained network's pass leaves less than iteration from nothing (docs/choosing.md)."""
PAYS_PHOTONS = 3e3
"""Photons per pattern, likewise."""
_GROUPED_POINTS = 64
"""Scan points from which on neighbours are shown to the network together."""


@dataclass(frozen=True)
class Choice:
    """The way to go, and why, in one line."""

    method: Literal["iteration", "network"]
    why: str


def choose_method(diagnosis: Diagnosis, model: Path | None, train_seconds: float | None) -> Choice:
    """What is done with a scan: what was asked for, else iteration; where a network would pay the line says so.

    Args:
        diagnosis: its findings `overlap` and `dose` are looked at.
        model: of a network that is trained already.
        train_seconds: how long to train one.
    """
    overlap, photons = overlap_and_photons(diagnosis)
    known = [
        *([] if overlap is None else [f"neighbours overlap by {100 * max(overlap, 0):.0f} %"]),
        *([] if photons is None else [f"{photons:.2g} photons per pattern"]),
    ]
    facts = ", ".join(known) or "overlap and dose are not known"
    pays = _pays(overlap, photons)
    if model is not None:
        return Choice("network", f"iteration from a pass of the network in {model} ({facts})")
    if train_seconds is not None:
        reason = "a pass pays here" if pays else "iteration alone does as well here"
        return Choice(
            "network", f"iteration from a pass of a network trained for {train_seconds:g} s ({facts}: {reason})"
        )
    if pays:
        return Choice("iteration", f"iteration alone ({facts}: a network's pass does better here, add --train 300)")
    return Choice("iteration", f"iteration alone ({facts}: a network would gain nothing)")


def overlap_and_photons(diagnosis: Diagnosis) -> tuple[float | None, float | None]:
    """Linear overlap and photons per pattern, each None where it is not known."""
    numbers: dict[str, Any] = {}
    for found in diagnosis.findings:
        if found.name in ("overlap", "dose"):
            numbers |= found.numbers
    return numbers.get("overlap"), numbers.get("photons_per_pattern")


def network_for_scan(diagnosis: Diagnosis, points: int) -> dict[str, Any]:
    """`architecture`, `gridsize` and `batch_size` for a scan of so many points: neighbours together where they overlap
    and light is not scarce (docs/choosing.md has the figures).
    """
    overlap, photons = overlap_and_photons(diagnosis)
    together = points >= _GROUPED_POINTS and not _pays(overlap, photons)
    return {"architecture": "unrolled", "gridsize": 2 if together else 1, "batch_size": 8}


def training_for_scan(
    diagnosis: Diagnosis, points: int, N: int, backend: BackendName, output_dir: Path
) -> TrainingConfig:
    """The training of a network for one scan, until its time is over."""
    chosen = network_for_scan(diagnosis, points)
    model = ModelConfig(N=N, architecture=chosen["architecture"], gridsize=chosen["gridsize"])
    return TrainingConfig(
        model=model, batch_size=chosen["batch_size"], nepochs=1000, backend=backend, output_dir=output_dir
    )


def _pays(overlap: float | None, photons: float | None) -> bool:
    return (overlap is not None and overlap < PAYS_OVERLAP) or (photons is not None and photons < PAYS_PHOTONS)
