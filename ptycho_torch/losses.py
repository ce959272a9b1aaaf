"""What a prediction is judged by: Poisson deviance or absolute error where the detector is valid, and real space.

Detector losses are divided by a property of the data set, never of the batch, so that learning rate, clipping and
floors mean the same at every dose.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from ptycho.core.losses import INTENSITY_FLOOR
from ptycho_torch.physics import safe_sqrt, squared_modulus

__all__ = ["mae_loss", "poisson_loss", "realspace_mae", "total_variation"]


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


def total_variation(patches: Tensor) -> Tensor:
    """Isotropic total variation per pixel, `mean sqrt(|O(r, c+1) - O(r, c)|^2 + |O(r+1, c) - O(r, c)|^2)`.

    `patches` O complex `(..., N, N)`; a difference that would leave the patch is 0. Flat places have no gradient.
    """
    along_x = pad(squared_modulus(patches.diff(dim=-1)), (0, 1))
    along_y = pad(squared_modulus(patches.diff(dim=-2)), (0, 0, 0, 1))
    return safe_sqrt(along_x + along_y).mean()


def realspace_mae(patches: Tensor, truth: Tensor) -> Tensor:
    """Mean absolute error of the object, `mean |u_g O - Y|`, after one phase per group: `u_g = e^(i arg <O_g, Y_g>)`.

    `patches` O and `truth` Y are complex `(B, ...)` of one shape and one unit, groups first; the gradient goes through
    `u_g` too.
    """
    products = (patches.conj() * truth).flatten(1).sum(dim=1)
    length = safe_sqrt(squared_modulus(products))
    turns = torch.where(length > 0, products / torch.where(length > 0, length, 1.0), 1.0)
    turned = turns.reshape(-1, *(1,) * (patches.ndim - 1)) * patches
    return safe_sqrt(squared_modulus(turned - truth)).mean()
