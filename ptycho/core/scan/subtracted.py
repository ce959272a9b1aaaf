"""What a subtracted background leaves: counts below 0, and what brings them above it again.

Patterns `I = n - b` say as much as the photons n, as long as nothing is cut off: `I + c` are fitted by `|F|^2 + c`, for
any c of each pixel that leaves nothing below 0. The mean is right whatever c is; its noise is weighed best where c is
b. Where there is no light the mean square of what is below 0 is the variance of photons, b. All other pixels have as
much as the dark ones, up to `var I - mean I`, of photons b and what the light varies beside.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ptycho.core.scaling import Units

__all__ = ["sampled", "subtracted_background"]

Array = NDArray[Any]

_SAMPLE = 32
_FEW, _FAINT, _HALF = 0.1, 0.01, 0.5
"""Share of the values, depth relative to the maximum, and share of the light of the mean pattern, up to which what is
below 0 is believed to be noise about a subtracted background."""
_AROUND, _RANK = 5, -3
"""Side of the square of pixels around each, and which of its values, from the top, counts for it; no single one."""
_DARK, _SMOOTH, _MOST = 0.25, 3, 90
"""Share of the values of a dark pixel that are below 0; side of the square of pixels whose median is taken of what the
noise tells; percentile of dark pixels that others have, too."""


def sampled(count: int) -> NDArray[np.intp]:
    """Indices of at most 32 of so many patterns, evenly spaced."""
    return np.unique(np.linspace(0, count - 1, min(count, _SAMPLE)).round().astype(np.intp))


def subtracted_background(patterns: Array, mask: Array | None, units: str | Units | None) -> NDArray[np.float64] | None:
    """What to add to every pattern so that next to nothing of its noise lies below 0; None where nothing does.

    By at most 32 patterns, evenly spaced: how far a pixel itself goes below 0, or the third of the 5 x 5 around it; or
    what the noise of dark pixels tells. Values below 0 are believed where they are no more than 10 %
    of all, or nowhere below -1 % of the maximum, or where the mean pattern has no more than half as much below 0 as
    above.

    Args:
        patterns: (n, rows, columns).
        mask: (rows, columns) or (n, rows, columns), True where valid.
        units: of the patterns; amplitudes have no values below 0.

    Returns:
        (rows, columns), not negative.

    >>> counts = np.random.default_rng(0).poisson(4.0, (32, 8, 8)) - 4.0
    >>> counts[:, 4, 4] += 50.0
    >>> round(float(np.median(subtracted_background(counts, None, "counts"))))
    4
    """
    if units == "amplitude" or len(patterns) == 0 or patterns.dtype.kind not in "if":
        return None
    chosen = sampled(len(patterns))
    values = patterns[chosen].astype(np.float64)
    good = np.isfinite(values)
    if mask is not None:
        good &= mask[chosen] if mask.ndim == 3 else mask
    values = np.where(good, values, 0)
    lowest = values.min(axis=0)
    if not (lowest < 0).any() or not _believed(values):
        return None
    around = ndimage.rank_filter(-lowest, _RANK, size=_AROUND, mode="nearest")
    below = np.maximum(np.maximum(-lowest, around), 0)
    share = (values < 0).mean(axis=0)
    dark = share >= _DARK
    if not dark.any():
        return below
    told = _smooth(np.square(np.minimum(values, 0)).mean(axis=0) / np.where(dark, share, 1))
    most = np.percentile(np.maximum(below, told)[dark], _MOST)
    allowed = _smooth(np.maximum(values.var(axis=0) - values.mean(axis=0), 0))
    return np.maximum(below, np.where(dark, told, np.minimum(allowed, most)))


def _smooth(values: Array) -> Array:
    return np.asarray(ndimage.median_filter(values, _SMOOTH, mode="nearest"))


def _believed(values: Array) -> bool:
    """Whether what is below 0 may be noise."""
    few = np.count_nonzero(values < 0) <= _FEW * values.size
    mean = values.mean(axis=0)
    dark, light = -np.minimum(mean, 0).sum(), np.maximum(mean, 0).sum()
    return bool(few or -values.min() <= _FAINT * values.max() or dark <= _HALF * light)
