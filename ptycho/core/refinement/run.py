"""Refinement of object, probe and positions: from a first object to the likelihood's own answer.

The order of things for both backends; a backend brings its `Kernels`. The objective is a sum over valid pixels
(`refinement_passes` has both likelihoods), reported relative to `sum A^2`. Steps are conjugate gradients
(`descent`) in the metric of `preconditioner`; positions take a Gauss-Newton step of their own.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.core.geometry import ObjectFrame, object_frame
from ptycho.core.physics.diffraction import as_modes
from ptycho.core.reconstruction import Reconstruction
from ptycho.core.refinement.descent import Limits, descend
from ptycho.core.refinement.passes import (
    Direction,
    Kernels,
    Likelihood,
    Passes,
    Point,
    ScanData,
    intensity_floor,
    places,
)
from ptycho.core.refinement.preconditioner import Preconditioner
from ptycho.core.result import ObjectResult, plural
from ptycho.errors import ConfigError, DataError

__all__ = ["Refinement", "Settings", "Start", "run"]

logger = logging.getLogger(__name__)

Array = NDArray[Any]
MakeKernels = Callable[[Likelihood, float], Kernels]

REFRESH = (0, 2, 5, 10, 20, 40, 80)
"""Iterations before which the preconditioner is made anew while the probe moves."""
POSITIONS_WAIT, POSITIONS_EVERY = 4, 2
"""Positions begin to move once the object has taken shape, and then every other iteration."""
POSITION_STEP, POSITION_TRUST_PX = 0.8, 0.5
"""Part of the Gauss-Newton step of a position that is taken, and its greatest length along an axis."""
POSITION_DAMPING = 1e-3
"""Added to the curvature of a position, relative to the mean over the scan."""


@dataclass(frozen=True, eq=False, repr=False)
class Refinement(ObjectResult):
    """What a refinement found: the best point it saw, the start included.

    Entry 0 of a history is the start, entry k comes after k iterations; `kept` is the entry of this result.
    """

    object: NDArray[np.complex64]
    """(H, W), in `frame`."""
    probe: NDArray[np.complex64]
    """(M, N, N)."""
    xcoords: NDArray[np.float64]
    ycoords: NDArray[np.float64]
    """(n,) centre of each patch in `object`, pixels; refined where that was asked for."""
    frame: ObjectFrame
    """Where `object` lies on the scan's own pixel grid."""
    error_history: tuple[float, ...]
    """Likelihood relative to `sum A^2`, over the patterns seen."""
    unseen_history: tuple[float, ...]
    """The same over the patterns held out; empty where there are none."""
    kept: int
    restarts: int
    """Steps that were taken back."""
    iterations: int
    seconds: float
    stopped: str
    """Why it stopped, in words."""

    def __repr__(self) -> str:
        modes, N, _ = self.probe.shape
        facts = [
            f"object {self.frame.height} x {self.frame.width}",
            plural(self.xcoords.size, "position"),
            f"N={N}",
            plural(modes, "probe mode"),
        ]
        change = f"{self.error_history[0]:.3g} -> {self.error_history[self.kept]:.3g}"
        done = f"{plural(self.iterations, 'iteration')} in {self.seconds:.3g} s ({self.stopped})"
        return f"Refinement({', '.join(facts)},\n  relative error {change}, {done})"


Start = Reconstruction | Refinement | Array


@dataclass(frozen=True)
class Settings:
    """How to refine; `ptycho_torch.refine.refine` describes every field."""

    iterations: int
    likelihood: Likelihood
    refine_probe: bool
    refine_positions: bool
    position_bound_px: float
    batch_size: int | None
    holdout: float
    patience: int
    tolerance: float
    seed: int
    keep_bytes: int
    noise: float = 0.0

    def __post_init__(self) -> None:
        checks = (
            ("iterations", self.iterations >= 1, "at least 1"),
            ("likelihood", self.likelihood in ("amplitude", "poisson"), "'amplitude' or 'poisson'"),
            ("position_bound_px", 0 < self.position_bound_px < math.inf, "a number of pixels above 0"),
            ("batch_size", self.batch_size is None or self.batch_size >= 1, "at least 1, or None for all"),
            ("holdout", 0 <= self.holdout < math.inf, "a fraction below 1 or a number of patterns"),
            ("patience", self.patience >= 1, "at least 1"),
            ("tolerance", 0 <= self.tolerance < 1, "a fraction from 0 to below 1"),
            ("keep_bytes", self.keep_bytes >= 0, "0 or more"),
            ("noise", 0 <= self.noise < math.inf, "0 or more"),
        )
        for name, good, expected in checks:
            if not good:
                raise ConfigError(f"{name}: expected {expected}, found {getattr(self, name)!r}; correct it")


