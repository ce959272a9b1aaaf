"""Where patterns slip along their positions: a frame that was lost or doubled, from one pattern on or up to another."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ptycho.core.doctor.detector import check_centre, dead_pixels, hot_pixels
from ptycho.core.doctor.frame_shift import ShiftTest, Slip, may_be_off, rank_among
from ptycho.core.doctor.held_out import foretell, inner_points
from ptycho.core.doctor.position_scale import scaled
from ptycho.core.doctor.samples import Sample, Sampler
from ptycho.core.doctor.statistics import gather
from ptycho.core.scan.stream import ScanStream

__all__ = ["find_slip", "sampler_of", "slip_of"]

_PART = 0.4
"""Share of the scan at its beginning and at its end that are tried by themselves for a slip in between."""
_MIDDLE = (0.5, 0.35, 0.65)
"""Where in the scan a slip that ends again is looked for."""
_AROUND = 25
"""Patterns before and after a place that are tried together, at most."""
_FEW = 10
"""The same in a scan of few patterns, which are a fifth of it, but not fewer than these."""
_ITERATIONS = 6
_TOGETHER, _TRIED = 60, 7
"""Patterns among which a slip is looked for, and places tried at a time."""
_DOUBTED = 3
"""Patterns before and after a boundary that are tried one by one."""


def slip_of(stream: ScanStream) -> Slip | None:
    """A frame that was lost or doubled on the way, in a scan with a probe; some seconds."""
    return find_slip(sampler_of(stream), 1.0)


def sampler_of(stream: ScanStream) -> Sampler:
    """What short reconstructions of a scan with a probe read, after a look at all of its patterns."""
    statistics = gather(stream)
    hot = hot_pixels(statistics)
    shift = check_centre(statistics, stream.fields, hot).numbers["shift_dy_dx"]
    return Sampler(stream, statistics, tuple(shift), hot | dead_pixels(statistics))


def find_slip(sampler: Sampler, scale: float) -> Slip | None:
    """Where patterns slip along the positions: right at the beginning of the scan, a frame or two off later on.

    The end and the beginning are tried by themselves, and where the end is not off, places in the middle; then halves,
    until few enough patterns are left to try every place.
    """
    total = len(sampler.positions[0])
    low, high = int(_PART * total), total - int(_PART * total)
    beginning = rank_among(sampler, scale, np.arange(low))
    if not beginning.right:
        return None
    last = np.arange(high, total)
    if may_be_off(sampler, scale, last, beginning):
        end = rank_among(sampler, scale, last)
        if end.wrong:
            return Slip(_boundary(sampler, scale, (0, end.best), 0, total), end.best)
    return _within(sampler, scale, beginning)


def _within(sampler: Sampler, scale: float, beginning: ShiftTest) -> Slip | None:
    """A slip that ends again, where one of some places in the middle shows it."""
    total = len(sampler.positions[0])
    for share in _MIDDLE:
        place = int(share * total)
        if not may_be_off(sampler, scale, _near(sampler, place), beginning):
            continue
        found = _around(sampler, scale, place)
        if found.wrong:
            first = _boundary(sampler, scale, (0, found.best), 0, place)
            after = _boundary(sampler, scale, (found.best, 0), place + 1, total)
            return Slip(first, found.best, None if after == total else after - 1)
    return None


def _around(sampler: Sampler, scale: float, place: int) -> ShiftTest:
    return rank_among(sampler, scale, _near(sampler, place))


def _near(sampler: Sampler, place: int) -> NDArray[np.intp]:
    """The patterns before and after a place that are tried together."""
    total = len(sampler.positions[0])
    reach = min(_AROUND, max(_FEW, total // 5))
    return np.arange(max(0, place - reach), min(total, place + reach + 1))


def _boundary(sampler: Sampler, scale: float, frames: tuple[int, int], low: int, high: int) -> int:
    """The pattern from `low` to `high` from which on all are not the first of `frames` off but the second.

    One of both is 0.
    """
    while high - low > _TOGETHER:
        middle = (low + high) // 2
        found = _around(sampler, scale, middle)
        if found.right or found.wrong:
            before = found.right == (frames[0] == 0)
            low, high = (middle, high) if before else (low, middle)
        else:
            low, high = middle - _TOGETHER // 2, middle + _TOGETHER // 2
    return _boundary_among(sampler, scale, frames, low, high)


def _boundary_among(sampler: Sampler, scale: float, frames: tuple[int, int], low: int, high: int) -> int:
    """`_boundary` by how well the patterns from `low` to `high` foretell each other."""

    def error(first: int) -> float:
        patterns = np.arange(low, high)
        sample = _placed(sampler, scale, patterns, patterns + np.where(patterns >= first, frames[1], frames[0]))
        return foretell(sample, inner_points(sample.xcoords, sample.ycoords), _ITERATIONS, refine_probe=True).excess

    firsts = np.arange(low, high + 1)
    while True:
        tried = np.unique(np.linspace(firsts[0], firsts[-1], _TRIED).round().astype(int))
        best = int(np.argmin([error(int(first)) for first in tried]))
        if len(firsts) <= _TRIED:
            return _settled(sampler, scale, frames, np.arange(low, high), int(tried[best]))
        firsts = np.arange(tried[max(0, best - 1)], tried[min(len(tried) - 1, best + 1)] + 1)


def _settled(sampler: Sampler, scale: float, frames: tuple[int, int], patterns: NDArray[np.intp], first: int) -> int:
    """A boundary to the pattern: each of those next to it is predicted at both of its places, from the others."""
    total, places = len(sampler.positions[0]), patterns + np.where(patterns >= first, frames[1], frames[0])
    both = (patterns + min(frames) >= 0) & (patterns + max(frames) < total)
    doubted = both & (patterns >= first - _DOUBTED) & (patterns < first + _DOUBTED)
    inside = (places >= 0) & (places < total)
    errors = []
    for offset in frames:
        sample = _placed(sampler, scale, patterns, np.where(doubted, patterns + offset, places))
        found = foretell(sample, doubted[inside], _ITERATIONS, refine_probe=True)
        errors.append(found.squares.sum((1, 2), dtype=np.float64))
    before, after = (np.r_[0.0, np.cumsum(values)] for values in errors)
    return int(patterns[doubted][0] + np.argmin(before + after[-1] - after)) if doubted.any() else first


def _placed(sampler: Sampler, scale: float, patterns: NDArray[np.intp], places: NDArray[np.intp]) -> Sample:
    """Patterns at these places, those of them that are in the scan."""
    inside = (places >= 0) & (places < len(sampler.positions[0]))
    return scaled(sampler.read(places[inside], patterns[inside]), scale)
