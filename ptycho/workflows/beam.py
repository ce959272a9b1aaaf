"""A beam that fell or rose through a scan, by the brightness of the patterns in the order they were taken."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import median_filter

from ptycho.raw_data import RawData

__all__ = ["FEWEST", "beam_change", "beam_trend"]

FEWEST = 12
"""Patterns with light below which nothing is said."""
FALL, STEADY = 0.6, 0.6
"""Brightness of the last pattern over that of the first from which on a beam is suspected, where a straight line
explains so much of the logarithms: a sample has bright and dark places, but not in the order of the scan."""
LOOKED_AT, BATCH = 512, 32
"""Patterns looked at for the trend, and at once."""
WINDOW = 0.1
"""Share of the patterns whose median the trend is, so that bright and dark places of the sample do not follow it."""


def beam_change(brightness: NDArray[np.floating[Any]]) -> float:
    """Brightness of the last pattern over that of the first, by a straight line through the logarithms.

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
    return 1.0 if explained < STEADY or abs(slope) < -np.log(FALL) else float(np.exp(slope))


def beam_trend(data: RawData) -> NDArray[np.float64] | None:
    """Flux of the beam at every pattern of a scan (n,), mean 1; None where the brightness does not follow the order."""
    some = np.unique(np.linspace(0, len(data) - 1, LOOKED_AT).round().astype(int))
    batches = np.array_split(some, max(1, len(some) // BATCH))
    brightness = np.concatenate(
        [np.square(data.amplitude(batch), dtype=np.float64).sum(axis=(1, 2)) for batch in batches]
    )
    if beam_change(brightness) == 1.0:
        return None
    lit = brightness > 0
    window = 2 * int(WINDOW * np.count_nonzero(lit) / 2) + 1
    smooth = median_filter(np.log(brightness[lit]), window, mode="nearest")
    flux = np.exp(np.interp(np.arange(len(data)), some[lit], smooth))
    return np.asarray(flux / flux.mean())
