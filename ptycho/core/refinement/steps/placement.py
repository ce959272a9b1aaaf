"""The positions of a refinement: what the stage did to all of them first, then each by itself.

A linear map of the stage is a handful of numbers that all patterns tell alike. With the object held it moves at a
snail's pace, since the object holds every position back that lies far from the middle; so the object goes along, and
what the patterns feel is that it is stretched under each of them (`Passes.stretch_terms`).
"""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import affine_transform

from ptycho.core.physics.stage import Stage, directions, stage_of
from ptycho.core.refinement.device.kernels import Point
from ptycho.core.refinement.sums.object_share import WHOLE, ObjectShare
from ptycho.core.refinement.sums.passes import Passes

__all__ = ["Placement", "Positions", "room"]

Array = NDArray[Any]
Positions = bool | Literal["stage", "search"]
"""Whether positions move: no, all alike and each by itself, all alike only, or as yes once each was tried elsewhere
(`ptycho.core.refinement.position_search`)."""

WAIT, EVERY = 4, 2
"""Positions begin to move once the object has taken shape, and then every other iteration."""
STEP, TRUST_PX = 0.8, 0.5
"""Part of the Gauss-Newton step of a position that is taken, and its greatest length along an axis."""
DAMPING = 1e-3
"""Added to the curvature of a position, relative to the mean over the scan."""
DRIFT_STEPS = 20
"""Of Newton's method for the common drift of positions; some three are enough unless most are at their bound."""
STAGE_AT = (3, 5, 7, 9, 11, 13, 17, 21, 25, 31, 39, 49)
"""Iterations in which the stage moves; single positions do in the even ones."""
STAGE_TRUST_PX = 1.0
"""How far one step may stretch the object at half the way from the middle of a pattern to its edge, pixels."""
SCALE_FROM = 11
"""From this iteration on the common scale of x and y moves, too: while single positions are off the object is blurred,
and looks too small in both directions."""
LEAST_PX, LEAST_EARLY_PX = 0.05, 0.3
"""Displacement of the outermost position below which nothing is done: less is not seen in an object that has hardly
taken shape, and moving it for nothing costs it its slow phases."""
LEAST_HELD_PX = 0.02
"""The same where the object is held: there, a small step costs nothing."""
STAGE_REACH, BACKLASH_PX = 0.1, 10.0
"""How far a stage may be off: scale, shear and radians; and the pixels of its backlash along each axis."""
BACKLASH_TRUST_PX = 1.0
"""How much one step may change the backlash along an axis."""

SPLINE_REACH = 24
"""Rows beyond which a cubic spline knows nothing of a value: each tells the next 0.27 of what it knows."""


