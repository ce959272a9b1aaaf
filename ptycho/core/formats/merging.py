"""Two files of one scan as one record: the patterns of one, the positions of the other."""

from __future__ import annotations

import logging
from dataclasses import fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.core.formats.record import ScanRecord
from ptycho.errors import DataError

__all__ = ["merged"]

logger = logging.getLogger(__name__)

_PER_POINT = ("xcoords", "ycoords", "xcoords_start", "ycoords_start", "scan_index")
_SHOWN = 12
_STACKS = ("patterns", "true_patches")

Indexes = NDArray[np.int64]


def merged(first: ScanRecord, second: ScanRecord) -> ScanRecord:
    """What two files say together; where both say the same thing, the second counts.

    Patterns of one and positions of the other are paired by `indexes` and keep the order of the patterns; points
    without a partner are dropped.

    Raises:
        DataError: no index in common, or one that is there twice.
    """
    if second.patterns is not None and first.patterns is not None:
        first = replace(_without_points(first), **{name: getattr(first, name) for name in (*_PER_POINT, "indexes")})
    if first.count is not None and second.count is not None:
        if second.patterns is not None:
            chosen_second, chosen_first = _pairing(_indexes(second), _indexes(first))
        else:
            chosen_first, chosen_second = _pairing(_indexes(first), _indexes(second))
        for record, chosen in ((first, chosen_first), (second, chosen_second)):
            _tell_left_out(record, chosen)
        first, second = _selected(first, chosen_first), _selected(second, chosen_second)
    known = {f.name: getattr(second, f.name) for f in fields(ScanRecord) if getattr(second, f.name) is not None}
    known["metadata"] = first.metadata | second.metadata
    known["losses"] = second.losses or first.losses
    if second.xcoords is None:
        known["position_unit"] = first.position_unit
    elif second.position_unit != first.position_unit:
        known |= {"xcoords_start": second.xcoords_start, "ycoords_start": second.ycoords_start}
    return replace(first, **known)


def _tell_left_out(record: ScanRecord, chosen: Indexes) -> None:
    gone = np.setdiff1d(_indexes(record), _indexes(record)[chosen])
    if gone.size:
        kinds = ("patterns", "position") if record.patterns is not None else ("positions", "pattern")
        listed = ", ".join(map(str, gone[:_SHOWN])) + (f" and {gone.size - _SHOWN} more" if gone.size > _SHOWN else "")
        logger.warning("%s without a %s are left out: %s", *kinds, listed)


def _selected(record: ScanRecord, chosen: Indexes) -> ScanRecord:
    """The points `chosen` of a record, in that order."""
    changes: dict[str, Any] = {"indexes": _indexes(record)[chosen]}
    for name in _STACKS:
        stack = getattr(record, name)
        changes[name] = None if stack is None else stack.take(chosen)
    for name in _PER_POINT:
        values = getattr(record, name)
        changes[name] = None if values is None else values[chosen]
    if record.mask is not None and record.mask.ndim == 3:
        changes["mask"] = record.mask[chosen]
    return replace(_without_points(record), **changes)


def _without_points(record: ScanRecord) -> ScanRecord:
    """The record without what there is one of per point."""
    gone: dict[str, Any] = dict.fromkeys((*_PER_POINT, *_STACKS, "indexes"))
    if record.mask is not None and record.mask.ndim == 3:
        gone["mask"] = None
    return replace(record, **gone)


def _indexes(record: ScanRecord) -> Indexes:
    return np.arange(record.count or 0, dtype=np.int64) if record.indexes is None else record.indexes


def _pairing(leading: Indexes, other: Indexes) -> tuple[Indexes, Indexes]:
    """Places of the common indexes in both, in the order of `leading`."""
    for indexes in (leading, other):
        values, counts = np.unique(indexes, return_counts=True)
        if counts.max(initial=1) > 1:
            raise DataError(
                f"indexes of patterns and positions: expected every one once, found {values[counts > 1][0]} "
                f"{counts.max()} times; number them"
            )
    common, places, partners = np.intersect1d(leading, other, return_indices=True)
    if common.size == 0:
        raise DataError("patterns and positions: expected common indexes, found none; are these files of one scan?")
    order = np.argsort(places, kind="stable")
    return places[order], partners[order]
