"""Do the positions belong to the patterns? Units, duplicates, order, place on the object."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from ptycho.core.doctor.findings import Finding, Severity
from ptycho.core.doctor.held_out import foretell, inner_points
from ptycho.core.doctor.mending import named, ranges
from ptycho.core.doctor.samples import Sampler, neighbourhood
from ptycho.core.doctor.statistics import ScanStatistics
from ptycho.core.geometry import astray
from ptycho.core.physics.poisson import poisson_moments
from ptycho.core.physics.probes import probe_diameter
from ptycho.core.scaling import frame_blocks
from ptycho.core.scan.stream import ScanStream

__all__ = ["check_duplicates", "check_order", "check_place", "neighbour_distance"]

Array = NDArray[Any]

_SAMPLE, _BINS = 200, 32
"""Patterns compared with each other, and the resolution at which they are."""
_PERMUTATIONS = 60
_SURE, _UNSURE = 3.5, 2.0
"""Standard deviations of chance by which patterns of near points have to be more alike than others."""
_FEW, _ENOUGH = 24, 100
"""Points below which nothing is said, and from which on a missing likeness is no accident."""
_OVERLAPPING = 0.4
"""Distance in probe diameters up to which two points are near."""
_DARK = 0.02
_STRANGE, _BAD = 6.0, 0.05
"""A pattern is like no other from so many times the scatter of all on; of the scan at most this share."""
_ITERATIONS, _OTHERS = 8, 3
"""Of a short reconstruction, and with how many other orders of its positions it is tried."""
_BELONG = 0.5
"""Error of patterns kept back, over the least with another order, up to which positions belong to patterns: it is at
most 0.45 where they do, at 55 % overlap and 1e4 photons too, 0.6 where one axis is right, 0.95 where none is."""
_WIDE = 0.1
"""Extent of a scan in diameters of its probe up to which its positions are in another unit."""
_SAME = 1e-6
"""Points nearer than this part of the scan's extent are one."""


def neighbour_distance(xcoords: Array, ycoords: Array) -> float:
    """Median distance of a scan point to its nearest neighbour at another place, pixels; nan for a single place."""
    points = np.column_stack([xcoords, ycoords])
    unit = _SAME * float(np.ptp(points, axis=0).max())
    if not unit > 0:
        return float("nan")
    points = np.unique(np.round(points / unit), axis=0) * unit
    distances, _ = KDTree(points).query(points, k=2)
    return float(np.median(np.asarray(distances)[:, 1]))


def check_duplicates(stream: ScanStream) -> Finding:
    """Are there points at exactly the same place?"""
    points = np.column_stack([stream.fields.xcoords, stream.fields.ycoords])
    finite = np.isfinite(points).all(axis=1)
    sound = points[finite]
    sound = np.delete(sound, astray(sound[:, 0], sound[:, 1], stream.frames.shape[-1]), axis=0)
    unit = _SAME * max(float(np.ptp(sound, axis=0).max(initial=0.0)), 1e-300)
    again = len(sound) - len(np.unique(np.round(sound / unit), axis=0))
    numbers = {"points": len(points), "repeated": again, "not_finite": int(np.count_nonzero(~finite))}
    if not finite.all():
        lost = np.flatnonzero(~finite)
        mend = f"subsample --drop {ranges(lost)}"
        sentence = (
            f"{lost.size} of {len(points)} positions are NaN or infinite; leave out {named(lost, 'pattern')}: "
            "ptycho dataset subsample --drop."
        )
        return Finding("duplicate positions", "fault", sentence, numbers, (mend,) if finite.any() else ())
    if again:
        sentence = (
            f"{again} of {len(points)} points repeat the position of another: "
            "positions were copied or not recorded, unless these places were exposed again on purpose."
        )
        severity: Severity = "fault" if again > len(points) / 2 else "warning"
        return Finding("duplicate positions", severity, sentence, numbers)
    return Finding("duplicate positions", "ok", f"All {len(points)} positions differ.", numbers)


