"""The weights that come with the package: which archive they are, and what they were trained on."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from ptycho.errors import MissingFileError

__all__ = ["UNIVERSAL", "taught", "training_ranges", "weights_file"]

UNIVERSAL = "universal"
"""Names the weights of the package, where no model is called so; the folder of a run may be."""


def weights_file(named: Path | None) -> Path:
    """The archive that a path means; the package's own where nothing is named, or `universal`."""
    if named is None or (str(named) == UNIVERSAL and not _has_model(named)):
        return Path(str(files("ptycho.networks") / "universal.wts.h5.zip"))
    return named


def _has_model(path: Path) -> bool:
    if not path.exists():
        return False
    from ptycho.core.archive import find_archive  # command lines name weights before they load any array library

    try:
        find_archive(path)
    except MissingFileError:
        return False
    return True


def training_ranges(scan: Mapping[str, Any]) -> Mapping[str, Any]:
    """From what the simulated experiments were drawn that trained a model, of its `scan`; empty where one scan did."""
    found: Mapping[str, Any] = (scan.get("source") or {}).get("simulated") or {}
    ranges: Mapping[str, Any] = found.get("ranges", {})
    return ranges


def taught(scan: Mapping[str, Any]) -> bool:
    """Whether a model, by its `scan`, learned from the truths of simulated experiments, or began with such weights."""
    source = scan.get("source") or {}
    return "simulated" in source or "simulated" in source.get("started_from", {})
