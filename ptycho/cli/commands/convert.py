"""`ptycho convert`: scans and results from one file format into another."""

from __future__ import annotations

import argparse
import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ptycho.core.formats.catalogue import FORMATS

if TYPE_CHECKING:
    from ptycho.core.formats.record import ScanRecord

__all__ = ["SUMMARY", "add_arguments", "run"]

SUMMARY = "convert a scan or a result into another file format"

logger = logging.getLogger(__name__)

_SCALES = {
    "energy_keV": ("energy_eV", 1e3, "photon energy, keV"),
    "distance_m": ("distance_m", 1.0, "sample to detector, m"),
    "detector_pixel_um": ("detector_pixel_m", 1e-6, "side of a detector pixel, um"),
    "object_pixel_nm": ("object_pixel_m", 1e-9, "side of an object pixel, nm; else from the other three"),
}
"""Flags of the geometry: field of the record, factor, help."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the files and the flags for what they do not say."""
    written = ", ".join(entry.name for entry in FORMATS if entry.writes)
    parser.add_argument(
        "inputs",
        type=Path,
        nargs="+",
        metavar="IN",
        help="file to read, its format found by its content; of several, such as patterns and a product, the later "
        "ones win where both say the same",
    )
    parser.add_argument("output", type=Path, metavar="OUT", help="file to write, its format by its suffix or --to")
    parser.add_argument("--to", metavar="FORMAT", help=f"format of OUT: {written}, or that of another package")
    for name, (_, _, text) in _SCALES.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=_positive, metavar="X", dest=name, help=text)
    parser.add_argument("--units", choices=("amplitude", "counts"), help="what the diffraction patterns hold")
    parser.add_argument(
        "--flip", choices=("x", "y", "xy"), help="turn the sign of positions in metres, for other conventions"
    )


def run(options: argparse.Namespace) -> int:
    """Read, merge, convert and write; 0, or an exception with one line."""
    from ptycho.core.formats import registry
    from ptycho.core.formats.merging import merged
    from ptycho.core.formats.record import mirrored

    entry = registry.target(options.output, options.to)
    record: ScanRecord | None = None
    for path in options.inputs:
        found = registry.recognise(path)
        logger.info("%s: %s", path, found.title)
        part = registry.read(path)
        record = part if record is None else merged(record, part)
    assert record is not None
    record = _told(record, options)
    if options.flip:
        record = mirrored(record, options.flip)
    registry.write(options.output, record, entry.name)
    logger.info("%s: %s, %s", options.output, entry.title, _described(record))
    return 0


def _told(record: ScanRecord, options: argparse.Namespace) -> ScanRecord:
    """The record with what the flags say; a size that follows from them is worked out anew."""
    given = {
        field: factor * getattr(options, name)
        for name, (field, factor, _) in _SCALES.items()
        if getattr(options, name) is not None
    }
    changes: dict[str, object] = dict(given)
    if "object_pixel_m" in given and "detector_pixel_m" not in given:
        if record.energy_eV is not None and record.distance_m is not None:
            changes["detector_pixel_m"] = None
    elif (given and record.detector_pixel_m is not None) or "detector_pixel_m" in given:
        changes.setdefault("object_pixel_m", None)
    if options.units:
        changes["units"] = options.units
    return replace(record, **changes)  # type: ignore[arg-type]


def _described(record: ScanRecord) -> str:
    patterns = "no patterns" if record.patterns is None else "patterns {} x {} x {}".format(*record.patterns.shape)
    image = "no object" if record.object is None else "object {} x {}".format(*record.object.shape)
    return f"{patterns}, {record.count or 0} positions, {image}"


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number above 0, found {text}")
    return value
