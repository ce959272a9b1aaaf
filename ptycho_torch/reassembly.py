"""Groups on their canvas in PyTorch: the functions of `ptycho.core.patches` that training needs, differentiable.

A bilinear shift is two small matrix products with static shapes; the transpose is the exact adjoint.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["assemble_group", "cut", "place", "placement_matrix", "translate"]


def placement_matrix(offset_px: Tensor, n_patch: int, n_canvas: int) -> Tensor:
    """Bilinear matrix `(..., n_canvas, n_patch)` that puts a line of pixels at offsets `(...)` from the middle."""
    row = torch.arange(n_canvas, device=offset_px.device, dtype=offset_px.dtype)[:, None]
    column = torch.arange(n_patch, device=offset_px.device, dtype=offset_px.dtype)[None, :]
    centre = offset_px[..., None, None] + (n_canvas - n_patch) / 2
    return (1.0 - (row - column - centre).abs()).clamp_min(0.0)


def _sandwich(left: Tensor, images: Tensor, right: Tensor) -> Tensor:
    """`left @ images @ right` for real matrices and real or complex images, in full float32."""
    if images.is_complex():
        return torch.complex(left @ images.real @ right, left @ images.imag @ right)
    return left @ images @ right


def translate(images: Tensor, dx: Tensor, dy: Tensor) -> Tensor:
    """Move the content of `images (..., H, W)` by `(+dx, +dy)` pixels, bilinear, zero from outside."""
    height, width = images.shape[-2:]
    return _sandwich(placement_matrix(dy, height, height), images, placement_matrix(dx, width, width).mT)


def place(patches: Tensor, dx: Tensor, dy: Tensor, size: int) -> Tensor:
    """Put `patches (..., N, N)` on canvases `(..., size, size)`, `(dx, dy)` px from the canvas' middle."""
    n = patches.shape[-1]
    return _sandwich(placement_matrix(dy, n, size), patches, placement_matrix(dx, n, size).mT)


def cut(canvases: Tensor, dx: Tensor, dy: Tensor, N: int) -> Tensor:
    """Cut patches `(..., N, N)` at `(dx, dy)` px from the middle of `canvases (..., S, S)`: the adjoint of `place`."""
    size = canvases.shape[-1]
    return _sandwich(placement_matrix(dy, N, size).mT, canvases, placement_matrix(dx, N, size))


def assemble_group(patches: Tensor, dx: Tensor, dy: Tensor, weight: Tensor, size: int) -> Tensor:
    """Average the members `(B, C, N, N)` of each group on its canvas `(B, size, size)`, 1 where none reaches.

    `dx`, `dy` `(B, C)`: member minus group centre, pixels; `weight` `(N, N)` real and positive.
    """
    numerator = place(weight * patches, dx, dy, size).sum(dim=1)
    denominator = place(weight.expand(patches.shape), dx, dy, size).sum(dim=1)
    reached = denominator > 0
    return torch.where(reached, numerator / torch.where(reached, denominator, 1.0), 1.0)
