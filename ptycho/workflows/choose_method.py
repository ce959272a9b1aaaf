"""Which way to go with a scan, by the doctor's numbers: iteration alone, or from a network's pass."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from ptycho.config.config import ModelConfig, TrainingConfig
from ptycho.config.options import NEUTRAL
from ptycho.core.doctor import examine_probe
from ptycho.core.doctor.findings import Diagnosis
from ptycho.core.doctor.preflight import preflight
from ptycho.core.scan.stream import ScanStream
from ptycho.networks.registry import RECOMMENDED
from ptycho.networks.universal import weights_file
from ptycho.raw_data import RawData
from ptycho.workflows.backend import BackendName

__all__ = ["Choice", "choose_method", "network_for_scan", "probe_fits", "settle_by_scan", "training_for_scan"]

PAYS_OVERLAP = 0.4
"""Linear overlap below which a trained network's pass leaves less than iteration from nothing (docs/choosing.md)."""
PAYS_PHOTONS = 3e3
"""Photons per pattern, likewise."""
PRIOR_PHOTONS = 3e4
"""Photons per pattern below which the network prior of the object takes a fifth and more off the error."""
_SHAPING = tuple(one.name for one in fields(ModelConfig) if one.name not in ("N", "gridsize", "architecture"))
"""Settings of a model that not every network takes in the same way."""
_GROUPED_POINTS = 64
"""Scan points from which on neighbours are shown to the network together."""


@dataclass(frozen=True)
class Choice:
    """The way to go, and why, in one line."""

    method: Literal["iteration", "network"]
    why: str


def choose_method(
    diagnosis: Diagnosis, model: Path | None, train_seconds: float | None, prior: str | None = None
) -> Choice:
    """What is done with a scan: what was asked for, else iteration; where a network would pay the line says so.

    Args:
        diagnosis: its findings `overlap` and `dose` are looked at.
        model: of a network that is trained already.
        train_seconds: how long to train one.
        prior: what is held of the object.
    """
    overlap, photons = overlap_and_photons(diagnosis)
    known = [
        *([] if overlap is None else [f"neighbours overlap by {100 * max(overlap, 0):.0f} %"]),
        *([] if photons is None else [f"{photons:.2g} photons per pattern"]),
    ]
    facts = ", ".join(known) or "overlap and dose are not known"
    pays = _pays(overlap, photons)
    if model is not None:
        whose = "of the package" if model == weights_file(None) else f"in {model}"
        return Choice("network", f"iteration from a pass of the network {whose} ({facts})")
    if train_seconds is not None:
        reason = "a pass pays here" if pays else "iteration alone does as well here"
        return Choice(
            "network", f"iteration from a pass of a network trained for {train_seconds:g} s ({facts}: {reason})"
        )
    if overlap is not None and overlap < PAYS_OVERLAP:
        return Choice("iteration", f"iteration alone ({facts}: a network's pass does better here, add --train 300)")
    if photons is not None and photons < PRIOR_PHOTONS:
        less = "" if prior is not None else ": photons are few, take off some of their noise by --object-prior network"
        return Choice("iteration", f"iteration alone ({facts}{less})")
    return Choice("iteration", f"iteration alone ({facts}: a network would gain nothing)")


def settle_by_scan(config: TrainingConfig, stated: Container[str], scan: RawData) -> str:
    """Fill in what a command line left open about the network: architecture, gridsize and batch size by the scan.

    Where something is said that shapes the network (`n_filters_scale`, options of the network and so on), the
    architecture stays as it is.

    Args:
        config: changed in place.
        stated: names of the settings that were given.
        scan: to train on.

    Returns:
        One line on what was chosen; '' for nothing.
    """
    chosen = network_for_scan(preflight(ScanStream.of(scan.scan_file())), len(scan))
    left_open = {name: value for name, value in chosen.items() if name not in stated}
    if config.network != NEUTRAL or any(name in stated for name in _SHAPING):
        left_open.pop("architecture", None)
    for name, value in left_open.items():
        setattr(config if name == "batch_size" else config.model, name, value)
    text = ", ".join(f"{name} {value}" for name, value in left_open.items())
    return f"Chosen by the scan: {text}" if text else ""


def probe_fits(scan: RawData) -> bool:
    """Whether the doctor finds that the probe of a scan fits its patterns, or cannot tell; some seconds."""
    return examine_probe(ScanStream.of(scan.scan_file())).severity != "warning"


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
    return {"architecture": RECOMMENDED, "gridsize": 2 if together else 1, "batch_size": 8}


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
