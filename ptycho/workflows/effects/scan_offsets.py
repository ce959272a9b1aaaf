"""How far scans of one object lie from where they were recorded: each alone first, its object laid over the others'.

A probe that moves in its window takes the object along, so that no pattern tells a place of the probe from one of the
scan. The probe is therefore where its guess has it, as far as the light of both says: what the object was moved by is
less by what the probe was.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.fft import next_fast_len
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from ptycho.core.physics.diffraction import as_modes
from ptycho.core.quality.alignment import align
from ptycho.core.quality.registration import Region, register_subpixel
from ptycho.core.refinement.result import reconstruction_of
from ptycho.core.refinement.steps.gauge import probe_amplitude
from ptycho.core.result import plural
from ptycho.raw_data import RawData
from ptycho.workflows.solver import Refine

__all__ = ["Offsets", "scan_offsets"]

logger = logging.getLogger(__name__)

Array = NDArray[Any]

HELD, ITERATIONS = 10, 20
"""Of each scan alone, with its probe held, so that the object begins where that has it, and free."""
LIT = 0.5
"""Light, relative to the median of a scan's own, from which on its object is compared."""
FEWEST = 8
"""Pixels along the shorter side of an overlap below which nothing is looked for, nor in less than a quarter patch."""
FARTHEST = 0.5
"""Of a patch's side, that is believed at most."""
LIKE = 0.5
"""Correlation of two objects without their mean, once laid over each other, from which on they are believed alike."""
LEAST_PX = 0.25
"""A smaller offset stays: a probe takes it up."""


@dataclass(frozen=True, eq=False)
class Offsets:
    """What was found."""

    offsets: NDArray[np.float64]
    """(S, 2) x and y by which the positions of each scan are to change, pixels; 0 of the first that hang together."""
    note: str
    """One sentence."""

    @property
    def any(self) -> bool:
        """Whether a scan lies elsewhere."""
        return bool(self.offsets.any())


class _Alone(NamedTuple):
    """A scan by itself."""

    image: Array
    """(h, w) object."""
    lit: NDArray[np.bool_]
    x0: int
    y0: int
    """Of its first pixel, on the common grid."""
    drift: NDArray[np.float64]
    """(2,) x and y by which its probe lies beside its guess."""


def scan_offsets(data: RawData, refine: Refine) -> Offsets:
    """Look for scans that lie elsewhere than they were recorded.

    Args:
        data: joined scans, each with its probe (`ptycho.workflows.shared_object`).
        refine: of a backend.
    """
    alone = [_alone(scan, refine) for scan in data.scans]
    found = {}
    for one, other in combinations(range(len(alone)), 2):
        apart = _apart(alone[one], alone[other], data.N)
        if apart is not None:
            found[one, other] = apart
            logger.debug("scans %d and %d lie %s px apart", one, other, apart[0])
    offsets, group = _solved(found, len(alone))
    offsets[np.abs(offsets).max(axis=1) < LEAST_PX] = 0
    return Offsets(offsets, _note(data, offsets, group))


def _alone(scan: RawData, refine: Refine) -> _Alone:
    """A scan by itself, after a few iterations."""
    given = as_modes(np.asarray(scan.probeGuess))
    held = refine(scan, None, HELD, probe=given, likelihood="amplitude", refine_probe=False)
    found = refine(scan, held, ITERATIONS, likelihood="amplitude", refine_probe=True)
    made = reconstruction_of(found)
    lit = made.coverage > LIT * np.median(made.coverage[made.coverage > 0])
    dy, dx = register_subpixel(probe_amplitude(given), probe_amplitude(found.probe))
    return _Alone(made.object, lit, found.frame.x0, found.frame.y0, np.array([dx, dy]))


def _apart(one: _Alone, other: _Alone, side: int) -> tuple[NDArray[np.float64], float] | None:
    """(x and y by which `other` is to move to lie on `one`, how many pixels tell); None where they do not overlap, or
    show nothing that is alike.
    """
    recorded = other.y0 - one.y0, other.x0 - one.x0
    if _overlap(one, other, recorded, side) is None:
        return None
    offset = _most_alike(one, other, recorded, side)
    region = None if offset is None else _overlap(one, other, offset, side)
    if offset is None or region is None:
        return None
    there = align(other.image, one.image, region, offset)
    image, truth = (values - values.mean() for values in (there.image, there.truth))
    alike = abs(np.vdot(image, truth)) / max(float(np.linalg.norm(image) * np.linalg.norm(truth)), 1e-30)
    y, x = (found + more - known for found, more, known in zip(offset, there.shift, recorded, strict=True))
    logger.debug("objects laid over each other: (%.3g, %.3g) px, alike %.3g in %s", x, y, alike, there.region)
    if alike < LIKE:
        return None
    return np.array([x, y]) + other.drift - one.drift, float(there.image.size)