class Placement:
    """Moves the positions of a search.

    Args:
        passes: over the patterns.
        home: x and y (n,), where the scan has them.
        bound: how far from where the stage has it a position may go along each axis, pixels; None: only the stage
            moves.
        carries: whether the object goes along with the stage; a spectrum does not.
    """

    def __init__(self, passes: Passes, home: tuple[Array, Array], bound: float | None, carries: bool = True) -> None:
        self._passes, self._home, self._bound, self._carries = passes, home, bound, carries

    def moved(self, point: Point, iteration: int) -> Point:
        """The point with other positions, and with an object that goes along with the stage."""
        if iteration in STAGE_AT:
            return self._staged(point, iteration) if self._carries else self._turned(point)
        late = iteration - WAIT
        if self._bound is None or late < 0 or late % EVERY:
            return point
        return self._singly(point, self._bound)

    def _stage(self, point: Point) -> Stage:
        return stage_of(*self._home, self._displacement(point))

    def _displacement(self, point: Point) -> Array:
        return np.stack([point.x - self._home[0], point.y - self._home[1]], axis=1)

    def _staged(self, point: Point, iteration: int) -> Point:
        """A damped Gauss-Newton step of the map of the stage, the object taken along."""
        gradient, curvature = np.zeros(4), np.zeros((4, 4))
        for _, terms in self._passes.stretch_terms(point):
            gradient += terms.gradient.sum(axis=0, dtype=np.float64)
            curvature += terms.curvature.sum(axis=0, dtype=np.float64)
        step = _damped(gradient, curvature)
        if step is None:
            return point
        if iteration < SCALE_FROM:
            step -= np.trace(step) / 2 * np.eye(2)
        step *= min(1.0, 4 * STAGE_TRUST_PX / (point.probe.shape[-1] * np.abs(step).max()))
        before, point = self._stage(point).matrix, self._without_play(point)
        x, y = point.x, point.y
        away = np.stack([x - x.mean(), y - y.mean()], axis=1) @ step.T
        least = LEAST_EARLY_PX if iteration < SCALE_FROM else LEAST_PX
        if np.abs(before + step + step @ before).max() > STAGE_REACH or _farthest(away) < least:
            return point
        image = _mapped(point.object, step, (float(x.mean()), float(y.mean())), self._passes.share)
        return self._within(point._replace(object=image), x + away[:, 0], y + away[:, 1])

    def _turned(self, point: Point) -> Point:
        """A damped Gauss-Newton step of the map of the stage, the object held."""
        x, y = point.x, point.y
        away = np.stack([x - x.mean(), y - y.mean()], axis=1)
        gradient, curvature = np.zeros(4), np.zeros((4, 4))
        for indices, terms in self._passes.position_terms(point):
            along = np.einsum("ij,bk->bijk", np.eye(2), away[indices]).reshape(-1, 2, 4)
            gradient += np.einsum("bi,bim->m", terms.gradient, along)
            curvature += np.einsum("bim,bij,bjk->mk", along, terms.curvature, along)
        step = _damped(gradient, curvature)
        if step is None:
            return point
        shift = away @ step.T
        shift *= min(1.0, STAGE_TRUST_PX / max(_farthest(shift), 1e-30))
        after = self._displacement(point) + shift
        if np.abs(stage_of(*self._home, after).matrix).max() > STAGE_REACH or _farthest(shift) < LEAST_HELD_PX:
            return point
        return self._within(point, x + shift[:, 0], y + shift[:, 1])

    def _without_play(self, point: Point) -> Point:
        """A damped Gauss-Newton step of the backlash, the object held: half of all lines move against the others."""
        ways = directions(*self._home)
        if ways is None:
            return point
        ways = (ways - ways.mean()) / 2
        gradient, curvature = np.zeros(2), np.zeros((2, 2))
        for indices, terms in self._passes.position_terms(point):
            gradient += ways[indices] @ terms.gradient
            curvature += np.tensordot(ways[indices] ** 2, terms.curvature, 1)
        step = -np.linalg.solve((1 + DAMPING) * curvature, gradient)
        step = np.clip(step, -BACKLASH_TRUST_PX, BACKLASH_TRUST_PX)
        before = self._stage(point).backlash
        step = np.clip(before + step, -BACKLASH_PX, BACKLASH_PX) - before
        return self._within(point, point.x + ways * step[0], point.y + ways * step[1])

    def _singly(self, point: Point, bound: float) -> Point:
        """A damped Gauss-Newton step of every position, within its bound and without a common drift."""
        found = [(indices, *terms) for indices, terms in self._passes.position_terms(point)]
        seen = np.concatenate([indices for indices, _, _ in found])
        gradient, curvature = (np.concatenate([entry[k] for entry in found]) for k in (1, 2))
        stiffness = np.trace(curvature, axis1=1, axis2=2) / 2
        damped = curvature + DAMPING * stiffness.mean() * np.eye(2)
        step = -STEP * np.linalg.solve(damped, gradient[..., None])[..., 0]
        moved = self._displacement(point)
        moved[seen] += np.clip(step, -TRUST_PX, TRUST_PX)
        home_x, home_y = self._home
        alike = stage_of(home_x[seen], home_y[seen], moved[seen]).displacement(home_x, home_y)
        own = np.zeros_like(moved)
        for axis in range(2):
            own[seen, axis] = _without_drift((moved - alike)[seen, axis], bound)
        x, y = (home + shift for home, shift in zip(self._home, (alike + own).T, strict=True))
        return self._within(point, x, y)

    def _within(self, point: Point, x: Array, y: Array) -> Point:
        """The point with these positions, as far as their patches lie in the object."""
        n, (height, width) = point.probe.shape[-1], self._passes.share.shape(point.object)
        x, y = (np.clip(each, n // 2, size - n + n // 2) for each, size in ((x, width), (y, height)))
        return point._replace(x=x, y=y)


def room(x: Array, y: Array, bound: float) -> int:
    """Pixels that positions (n,) may need on every side of the object of their patches."""
    play = 0.0 if directions(x, y) is None else BACKLASH_PX / 2
    return math.ceil(bound + play + STAGE_REACH * float(np.ptp(x) + np.ptp(y)) / 2)


def _damped(gradient: Array, curvature: Array) -> Array | None:
    """The damped Gauss-Newton step (2, 2) of a map of the stage; None where the patterns say nothing of it."""
    stiffness = float(np.trace(curvature)) / len(curvature)
    if not stiffness > 0:
        return None
    step: Array = -np.linalg.solve(curvature + DAMPING * stiffness * np.eye(4), gradient).reshape(2, 2)
    return step


def _farthest(displacement: Array) -> float:
    return float(np.linalg.norm(displacement, axis=1).max())


def _mapped(image: Array, matrix: Array, middle: tuple[float, float], share: ObjectShare = WHOLE) -> Array:
    """An object whose point r has gone to `r + M (r - middle)`; M and the middle are ordered (x, y)."""
    back, centre = np.linalg.inv(np.eye(2) + matrix)[::-1, ::-1], np.array(middle[::-1])
    if image.ndim > 2:
        return np.stack([_mapped(each, matrix, middle, share) for each in image])
    (height, width), offset = share.shape(image), centre - back @ centre

    def wanted(rows: NDArray[np.int64]) -> NDArray[np.int64]:
        ends = [back[0, 0] * row + back[0, 1] * column + offset[0] for row in rows[[0, -1]] for column in (0, width)]
        return np.arange(
            max(0, math.floor(min(ends)) - SPLINE_REACH), min(height, math.ceil(max(ends)) + SPLINE_REACH + 1)
        )

    here = share.first_row + np.arange(image.shape[0])
    seen = offset + back[:, 0] * share.first_row - np.array([wanted(here)[0], 0.0])
    rows = share.fetched(image, wanted)
    found = affine_transform(rows, back, seen, output_shape=image.shape, order=3, mode="nearest")
    return np.asarray(found, image.dtype)


def _without_drift(displacement: Array, bound: float) -> Array:
    """Displacements within their bound whose mean is 0: `clip(d - s)`, s found by Newton's method.

    The mean falls as s grows, by the share of those that are not at their bound.
    """
    drift = float(displacement.mean())
    for _ in range(DRIFT_STEPS):
        kept = np.clip(displacement - drift, -bound, bound)
        free = int(np.count_nonzero(np.abs(kept) < bound))
        drift += float(kept.sum()) / max(free, 1)
    return np.clip(displacement - drift, -bound, bound)
