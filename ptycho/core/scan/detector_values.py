"""What detectors and their programs write that is no count: marks of dead pixels, and counts below 0."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.core.scaling import Units
from ptycho.core.scan.scan import MARK, ScanFile, marked_values
from ptycho.core.scan.stream import Frames, ScanStream
from ptycho.core.scan.subtracted import sampled, subtracted_background

__all__ = ["Counts", "counts_of", "counts_of_scan", "counts_of_stream", "is_mark"]

logger = logging.getLogger(__name__)

Array = NDArray[Any]

_MARK_16 = (1 << 16) - 1
"""The same in files of 16 bits; also a full counter, so that it counts only where it is always there."""


@dataclass(frozen=True)
class Counts:
    """What patterns hold beside counts."""

    mask: Array | None
    """(rows, columns) or (n, rows, columns), True where valid and not marked."""
    sentences: tuple[str, ...]
    """What was found, a line each."""


def is_mark(values: Array) -> Array:
    """Where values are what detectors write for a pixel that is none: 2^32 - 1, in uint16 also 2^16 - 1."""
    return marked_values(values) | (values == _MARK_16) if _sixteen_bits(values) else marked_values(values)


def counts_of(frames: Frames, mask: Array | None, units: str | Units | None) -> Counts:
    """Marked pixels as a mask, and what is below 0, by what 32 of them, evenly spaced, show.

    * 2^32 - 1 in any of them is a mark, 2^16 - 1 in 16 bits and negative integers where they are in all of them.
    * Other negative values of valid pixels stay: what a subtracted background leaves is said
      (`ptycho.core.scan.subtracted`), all else is for `check_values` to refuse.

    Args:
        frames: (n, rows, columns).
        mask: (rows, columns) or (n, rows, columns), True where valid.
        units: of the patterns; amplitudes have no negative values that a rule could explain.
    """
    if len(frames) == 0 or frames.dtype.kind not in "iuf":
        return Counts(mask, ())
    chosen = sampled(len(frames))
    values, sentences = frames.read(chosen), []
    marked = _marked(values) & (True if mask is None else mask if mask.ndim == 2 else mask[chosen].any(axis=0))
    if marked.any() and not marked.all():
        mask = ~marked if mask is None else np.asarray(mask & ~marked)
        what = sorted({int(value) for value in np.unique(values[:, marked])} & _known_marks(values))
        sentences.append(f"{marked.sum()} pixels hold {', '.join(map(str, what))}, marks of no count: masked")
    valid = mask[chosen] if mask is not None and mask.ndim == 3 else mask
    if subtracted_background(values, valid, units) is not None:
        kept = values if valid is None else np.where(valid, values, 0)
        sentences.append(
            f"{np.count_nonzero(kept < 0)} of {kept.size} values looked at are below 0, down to {np.nanmin(kept):g} "
            f"(maximum {np.nanmax(kept):g}), as after a background is subtracted: kept, iteration adds one again"
        )
    return Counts(mask, tuple(sentences))


def counts_of_scan(scan: ScanFile) -> ScanFile:
    """A scan in memory or mapped, with the mask of `counts_of`; what was found is logged. What is no scan stays."""
    if scan.diff3d.ndim != 3 or not _fits(scan.mask, scan.diff3d.shape):
        return scan
    found = counts_of(Frames.of(scan.diff3d), scan.mask, scan.units)
    _tell(found)
    return replace(scan, mask=found.mask)


def counts_of_stream(stream: ScanStream) -> ScanStream:
    """A scan whose frames stay in the file, with the mask of `counts_of`; what was found is logged."""
    if not _fits(stream.fields.mask, stream.frames.shape):
        return stream
    found = counts_of(stream.frames, stream.fields.mask, stream.fields.units)
    _tell(found)
    return replace(stream, fields=replace(stream.fields, mask=found.mask))


def _fits(mask: Array | None, shape: tuple[int, ...]) -> bool:
    return mask is None or mask.shape in (shape, shape[1:])


def _tell(found: Counts) -> None:
    for sentence in found.sentences:
        logger.warning("patterns: %s", sentence)


def _sixteen_bits(values: Array) -> bool:
    """Whether these are unsigned integers of 16 bits, in either order of their bytes."""
    return values.dtype.kind == "u" and values.dtype.itemsize == 2


def _known_marks(values: Array) -> set[int]:
    low = int(values.min()) if values.dtype.kind == "i" else 0
    return {MARK, *([_MARK_16] if _sixteen_bits(values) else []), *range(max(low, -16), 0)}


def _marked(values: Array) -> Array:
    """(rows, columns) of a sample (b, rows, columns), True where a pixel is marked."""
    marked = np.asarray(marked_values(values).any(axis=0))
    if _sixteen_bits(values):
        marked |= (values == _MARK_16).all(axis=0)
    if values.dtype.kind == "i":
        marked |= (values < 0).all(axis=0)
    return marked
