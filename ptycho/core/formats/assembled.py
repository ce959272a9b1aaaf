"""A scan put together of parts: files, and what somebody says of them on a command line."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ptycho.core.formats import registry
from ptycho.core.formats.merging import merged
from ptycho.core.formats.position_table import Positions, positions_at
from ptycho.core.formats.record import ScanRecord, check_record, completed
from ptycho.core.formats.sources import Source, array_in, frames_at, source
from ptycho.core.formats.turning import turned
from ptycho.core.physics.near_field import KEY
from ptycho.core.physics.resample import fitted_probe
from ptycho.core.scaling import Units
from ptycho.core.scan.detector_values import counts_of
from ptycho.core.scan.stream import Frames
from ptycho.core.units import Particle
from ptycho.errors import ConfigError, DataError

__all__ = ["LENGTHS", "Flip", "PositionUnit", "ScanParts", "as_near_field", "assembled"]

logger = logging.getLogger(__name__)

PositionUnit = Literal["px", "m", "mm", "um", "nm"]
Flip = Literal["x", "y", "xy"]

LENGTHS: dict[str, float] = {"m": 1.0, "mm": 1e-3, "um": 1e-6, "nm": 1e-9}
"""Units of positions in metres; `px` are pixels of the object."""

_GEOMETRY = ("energy_eV", "distance_m", "detector_pixel_m", "object_pixel_m")
_SET_UP = (*_GEOMETRY, "units", "particle", "near_field", "magnification")
_PROBES = ("probeGuess", "probe")
_MASKS = ("mask", "bad_pixels", "pixel_mask")


@dataclass(frozen=True)
class ScanParts:
    """What a scan is made of; what nobody says is None.

    What is said of a part wins over a file that has the whole.
    """

    files: tuple[Path, ...] = ()
    """Of any format; of several the later ones win where both say the same."""
    like: Path | None = None
    """Of any format: a scan or a result of the same set-up, whose probe, mask and geometry are taken, and whose
    patterns, positions and object are not."""
    patterns: str | Frames | None = None
    """FILE[:INSIDE], a folder or a pattern of files (`ptycho.core.formats.sources`); or the patterns themselves."""
    positions: str | Positions | None = None
    """FILE[:X,Y[,FRAME]] (`ptycho.core.formats.position_table`); or the positions themselves."""
    position_unit: PositionUnit | None = None
    """Of `positions`; None where the table says it."""
    mask: str | None = None
    """FILE[:INSIDE], (rows, columns) or one per pattern. Of two values that most pixels have is valid, else 0 is."""
    probe: str | None = None
    """FILE[:INSIDE], complex (N, N) or (M, N, N); or any file that has a probe."""
    energy_eV: float | None = None
    distance_m: float | None = None
    detector_pixel_m: float | None = None
    object_pixel_m: float | None = None
    magnification: float | None = None
    """Of near field (`ptycho.core.physics.near_field`), 1 without a cone; None: as the files say, else far field."""
    particle: Particle | None = None
    units: Units | None = None
    flip: Flip | None = None
    """Turn the sign of positions along these axes."""
    rotation_deg: float = 0.0
    """Turn positions, after `flip`, from x towards y."""


def assembled(parts: ScanParts, fitting: bool = True) -> ScanRecord:
    """The scan of these parts, what is wrong with the patterns mended as `counts_of` does.

    Args:
        parts: files, and what is said of them.
        fitting: whether there have to be as many positions as patterns; of several files in any case.

    Raises:
        ConfigError: nothing to read.
        MissingFileError, DataError: one line that names the file or the flag.
    """
    record = _whole(parts.files)
    # positions first: their number tells how patterns of MATLAB lie
    table = positions_at(parts.positions) if isinstance(parts.positions, str) else parts.positions
    if parts.patterns is not None:
        record = _with_patterns(record, parts.patterns, None if table is None else table.x.size)
    if parts.like is not None and record is not None:
        record = _set_up_like(record, parts.like)
    if record is None:
        raise ConfigError("expected a scan, found no file; name one, or --patterns and --scan-positions")
    if table is not None:
        record = _with_positions(record, table, parts)
    if parts.mask is not None:
        record = replace(record, mask=_mask(parts.mask, record))
    pixel = None
    if parts.probe is not None:
        probe, pixel = _probe(parts.probe)
        record = replace(record, probe=probe)
    record = _told(record, parts)
    if record.probe is not None and record.probe.shape[-1] != record.side:
        record = replace(record, probe=_fitting(record, parts.probe is None, pixel))
    if parts.flip or parts.rotation_deg:
        record = turned(record, parts.flip or "", parts.rotation_deg)
    return _counted(check_record(record) if fitting else record)


def _whole(files: tuple[Path, ...]) -> ScanRecord | None:
    """What the files say together; a single one need not fit itself."""
    record: ScanRecord | None = None
    for path in files:
        logger.info("%s: %s", path, registry.recognise(path).title)
        part = registry.read(path, fitting=len(files) > 1)
        record = part if record is None else merged(record, part)
    return record


def _with_patterns(record: ScanRecord | None, given: str | Frames, count: int | None) -> ScanRecord:
    """The record with other patterns; with the set-up of their file where that is of a format that is known."""
    if isinstance(given, str):
        part = _record_of(source(given), given, count)
        assert part.patterns is not None
        n, height, width = part.patterns.shape
        logger.info("%s: %d patterns of %d x %d, %s", given, n, height, width, part.patterns.dtype)
    else:
        part = _record_of_frames(given)
    own = replace(part, xcoords=None, ycoords=None, xcoords_start=None, ycoords_start=None, scan_index=None)
    return own if record is None else merged(record, own)


def _record_of(named: Source, text: str, count: int | None) -> ScanRecord:
    if len(named.paths) == 1 and named.inside is None:
        entry = registry.known(named.paths[0])
        if entry is not None:
            part = registry.read(named.paths[0])
            if part.patterns is not None:
                return part
    frames = frames_at(named, count)
    if len(frames) == 0:
        raise DataError(f"{text}: expected patterns, found none")
    return _record_of_frames(frames)


def _record_of_frames(frames: Frames) -> ScanRecord:
    return ScanRecord(patterns=frames, units="counts" if frames.dtype.kind in "iu" else None)


def _set_up_like(record: ScanRecord, path: Path) -> ScanRecord:
    """The record with what a file says of the set-up, where nothing says it yet."""
    theirs = registry.read(registry.in_folder(path), fitting=False)
    logger.info("%s: %s, for the set-up", path, registry.recognise(registry.in_folder(path)).title)
    known = {name: getattr(theirs, name) for name in _SET_UP if getattr(record, name) in (None, False)}
    known["mask"] = theirs.mask if theirs.mask is not None and theirs.mask.ndim == 2 else record.mask
    known["probe"] = record.probe if theirs.probe is None else theirs.probe
    return replace(record, **known, metadata=theirs.metadata | record.metadata)


def _with_positions(record: ScanRecord, table: Positions, parts: ScanParts) -> ScanRecord:
    unit, factor = parts.position_unit, table.factor
    if unit is None and factor is None:
        spans = " and ".join(f"{name} {values.min():g} to {values.max():g}" for name, values in _axes(table))
        name = parts.positions if isinstance(parts.positions, str) else "positions"
        raise DataError(f"{name}: expected positions with a unit, found {spans}; say which: --unit px, m, mm, um or nm")
    scale = 1.0 if unit == "px" else LENGTHS[unit] if unit is not None else factor
    assert scale is not None
    made = ScanRecord(
        xcoords=scale * table.x,
        ycoords=scale * table.y,
        position_unit="px" if unit == "px" else "m",
        indexes=table.frames,
    )
    gone = dict.fromkeys(("xcoords", "ycoords", "xcoords_start", "ycoords_start"))
    if record.patterns is not None and record.count != len(record.patterns):
        record = replace(record, **gone, scan_index=None, indexes=None)  # type: ignore[arg-type]
    if record.patterns is not None and table.frames is None:
        return replace(
            record,
            **{**gone, "xcoords": made.xcoords, "ycoords": made.ycoords},  # type: ignore[arg-type]
            position_unit=made.position_unit,
            origin_px=None,
        )
    return merged(record, made)


def _axes(table: Positions) -> tuple[tuple[str, NDArray[np.float64]], ...]:
    return ("x", table.x), ("y", table.y)


def _mask(text: str, record: ScanRecord) -> NDArray[np.bool_] | None:
    """True where valid; None where all are."""
    named = source(text)
    found = np.asarray(array_in(named.paths[0], named.inside, _MASKS))
    if found.dtype.kind not in "biuf" or found.ndim not in (2, 3):
        raise DataError(f"{text}: expected a mask (rows, columns), found {found.shape} of {found.dtype}; name another")
    values, counts = np.unique(found, return_counts=True)
    good = values[np.argmax(counts)] if len(values) <= 2 else 0
    valid = np.asarray(found == good)
    bad, total = int(np.count_nonzero(~valid)), valid.size
    logger.info("%s: %d of %d pixels are masked; the value %s is taken for valid", text, bad, total, good)
    return valid if bad else None


def _probe(text: str) -> tuple[NDArray[Any], float | None]:
    """(M, N, N) complex, and its pixel in metres where that is known."""
    named = source(text)
    path = named.paths[0]
    if named.inside is None and registry.known(path) is not None:
        record = registry.read(path, fitting=False)
        if record.probe is not None:
            return record.probe, completed(record).object_pixel_m
    probe = np.asarray(array_in(path, named.inside, _PROBES))
    while probe.ndim > 3:
        probe = probe[0]
    if probe.ndim < 2 or probe.dtype.kind not in "iufc":
        raise DataError(f"{text}: expected a probe (N, N) or (modes, N, N), found {probe.shape}; name another")
    return (probe[None] if probe.ndim == 2 else probe).astype(np.complex64), None


def _fitting(record: ScanRecord, in_file: bool, pixel_m: float | None) -> NDArray[Any]:
    """The probe of a record, of the size of its patterns.

    Args:
        record: with a probe of another size.
        in_file: whether it came with the positions, in whose pixels it then is.
        pixel_m: its pixel, where it did not and it is known.
    """
    assert record.probe is not None and record.side is not None
    if in_file:
        made, change = fitted_probe(record.probe, record.side, 1.0, 1.0)
    else:
        made, change = fitted_probe(record.probe, record.side, pixel_m, completed(record).object_pixel_m)
    logger.warning("probe: %s", change)
    return made


def _told(record: ScanRecord, parts: ScanParts) -> ScanRecord:
    """The record with what is said of the set-up; a size that follows from that is worked out anew."""
    given = {name: value for name in _GEOMETRY if (value := getattr(parts, name)) is not None}
    changes: dict[str, Any] = dict(given)
    if "object_pixel_m" in given and "detector_pixel_m" not in given:
        if record.energy_eV is not None and record.distance_m is not None:
            changes["detector_pixel_m"] = None
    elif (given and record.detector_pixel_m is not None) or "detector_pixel_m" in given:
        changes.setdefault("object_pixel_m", None)
    if parts.particle is not None and record.detector_pixel_m is not None:
        changes.setdefault("object_pixel_m", None)
    for name in ("units", "particle"):
        if getattr(parts, name) is not None:
            changes[name] = getattr(parts, name)
    if parts.magnification is not None:
        return as_near_field(replace(record, **changes), parts.magnification)
    return replace(record, **changes)


def as_near_field(record: ScanRecord, magnification: float) -> ScanRecord:
    """The record as one of near field, whatever its files say, of this magnification.

    Raises:
        ConfigError: it is not positive and finite.
    """
    if not 0 < magnification < math.inf:
        raise ConfigError(f"near field: expected a magnification above 0, found {magnification}; 1 is a parallel beam")
    metadata = {name: value for name, value in record.metadata.items() if name != KEY}
    return replace(record, near_field=True, magnification=magnification, metadata=metadata)


def _counted(record: ScanRecord) -> ScanRecord:
    if record.patterns is None:
        return record
    found = counts_of(record.patterns, record.mask, record.units)
    for sentence in found.sentences:
        logger.warning("patterns: %s", sentence)
    return replace(record, mask=found.mask)
