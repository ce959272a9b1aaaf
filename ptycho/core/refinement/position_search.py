"""Positions that are off by more than a descent finds its way back from: tried elsewhere, pattern by pattern.

A pattern that an object was made of agrees with it where it lies, right or wrong. So the scan is cut into parts: of all
patterns but one part's an object is made in a few iterations from a flat one, and every pattern of that part is tried
in this object, which never saw it. At first everywhere within the bound of where the scan has it, wherever it went
before, so that no wrong place is for good; it goes to the mean of all places, by how likely they are where positions
are off by a Gaussian. Where some neighbours are right by chance the object is sharp, and what is sharp grows. Then
every pattern goes to where it is explained best, in ever smaller windows around its place. The object is looked at
without details at first, which lie where the wrong positions of its patterns had them. What neighbours in the end are
off alike is taken from them by bending the scan and the object together (`ptycho.core.refinement.steps.bend`).

Trying places at random in ever smaller windows: A. M. Maiden, M. J. Humphry, M. C. Sarahan, B. Kraus, J. M. Rodenburg,
Ultramicroscopy 120, 64 (2012). Means over likely places: F. J. Sigworth, J. Struct. Biol. 122, 328 (1998).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from ptycho.core.refinement.descent import Limits, descend
from ptycho.core.refinement.device.kernels import Point, Terms
from ptycho.core.refinement.problem import ScanProblem
from ptycho.core.refinement.steps.bend import bend_of
from ptycho.core.refinement.steps.placement import Placement
from ptycho.core.refinement.sums.passes import Passes

__all__ = ["PositionSearch"]

logger = logging.getLogger(__name__)

Array = NDArray[Any]

ROUNDS, PARTS = 12, 4
WIDE = 2 / 3
"""Share of the rounds in which every place within the bound is tried."""
ITERATIONS = 10
"""Of an object."""
EXPECTED = 0.4
"""Standard deviation of positions along an axis, relative to the bound."""
TOLD = 100
"""Independent numbers that a pattern tells of its place: what is wrong with an object is wrong all over a pattern."""
WINDOW_PX = 2.0
"""Half the side of the last windows."""
COARSE_PX = 3.0
"""Half the side of a window from which on every other pixel of it is tried."""
BLUR = 0.12
"""Standard deviation of the Gaussian that an object is looked at through, in what a window has beyond the last ones."""
BENT_FROM = 10
"""The round from which on positions are bent: before, the object is blurred, and looks too small."""
LEGS, LEG = 4, 10
"""At the end: descents of so many iterations each, in which positions move, and after each of them a bend."""
SHARE = 0.4
"""Of the time that a refinement may take, that rounds begin in."""
BEND_PX = 1.5
"""Greatest displacement of one bend, along an axis."""


@dataclass(frozen=True)
class PositionSearch:
    """Finds positions from a flat object, with the probe held."""

    passes: Callable[[Sequence[NDArray[np.int64]], NDArray[np.int64]], Passes]
    """Over groups of patterns seen, and patterns held out."""
    home: tuple[Array, Array]
    """x and y (n,), where the scan has them."""
    bound: float
    """How far each may go along each axis, pixels."""
    seed: int
    seconds: float | None = None
    """Of the whole refinement: after a part of them no round begins."""
    clock: Callable[[], float] = time.perf_counter
    """What tells the time, seconds."""

    def found(self, point: Point) -> Point:
        """A point with other positions and the object of these; the point itself where they explain the patterns no
        better than its own do after as many iterations, and where patterns are few.

        Args:
            point: with a flat object that has room for positions at their bound.
        """
        count, rng = len(point.x), np.random.default_rng(self.seed)
        if count < 2 * PARTS:
            return point
        tried, begun = point, 0.0 if self.seconds is None else self.clock()
        logger.info("positions are searched for, %d rounds", ROUNDS)
        for turn in range(ROUNDS):
            if self.seconds is not None and self.clock() - begun > SHARE * self.seconds:
                break
            for part in np.array_split(rng.permutation(count), PARTS):
                tried = self._part_placed(tried._replace(object=point.object), np.sort(part), turn, rng)
            logger.debug("position search: round %d of %d", turn + 1, ROUNDS)
        passes = self.passes([np.arange(count)], np.arange(0))
        tried = tried._replace(object=point.object)
        for _ in range(LEGS):
            tried = self._bent(passes, self._shaped(passes, tried, LEG, placed=True))
        stayed = self._shaped(passes, point, LEGS * LEG, placed=True)
        gain = passes.error(stayed) / passes.error(tried)
        logger.info("positions were searched for: the error is %.3g times that of those of the scan", 1 / gain)
        return tried if gain > 1 else point

    def _part_placed(self, point: Point, part: NDArray[np.int64], turn: int, rng: np.random.Generator) -> Point:
        """The positions of a part where an object of all others has them."""
        passes = self.passes([np.setdiff1d(np.arange(len(point.x)), part)], part)
        point = self._shaped(passes, point, ITERATIONS)
        if turn >= BENT_FROM:
            point = self._bent(passes, point)
        wide, window = turn < WIDE * ROUNDS, max(WINDOW_PX, self.bound * (1 - turn / ROUNDS))
        shifts = _windows(self.bound if wide else window, len(point.x), rng)
        away = self._away(point)
        if wide:
            shifts[:, 1:] -= np.rint(away).astype(np.int64)[:, None]
        shifts = self._within(point, shifts)
        x, y = point.x.copy(), point.y.copy()
        for indices, errors in passes.unseen_errors(_blurred(point, BLUR * (window - WINDOW_PX)), shifts):
            if wide:
                best = _mean_shift(shifts[indices], errors, away[indices], EXPECTED * self.bound)
            else:
                best = shifts[indices, errors.argmin(axis=1)]
            x[indices] += best[:, 0]
            y[indices] += best[:, 1]
        return point._replace(x=x, y=y)

    def _away(self, point: Point) -> NDArray[np.float64]:
        """How far (n, 2) positions are from where the scan has them."""
        return np.stack([point.x - self.home[0], point.y - self.home[1]], axis=1)

    def _within(self, point: Point, shifts: NDArray[np.int64]) -> NDArray[np.int64]:
        """Shifts (n, K, 2), those beyond the bound, or the object, replaced by none."""
        n, sizes = point.probe.shape[-1], point.object.shape[::-1]
        allowed = np.ones(shifts.shape[:2], bool)
        for axis, (at, home) in enumerate(zip((point.x, point.y), self.home, strict=True)):
            place = at[:, None] + shifts[..., axis]
            first = np.rint(place) - n // 2
            allowed &= (np.abs(place - home[:, None]) <= self.bound) & (first >= 0) & (first + n <= sizes[axis])
        return np.where(allowed[..., None], shifts, 0)

    def _shaped(self, passes: Passes, point: Point, iterations: int, placed: bool = False) -> Point:
        """The point with the object of a few iterations, in which positions may move too."""
        placement = Placement(passes, self.home, self.bound) if placed else None
        problem = ScanProblem(passes, placement, False, False, None, None, point.probe)
        limits = Limits(iterations, iterations + 1, 0.0)
        return descend(problem, point, limits, np.random.default_rng(self.seed)).point

    def _bent(self, passes: Passes, point: Point) -> Point:
        """The point with its positions bent, the object taken along."""
        terms = Terms(np.zeros((len(point.x), 4)), np.zeros((len(point.x), 4, 4)))
        for indices, found in passes.stretch_terms(point):
            terms.gradient[indices], terms.curvature[indices] = found
        n = point.probe.shape[-1]
        bend = bend_of(point.x, point.y, terms, n / 2)
        farthest = float(np.abs(bend.displacement(point.x, point.y)).max())
        if farthest > BEND_PX:
            bend = bend._replace(coefficients=bend.coefficients * (BEND_PX / farthest))
        places = np.stack([point.x, point.y]) + bend.displacement(point.x, point.y).T
        x, y = (
            np.clip(at, n // 2, size - n + n // 2) for at, size in zip(places, point.object.shape[::-1], strict=True)
        )
        return point._replace(object=bend.mapped(point.object), x=x, y=y)


def _blurred(point: Point, width: float) -> Point:
    """The point with its object through a Gaussian of this standard deviation, pixels."""
    if width <= 0:
        return point
    blurred = gaussian_filter(point.object, width, axes=(-2, -1), mode="nearest")
    return point._replace(object=blurred.astype(point.object.dtype))


def _windows(window: float, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Shifts (n, K, 2) of every pattern: none first, then a grid over the window, each with an offset of its own."""
    pitch = 2 if window > COARSE_PX else 1
    along = np.arange(-int(np.ceil(window)), int(np.ceil(window)) + 1, pitch)
    grid = np.stack([each.ravel() for each in np.meshgrid(along, along)], axis=1)
    tried = grid + rng.integers(0, 2, (count, 1, 2))
    return np.concatenate([np.zeros((count, 1, 2), np.int64), tried], axis=1)


def _mean_shift(shifts: NDArray[np.int64], errors: Array, away: NDArray[np.float64], width: float) -> Array:
    """Means (b, 2) of shifts (b, K, 2), by how likely the places are that they lead to.

    With the likelihoods E (b, K) of a pattern and a Gaussian about 0, `exp(-TOLD E / (2 min E) - d^2 / (2 width^2))`;
    d is the shift added to `away` (b, 2).
    """
    least = np.maximum(errors.min(axis=1, keepdims=True), np.finfo(np.float32).tiny)
    chance = -TOLD * errors / (2 * least) - ((away[:, None] + shifts) ** 2).sum(axis=-1) / (2 * width**2)
    weights = np.exp(chance - chance.max(axis=1, keepdims=True))
    # a place that is not allowed stands as no shift, which the first is
    weights[:, 1:] *= shifts[:, 1:].any(axis=-1)
    return np.asarray(np.einsum("bk,bki->bi", weights, shifts) / weights.sum(axis=1, keepdims=True))