def run(
    make_kernels: MakeKernels,
    scan: ScanData,
    start: Start | None,
    probe: Array | None,
    frame: ObjectFrame | None,
    settings: Settings,
    report: Callable[[int, float], None] | None = None,
    dtype: type[np.complexfloating[Any, Any]] = np.complex64,
) -> Refinement:
    """Refine with the kernels of a backend; `ptycho_torch.refine.refine` describes the arguments."""
    begun = time.perf_counter()
    point, frame = _first_point(scan, start, probe, frame, settings, dtype)
    rng = np.random.default_rng(settings.seed)
    unseen = _held_out(settings.holdout, len(scan), rng)
    groups = _batches(np.setdiff1d(np.arange(len(scan)), unseen), settings.batch_size, rng)
    kernels = make_kernels(settings.likelihood, intensity_floor(scan, settings.likelihood))
    passes = Passes(kernels, scan, groups, unseen, len(point.probe), settings.keep_bytes)
    problem = _Ptychography(passes, settings, point)
    limits = Limits(settings.iterations, settings.patience, settings.tolerance, settings.noise)
    found = descend(problem, point, limits, rng, report)
    logger.debug("refinement: %s, %d restarts", found.stopped, found.restarts)
    return Refinement(
        object=found.point.object.astype(np.complex64),
        probe=found.point.probe.astype(np.complex64),
        xcoords=found.point.x,
        ycoords=found.point.y,
        frame=frame,
        error_history=tuple(found.errors),
        unseen_history=tuple(found.unseen),
        kept=found.kept,
        restarts=found.restarts,
        iterations=len(found.errors) - 1,
        seconds=time.perf_counter() - begun,
        stopped=found.stopped,
    )


def _first_point(
    scan: ScanData,
    start: Start | None,
    probe: Array | None,
    frame: ObjectFrame | None,
    settings: Settings,
    dtype: type[np.complexfloating[Any, Any]],
) -> tuple[Point, ObjectFrame]:
    """Object, probe and positions to begin with, and the frame they lie in."""
    x, y = np.asarray(scan.xcoords, np.float64), np.asarray(scan.ycoords, np.float64)
    image: Array | None
    if isinstance(start, Reconstruction | Refinement):
        image, frame = start.object, start.frame if frame is None else frame
        probe = start.probe if probe is None else probe
        if len(start.xcoords) == len(scan):
            x, y = start.xcoords + start.frame.x0, start.ycoords + start.frame.y0
    else:
        image = start
    n = int(scan.probeGuess.shape[-1])
    if frame is None:
        frame = object_frame(x, y, n)
        if settings.refine_positions and image is None:
            frame = _widened(frame, math.ceil(settings.position_bound_px))
    if image is not None and image.shape != frame.shape:
        raise DataError(
            f"start: expected an object of the frame's shape {frame.shape}, found {image.shape}; pass the frame= it "
            "lies in"
        )
    modes = as_modes(np.asarray(scan.probeGuess if probe is None else probe))
    if modes.ndim != 3 or modes.shape[1:] != (n, n):
        raise DataError(f"probe: expected shape (M, {n}, {n}) as the patterns, found {modes.shape}; crop or pad it")
    x, y = frame.local(x, y)
    places(x, y, n, frame.shape)
    flat = np.ones(frame.shape) if image is None else image
    return Point(np.array(flat, dtype), np.array(modes, dtype), x, y), frame


def _widened(frame: ObjectFrame, margin: int) -> ObjectFrame:
    return ObjectFrame(frame.height + 2 * margin, frame.width + 2 * margin, frame.x0 - margin, frame.y0 - margin)


