"""Conjugate descent with a restart: the order of the steps of a refinement, and when it stops.

It knows no physics. A problem brings errors, gradients, a preconditioner and curvatures; points are opaque.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

import numpy as np

from ptycho.core.refinement.device.numbers import Number, Numbers

__all__ = ["Descent", "Keeper", "Limits", "Problem", "State", "descend"]

Point = TypeVar("Point")
Direction = TypeVar("Direction")

REJECTIONS = 3
"""Steps in a row that may fail, each a quarter of the one before, until the precision is taken for exhausted."""
SWEEP_GAIN = 0.25
"""Sweeps over mini-batches go on while each leaves less than this of the error: after that full steps are faster."""


class Problem(Protocol[Point, Direction]):
    """What `descend` needs to know; gradients are those of `error`, up to one factor for all of them."""

    @property
    def numbers(self) -> Numbers:
        """What works on slopes, curvatures and lengths, and on the errors that come with gradients."""

    @property
    def batches(self) -> int:
        """Number of mini-batches; 1 where every step sees all data."""

    @property
    def holds_out(self) -> bool:
        """Whether some data stay unseen."""

    def gradient(self, point: Point, batch: int | None = None) -> tuple[Number, Direction]:
        """Error and gradient of the data seen (of one batch)."""

    def precondition(self, point: Point, gradient: Direction, iteration: int) -> Direction:
        """A positive definite map of the gradient."""

    def curvature(self, point: Point, direction: Direction, batch: int | None = None) -> Number:
        """`d`'s second derivative along a direction, in the unit of `dot(gradient, direction)`."""

    def dot(self, a: Direction, b: Direction) -> Number:
        """Real inner product."""

    def combine(self, a: Direction, factor: Number, b: Direction) -> Direction:
        """`-a + factor b`."""

    def step(self, point: Point, direction: Direction, length: Number) -> Point:
        """`point + length direction`."""

    def adjust(self, point: Point, iteration: int) -> Point:
        """Move what has a step of its own (positions); the point itself where nothing has."""

    def error(self, point: Point) -> float:
        """Error of the data seen."""

    def unseen_error(self, point: Point) -> float:
        """Error of the data held out."""

    def forget(self) -> None:
        """Drop what was kept from step to step only to be faster, so that whoever begins here goes the same way."""


@dataclass(frozen=True)
class Limits:
    """When to stop: after `iterations`, at the noise, or when `patience` of them gain less than `tolerance`."""

    iterations: int
    patience: int
    tolerance: float
    noise: float = 0.0
    """Error of the data seen that noise alone would leave; 0: unknown."""
    seconds: float | None = None
    """After which no iteration begins; None: no limit."""
    clock: Callable[[], float] = time.perf_counter
    """What tells the time, seconds."""


@dataclass
class Descent(Generic[Point]):
    """The best point and the way there; entry 0 of a history is the start, entry k comes after iteration k."""

    point: Point
    errors: list[float] = field(default_factory=list)
    unseen: list[float] = field(default_factory=list)
    kept: int = 0
    restarts: int = 0
    stopped: str = ""
    begun: float = 0.0
    """When, by the clock of the limits."""


@dataclass
class State(Generic[Point, Direction]):
    """All that a search holds at the beginning of an iteration: who has it goes on to the same end."""

    point: Point
    error: float
    gradient: Direction
    found: Descent[Point]
    sweeping: bool
    iteration: int = 0
    failures: int = 0
    """Steps in a row that were taken back."""
    last: tuple[Direction, Direction, Number] | None = None
    """The last direction, its gradient and its slope; None: the next step is steepest descent."""


class Keeper(Protocol[Point, Direction]):
    """Keeps the state of a search now and then, and brings back that of one that was cut off."""

    every: int
    """Iterations between two states."""

    def restore(self, rng: np.random.Generator) -> State[Point, Direction] | None:
        """The state to go on from, the generator as it was then; None begins anew."""

    def begin(self, state: State[Point, Direction]) -> None:
        """Called with the state that the search begins with, which it changes as it goes on."""

    def keep(self, state: State[Point, Direction], rng: np.random.Generator) -> None:
        """Called with the state at the beginning of every so many iterations; it may be changed later."""


def descend(
    problem: Problem[Point, Direction],
    start: Point,
    limits: Limits,
    rng: np.random.Generator,
    report: Callable[[int, float], None] | None = None,
    keeper: Keeper[Point, Direction] | None = None,
) -> Descent[Point]:
    """Minimise an error from `start`.

    Preconditioned conjugate gradients (Polak-Ribiere, never negative, which restarts by itself where directions lose
    their conjugacy), the length of a step from the Gauss-Newton curvature along it. A step that raises the error is
    taken back and tried again along the gradient, a quarter as long. With mini-batches the first iterations are
    sweeps, a step of steepest descent to the minimum of each batch in random order, while they gain much; where
    batches begin to disagree a sweep only circles around the minimum, and full steps take over.

    The result is the best point seen, start included: by the unseen error where data are held out, else by the error.
    Where the noise is known, of the last two the one whose error is nearer to it.

    Source of the restart rule: Polak & Ribiere (1969) with the positive part of Powell (1984).
    """
    state = None if keeper is None else keeper.restore(rng)
    if state is None:
        error, gradient = problem.gradient(start)
        state = State(start, float(error), gradient, Descent(start), sweeping=problem.batches > 1)
    if limits.seconds is not None:
        state.found.begun = limits.clock()
    if keeper is not None:
        keeper.begin(state)
    search = _Search(problem, state)
    for iteration in range(state.iteration, limits.iterations + 1):
        state.iteration = iteration
        if keeper is not None and iteration and iteration % keeper.every == 0:
            problem.forget()
            keeper.keep(state, rng)
        _note(state.found, problem, state.point, state.error, limits)
        if report is not None:
            report(iteration, state.error)
        state.found.stopped = _reason(state.found, iteration, limits)
        if state.found.stopped:
            break
        if state.sweeping:
            search.sweep(rng)
        elif not search.step():
            break
    return state.found


