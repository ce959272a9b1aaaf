"""What a prediction is judged by, in NumPy: the oracle of the backends' losses."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.core.diffraction import deviance

__all__ = ["INTENSITY_FLOOR", "mae_loss", "poisson_loss"]

INTENSITY_FLOOR = 1e-6
"""Added to the expected counts in the Poisson loss, relative to the data set's mean count: keeps gradients finite."""

Array = NDArray[Any]


def _mean_valid(values: Array, mask: Array | None) -> float:
    if mask is None:
        return float(values.mean())
    return float(values[np.broadcast_to(mask, values.shape)].mean())


def poisson_loss(expected: Array, counts: Array, mean_count: float, mask: Array | None = None) -> float:
    """Half the Poisson deviance per valid pixel, divided by the mean count: `mean(L - Y + Y log(Y / L)) / mean_count`.

    `expected` L and `counts` Y are photon counts `(..., N, N)`; L is raised by `INTENSITY_FLOOR mean_count`;
    `mask` broadcasts to them, True where valid. `mean_count` is one number of the data set.
    """
    return _mean_valid(deviance(counts, expected + INTENSITY_FLOOR * mean_count) / 2, mask) / mean_count


def mae_loss(expected: Array, counts: Array, mean_count: float, mask: Array | None = None) -> float:
    """Mean absolute error of the amplitude per valid pixel, `mean |sqrt(L) - sqrt(Y)| / sqrt(mean_count)`."""
    return _mean_valid(np.abs(np.sqrt(expected) - np.sqrt(counts)), mask) / float(np.sqrt(mean_count))