def _held_out(holdout: float, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Patterns that stay unseen: a fraction of the scan below 1, a number from 1 on."""
    number = round(holdout * count) if holdout < 1 else int(holdout)
    if holdout and not 0 < number < count:
        raise ConfigError(f"holdout={holdout:g}: expected 1 to {count - 1} of {count} patterns; change it")
    return np.sort(rng.choice(count, number, replace=False))


def _batches(seen: NDArray[np.int64], size: int | None, rng: np.random.Generator) -> list[NDArray[np.int64]]:
    """Batches of about `size` patterns each, drawn at random so that each spreads over the object."""
    if size is None or size >= len(seen):
        return [seen]
    return [np.sort(batch) for batch in np.array_split(rng.permutation(seen), math.ceil(len(seen) / size))]


class _Ptychography:
    """The problem that `descend` solves: `ptycho.core.refinement.descent.Problem` of points and directions."""

    def __init__(self, passes: Passes, settings: Settings, start: Point) -> None:
        self._passes, self._settings, self._start = passes, settings, start
        self._preconditioner: Preconditioner | None = None
        self._made = -1

    @property
    def batches(self) -> int:
        """Number of mini-batches."""
        return len(self._passes.groups)

    @property
    def holds_out(self) -> bool:
        """Whether some patterns stay unseen."""
        return bool(self._passes.unseen)

    def error(self, point: Point) -> float:
        """Relative likelihood of the patterns seen."""
        return self._passes.error(point)

    def unseen_error(self, point: Point) -> float:
        """Relative likelihood of the patterns held out."""
        return self._passes.error(point, unseen=True)

    def gradient(self, point: Point, batch: int | None = None) -> tuple[float, Direction]:
        """Relative likelihood and its gradient."""
        return self._passes.gradient(point, self._settings.refine_probe, batch)

    def curvature(self, point: Point, direction: Direction, batch: int | None = None) -> float:
        """Gauss-Newton curvature along a direction."""
        return self._passes.curvature(point, direction, batch)

    def precondition(self, point: Point, gradient: Direction, iteration: int) -> Direction:
        """Map a gradient to a step."""
        due = max((k for k in REFRESH if k <= iteration), default=0)
        if self._preconditioner is None or (self._settings.refine_probe and self._made < due):
            rows, cols, _, _ = places(point.x, point.y, point.probe.shape[-1], point.object.shape)
            moves = self._settings.refine_probe
            self._preconditioner, self._made = Preconditioner(point.object, point.probe, rows, cols, moves), due
        probe_step = None
        if gradient.probe is not None:
            probe_step = self._preconditioner.probe_step(gradient.probe, point.probe)
        return Direction(self._preconditioner.object_step(gradient.object, point.object), probe_step)

    def dot(self, a: Direction, b: Direction) -> float:
        """Real inner product."""
        pairs = [(a.object, b.object)]
        if a.probe is not None and b.probe is not None:
            pairs.append((a.probe, b.probe))
        return sum(float(np.vdot(one, other).real) for one, other in pairs)

    def combine(self, a: Direction, factor: float, b: Direction) -> Direction:
        """`-a + factor b`."""
        if a.probe is None or b.probe is None:
            return Direction(factor * b.object - a.object, None)
        return Direction(factor * b.object - a.object, factor * b.probe - a.probe)

    def step(self, point: Point, direction: Direction, length: float) -> Point:
        """`point + length direction`, far fields and all."""
        probe = point.probe if direction.probe is None else point.probe + length * direction.probe
        target = Point(point.object + length * direction.object, probe, point.x, point.y)
        self._passes.advance(point, target, length)
        return target

    def adjust(self, point: Point, iteration: int) -> Point:
        """Move the positions by a damped Gauss-Newton step, within their bound and without a common drift."""
        late = iteration - POSITIONS_WAIT
        if not self._settings.refine_positions or late < 0 or late % POSITIONS_EVERY:
            return point
        shifts = np.zeros((len(point.x), 2))
        found = [(indices, *terms) for indices, terms in self._passes.position_terms(point)]
        seen = np.concatenate([indices for indices, _, _ in found])
        gradient, curvature = (np.concatenate([entry[k] for entry in found]) for k in (1, 2))
        stiffness = np.trace(curvature, axis1=1, axis2=2) / 2
        damped = curvature + POSITION_DAMPING * stiffness.mean() * np.eye(2)
        step = -POSITION_STEP * np.linalg.solve(damped, gradient[..., None])[..., 0]
        shifts[seen] = np.clip(step, -POSITION_TRUST_PX, POSITION_TRUST_PX)
        x, y = (
            _bounded(now + shift, first, seen, self._settings.position_bound_px, size, point.probe.shape[-1])
            for now, shift, first, size in (
                (point.x, shifts[:, 0], self._start.x, point.object.shape[1]),
                (point.y, shifts[:, 1], self._start.y, point.object.shape[0]),
            )
        )
        return Point(point.object, point.probe, x, y)


def _bounded(
    moved: Array, first: Array, seen: NDArray[np.int64], bound: float, size: int, n: int
) -> NDArray[np.float64]:
    """Positions along one axis, without their common drift, near their start and with their patches in the object."""
    drift = float((moved - first)[seen].mean())
    displacement = np.zeros_like(first)
    displacement[seen] = np.clip((moved - first)[seen] - drift, -bound, bound)
    return np.clip(first + displacement, n // 2, size - n + n // 2)