def check_place(stream: ScanStream) -> Finding:
    """Are the positions pixels, and do the patches lie on the object?"""
    fields, N = stream.fields, stream.frames.shape[-1]
    x, y = fields.xcoords, fields.ycoords
    step, extent = neighbour_distance(x, y), float(max(np.ptp(x), np.ptp(y)))
    numbers: dict[str, Any] = {"x": [float(x.min()), float(x.max())], "y": [float(y.min()), float(y.max())]}
    numbers |= {"nearest_neighbour": step, "extent": extent, "stray": []}
    stray = np.sort(astray(x, y, N))
    numbers["stray"] = stray[:50].tolist()
    if stray.size:
        first, mend = stray[0], f"subsample --drop {ranges(stray)}"
        rest = np.delete(np.column_stack([x, y]), stray, axis=0)
        sentence = (
            f"{named(stray, 'pattern').capitalize()} of {len(x)} cannot be where the positions say: ({x[first]:.6g}, "
            f"{y[first]:.6g}) pixels (x, y), the others span {np.ptp(rest[:, 0]):.4g} x {np.ptp(rest[:, 1]):.4g}. An "
            f"encoder's error: leave out what it belongs to, ptycho dataset {mend}."
        )
        return Finding("place", "fault", sentence, numbers, (mend,))
    least = (
        0.5
        if fields.probeGuess is None or not np.isfinite(fields.probe).all()
        else max(0.5, _WIDE * probe_diameter(fields.probe))
    )
    if len(x) > 1 and not extent > least:
        sentence = (
            f"All positions lie within {extent:.3g} pixels: they are in metres or micrometres, not in pixels; which? "
            "Say it and the size of an object pixel: --scan-positions SCAN:xcoords,ycoords --unit um (or m, mm, nm) "
            "--object-pixel-nm NM."
        )
        return Finding("place", "fault", sentence, numbers)
    span = f"x from {x.min():.1f} to {x.max():.1f}, y from {y.min():.1f} to {y.max():.1f} pixels"
    if fields.objectGuess is not None:
        height, width = fields.objectGuess.shape
        outside = (x < N / 2 - 1) | (y < N / 2 - 1) | (x > width - N / 2 + 1) | (y > height - N / 2 + 1)
        count = int(outside.sum())
        numbers["outside"] = count
        if count:
            sentence = (
                f"{count} of {len(x)} patches reach beyond objectGuess ({width} x {height} pixels): {span}. "
                "Positions are the centres of the patches in its pixels; correct them or drop objectGuess."
            )
            return Finding("place", "warning", sentence, numbers)
    return Finding("place", "ok", f"Positions span {span}.", numbers)


