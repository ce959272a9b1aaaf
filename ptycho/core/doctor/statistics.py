"""One pass over the patterns of a scan: everything that the checks of values and detector ask for."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from ptycho.core.scaling import Units
from ptycho.core.scan.detector_values import is_mark
from ptycho.core.scan.scan import marked_values
from ptycho.core.scan.stream import Frames, ScanStream
from ptycho.core.scan.subtracted import sampled, subtracted_background
from ptycho.core.unit_decision import UnitsDecision, decide_units
from ptycho.errors import DataError

__all__ = ["ScanStatistics", "gather"]

Array = NDArray[Any]

_SAMPLE = 32
_TOP = 0.6
"""Values above this fraction of the largest are counted one by one."""
_TOP_KEPT = 1 << 16
_TELLING = 30
"""Pixels with light without which two patterns may be alike by chance."""
_BROKEN = 0.1
"""Share of the valid pixels of a pattern that is no number, or negative, from which on the pattern is broken."""


@dataclass(frozen=True)
class ScanStatistics:
    """Sums over a scan, taken in one pass with a block of patterns in memory."""

    units: Units
    """What the numbers are taken for."""
    declared: str | None
    """What the file or the user says they are."""
    measured: UnitsDecision | None
    """What the numbers themselves say; None where they do not tell."""
    counts_per_intensity: float | None
    """Photons in one unit of intensity, where the steps of the values show them."""
    mean: NDArray[np.float64]
    """(N, N) mean intensity of each pixel, valid or not, over the frames in which it is finite."""
    lit: NDArray[np.float64]
    """(N, N) share of the frames in which the pixel is above 0."""
    lowest: Array
    """(N, N) smallest value of each pixel."""
    highest: Array
    """(N, N) largest value of each pixel."""
    energies: NDArray[np.float64]
    """(n,) intensity of each pattern over valid pixels."""
    not_finite: int
    """NaN, infinities and marks of no count (2^32 - 1) in valid pixels."""
    marked: int
    """These marks alone."""
    negative: int
    """Negative values in valid pixels that no subtracted background explains."""
    unusable: NDArray[np.bool_]
    """(N, N), True where a valid pixel is NaN, infinite, marked or negative in some pattern that is not broken."""
    broken: NDArray[np.intp]
    """Patterns of which more than a tenth is so; none where half of all are."""
    top: tuple[tuple[float, int], ...]
    """(value, how often) of the largest values in valid pixels, largest first."""
    masked_light: float
    """Share of all intensity that fell on pixels marked as not valid."""
    valid: NDArray[np.bool_]
    """(N, N), True where the pixel is valid in some pattern."""
    copies: NDArray[np.intp]
    """Patterns with light that are an earlier one over again, value by value, which photons never make."""
    subtracted: NDArray[np.float64] | None = None
    """(N, N) what iteration adds to counts, of which a background was subtracted; None where none was."""


def gather(stream: ScanStream) -> ScanStatistics:
    """Read every pattern once."""
    fields, frames = stream.fields, stream.frames
    declared = fields.units
    measured, quantum = _look_at_units(stream)
    subtracted = _subtracted(stream)
    units: Units = "counts" if (declared or (measured.units if measured else "amplitude")) == "counts" else "amplitude"
    n, *sides = frames.shape
    total, count, lit = (np.zeros(sides) for _ in range(3))
    lowest, highest = np.full(sides, np.inf), np.full(sides, -np.inf)
    energies, tally = np.zeros(n), _Top()
    not_finite = negative = marked = 0
    unusable, unusable_of_sound, broken = np.zeros(sides, bool), np.zeros(sides, bool), np.zeros(n, bool)
    masked, repeats = 0.0, _Repeats()
    for block, values in frames.blocks():
        wide = values.astype(np.float64)
        valid = np.broadcast_to(_valid(fields.mask, block), wide.shape)
        marks = marked_values(values)
        marked += int(np.count_nonzero(valid & marks))
        finite = np.isfinite(wide) & ~marks & (valid | ~is_mark(values))
        not_finite += int(np.count_nonzero(valid & ~finite))
        below = (wide < 0) & (subtracted is None)
        useless = valid & ~(finite & ~below)
        broken[block] = np.count_nonzero(useless, axis=(1, 2)) > _BROKEN * np.count_nonzero(valid, axis=(1, 2))
        unusable |= useless.any(axis=0)
        unusable_of_sound |= useless[~broken[block]].any(axis=0)
        negative += int(np.count_nonzero(valid & below))
        wide = np.where(finite, wide, 0)
        tally.add(wide[valid & finite])
        repeats.add(block.start, values)
        intensity = wide**2 if units == "amplitude" else wide if subtracted is not None else np.maximum(wide, 0)
        energies[block] = np.sum(intensity, axis=(1, 2), where=valid)
        masked += float(np.sum(intensity, where=~valid))
        total += intensity.sum(axis=0)
        count += finite.sum(axis=0)
        lit += (wide > 0).sum(axis=0)
        lowest, highest = np.minimum(lowest, wide.min(axis=0)), np.maximum(highest, wide.max(axis=0))
    light = masked + float(energies.sum())
    valid_once = np.ones(sides, bool)
    if fields.mask is not None:
        valid_once = np.asarray(fields.mask.reshape(-1, *sides).any(axis=0))
    return ScanStatistics(
        units=units,
        declared=declared,
        measured=measured,
        counts_per_intensity=quantum,
        mean=total / np.maximum(count, 1),
        lit=lit / n,
        lowest=lowest,
        highest=highest,
        energies=energies,
        not_finite=not_finite,
        marked=marked,
        negative=negative,
        unusable=unusable_of_sound if 2 * np.count_nonzero(broken) < n else unusable,
        broken=np.flatnonzero(broken & (2 * np.count_nonzero(broken) < n)),
        top=tally.result(),
        masked_light=masked / light if light > 0 else 0.0,
        valid=valid_once,
        copies=np.array(repeats.copies, np.intp),
        subtracted=subtracted,
    )


def _subtracted(stream: ScanStream) -> NDArray[np.float64] | None:
    """What a background that was subtracted asks for."""
    chosen, mask = sampled(len(stream.frames)), stream.fields.mask
    valid = mask if mask is None else np.broadcast_to(_at(mask, chosen), (len(chosen), *stream.frames.shape[1:]))
    return subtracted_background(stream.frames.read(chosen), valid, stream.fields.units)


def _look_at_units(stream: ScanStream) -> tuple[UnitsDecision | None, float | None]:
    """What the numbers say they are, and the photons in one unit of intensity where their steps show it."""
    frames: Frames = stream.frames
    chosen = np.unique(np.linspace(0, len(frames) - 1, min(len(frames), _SAMPLE)).round().astype(int))
    sample = frames.read(chosen)
    finite = np.isfinite(sample)
    valid = finite if stream.fields.mask is None else finite & _at(stream.fields.mask, chosen)
    values, probe, declared = np.where(finite, sample, 0), stream.fields.probeGuess, stream.fields.units
    try:
        decision = decide_units(values, probe, None, "error", valid)
    except DataError:
        decision = None
    if declared in get_args(Units):
        return decision, decide_units(values, probe, declared, mask=valid).photons
    return decision, None if decision is None else decision.photons


class _Repeats:
    """Which patterns repeat an earlier one, by their digests."""

    def __init__(self) -> None:
        self._seen: set[bytes] = set()
        self.copies: list[int] = []

    def add(self, first: int, patterns: Array) -> None:
        for place, pattern in enumerate(patterns, first):
            if np.count_nonzero(pattern) < _TELLING:
                continue
            digest = blake2b(pattern.tobytes(), digest_size=16).digest()
            if digest in self._seen:
                self.copies.append(place)
            self._seen.add(digest)


class _Top:
    """The largest values and how often each occurs, in bounded memory."""

    def __init__(self) -> None:
        self._values, self._counts = np.zeros(0), np.zeros(0, np.int64)

    def add(self, values: Array) -> None:
        if values.size == 0:
            return
        largest = max(float(values.max()), float(self._values.max(initial=0.0)))
        seen, often = np.unique(values[values >= _TOP * largest], return_counts=True)
        merged = np.concatenate([self._values, seen])
        unique, place = np.unique(merged, return_inverse=True)
        counts = np.bincount(place.reshape(-1), np.concatenate([self._counts, often])).astype(np.int64)
        keep = np.flatnonzero(unique >= _TOP * largest)[-_TOP_KEPT:]
        self._values, self._counts = unique[keep], counts[keep]

    def result(self) -> tuple[tuple[float, int], ...]:
        pairs = zip(self._values[::-1].tolist(), self._counts[::-1].tolist(), strict=True)
        return tuple(pairs)


def _valid(mask: Array | None, block: slice) -> Array:
    if mask is None:
        return np.ones(1, bool)
    return mask[block] if mask.ndim == 3 else mask


def _at(mask: Array, indices: Array) -> Array:
    return mask[indices] if mask.ndim == 3 else mask
