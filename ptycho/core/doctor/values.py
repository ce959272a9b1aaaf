"""Are these the numbers that a detector gives? NaN, negative values, amplitude or counts, saturation, dose."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.core.doctor.findings import Finding, Severity
from ptycho.core.doctor.mending import named, ranges
from ptycho.core.doctor.statistics import ScanStatistics
from ptycho.core.scaling import recorded_photons
from ptycho.core.scan.scan import MARK, ScanFile
from ptycho.errors import DataError
from ptycho.networks.registry import PATTERN_SIZES

__all__ = [
    "check_dose",
    "check_numbers",
    "check_repeats",
    "check_saturation",
    "check_size",
    "check_units",
    "insane_patterns",
]

Array = NDArray[Any]

_CERTAIN = ("integers", "whole squares", "whole values", "whole steps")
"""Rules of `decide_units` that chance does not satisfy."""
_CLIPPED = 8
"""Fewest pixels at the largest value that can be called saturated."""
_PILED = 3.0
"""How many times more pixels than a step of the counter should hold make a ceiling."""
_LONG = 80
"""Letters of a list of patterns that a sentence shows."""
_FEW_PHOTONS = 1000
"""Photons per pattern below which little can be reconstructed."""
_FEW_BRIGHT = 0.05
"""Share of the patterns that may be so and be left out of everything else."""
_DARK, _BRIGHT = 0.02, 20.0
"""Energy of a pattern relative to the median, beyond which it is no pattern of this scan."""


def check_size(scan: ScanFile, made_to_fit: tuple[str, ...] = ()) -> Finding:
    """Is the side of a pattern one that the solver takes as it is, and the networks?

    Args:
        scan: the scan as it is examined.
        made_to_fit: what was done to its patterns for that (`fit_stream`).
    """
    N, n = scan.diff3d.shape[-1], len(scan.diff3d)
    numbers = {"patterns": n, "N": N, "made_to_fit": list(made_to_fit)}
    sentence = f"{n} patterns of {N} x {N} pixels."
    if made_to_fit:
        sentence = f"{n} patterns, examined as {N} x {N} pixels, as they are reconstructed: {'; '.join(made_to_fit)}."
    if N not in PATTERN_SIZES:
        sizes = ", ".join(map(str, PATTERN_SIZES))
        sentence += f" Networks, which take {sizes}, are given the nearest size; ptycho reconstruct takes these."
    return Finding("pattern size", "note" if made_to_fit or N not in PATTERN_SIZES else "ok", sentence, numbers)


def check_numbers(statistics: ScanStatistics) -> Finding:
    """Are all values in valid pixels finite, and none negative that no subtracted background explains?"""
    infinite, marked, negative = statistics.not_finite - statistics.marked, statistics.marked, statistics.negative
    numbers = {"not_finite": infinite, "marked": marked, "negative": negative}
    if infinite or marked or negative:
        marks = f", {marked} are {MARK}, marks of no count," if marked else ""
        broken, pixels = statistics.broken, bool(statistics.unusable.any())
        advice = [
            *(["mark these pixels as bad: ptycho dataset mask --invalid"] if pixels else []),
            *(
                [f"leave out {named(broken, 'pattern')}: ptycho dataset subsample --drop {ranges(broken)}"]
                * (broken.size > 0)
            ),
        ]
        sentence = (
            f"{infinite} values in valid pixels are NaN or infinite{marks} and {negative} are negative; "
            f"{', and '.join(advice)}."
        )
        mend = (
            *(("mask --invalid",) if pixels else ()),
            *((f"subsample --drop {ranges(broken)}",) if broken.size else ()),
        )
        return Finding("numbers", "fault", sentence, numbers | {"broken": broken[:50].tolist()}, mend)
    if statistics.subtracted is not None:
        return _of_subtracted(statistics, numbers)
    return Finding("numbers", "ok", "Every value in a valid pixel is finite and not negative.", numbers)


def _of_subtracted(statistics: ScanStatistics, numbers: dict[str, Any]) -> Finding:
    """What is below 0 where a background was subtracted, and what is done about it."""
    assert statistics.subtracted is not None
    added = statistics.subtracted[statistics.valid]
    numbers = numbers | {"lowest": float(statistics.lowest[statistics.valid].min()), "added": float(added.mean())}
    sentence = (
        f"Values go below 0, down to {numbers['lowest']:.3g}, as after a background is subtracted. Iteration adds "
        f"{added.mean():.3g} per pixel, up to {added.max():.3g}, to the patterns and to what object and probe make of "
        "them, so that nothing is cut off; networks get them without it, 0 at least."
    )
    return Finding("numbers", "note", sentence, numbers)


def check_units(statistics: ScanStatistics) -> Finding:
    """Amplitude or counts, and does the file agree with its numbers?"""
    measured, declared = statistics.measured, statistics.declared
    numbers = {
        "declared": declared,
        "measured": None if measured is None else measured.units,
        "rule": None if measured is None else measured.rule,
    }
    if measured is None:
        if declared is not None:
            return Finding("units", "ok", f"The file says {declared}; the numbers alone do not tell.", numbers)
        sentence = (
            "Neither the file nor its numbers tell whether these are amplitudes or photon counts: no value or square "
            "is whole, and no energy of a probe fits either. Say --units amplitude or --units counts."
        )
        return Finding("units", "fault", sentence, numbers)
    if declared is not None and declared != measured.units:
        severity: Severity = "fault" if measured.rule in _CERTAIN else "warning"
        sentence = (
            f"The file says {declared}, but its numbers say {measured}; if the numbers are right, "
            f"correct `units` in the file or say --units {measured.units}."
        )
        return Finding("units", severity, sentence, numbers, (f"--units {measured.units}",))
    return Finding("units", "ok", f"The patterns hold {measured}.", numbers)


def check_saturation(statistics: ScanStatistics, hot: Array) -> Finding:
    """Do many pixels share the largest value, as they do where a counter ends?

    Below a true maximum values thin out, so that a single step of the counter holds no more pixels at the top than
    further down. The number of pixels per step is taken from the fifth of intensity below the largest value. Values
    that only hot pixels (N, N) reach, and those at which they are stuck, are theirs.
    """
    (value, often), *below = _without(hot, statistics) or ((0.0, 0),)
    counts = statistics.units == "counts"
    share = 0.8 if counts else np.sqrt(0.8)
    near = sum(count for v, count in below if v >= share * value)
    steps = (value if counts else value**2) * (statistics.counts_per_intensity or np.inf)
    expected = max(near / max(0.2 * steps, 1.0), below[0][1] if below else 0)
    numbers = {"largest": value, "pixels_at_largest": often, "pixels_near_it": near, "pixels_per_step": expected}
    # one or two photons are no ceiling: of the value below, 0, there may be fewer
    if often >= _CLIPPED and often > _PILED * expected and steps > 2.5:
        if ((statistics.highest >= value) | ~statistics.valid).all():
            sentence = f"All pixels reach {value:g}, the largest value: the detector is saturated; expose for less."
            return Finding("saturation", "fault", sentence, numbers)
        mend = f"mask --above {int(value) if value == int(value) else value!r}"
        sentence = (
            f"{often} pixels hold exactly {value:g}, the largest value, where {expected:.2g} would be expected: the "
            f"detector is saturated. Mask these pixels (ptycho dataset {mend}) or expose for less."
        )
        return Finding("saturation", "fault", sentence, numbers, (mend,))
    times = "once" if often == 1 else f"{often} times"
    sentence = f"No ceiling: the largest value, {value:g}, occurs {times}; {near} pixels are in the fifth below it."
    return Finding("saturation", "ok", sentence, numbers)


def _without(hot: Array, statistics: ScanStatistics) -> list[tuple[float, int]]:
    """(value, how often) of the largest values, largest first, without those of hot pixels."""
    others = statistics.highest[statistics.valid & ~hot]
    largest, stuck = others.max(initial=0.0), hot & (statistics.lowest == statistics.highest)
    values, counts = np.unique(statistics.highest[stuck], return_counts=True)
    theirs = dict(zip(values.tolist(), (counts * len(statistics.energies)).tolist(), strict=True))
    rest = ((value, often - theirs.get(value, 0)) for value, often in statistics.top if value <= largest)
    return [(value, often) for value, often in rest if often > 0]


def check_repeats(statistics: ScanStatistics) -> Finding:
    """Is every pattern one of its own? Photons never make the same pattern twice; a detector that hangs does."""
    copies, n = statistics.copies, len(statistics.energies)
    numbers: dict[str, Any] = {"count": len(copies), "patterns": copies[:50].tolist()}
    if not len(copies) or statistics.counts_per_intensity is None:  # without noise the bare beam is always the same
        return Finding("repeated patterns", "ok", "No pattern is a copy of another.", numbers)
    if len(copies) > n / 2:
        sentence = f"{len(copies)} of {n} patterns are copies of others, value by value: the detector hung."
        return Finding("hung detector", "fault", sentence, numbers)
    sentence = (
        f"{named(copies, 'pattern')} {'are copies of others' if len(copies) > 1 else 'is a copy of another'}, value by "
        f"value: the detector hung, or frames were written twice. Leave them out: ptycho dataset subsample --drop "
        f"{ranges(copies)}."
    )
    return Finding("repeated patterns", "fault", sentence, numbers, (f"subsample --drop {ranges(copies)}",))


def insane_patterns(statistics: ScanStatistics) -> NDArray[np.intp]:
    """Patterns so much brighter than the others that they are none of the scan; none where they are many."""
    bright = np.flatnonzero(statistics.energies > _BRIGHT * np.median(statistics.energies))
    return bright if len(bright) <= max(1, _FEW_BRIGHT * len(statistics.energies)) else bright[:0]


def check_dose(statistics: ScanStatistics, scan: ScanFile, covered_pixels: float | None) -> Finding:
    """How many photons are there, and are all patterns exposed alike?"""
    energy = float(np.median(statistics.energies))
    try:
        recorded = recorded_photons(scan.metadata)
    except DataError as error:
        return Finding("dose", "warning", f"The dose: {error}.", {"photons_per_pattern": None})
    mean = float(statistics.energies.mean())
    if statistics.counts_per_intensity is not None:
        photons, source = mean * statistics.counts_per_intensity, "measured"
    elif recorded is not None:
        photons, source = float(recorded), "as the file says"
    else:
        photons, source = None, "unknown"
    odd = np.flatnonzero((statistics.energies < _DARK * energy) | (statistics.energies > _BRIGHT * energy))
    dark = int(np.count_nonzero(statistics.energies < _DARK * energy))
    per_pixel = None
    if photons is not None and covered_pixels is not None:
        per_pixel = photons * len(statistics.energies) / covered_pixels
    numbers = {
        "photons_per_pattern": photons,
        "photons_per_object_pixel": per_pixel,
        "dark_patterns": dark,
        "bright_patterns": len(odd) - dark,
        "odd_patterns": odd[:50].tolist(),
        "recorded": recorded,
    }
    if len(odd) or energy <= 0:
        mend = f"subsample --drop {ranges(odd)}"
        shown = mend if len(mend) < _LONG else mend[:_LONG].rpartition(",")[0] + ",..."
        sentence = (
            f"{dark} of {len(statistics.energies)} patterns hold less than 2 % and {len(odd) - dark} more than 20 "
            "times the median intensity: a shutter, a beam loss or wrong frames. Leave them out: ptycho dataset "
            f"{shown}."
        )
        return Finding("dose", "warning", sentence, numbers, (mend,) if 0 < len(odd) < len(statistics.energies) else ())
    if photons is None:
        sentence = (
            "The dose is unknown: the numbers have no photon steps and the file records no nphotons; set nphotons."
        )
        return Finding("dose", "note", sentence, numbers)
    text = f"{photons:.3g} photons per pattern ({source})"
    if per_pixel is not None:
        text += f", {per_pixel:.3g} per covered object pixel"
    if source == "measured" and recorded is not None and not 0.5 <= float(recorded) / photons <= 2:
        sentence = (
            f"{text}, but the file records nphotons = {float(recorded):.3g}; the patterns are believed, correct it."
        )
        return Finding("dose", "warning", sentence, numbers)
    if photons < _FEW_PHOTONS:
        sentence = f"Only {text}: expect a grainy object; expose longer, or scan more densely."
        return Finding("dose", "warning", sentence, numbers)
    return Finding("dose", "ok", f"{text[:1].upper()}{text[1:]}.", numbers)
