"""The scan NPZ of specs/data_contracts.md, in every spelling it ever had; the geometry travels in `_metadata`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ptycho.core.formats.record import ScanRecord, completed, in_pixels, required, resolved_units
from ptycho.core.physics.diffraction import as_modes
from ptycho.core.physics.near_field import NearField
from ptycho.core.scan.npz_file import PATTERN_KEYS, scan_archive
from ptycho.core.scan.npz_mapped import mapped_scan
from ptycho.core.scan.scan import ScanFile
from ptycho.core.scan.stream import Frames, ScanStream, stand_in, write_stream
from ptycho.errors import DataError

__all__ = [
    "METADATA_KEYS",
    "file_metadata",
    "geometry_numbers",
    "geometry_of",
    "plain_metadata",
    "read",
    "recognise",
    "record_of",
    "stream_of",
    "write",
]

TITLE = "scan NPZ"

METADATA_KEYS = {
    "photon_energy_eV": "energy_eV",
    "detector_distance_m": "distance_m",
    "detector_pixel_size_m": "detector_pixel_m",
    "object_pixel_size_m": "object_pixel_m",
}
"""Entries of `_metadata`, and numbers of their own in older files, and the fields they are."""

_BESIDE_PATTERNS = ("probeGuess", "xcoords", "xcoords_start")
"""Keys of which a scan has one, so that patterns alone are not taken for it."""

_METRES_BELOW = 1e-3
"""Positions that all lie within this are metres: a scan of a thousandth of a pixel is none."""


def plain_metadata(metadata: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The metadata of a scan file by the names that the fields of a record have."""
    return None if metadata is None else {METADATA_KEYS.get(key, key): value for key, value in metadata.items()}


def file_metadata(metadata: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The inverse of `plain_metadata`."""
    names = {field: name for name, field in METADATA_KEYS.items()}
    return None if metadata is None else {names.get(key, key): value for key, value in metadata.items()}


def recognise(file: Any) -> bool:
    """Whether an open archive is a scan: it has patterns, and positions or a probe."""
    return any(key in file for key in PATTERN_KEYS) and any(key in file for key in _BESIDE_PATTERNS)


def read(path: Path) -> ScanRecord:
    """Read a scan; patterns (and `Y`) stay in the file until they are copied."""
    return record_of(mapped_scan(path, fitting=False), geometry_numbers(path))


def geometry_numbers(path: Path) -> dict[str, Any]:
    """What an older NPZ scan has of the geometry as numbers of their own, by the keys that `_metadata` has now."""
    with scan_archive(path) as archive:
        return {name: _number(archive[name], name) for name in METADATA_KEYS if name in archive}


def record_of(scan: ScanFile, numbers: Mapping[str, Any]) -> ScanRecord:
    """The record of a scan and of its `geometry_numbers`; those in its metadata win."""
    metadata = dict(scan.metadata or {})
    known: dict[str, Any] = {
        field: _number(metadata.pop(name, numbers.get(name)), name) for name, field in METADATA_KEYS.items()
    }
    origin, indexes = metadata.pop("origin_px", None), metadata.pop("indexes", None)
    particle = metadata.pop("particle", None)
    reach = max(np.abs(values).max(initial=0.0) for values in (scan.xcoords, scan.ycoords))
    return ScanRecord(
        patterns=Frames.of(scan.diff3d),
        units=scan.units,  # type: ignore[arg-type]
        xcoords=scan.xcoords,
        ycoords=scan.ycoords,
        position_unit="m" if 0 < reach < _METRES_BELOW else "px",
        indexes=None if indexes is None else np.asarray(indexes, np.int64),
        probe=None if scan.probeGuess is None else as_modes(scan.probeGuess),
        object=scan.objectGuess,
        origin_px=None if origin is None else (float(origin[0]), float(origin[1])),
        mask=scan.mask,
        xcoords_start=scan.xcoords_start,
        ycoords_start=scan.ycoords_start,
        scan_index=scan.scan_index,
        true_patches=None if scan.Y is None else Frames.of(scan.Y),
        particle="electron" if particle == "electron" else None,
        near_field=NearField.of(metadata) is not None,
        metadata=metadata,
        **known,
    )


def geometry_of(scan: ScanFile) -> ScanRecord:
    """The record of a scan in memory, of energy, distance and pixel sizes the fourth made of the other three."""
    return completed(record_of(scan, {}))


def write(path: Path, record: ScanRecord) -> None:
    """Write a scan with positions in pixels, the units of the patterns and, in `_metadata`, the geometry.

    Raises:
        DataError: patterns or positions are missing, or units that nothing tells.
    """
    record = in_pixels(required(record, TITLE, "patterns", "xcoords"), TITLE)
    write_stream(path, stream_of(replace(record, units=resolved_units(record))))


def stream_of(record: ScanRecord) -> ScanStream:
    """A record as a scan: positions in pixels, the geometry in `metadata`, units as far as they were declared.

    Raises:
        DataError: patterns or positions are missing.
    """
    record = in_pixels(required(record, TITLE, "patterns", "xcoords"), TITLE)
    assert record.patterns is not None
    assert record.xcoords is not None and record.ycoords is not None
    metadata = dict(record.metadata)
    metadata |= {name: getattr(record, key) for name, key in METADATA_KEYS.items() if getattr(record, key) is not None}
    if record.particle == "electron":
        metadata["particle"] = "electron"
    if record.origin_px is not None:
        metadata["origin_px"] = list(record.origin_px)
    if record.indexes is not None and not np.array_equal(record.indexes, np.arange(record.count or 0)):
        metadata["indexes"] = record.indexes.tolist()
    fields = ScanFile(
        diff3d=stand_in(record.patterns.shape, record.patterns.dtype),
        xcoords=record.xcoords,
        ycoords=record.ycoords,
        probeGuess=record.probe[0] if record.probe is not None and len(record.probe) == 1 else record.probe,
        xcoords_start=record.xcoords_start,
        ycoords_start=record.ycoords_start,
        scan_index=record.scan_index,
        objectGuess=record.object,
        mask=record.mask,
        metadata=metadata or None,
        units=record.units,
    )
    return ScanStream.joined(record.patterns, record.true_patches, fields)


def _number(value: Any, name: str) -> float | None:
    if value is None:
        return None
    found = np.asarray(value)
    if found.size != 1 or found.dtype.kind not in "iuf":
        raise DataError(f"{name}: expected one number, found {value!r}; correct it")
    return float(found.reshape(-1)[0])