class _Search(Generic[Point, Direction]):
    """Steps along conjugate directions, and sweeps over mini-batches; either leaves the state at the next iteration."""

    def __init__(self, problem: Problem[Point, Direction], state: State[Point, Direction]) -> None:
        self.problem, self.state = problem, state

    def step(self) -> bool:
        """A step with all data, or, where it raises the error, none; False where none lowers it any more."""
        problem, state = self.problem, self.state
        point, gradient, iteration = state.point, state.gradient, state.iteration
        direction, slope = self._direction(point, gradient)
        # the curvature is that of a parabola: after a step that raised the error it is believed for a shorter way
        length = self._length(point, direction, slope) * 0.25**state.failures
        ahead = problem.adjust(problem.step(point, direction, length), iteration)
        found, gradient = problem.gradient(ahead)
        error = float(found)  # the one number of an iteration that is waited for
        if error < state.error:
            state.point, state.error, state.gradient, state.failures = ahead, error, gradient, 0
            return True
        state.failures, state.found.restarts = state.failures + 1, state.found.restarts + 1
        if state.failures > REJECTIONS or not np.isfinite(float(length)):
            state.found.stopped = f"no step lowers the error any more, after {iteration} iterations"
            return False
        state.last = None
        # the problem keeps what it worked out for the last point that it was asked about, the rejected one
        self._begin_at(point)
        return True

    def sweep(self, rng: np.random.Generator) -> None:
        """One step for each mini-batch, in random order."""
        problem, state, point = self.problem, self.state, self.state.point
        for batch in rng.permutation(problem.batches).tolist():
            state.last = None  # the last direction was conjugate for the error of another batch
            _, gradient = problem.gradient(point, batch)
            direction, slope = self._direction(point, gradient)
            point = problem.step(point, direction, self._length(point, direction, slope, batch))
        state.last, point = None, problem.adjust(point, state.iteration)
        error = problem.error(point)
        state.sweeping = error < SWEEP_GAIN * state.error
        if error < state.error:
            state.point = point
        else:
            state.found.restarts += 1
        self._begin_at(state.point)

    def _begin_at(self, point: Point) -> None:
        """Error and gradient of the point that the next iteration begins with."""
        error, self.state.gradient = self.problem.gradient(point)
        self.state.error = float(error)

    def _direction(self, point: Point, gradient: Direction) -> tuple[Direction, Number]:
        """The next direction, and the slope along it; it always leads down."""
        dot, numbers, state = self.problem.dot, self.problem.numbers, self.state
        mapped = self.problem.precondition(point, gradient, state.iteration)
        slope, factor, last = dot(gradient, mapped), 0.0, mapped
        along = -slope
        if state.last is not None:
            last, last_gradient, last_slope = state.last
            factor = numbers.ratio(slope - dot(mapped, last_gradient), last_slope)
            conjugate = factor * dot(gradient, last) - slope
            # the preconditioner changes on the way, and with it what was conjugate: such a direction may lead up
            leads = (factor > 0) & (conjugate < 0)
            factor, along = numbers.choose(leads, factor, 0.0), numbers.choose(leads, conjugate, along)
        direction = self.problem.combine(mapped, factor, last)
        state.last = direction, gradient, slope
        return direction, along

    def _length(self, point: Point, direction: Direction, slope: Number, batch: int | None = None) -> Number:
        """How far the minimum along a direction is, by the slope and the curvature there."""
        return self.problem.numbers.ratio(-slope, self.problem.curvature(point, direction, batch))


def _note(
    found: Descent[Point], problem: Problem[Point, Direction], point: Point, error: float, limits: Limits
) -> None:
    """Write down where the search is, and keep the point if it is the best."""
    found.errors.append(error)
    if problem.holds_out:
        found.unseen.append(problem.unseen_error(point))
    decisive = found.unseen or found.errors
    if decisive[-1] <= decisive[found.kept] and not _overshot(found, limits.noise):
        found.point, found.kept = point, len(decisive) - 1


def _overshot(found: Descent[Point], noise: float) -> bool:
    """Whether the last step went so far below the noise that the best point before was nearer to it, as a ratio."""
    last, before = found.errors[-1], found.errors[found.kept]
    return last < noise and last * before < noise**2


def _reason(found: Descent[Point], iteration: int, limits: Limits) -> str:
    """Why to stop now; empty to go on."""
    decisive, kind = (found.unseen, "unseen patterns") if found.unseen else (found.errors, "patterns")
    if not np.isfinite(found.errors[0]):
        return "the error of the start is not finite"
    if decisive[-1] == 0:
        return f"nothing is left to explain, after {iteration} iterations"
    if limits.noise and found.errors[-1] <= limits.noise:
        return f"the patterns are explained to the noise, after {iteration} iterations"
    if iteration >= limits.iterations:
        return f"the {limits.iterations} iterations are done"
    if limits.seconds is not None and limits.clock() - found.begun >= limits.seconds:
        return f"the {limits.seconds:g} s are over, after {iteration} iterations"
    if iteration >= limits.patience:
        before = min(decisive[: -limits.patience])
        if min(decisive[-limits.patience :]) > (1 - limits.tolerance) * before:
            return f"the error of the {kind} fell by less than {limits.tolerance:g} in {limits.patience} iterations"
    return ""
