"""A beam that fell or rose through a scan, by the brightness of the patterns in the order they were taken."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.core.doctor.findings import Finding
from ptycho.core.doctor.statistics import ScanStatistics

__all__ = ["FEWEST", "beam_change", "check_beam"]

FEWEST = 12
"""Patterns with light below which nothing is said."""
FALL, STEADY = 0.6, 0.6
"""Brightness of the last pattern over that of the first from which on a beam is suspected, where a straight line
explains so much of the logarithms: a sample has bright and dark places, but not in the order of the scan."""
_STEP = 1.2
"""How much more of the variance a step has to explain than the line does, to be told for one."""


def beam_change(brightness: NDArray[np.floating[Any]]) -> float:
    """Brightness of the last pattern over that of the first, where a line through the logarithms shows a change.

    It is that of the medians of the first and the last tenth, drawn out to the whole scan.

    Args:
        brightness: (n,) of the patterns in the order of the scan, in any unit; those that are 0 do not count.

    Returns:
        The ratio; 1 where the brightness does not follow the order.
    """
    lit = np.flatnonzero(brightness > 0)
    if len(lit) < FEWEST:
        return 1.0
    order, values = lit / (len(brightness) - 1), np.log(brightness[lit])
    slope = float(np.polyfit(order, values, 1)[0])
    explained = float(np.corrcoef(order, values)[0, 1] ** 2) if np.ptp(values) > 0 else 0.0
    if explained < STEADY or abs(slope) < -np.log(FALL):
        return 1.0
    end = max(1, len(lit) // 10)
    rise, run = (np.median(each[-end:]) - np.median(each[:end]) for each in (values, order))
    return float(np.exp(rise / run))


def check_beam(statistics: ScanStatistics) -> Finding:
    """Is the beam as bright at the end of the scan as at the beginning?"""
    change = beam_change(statistics.energies)
    if change == 1.0:
        sentence = "The brightness of the patterns does not follow their order."
        return Finding("beam", "ok", sentence, {"ratio": 1.0, "first": None})
    first, ratio = _step(statistics.energies)
    numbers = {"ratio": change if first is None else ratio, "first": first}
    what = f"The patterns change in brightness to {100 * change:.0f} % from the first to the last"
    if first is not None:
        what = f"From pattern {first} on the patterns have {100 * ratio:.0f} % of the brightness before"
    sentence = f"{what}: the beam changed, unless it is the sample. A factor for each makes up for it: --flux."
    return Finding("beam", "warning", sentence, numbers, ("reconstruct --flux",))


def _step(brightness: NDArray[np.float64]) -> tuple[int | None, float]:
    """(pattern from which on the brightness is another, brightness relative to that before); (None, 1) for no step."""
    lit = np.flatnonzero(brightness > 0)
    values, n = np.log(brightness[lit]), len(lit)
    before = np.arange(FEWEST // 2, n - FEWEST // 2 + 1)
    sums = np.cumsum(values)[before - 1]
    heights = (values.sum() - sums) / (n - before) - sums / before
    explained = heights**2 * before * (n - before) / n
    best = int(np.argmax(explained))
    if explained[best] < _STEP * np.corrcoef(lit, values)[0, 1] ** 2 * n * values.var():
        return None, 1.0
    return int(lit[before[best]]), float(np.exp(heights[best]))
