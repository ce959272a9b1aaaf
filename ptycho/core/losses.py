"""What a prediction is judged by, at the detector and in real space, in NumPy: the oracle of the backends' losses."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.core.diffraction import deviance

__all__ = [
    "INTENSITY_FLOOR",
    "detector_weights",
    "mae_loss",
    "poisson_loss",
    "realspace_mae",
    "total_variation",
]

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


def detector_weights(nll_weight: float, mae_weight: float, mode: str) -> tuple[float, float]:
    """Weights of `poisson_loss` and `mae_loss`; the mode `mae` leaves the second alone, with its weight or else 1."""
    return (0.0, mae_weight or 1.0) if mode == "mae" else (nll_weight, mae_weight)


def total_variation(patches: Array) -> float:
    """Isotropic total variation per pixel, `mean sqrt(|O(r, c+1) - O(r, c)|^2 + |O(r+1, c) - O(r, c)|^2)`.

    `patches` O complex `(..., N, N)`; a difference that would leave the patch is 0. A phase of a whole patch does
    not change it. (Rudin, Osher, Fatemi, Physica D 60, 259-268 (1992), for a complex image.)
    """
    power = np.zeros(patches.shape)
    power[..., :, :-1] += np.abs(np.diff(patches, axis=-1)) ** 2
    power[..., :-1, :] += np.abs(np.diff(patches, axis=-2)) ** 2
    return float(np.sqrt(power).mean())


def realspace_mae(patches: Array, truth: Array) -> float:
    """Mean absolute error of the object, `mean |u_g O - Y|`, after one phase per group: `u_g = e^(i arg <O_g, Y_g>)`.

    `patches` O and `truth` Y are complex `(B, ...)` of one shape and one unit, groups first. The patterns of a group
    fix its object up to one phase; `u_g` is the least-squares one, 1 where the two have nothing in common.
    """
    products = (patches.conj() * truth).reshape(len(patches), -1).sum(axis=1)
    turns = np.exp(1j * np.angle(products)).reshape(-1, *(1,) * (patches.ndim - 1))
    return float(np.abs(turns * patches - truth).mean())
