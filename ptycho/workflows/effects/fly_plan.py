"""How far the stage goes while a pattern is counted, by patterns that a short reconstruction did not see."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.config.options import IterationOptions
from ptycho.core.physics.fly_scan import FlyPath, fly_path, line_ways, points_for
from ptycho.core.result import plural
from ptycho.errors import DataError
from ptycho.raw_data import RawData

__all__ = ["Flight", "asked_to_fly", "found_flight", "runs_in_lines"]

logger = logging.getLogger(__name__)

SHORTEST_PX, LONGEST = 1.5, 0.25
"""Ways that are tried, pixels and share of a pattern's side: a shorter one is not seen, a longer one leaves the window
of the probe."""
GAIN = 0.05
"""Share of the unseen error that a way has to save."""


@dataclass(frozen=True, eq=False)
class Flight:
    """What was found."""

    path: FlyPath | None
    """(n, S, 2) for the whole scan; None: the stage is at rest."""
    note: str
    """Why, one sentence."""
    gain: float = 1.0
    """Unseen error at rest over that with the path, where both were tried."""


def asked_to_fly(options: IterationOptions) -> bool:
    """Whether the stage may move during a pattern."""
    return options.fly_points is not None or options.fly_duty != "auto"


def runs_in_lines(data: RawData) -> bool:
    """Whether most patterns have a neighbour along a line, in the order of the scan."""
    moving = np.count_nonzero(line_ways(data.xcoords, data.ycoords).any(axis=1))
    return bool(moving and moving >= len(data) / 2)


def found_flight(
    data: RawData,
    options: IterationOptions,
    probe: NDArray[Any],
    error: Callable[[FlyPath | None], float] | None,
    patterns: str,
) -> Flight:
    """The path of a scan along lines: with the duty that is asked for, else the one that unseen patterns prefer.

    Args:
        data: the scan, in the order it was taken.
        options: what is asked for.
        probe: (M, N, N) to begin with.
        error: of unseen patterns with a path `(n, S, 2)` of the whole scan, or None for the stage at rest; None where
            nothing can be tried.
        patterns: how many these are, in words.

    Raises:
        DataError: positions that follow no lines.
    """
    ways = line_ways(data.xcoords, data.ycoords)
    moving = np.hypot(*ways.T)
    if not runs_in_lines(data):
        raise DataError(
            f"fly: expected positions along lines in the order of the scan, found {np.count_nonzero(moving)} of "
            f"{len(moving)} with a neighbour along one; leave --fly out"
        )
    usual = float(np.median(moving[moving > 0]))

    def path(duty: float) -> FlyPath:
        points = options.fly_points
        if not isinstance(points, int):
            points = points_for(duty * ways, probe, data.near_field is not None)
        return fly_path(ways, points, duty)

    if options.fly_duty != "auto":
        return _told(path(options.fly_duty), usual, options.fly_duty, "as asked for")
    if error is None:
        return Flight(None, f"{patterns}: too few to find how far the stage goes during one; it is taken to be at rest")
    tried = _Tried(lambda duty: error(path(duty)), data.N * LONGEST / usual, SHORTEST_PX / usual)
    rest, (duty, best) = error(None), tried.best()
    if best > (1 - GAIN) * rest:
        why = f"{patterns} are foretold to {rest:.3g} at rest, {best:.3g} with a way of {duty * usual:.2g} pixels"
        return Flight(None, f"The stage is at rest during a pattern: {why}")
    why = f"{patterns} are foretold to {best:.3g}, to {rest:.3g} at rest"
    return _told(path(tried.between(duty)), usual, tried.between(duty), why, rest / best)


def _told(path: FlyPath, usual: float, duty: float, why: str, gain: float = 1.0) -> Flight:
    way = f"The stage goes {duty * usual:.2g} pixels during a pattern, {100 * duty:.0f} % of the way to the next"
    return Flight(path, f"{way}, {plural(path.shape[1], 'place')} of the probe each: {why}", gain)


class _Tried:
    """Unseen errors by the share of the way, each found once."""

    def __init__(self, error: Callable[[float], float], most: float, least: float) -> None:
        self._error, self._least = error, least
        self._first = float(2.0 ** np.floor(np.log2(min(most, 1.0))))
        self.errors: dict[float, float] = {}

    def of(self, duty: float) -> float:
        """The error with a share."""
        if duty not in self.errors:
            self.errors[duty] = self._error(duty)
            logger.debug("trial: %.3g of the way: unseen error %.4g", duty, self.errors[duty])
        return self.errors[duty]

    def best(self) -> tuple[float, float]:
        """(share, error) of the best: halves down to the shortest way, until it gets worse, then between two."""
        duty = self._first
        self.of(duty)
        while duty / 2 > self._least and self.of(duty / 2) <= self.of(duty):
            duty /= 2
        for near in (duty / np.sqrt(2), duty * np.sqrt(2)):
            if self._least < near <= 1:
                self.of(float(near))
        return min(self.errors.items(), key=lambda entry: entry[1])

    def between(self, duty: float) -> float:
        """The minimum of a parabola through the best and its neighbours, in the square of the share: in how far a way
        blurs the patterns.
        """
        order = sorted(self.errors)
        k = int(np.clip(order.index(duty), 1, max(1, len(order) - 2)))
        near = order[k - 1 : k + 2]
        if len(near) < 3:
            return duty
        bend, slope, _ = np.polyfit(np.square(near), [self.errors[each] for each in near], 2)
        if bend <= 0:
            return duty
        return float(np.sqrt(np.clip(-slope / (2 * bend), near[0] ** 2, near[-1] ** 2)))