def _most_alike(one: _Alone, other: _Alone, recorded: tuple[int, int], side: int) -> tuple[int, int] | None:
    """Where in `one` the first pixel of `other` lies (row, column), near where it was recorded, by the correlation of
    what both have seen, each without its mean there; None where that is too little everywhere.
    """
    far = int(FARTHEST * side)
    shape = tuple(next_fast_len(a + b + far) for a, b in zip(one.lit.shape, other.lit.shape, strict=True))
    ours, theirs = (
        [np.fft.fft2(values, shape) for values in (each.lit, each.lit * each.image, each.lit * np.abs(each.image) ** 2)]
        for each in (one, other)
    )

    def correlated(k: int, m: int) -> Array:
        return np.fft.ifft2(ours[k] * theirs[m].conj())

    count = np.maximum(correlated(0, 0).real, 0.5)
    means = correlated(1, 0), correlated(0, 1)
    product = correlated(1, 1) - means[0] * means[1] / count
    left, right = (
        correlated(k, m).real - np.abs(mean) ** 2 / count for (k, m), mean in zip(((2, 0), (0, 2)), means, strict=True)
    )
    size = np.maximum(left, 1e-9 * left.max()) * np.maximum(right, 1e-9 * right.max())
    score = np.where(count > (side / 2) ** 2, np.abs(product) / np.sqrt(size), 0)
    reach = np.arange(-far, far + 1)
    near = score[np.ix_((recorded[0] + reach) % shape[0], (recorded[1] + reach) % shape[1])]
    row, col = np.unravel_index(int(np.argmax(near)), near.shape)
    return (recorded[0] + int(reach[row]), recorded[1] + int(reach[col])) if near.any() else None


def _overlap(one: _Alone, other: _Alone, offset: tuple[int, int], side: int) -> Region | None:
    """(y0, y1, x0, x1) in `one` of what both have seen, with the first pixel of `other` at an offset (row, column);
    None where that is too little.
    """
    (y, x), (height, width) = offset, other.lit.shape
    y0, y1, x0, x1 = max(y, 0), min(y + height, one.lit.shape[0]), max(x, 0), min(x + width, one.lit.shape[1])
    if y1 <= y0 or x1 <= x0:
        return None
    seen = np.zeros(one.lit.shape, bool)
    seen[y0:y1, x0:x1] = one.lit[y0:y1, x0:x1] & other.lit[y0 - y : y1 - y, x0 - x : x1 - x]
    if not seen.any():
        return None
    lines, columns = (np.flatnonzero(seen.any(axis=axis)) for axis in (1, 0))
    box = int(lines[0]), int(lines[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
    sides = box[1] - box[0], box[3] - box[2]
    return box if min(sides) >= FEWEST and sides[0] * sides[1] >= (side / 2) ** 2 else None


def _solved(
    found: dict[tuple[int, int], tuple[NDArray[np.float64], float]], count: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Offsets (S, 2) that fit all pairs best, the first of those that hang together at 0; and which hang together."""
    pairs = list(found)
    links = coo_matrix((np.ones(len(pairs)), tuple(np.array(pairs, int).reshape(-1, 2).T)), shape=(count, count))
    group = connected_components(links, directed=False)[1]
    rows, target = np.zeros((len(pairs) + count, count)), np.zeros((len(pairs) + count, 2))
    for k, (one, other) in enumerate(pairs):
        step, pixels = found[one, other]
        rows[k, [one, other]] = -np.sqrt(pixels), np.sqrt(pixels)
        target[k] = np.sqrt(pixels) * step
    for k in np.unique(group, return_index=True)[1]:
        rows[len(pairs) + k, k] = 1
    return np.asarray(np.linalg.lstsq(rows, target, rcond=None)[0], np.float64), np.asarray(group, np.int64)


def _note(data: RawData, offsets: Array, group: NDArray[np.int64]) -> str:
    """What was found, with the numbers."""
    names = [scan.name for scan in data.scans]
    single = [names[k] for k in range(len(names)) if np.count_nonzero(group == group[k]) == 1]
    told = [
        f"{names[k]} lies ({step[0]:+.2f}, {step[1]:+.2f}) pixels (x, y) from where it was recorded"
        for k, step in enumerate(offsets)
        if step.any()
    ]
    if len(single) < len(names) and not told:
        told.append("all that overlap lie where they were recorded")
    if single:
        told.append(f"{', '.join(single)} {'overlaps' if len(single) == 1 else 'overlap'} with none that is alike")
    return f"The {plural(len(names), 'scan')}: {'; '.join(told)}"
