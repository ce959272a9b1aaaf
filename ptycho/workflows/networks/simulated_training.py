"""A training set before there is a sample: simulated objects under the probe, positions and dose of a scan."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from ptycho.core.geometry import object_frame
from ptycho.core.simulation.exposure import ScanPlan, expose
from ptycho.core.simulation.objects import make_object
from ptycho.errors import ConfigError
from ptycho.raw_data import RawData

__all__ = ["KINDS", "simulated_scan_like"]

logger = logging.getLogger(__name__)

KINDS = ("lines", "dead_leaves", "gaussian_field", "perlin", "polyhedra", "smooth")
"""Objects in the order in which they are drawn: edges, grains, facets and slow phases alike."""
PATTERNS_PER_OBJECT = 400
"""Scan points, next to each other, that an object is seen from."""
DARKEST = (0.2, 0.8)
"""Range from which the lowest amplitude of an object is drawn; the highest is 1."""
PHASE = (0.3, 1.5)
"""Range from which the largest phase of an object is drawn, radians."""

SAMPLE = 64
"""Patterns that tell how much of the light a masked detector sees."""

_MARGIN_PX = 2


def simulated_scan_like(data: RawData, objects: int, photons: float, seed: int = 0) -> RawData:
    """A scan of several simulated objects as `data` would have seen them, to train a network with.

    Each object lies under its own part of the scan, so that groups of neighbours never mix two of them: the positions
    are those of `PATTERNS_PER_OBJECT` neighbouring points of `data`, moved as a whole. Probe, mask, dose and the mean
    energy of a pattern are those of `data`, its patterns are not used otherwise.

    Args:
        data: the scan to be like.
        objects: how many objects.
        photons: mean photons per pattern, on valid pixels.
        seed: of objects, positions and noise.

    Returns:
        A scan in amplitudes with the probe of `data`, without `objectGuess`.

    Raises:
        ConfigError: `objects` is less than 1.
    """
    if objects < 1:
        raise ConfigError(f"simulated objects: expected at least 1, found {objects}; some ten make a network general")
    rng = np.random.default_rng(seed)
    positions, pictures, left = [], [], 0
    for x, y, picture in _objects_under(data, objects, rng):
        positions.append((x + left, y))
        pictures.append(picture)
        left += picture.shape[1]
    x, y = np.concatenate(positions, axis=1)
    detector = data.mask if data.mask is not None and data.mask.ndim == 2 else None
    probe = np.asarray(data.probeGuess)
    plan = ScanPlan(_side_by_side(pictures), probe, x, y, photons, mask=detector)
    # the dose of a scan is what its valid pixels saw, that of a plan what the whole detector would see
    plan = replace(plan, photons=photons / _seen(plan))
    exposed = expose(plan, rng)
    unit = np.float32(np.sqrt(data.mean_energy / photons))
    logger.info("training on %d simulated objects: %d patterns of %.3g photons", objects, len(x), photons)
    made = RawData(
        x,
        y,
        None,
        None,
        exposed.diffraction * unit,
        data.probeGuess,
        mask=detector,
        metadata={"nphotons": float(photons)},
        units="amplitude",
    )
    made.made_of = data.identity.derived(f"{objects} objects simulated with seed {seed}, {photons:.4g} photons")
    return made


def _seen(plan: ScanPlan) -> float:
    """Part of the light that falls on valid pixels, from a sample of the patterns."""
    if plan.mask is None:
        return 1.0
    chosen = slice(None, None, 1 + len(plan.xcoords) // SAMPLE)
    sample = replace(plan, xcoords=plan.xcoords[chosen], ycoords=plan.ycoords[chosen], mask=None, noise=False)
    light = np.square(expose(sample, np.random.default_rng(0)).diffraction, dtype=np.float64)
    return float(light[:, plan.mask].sum() / light.sum())


def _objects_under(
    data: RawData, objects: int, rng: np.random.Generator
) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.complex64]]]:
    """Positions on each object, and the object."""
    points = np.stack([data.xcoords, data.ycoords], axis=1)
    tree, count = cKDTree(points), min(PATTERNS_PER_OBJECT, len(data))
    for number in range(objects):
        middle = points[rng.integers(len(data))]
        near = np.atleast_1d(tree.query(middle, k=count)[1])
        frame = object_frame(data.xcoords[near], data.ycoords[near], data.N)
        x, y = frame.local(data.xcoords[near], data.ycoords[near])
        shape = frame.height + 2 * _MARGIN_PX, frame.width + 2 * _MARGIN_PX
        half = rng.uniform(*PHASE)
        yield (
            x + _MARGIN_PX,
            y + _MARGIN_PX,
            make_object(
                KINDS[number % len(KINDS)], shape, rng, amplitude=(rng.uniform(*DARKEST), 1.0), phase=(-half, half)
            ),
        )


def _side_by_side(pictures: list[NDArray[np.complex64]]) -> NDArray[Any]:
    """One object that holds them all in a row, their tops aligned; vacuum below the lower ones."""
    height, width = max(len(one) for one in pictures), sum(one.shape[1] for one in pictures)
    whole, left = np.ones((height, width), np.complex64), 0
    for one in pictures:
        whole[: len(one), left : left + one.shape[1]] = one
        left += one.shape[1]
    return whole
