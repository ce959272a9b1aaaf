"""Whether the patterns of a scan foretell those that they have not seen: the redundancy of a result, measured.

A few patterns all over the scan are kept back. Around each the object is made uniform where that pattern has its light,
and found again from its neighbours alone; everything else is taken from the result. What the neighbours then predict is
held against the pattern. The clusters stand side by side in one object, a tile each, so that the time does not grow
with the scan.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from ptycho.core.geometry import ObjectFrame
from ptycho.core.physics.patches import assemble
from ptycho.core.physics.recording import Recording
from ptycho.core.quality.foretold import Foretold
from ptycho.core.quality.trust import Trust
from ptycho.core.reconstruction import Reconstruction
from ptycho.core.refinement.trust import TrustEngine, measure_trust
from ptycho.core.stitching.stitch import probe_weight
from ptycho.raw_data import RawData
from ptycho.workflows.scan_part import like, mask_of
from ptycho.workflows.solver import Solver
from ptycho.workflows.trust import NOMINAL_PHOTONS, photon_scale

__all__ = ["Clusters", "clusters_of", "foretell"]

logger = logging.getLogger(__name__)

Array = NDArray[Any]

KEPT_BACK, NEIGHBOURS = 8, 12
"""Patterns kept back, and the neighbours that are asked about each."""
ITERATIONS = 20
HOLE = 0.01
"""Light of a pattern, relative to its brightest pixel, from which on the object is made uniform."""


@dataclass(frozen=True, eq=False)
class Clusters:
    """Some patterns of a scan, each with its neighbours, side by side."""

    scan: RawData
    """The patterns as amplitudes, cluster by cluster, placed in `frame`."""
    frame: ObjectFrame
    found: NDArray[np.complex64]
    """(H, W) the object of the result; (K, H, W) its slices."""
    blank: NDArray[np.complex64]
    """The same, uniform where the patterns kept back have their light."""
    kept_back: NDArray[np.int64]
    """(k,) which of `scan`."""
    places: NDArray[np.int64]
    """(n,) which of the whole scan each of `scan` is."""
    recording: Recording
    """Of `scan`."""


def foretell(found: Reconstruction, clusters: Clusters, data: RawData, solver: Solver) -> Foretold:
    """Have the neighbours of some patterns predict them.

    Args:
        found: of the scan; its probe is taken as it is.
        clusters: of it.
        data: the scan.
        solver: of a backend.
    """
    again = solver.refine(
        clusters.scan,
        clusters.blank,
        ITERATIONS,
        probe=found.probe,
        frame=clusters.frame,
        likelihood="amplitude",
        refine_probe=False,
        holdout=clusters.kept_back,
        patience=ITERATIONS + 1,
        **clusters.recording.known,
    )
    before, after = (_compared(image, found, clusters, data, solver.trust) for image in (clusters.blank, again.layers))
    told = Foretold(
        clusters.places[clusters.kept_back],
        misfit=after.misfit,
        noise=after.noise,
        blank=before.misfit,
        deviation=after.deviation / 4,
    )
    logger.debug("foretold: %.3g of %d patterns", told.share, len(told.patterns))
    return told


def _compared(image: Array, found: Reconstruction, clusters: Clusters, data: RawData, engine: TrustEngine) -> Trust:
    """The patterns kept back against an object, with all else as in a result."""
    scan, which = clusters.scan, clusters.kept_back
    scale, dose = photon_scale(data, NOMINAL_PHOTONS)
    mask = mask_of(scan, which)
    x, y = scan.xcoords[which], scan.ycoords[which]
    amplitude, recording = (lambda some: scan.amplitude(which[some])), scan.recorded(clusters.recording.of(which))
    return measure_trust(image, found.probe, x, y, amplitude, scale, dose, mask, recording, engine)


def clusters_of(found: Reconstruction, data: RawData) -> Clusters:
    """The patterns to keep back, with their neighbours, of a result whose trust was measured.

    Those kept back lie inside the scan, where neighbours are near, differ from what a uniform object gives, and are
    spread over the scan.
    """
    near = min(NEIGHBOURS + 1, len(data))
    points = np.column_stack([found.xcoords, found.ycoords])
    distance, index = KDTree(points).query(points, k=near)
    chosen = _telling(found, distance[:, -1])
    side = 2 * (int(np.ceil(distance[chosen].max())) + 4) + data.N
    tiles = [_tile(found, index[place], side) for place in chosen]
    places = index[chosen].ravel()
    offset = np.repeat(side * np.arange(len(chosen)), near)
    x, y = (np.concatenate([getattr(tile, name) for tile in tiles]) for name in ("x", "y"))
    mask = mask_of(data, places)
    return Clusters(
        like(data, x + offset, y, data.amplitude(places), found.probe, mask),
        ObjectFrame(side, side * len(chosen), 0, 0),
        np.concatenate([tile.found for tile in tiles], axis=-1),
        np.concatenate([tile.blank for tile in tiles], axis=-1),
        near * np.arange(len(chosen)),
        places.astype(np.int64),
        found.recording.of(places),
    )


def _telling(found: Reconstruction, reach: NDArray[np.float64]) -> NDArray[np.intp]:
    """Which patterns to keep back: of the half whose neighbours are nearest, spread over the half that tells most."""
    trust = found.trust
    assert trust is not None
    inner = np.flatnonzero(reach <= np.median(reach))
    structure = (trust.uniform - trust.noise) / np.maximum(trust.counts, 1e-30)
    tell = np.sort(inner[np.argsort(-structure[inner])[: max(KEPT_BACK, len(inner) // 2)]])
    return tell[np.unique(np.linspace(0, len(tell) - 1, KEPT_BACK).round().astype(int))]


@dataclass(frozen=True, eq=False)
class _Tile:
    """The surroundings of a pattern that is kept back, which is the first."""

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    found: NDArray[np.complex64]
    blank: NDArray[np.complex64]


def _tile(found: Reconstruction, members: NDArray[np.intp], side: int) -> _Tile:
    x0, y0 = (round(float(a[members[0]])) - side // 2 for a in (found.xcoords, found.ycoords))
    tile = np.ones((*found.layers.shape[:-2], side, side), np.complex64)
    rows, columns = (slice(max(first, 0), first + side) for first in (y0, x0))
    seen = found.layers[..., rows, columns]
    tile[..., rows.start - y0 :, columns.start - x0 :][..., : seen.shape[-2], : seen.shape[-1]] = seen
    x, y = found.xcoords[members] - x0, found.ycoords[members] - y0
    light = assemble(probe_weight(found.probe).astype(np.float64)[None], x[:1], y[:1], (side, side))
    hole = light > HOLE * light.max()
    level = np.abs(tile[..., hole]).mean(axis=-1) * np.exp(1j * np.angle(tile[..., hole].mean(axis=-1)))
    return _Tile(x, y, tile, np.where(hole, level[..., None, None], tile).astype(np.complex64))
