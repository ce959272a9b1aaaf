"""The losses of a prediction, at the detector and in real space, in NumPy: the oracle of the backends' losses."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.core.physics.diffraction import deviance

__all__ = [
    "FLATNESS_VARIANCE",
    "INTENSITY_FLOOR",
    "amplitude_flatness",
    "mae_loss",
    "mean_deviation",
    "phasors",
    "poisson_loss",
    "probe_distance",
    "realspace_mae",
    "total_variation",
]

INTENSITY_FLOOR = 1e-6
"""Added to the expected counts in the Poisson loss, relative to the data set's mean count: keeps gradients finite."""

FLATNESS_VARIANCE = 0.01
"""Variance of the amplitude at which `amplitude_flatness` has fallen to 1/e: a contrast of 10 % of the nominal."""

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


def total_variation(patches: Array) -> float:
    """Isotropic total variation per pixel, `mean sqrt(|O(r, c+1) - O(r, c)|^2 + |O(r+1, c) - O(r, c)|^2)`.

    `patches` O complex or real `(..., N, N)`; a difference that would leave the patch is 0. A phase of a whole patch
    does not change it. (Rudin, Osher, Fatemi, Physica D 60, 259-268 (1992), for a complex image.)
    """
    power = np.zeros(patches.shape)
    power[..., :, :-1] += np.abs(np.diff(patches, axis=-1)) ** 2
    power[..., :-1, :] += np.abs(np.diff(patches, axis=-2)) ** 2
    return float(np.sqrt(power).mean())


def mean_deviation(patches: Array) -> float:
    """Mean absolute deviation from the mean of each patch, `mean |O - mean_p O|`.

    `patches` O real or complex `(..., N, N)`, `mean_p` over the last two axes.
    """
    return float(np.abs(patches - patches.mean(axis=(-2, -1), keepdims=True)).mean())


def phasors(patches: Array) -> Array:
    """Phases as complex numbers of length 1, `O / |O|`, 1 where O is 0: a phase that wraps makes no step in them."""
    return np.exp(1j * np.angle(patches))


def amplitude_flatness(patches: Array) -> float:
    """How flat the amplitude is, from 1 (constant in every patch) down to 0: `exp(-v / v_0)`.

    `v = mean_p var_p |O|`, the variance of the amplitude within a patch, averaged over the batch; `patches` O complex
    `(..., N, N)` relative to the nominal object, so that `v_0 = FLATNESS_VARIANCE` means the same for every scan.
    Bounded and smooth; of an exactly flat amplitude the gradient is 0, and it drives away from there as soon as
    another loss has made a difference.
    """
    return float(np.exp(-np.abs(patches).var(axis=(-2, -1)).mean() / FLATNESS_VARIANCE))


def probe_distance(probe: Array, reference: Array) -> float:
    """Squared distance of a probe from a reference, `sum_m ||u_m P_m - R_m||^2 / sum_m ||R_m||^2`.

    `probe` P and `reference` R are complex `(M, N, N)` of one unit. The phase of a mode is free, because the detector
    adds the intensities of the modes: `u_m = e^(i arg <P_m, R_m>)` is the one that brings it nearest.
    """
    products = (probe.conj() * reference).sum(axis=(-2, -1), keepdims=True)
    difference = np.exp(1j * np.angle(products)) * probe - reference
    return float((np.abs(difference) ** 2).sum() / (np.abs(reference) ** 2).sum())


def realspace_mae(patches: Array, truth: Array, phase_free: bool = True, weight: Array | None = None) -> float:
    """Mean absolute error of the object, `mean |u_g O - Y|`, after one phase per group: `u_g = e^(i arg <O_g, Y_g>)`.

    `patches` O and `truth` Y are complex `(B, ...)` of one shape and one unit, groups first. The patterns of a group
    fix its object up to one phase; `u_g` is the least-squares one, 1 where the two have nothing in common. Without
    `phase_free` it is 1 everywhere: the phase of the truth counts. A `weight` (N, N) counts in the mean and in
    `<O_g, Y_g>`; the patches then end with the axes of the image.
    """
    weight = np.ones(()) if weight is None else weight
    turns = np.ones(())
    if phase_free:
        products = (weight * patches.conj() * truth).reshape(len(patches), -1).sum(axis=1)
        turns = np.exp(1j * np.angle(products)).reshape(-1, *(1,) * (patches.ndim - 1))
    return float((weight * np.abs(turns * patches - truth)).mean() / weight.mean())
