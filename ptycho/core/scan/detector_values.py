"""What detectors and their programs write that is no count: marks of dead pixels, and counts below 0."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.core.files.scratch import scratch_array
from ptycho.core.scaling import Units
from ptycho.core.scan.scan import MARK, ScanFile, marked_values
from ptycho.core.scan.stream import Frames, ScanStream

__all__ = ["Counts", "counts_of", "counts_of_scan", "counts_of_stream", "is_mark"]

logger = logging.getLogger(__name__)

Array = NDArray[Any]

_SAMPLE = 32
_MARK_16 = (1 << 16) - 1
"""The same in files of 16 bits; also a full counter, so that it counts only where it is always there."""
_FEW, _FAINT = 0.1, 0.01


@dataclass(frozen=True)
class Counts:
    """Patterns without what is no count."""

    frames: Frames
    """(n, rows, columns)."""
    mask: Array | None
    """(rows, columns) or (n, rows, columns), True where valid."""
    sentences: tuple[str, ...]
    """What was found and done, a line each."""


def is_mark(values: Array) -> Array:
    """Where values are what detectors write for a pixel that is none: 2^32 - 1, in uint16 also 2^16 - 1."""
    return marked_values(values) | (values == _MARK_16) if _sixteen_bits(values) else marked_values(values)


def counts_of(frames: Frames, mask: Array | None, units: str | Units | None) -> Counts:
    """Patterns with marked pixels in the mask and negative counts at 0, by what 32 of them, evenly spaced, show.

    * 2^32 - 1 in any of them is a mark, 2^16 - 1 in 16 bits and negative integers where they are in all of them.
    * Other negative values of valid pixels are what a subtracted background leaves, and become 0, where they are no
      more than 10 % of all or nowhere below -1 % of the maximum. Else they stay, for `check_values` to refuse.

    Patterns stay where they are; values are changed as they are read.

    Args:
        frames: (n, rows, columns).
        mask: (rows, columns) or (n, rows, columns), True where valid.
        units: of the patterns; amplitudes have no negative values that a rule could explain.
    """
    if len(frames) == 0 or frames.dtype.kind not in "iuf":
        return Counts(frames, mask, ())
    chosen = np.unique(np.linspace(0, len(frames) - 1, min(len(frames), _SAMPLE)).round().astype(np.intp))
    values, sentences = frames.read(chosen), []
    marked = _marked(values) & (True if mask is None else mask if mask.ndim == 2 else mask[chosen].any(axis=0))
    if marked.any() and not marked.all():
        mask = ~marked if mask is None else np.asarray(mask & ~marked)
        what = sorted({int(value) for value in np.unique(values[:, marked])} & _known_marks(values))
        sentences.append(f"{marked.sum()} pixels hold {', '.join(map(str, what))}, marks of no count: masked")
    if units != "amplitude" and frames.dtype.kind in "if":
        valid = values if mask is None else np.where(mask[chosen] if mask.ndim == 3 else mask, values, 0)
        negative = np.count_nonzero(valid < 0)
        if 0 < negative <= _FEW * valid.size or (negative and -valid.min() <= _FAINT * valid.max()):
            frames = frames.map(lambda block: np.maximum(block, 0), None, frames.dtype)
            sentences.append(
                f"{negative} of {valid.size} values looked at are below 0, down to {valid.min():g} "
                f"(maximum {valid.max():g}), as after a background is subtracted: set to 0"
            )
    return Counts(frames, mask, tuple(sentences))


def counts_of_scan(scan: ScanFile) -> ScanFile:
    """A scan in memory or mapped, as `counts_of`; what was done is logged. One that cannot be a scan stays."""
    if scan.diff3d.ndim != 3 or not _fits(scan.mask, scan.diff3d.shape):
        return scan
    found = counts_of(Frames.of(scan.diff3d), scan.mask, scan.units)
    _tell(found)
    patterns = scan.diff3d
    if found.frames.array is None:
        patterns = found.frames.into(scratch_array(patterns.shape, patterns.dtype))
    return replace(scan, diff3d=patterns, mask=found.mask) if found.sentences else scan


def counts_of_stream(stream: ScanStream) -> ScanStream:
    """A scan whose frames stay in the file, as `counts_of`; what was done is logged."""
    if not _fits(stream.fields.mask, stream.frames.shape):
        return stream
    found = counts_of(stream.frames, stream.fields.mask, stream.fields.units)
    _tell(found)
    return ScanStream.joined(found.frames, stream.patches, replace(stream.fields, mask=found.mask))


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
