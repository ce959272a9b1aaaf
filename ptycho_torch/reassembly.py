"""Groups on their canvas in PyTorch: what training needs of `ptycho.core.physics.patches`, differentiable.

A bilinear shift is two small matrix products with static shapes; the transpose is the exact adjoint.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

__all__ = ["assemble_group", "cut", "cut_whole", "place", "place_sum", "place_whole", "placement_matrix", "translate"]


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


def place_sum(patches: Tensor, dx: Tensor, dy: Tensor, size: int) -> Tensor:
    """The sum over the members of `place`, `(B, C, N, N)` -> `(B, size, size)`: one matrix product for a group."""
    batch, members, n = patches.shape[:3]
    along_y, along_x = placement_matrix(dy, n, size), placement_matrix(dx, n, size)
    stacked = along_y.permute(0, 2, 1, 3).reshape(batch, size, members * n)

    def placed(images: Tensor) -> Tensor:
        return stacked @ (images @ along_x.mT).reshape(batch, members * n, size)

    if patches.is_complex():
        return torch.complex(placed(patches.real), placed(patches.imag))
    return placed(patches)


def cut(canvases: Tensor, dx: Tensor, dy: Tensor, N: int) -> Tensor:
    """Cut patches `(..., N, N)` at `(dx, dy)` px from the middle of `canvases (..., S, S)`: the adjoint of `place`."""
    size = canvases.shape[-1]
    return _sandwich(placement_matrix(dy, N, size).mT, canvases, placement_matrix(dx, N, size))


def cut_whole(canvases: Tensor, dx: Tensor, dy: Tensor, N: int) -> Tensor:
    """`cut` at whole pixels, `(B, S, S)` -> `(B, C, N, N)`: a copy where `cut` has two products of matrices.

    `dx`, `dy` `(B, C)` are whole; every patch lies inside its canvas.
    """
    if canvases.device.type != "cpu":  # indexed sums are in no fixed order there, and products cost nothing
        return cut(canvases[:, None], dx, dy, N)
    return _CutWhole.apply(canvases, *_corners(dx, dy, N, canvases.shape[-1]), N)


def place_whole(patches: Tensor, dx: Tensor, dy: Tensor, size: int) -> Tensor:
    """`place_sum` at whole pixels, `(B, C, N, N)` -> `(B, size, size)`: the adjoint of `cut_whole`."""
    if patches.device.type != "cpu":
        return place_sum(patches, dx, dy, size)
    return _PlaceWhole.apply(patches, *_corners(dx, dy, patches.shape[-1], size), size)


def _corners(dx: Tensor, dy: Tensor, n: int, size: int) -> tuple[Tensor, Tensor]:
    """First row and column of patches on the canvas."""
    rows, cols = (offset.detach().round().long() + (size - n) // 2 for offset in (dy, dx))
    return rows, cols


def _windows(canvases: Tensor, rows: Tensor, cols: Tensor, n: int) -> Tensor:
    group = torch.arange(len(canvases))[:, None]
    return canvases.unfold(1, n, 1).unfold(2, n, 1)[group, rows, cols]


def _added(patches: Tensor, rows: Tensor, cols: Tensor, size: int) -> Tensor:
    canvases, n = patches.new_zeros((len(patches), size, size)), patches.shape[-1]
    for canvas, members, row_of, col_of in zip(canvases, patches, rows.tolist(), cols.tolist(), strict=True):
        for patch, row, col in zip(members, row_of, col_of, strict=True):
            canvas[row : row + n, col : col + n] += patch
    return canvases


class _CutWhole(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, canvases: Tensor, rows: Tensor, cols: Tensor, n: int) -> Tensor:
        ctx.place = rows, cols, canvases.shape[-1]
        return _windows(canvases, rows, cols, n)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        return _PlaceWhole.apply(gradient, *ctx.place), None, None, None


class _PlaceWhole(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, patches: Tensor, rows: Tensor, cols: Tensor, size: int) -> Tensor:
        ctx.place = rows, cols, patches.shape[-1]
        return _added(patches, rows, cols, size)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        return _CutWhole.apply(gradient, *ctx.place), None, None, None


def assemble_group(patches: Tensor, dx: Tensor, dy: Tensor, weight: Tensor, size: int) -> Tensor:
    """Average the members `(B, C, N, N)` of each group on its canvas `(B, size, size)`, 1 where none reaches.

    `dx`, `dy` `(B, C)`: member minus group centre, pixels; `weight` `(N, N)` real and positive.
    """
    numerator = place_sum(weight * patches, dx, dy, size)
    denominator = place_sum(weight.expand(patches.shape), dx, dy, size)
    reached = denominator > 0
    return torch.where(reached, numerator / torch.where(reached, denominator, 1.0), 1.0)
