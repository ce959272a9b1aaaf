"""A compact part of a scan, on which short reconstructions decide what the whole is to be reconstructed with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from ptycho.core.doctor.held_out import inner_points
from ptycho.raw_data import RawData

__all__ = ["ScanPart", "like", "mask_of", "taken", "telling_part"]

Array = NDArray[Any]

PIXELS = 40 * 128 * 128
"""Detector pixels of a part: bounds the time of a decision."""
FEWEST, MOST = 30, 60
"""Patterns of a part, where the scan has them; fewer share too little."""
TRIED = 12
"""Places, spread over the scan, of which the one whose patterns differ most is taken."""
LOOKED_AT = 8
"""Patterns looked at in each."""


@dataclass(frozen=True, eq=False)
class ScanPart:
    """Neighbouring patterns, in memory, and which of them stay unseen."""

    scan: RawData
    unseen: NDArray[np.int64]
    """Indices, every third in the middle of the part: what their neighbours say nothing about is not asked."""
    places: NDArray[np.int64]
    """(n,) which of the whole scan each of `scan` is."""


def telling_part(data: RawData) -> ScanPart:
    """The part of a scan to decide on: 30 to 60 neighbours, from where patterns differ most from each other.

    Where a sample is bare its patterns are all alike and tell nothing apart. Of a scan with no more patterns it is all.
    """
    count = int(np.clip(PIXELS / data.N**2, FEWEST, MOST))
    points = np.column_stack([data.xcoords, data.ycoords])
    if len(points) <= count:
        near = [np.arange(len(points))]
    else:
        middles = points[np.linspace(0, len(points) - 1, TRIED + 2).round().astype(int)[1:-1]]
        near = list(np.sort(KDTree(points).query(middles, k=count)[1], axis=1))
    places = max(near, key=lambda chosen: _contrast(data, chosen)) if len(near) > 1 else near[0]
    part = taken(data, places)
    return ScanPart(part, np.flatnonzero(inner_points(part.xcoords, part.ycoords)), places)


def _contrast(data: RawData, places: NDArray[np.intp]) -> float:
    """How much neighbouring patterns differ, `sum (A - mean A)^2 / sum A^2`, by a few of them."""
    some = places[np.unique(np.linspace(0, len(places) - 1, LOOKED_AT).round().astype(int))]
    amplitude = data.amplitude(some).astype(np.float64)
    energy = float(np.sum(amplitude**2))
    return float(np.sum((amplitude - amplitude.mean(axis=0)) ** 2)) / energy if energy > 0 else 0.0


def mask_of(data: RawData, places: NDArray[np.integer[Any]]) -> NDArray[np.bool_] | None:
    """The mask of some patterns of a scan: (n, N, N) where each has its own, (N, N) for all of them, None without."""
    return data.mask[places] if data.mask is not None and data.mask.ndim == 3 else data.mask


def taken(data: RawData, places: NDArray[np.intp]) -> RawData:
    """Some patterns of a scan, as amplitudes, 0 where they are not valid; with its probe, where it has one."""
    x, y = data.xcoords[places], data.ycoords[places]
    probe = data.probeGuess if data.has_probe else None
    part = like(data, x, y, data.amplitude(places), probe, mask_of(data, places))
    part.scan_probes = None if data.scan_probes is None else data.scan_probes.of(places)
    known = data.recording.of(places)
    return part.with_recording(known.flux, known.background, known.blur)


def like(data: RawData, x: Array, y: Array, amplitude: Array, probe: Array | None, mask: Array | None) -> RawData:
    """Amplitudes (b, N, N) at these places, measured as `data` was."""
    metadata = None if data.near_field is None else data.near_field.noted()
    made = RawData(x, y, None, None, amplitude, probe, mask=mask, metadata=metadata, units="amplitude")
    return made.with_recording(background=data.background, blur=data.blur)