def check_order(stream: ScanStream, statistics: ScanStatistics, sampler: Sampler) -> Finding:
    """Are patterns of near points more alike than others? If not, positions and patterns may be in different order.

    The mean difference between patterns whose illuminations overlap is compared with what it is when the patterns
    are permuted at random. A few patterns that are like no other (bad frames) are left out. Of samples with fine
    structure no two patterns are alike: a few short reconstructions decide then.
    """
    x, y = stream.fields.xcoords, stream.fields.ycoords
    diameter = probe_diameter(stream.fields.probe)
    lit = np.flatnonzero(statistics.energies > _DARK * np.median(statistics.energies))
    chosen = lit[neighbourhood(x[lit], y[lit], _SAMPLE)] if lit.size else lit
    distance = np.hypot(x[chosen, None] - x[chosen], y[chosen, None] - y[chosen])
    near = (distance < _OVERLAPPING * diameter) & ~np.eye(len(chosen), dtype=bool)
    numbers: dict[str, Any] = {"points": len(chosen), "near_pairs": int(near.sum()) // 2}
    if len(chosen) < _FEW or near.sum() < len(chosen) or near.mean() > 0.5:
        sentence = f"Not tested: {len(chosen)} points, {numbers['near_pairs']} pairs of them near, show too little."
        return Finding("order", "note", sentence, numbers)
    features = _features(stream, statistics, chosen)
    usual = ~_unlike(features)
    features, near = features[usual], near[np.ix_(usual, usual)]
    numbers["left_out"] = int(np.count_nonzero(~usual))
    by_place, ratio = _likeness(features, near)
    numbers |= {"deviations": by_place, "ratio": ratio}
    if by_place > _SURE:
        sentence = (
            f"Patterns of overlapping points differ {ratio:.2f} times as much as any two, {by_place:.0f} standard "
            "deviations below chance: positions and patterns are in the same order."
        )
        return Finding("order", "ok", sentence, numbers)
    run = np.arange(len(x))[max(0, len(x) // 2 - _SAMPLE // 2) :][:_SAMPLE]
    by_time, ratio_in_time = _likeness(_features(stream, statistics, run), np.abs(run[:, None] - run) == 1)
    numbers |= {"deviations_in_time": by_time, "ratio_in_time": ratio_in_time}
    noise = _noise(statistics, features)
    noisy = noise is not None and _mean_difference(features) < 1.2 * noise
    unsure = by_place > _UNSURE or noisy or len(chosen) < _ENOUGH
    if (by_time > _SURE or not unsure) and (foretold := _error_of_order(sampler)) < _BELONG:
        numbers["foretold"] = foretold
        sentence = (
            f"Patterns of overlapping points are no more alike than any two (ratio {ratio:.2f}), as those of fine "
            f"structure are; their positions foretell patterns that were kept back {1 / max(foretold, 1e-3):.2g} times "
            "better than in any other order: positions and patterns belong together."
        )
        return Finding("order", "ok", sentence, numbers)
    if by_time > _SURE:
        sentence = (
            f"Patterns of overlapping points are no more alike than any two (ratio {ratio:.2f}), but successive "
            f"patterns are ({ratio_in_time:.2f}): the positions are shuffled against the patterns. Write both in the "
            "order of the scan."
        )
        return Finding("order", "fault", sentence, numbers)
    if unsure:
        few = "photons" if noisy else "points"
        sentence = f"There are too few {few} to tell whether overlapping patterns are alike (ratio {ratio:.2f})."
        return Finding("order", "note", sentence, numbers)
    sentence = (
        f"Patterns of overlapping points are no more alike than any two (ratio {ratio:.2f}, {by_place:.1f} standard "
        "deviations): positions and patterns do not belong together, or are in another order."
    )
    return Finding("order", "fault", sentence, numbers)


def _error_of_order(sampler: Sampler) -> float:
    """Error of patterns kept back with the positions as they are, over the least of some other orders of them."""
    sample, rng = sampler.middle(), np.random.default_rng(0)
    kept_back = inner_points(sample.xcoords, sample.ycoords)
    orders = [rng.permutation(len(sample)) for _ in range(_OTHERS)]
    tried = [sample, *(replace(sample, xcoords=sample.xcoords[o], ycoords=sample.ycoords[o]) for o in orders)]
    found, *others = (foretell(one, kept_back, _ITERATIONS, refine_probe=False).excess for one in tried)
    return max(found, 0.0) / max(min(others), 1e-30)


def _likeness(features: Array, pairs: Array) -> tuple[float, float]:
    """How far below chance the mean difference of these pairs is, in standard deviations, and over that of any two."""
    flat = features.reshape(len(features), -1)
    apart = np.maximum(2 - 2 * flat @ flat.T, 0)  # features have unit norm
    rng = np.random.default_rng(0)
    rows, cols = np.nonzero(pairs)
    orders = (rng.permutation(len(flat)) for _ in range(_PERMUTATIONS))
    chance = np.array([apart[order[rows], order[cols]].mean() for order in orders])
    seen = float(apart[rows, cols].mean()) if rows.size else float(chance.mean())
    deviations = (float(chance.mean()) - seen) / max(float(chance.std()), 1e-30)
    return deviations, seen / max(float(chance.mean()), 1e-30)


def _unlike(features: Array) -> NDArray[np.bool_]:
    """(n,) True for patterns like no other, at most one in `1 / _BAD`; of more nothing can be said."""
    flat = features.reshape(len(features), -1)
    typical = np.median(2 - 2 * flat @ flat.T, axis=1)
    beyond = typical - np.median(typical)
    found = np.asarray(beyond > _STRANGE * 1.4826 * np.median(np.abs(beyond)) + 1e-9)
    return found if found.mean() <= _BAD else np.zeros(len(features), bool)


def _mean_difference(features: Array) -> float:
    mean = features.mean(axis=0)
    return float(2 * (1 - np.sum(mean**2)))


def _features(stream: ScanStream, statistics: ScanStatistics, indices: Array) -> Array:
    """Patterns at low resolution (b, n, n): the root of the intensity of blocks, of unit norm."""
    side = stream.frames.shape[-1]
    bins = min(side, _BINS)
    n = side // bins
    made = np.empty((len(indices), bins, bins))
    for block in frame_blocks(len(indices), side**2):
        values = np.nan_to_num(stream.frames.read(indices[block]).astype(np.float64), posinf=0, neginf=0)
        values = np.maximum(np.where(statistics.valid, values, 0), 0)
        intensity = values**2 if statistics.units == "amplitude" else values
        cut = intensity[:, : n * bins, : n * bins]
        made[block] = np.sqrt(cut.reshape(-1, bins, n, bins, n).sum(axis=(2, 4)))
    return made / np.maximum(np.linalg.norm(made, axis=(1, 2), keepdims=True), 1e-30)


def _noise(statistics: ScanStatistics, features: Array) -> float | None:
    """Squared difference of the features of two patterns that photon noise alone makes."""
    if statistics.counts_per_intensity is None:
        return None
    counts = float(np.mean(statistics.energies)) * statistics.counts_per_intensity
    expected = np.mean(features**2, axis=0) * counts
    return float(2 * poisson_moments(expected[None])[0, 2] / max(counts, 1e-30))
