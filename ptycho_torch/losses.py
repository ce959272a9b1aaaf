"""The losses of a prediction: Poisson deviance or absolute error where the detector is valid, and real space.

Detector losses are divided by a property of the data set, never of the batch, so that learning rate, clipping and
floors mean the same at every dose.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from ptycho.core.physics.losses import FLATNESS_VARIANCE, INTENSITY_FLOOR
from ptycho_torch.physics import safe_sqrt, squared_modulus

__all__ = [
    "amplitude_flatness",
    "mae_loss",
    "mean_deviation",
    "modulus",
    "phasors",
    "poisson_loss",
    "probe_distance",
    "realspace_mae",
    "total_variation",
]


def _known(counts: Tensor, mask: Tensor | None) -> Tensor:
    """Counts with 0 at invalid pixels, whatever they hold: not a number times 0 is not 0, in gradients too."""
    return counts if mask is None else torch.where(mask, counts, 0.0)


def _mean_valid(values: Tensor, mask: Tensor | None) -> Tensor:
    if mask is None:
        return values.mean()
    valid = mask.expand(values.shape)
    return torch.where(valid, values, 0.0).sum() / valid.sum().clamp_min(1)


def poisson_loss(expected: Tensor, counts: Tensor, mean_count: float, mask: Tensor | None = None) -> Tensor:
    """Half the Poisson deviance per valid pixel, divided by the mean count: `mean(L - Y + Y log(Y / L)) / mean_count`.

    `expected` L and `counts` Y are photon counts `(..., N, N)`; `mask` broadcasts to them, True where valid. Written
    as `Y (t - log(1 + t))`, `t = (L - Y) / Y`, which keeps its digits at 1e8 counts a pixel. L is raised by
    `INTENSITY_FLOOR mean_count`, so that a pixel predicted dark has a finite gradient.
    """
    counts = _known(counts, mask)
    raised = expected + INTENSITY_FLOOR * mean_count
    bright = counts > 0
    divisor = torch.where(bright, counts, 1.0)
    relative = (raised - counts) / divisor
    # log1p for what is nearly right; of a pixel predicted nearly black, 1 + t has no digits left
    close = relative > -0.5
    logarithm = torch.where(close, torch.log1p(torch.where(close, relative, 0.0)), torch.log(raised / divisor))
    return _mean_valid(torch.where(bright, counts * (relative - logarithm), raised), mask) / mean_count


def mae_loss(expected: Tensor, counts: Tensor, mean_count: float, mask: Tensor | None = None) -> Tensor:
    """Mean absolute error of the amplitude per valid pixel, `mean |sqrt(L) - sqrt(Y)| / sqrt(mean_count)`."""
    return _mean_valid((safe_sqrt(expected) - _known(counts, mask).sqrt()).abs(), mask) / mean_count**0.5


def _power(values: Tensor) -> Tensor:
    """`|O|^2` of complex or real values."""
    return squared_modulus(values) if values.is_complex() else values.square()


def modulus(patches: Tensor) -> Tensor:
    """`|O|` of complex values, with no gradient where it is 0."""
    return safe_sqrt(squared_modulus(patches))


def phasors(patches: Tensor) -> Tensor:
    """Phases as complex numbers of length 1, `O / |O|`, 1 where O is 0: a phase that wraps makes no step in them."""
    length = modulus(patches)
    present = length > 0
    return torch.where(present, patches / torch.where(present, length, 1.0), 1.0)


def total_variation(patches: Tensor) -> Tensor:
    """Isotropic total variation per pixel, `mean sqrt(|O(r, c+1) - O(r, c)|^2 + |O(r+1, c) - O(r, c)|^2)`.

    `patches` O complex or real `(..., N, N)`; a difference that would leave the patch is 0. Flat places have no
    gradient.
    """
    along_x = pad(_power(patches.diff(dim=-1)), (0, 1))
    along_y = pad(_power(patches.diff(dim=-2)), (0, 0, 0, 1))
    return safe_sqrt(along_x + along_y).mean()


def mean_deviation(patches: Tensor) -> Tensor:
    """Mean absolute deviation from the mean of each patch, `mean |O - mean_p O|`.

    `patches` O real or complex `(..., N, N)`, `mean_p` over the last two axes. Flat patches have no gradient.
    """
    return safe_sqrt(_power(patches - patches.mean(dim=(-2, -1), keepdim=True))).mean()


def amplitude_flatness(patches: Tensor) -> Tensor:
    """How flat the amplitude is, from 1 (constant in every patch) down to 0: `exp(-v / v_0)`, `v = mean_p var_p |O|`.

    `patches` O complex `(..., N, N)` relative to the nominal object, `v_0 = FLATNESS_VARIANCE`.
    """
    amplitudes = modulus(patches)
    deviations = amplitudes - amplitudes.mean(dim=(-2, -1), keepdim=True)
    return torch.exp(-deviations.square().mean() / FLATNESS_VARIANCE)


def probe_distance(probe: Tensor, reference: Tensor) -> Tensor:
    """Squared distance of a probe from a reference, `sum_m ||u_m P_m - R_m||^2 / sum_m ||R_m||^2`.

    `probe` P and `reference` R are complex `(M, N, N)` of one unit; `u_m = e^(i arg <P_m, R_m>)` takes the free phase
    of a mode out. It is the best one, so that nothing is lost where no gradient goes through it.
    """
    turns = phasors((probe.detach().conj() * reference).sum(dim=(-2, -1), keepdim=True))
    return squared_modulus(turns * probe - reference).sum() / squared_modulus(reference).sum()


def realspace_mae(patches: Tensor, truth: Tensor, phase_free: bool = True, weight: Tensor | None = None) -> Tensor:
    """Mean absolute error of the object, `mean |u_g O - Y|`, after one phase per group: `u_g = e^(i arg <O_g, Y_g>)`.

    `patches` O and `truth` Y are complex `(B, ...)` of one shape and one unit, groups first; the gradient goes through
    `u_g` too. Without `phase_free` it is 1: the phase of the truth counts. A `weight` (N, N) counts in the mean and in
    `<O_g, Y_g>`; the patches then end with the axes of the image.
    """
    turned = patches
    if phase_free:
        products = patches.conj() * truth
        products = (products if weight is None else weight * products).flatten(1).sum(dim=1)
        length = safe_sqrt(squared_modulus(products))
        turns = torch.where(length > 0, products / torch.where(length > 0, length, 1.0), 1.0)
        turned = turns.reshape(-1, *(1,) * (patches.ndim - 1)) * patches
    errors = safe_sqrt(squared_modulus(turned - truth))
    return errors.mean() if weight is None else (weight * errors).mean() / weight.mean()
