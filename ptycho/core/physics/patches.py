"""Patches and canvases: cutting out, putting back, moving between pixels.

Two pairs of exact adjoints, `<A x, y> = <x, A^H y>`:

* `extract` / `assemble` between an object and patches at scan positions;
* `cut` / `place` between the canvas of a group and its members, as two small matrix products, which is how the
  differentiable backends do it (static shapes, and the transpose is the adjoint).

All of them are bilinear between pixels, and a shift by whole pixels is a roll of the padded image.
`extract_rounded` is the other sub-pixel rule: a patch at the rounded position and the remainder, by which
`ptycho.core.physics.diffraction.diffract` moves the probe.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "GROUP_WEIGHT_FLOOR",
    "assemble",
    "assemble_group",
    "cut",
    "extract",
    "extract_rounded",
    "group_weight",
    "place",
    "placement_matrix",
    "translate",
]

GROUP_WEIGHT_FLOOR = 1e-3
"""What a member weighs on its group's canvas where the probe has no light, relative to its brightest pixel."""

Array = NDArray[Any]
Corners = tuple[NDArray[np.intp], NDArray[np.float64]]


def _corner(coords: Array, n: int) -> Corners:
    """Whole-pixel start of the patches centred at `coords`, and the fraction that is left, in [0, 1)."""
    start = np.asarray(coords, np.float64) - n / 2
    whole = np.floor(start)
    return whole.astype(np.intp), start - whole


def _flat_window(rows: Array, cols: Array, n: int, shape: tuple[int, int]) -> tuple[Array, Array]:
    """Flat canvas index of every pixel of `n x n` windows starting at (rows, cols), and whether it lies inside."""
    y = rows[:, None, None] + np.arange(n)[None, :, None]
    x = cols[:, None, None] + np.arange(n)[None, None, :]
    inside = (y >= 0) & (y < shape[0]) & (x >= 0) & (x < shape[1])
    return np.where(inside, y * shape[1] + x, 0), inside


def extract(canvas: Array, xcoords: Array, ycoords: Array, N: int) -> Array:
    """Cut `N x N` patches centred at scan positions, `O_j[r, c] = O(y_j - N/2 + r, x_j - N/2 + c)`.

    `canvas` is `(H, W)`, the positions are `(n,)` pixels of it, (x, y) the centre of the patch. Bilinear between
    pixels, zero outside the canvas. Returns `(n, N, N)` of the canvas' type.
    """
    (rows, fy), (cols, fx) = _corner(ycoords, N), _corner(xcoords, N)
    index, inside = _flat_window(rows, cols, N + 1, canvas.shape)
    window = np.where(inside, canvas.reshape(-1)[index], 0)
    fy, fx = fy[:, None, None], fx[:, None, None]
    rowwise = (1 - fy) * window[:, :N] + fy * window[:, 1:]
    return ((1 - fx) * rowwise[:, :, :N] + fx * rowwise[:, :, 1:]).astype(canvas.dtype, copy=False)


def assemble(patches: Array, xcoords: Array, ycoords: Array, shape: tuple[int, int]) -> Array:
    """Add `N x N` patches into a canvas of `shape` (H, W) at scan positions: the exact adjoint of `extract`.

    What falls outside the canvas is dropped. Nothing is divided: assemble weights the same way and divide once.
    """
    n = patches.shape[-1]
    (rows, fy), (cols, fx) = _corner(ycoords, n), _corner(xcoords, n)
    fy, fx = fy[:, None, None], fx[:, None, None]
    window = np.zeros((len(patches), n + 1, n + 1), np.result_type(patches, np.float32))
    for row, weight_y in ((0, 1 - fy), (1, fy)):
        for col, weight_x in ((0, 1 - fx), (1, fx)):
            window[:, row : row + n, col : col + n] += weight_y * weight_x * patches
    index, inside = _flat_window(rows, cols, n + 1, shape)
    canvas = np.zeros(shape[0] * shape[1], window.dtype)
    np.add.at(canvas, index[inside], window[inside])
    return canvas.reshape(shape)


def extract_rounded(canvas: Array, xcoords: Array, ycoords: Array, N: int) -> tuple[Array, Array, Array]:
    """Cut patches at the rounded scan positions; return them and the remainders `dx, dy` (n,) in [-0.5, 0.5] px.

    The probe belongs at `(+dx, +dy)` from the middle of such a patch. Zero outside the canvas. Of a canvas of K slices
    `(K, H, W)` the patches are `(n, K, N, N)`.
    """
    if canvas.ndim == 3:
        each = [extract_rounded(layer, xcoords, ycoords, N) for layer in canvas]
        return np.stack([patches for patches, _, _ in each], axis=1), *each[0][1:]
    x0, y0 = np.rint(xcoords), np.rint(ycoords)
    index, inside = _flat_window(
        y0.astype(np.intp) - N // 2, x0.astype(np.intp) - N // 2, N, (canvas.shape[0], canvas.shape[1])
    )
    patches = np.where(inside, canvas.reshape(-1)[index], np.zeros((), canvas.dtype))
    return patches, np.asarray(xcoords, np.float64) - x0, np.asarray(ycoords, np.float64) - y0


def placement_matrix(offset_px: Array | float, n_patch: int, n_canvas: int) -> NDArray[np.float64]:
    """Bilinear matrix that puts a line of `n_patch` pixels into a line of `n_canvas`, `offset_px` from its middle.

    `W[r, c] = max(0, 1 - |r - c - (n_canvas - n_patch)/2 - offset|)`, shape `(..., n_canvas, n_patch)` for offsets
    of shape `(...)`. Each column sums to 1 as long as the patch stays inside the canvas.
    """
    row = np.arange(n_canvas)[:, None]
    column = np.arange(n_patch)[None, :]
    centre = np.asarray(offset_px, np.float64)[..., None, None] + (n_canvas - n_patch) / 2
    return np.maximum(0.0, 1.0 - np.abs(row - column - centre))


def translate(images: Array, dx: Array | float, dy: Array | float) -> Array:
    """Move the content of `images (..., H, W)` by `(+dx, +dy)` pixels, bilinear, zero from outside."""
    along_y = placement_matrix(dy, images.shape[-2], images.shape[-2])
    along_x = placement_matrix(dx, images.shape[-1], images.shape[-1])
    return along_y @ images @ np.swapaxes(along_x, -1, -2)


def place(patches: Array, dx: Array | float, dy: Array | float, size: int) -> Array:
    """Put `patches (..., N, N)` on canvases `(..., size, size)`, their middle `(dx, dy)` px from the canvas' middle."""
    n = patches.shape[-1]
    return placement_matrix(dy, n, size) @ patches @ np.swapaxes(placement_matrix(dx, n, size), -1, -2)


def cut(canvases: Array, dx: Array | float, dy: Array | float, N: int) -> Array:
    """Cut patches `(..., N, N)` at `(dx, dy)` px from the middle of `canvases (..., S, S)`: the adjoint of `place`."""
    size = canvases.shape[-1]
    return np.swapaxes(placement_matrix(dy, N, size), -1, -2) @ canvases @ placement_matrix(dx, N, size)


def group_weight(probe: Array) -> Array:
    """Weight `(N, N)` of a member on the canvas: `sum_m |P_m|^2`, 1 at its maximum, on a small floor."""
    power = np.sum(np.abs(probe.reshape(-1, *probe.shape[-2:])) ** 2, axis=0)
    return power / power.max() + GROUP_WEIGHT_FLOOR


def assemble_group(patches: Array, dx: Array, dy: Array, weight: Array, size: int) -> Array:
    """Average the members of each group on the group's canvas (`object_big`).

    `canvas = sum_c place(w O_c) / sum_c place(w)`, 1 (vacuum) where no member reaches. `patches` is `(B, C, N, N)`,
    `dx`, `dy` are `(B, C)`: the member's position minus the group's centre (minus `coords_relative`), pixels; `weight`
    is `(N, N)`, positive. Returns `(B, size, size)`. Constant members give the constant wherever one reaches.
    """
    numerator = place(weight * patches, dx, dy, size).sum(axis=1)
    denominator = place(np.broadcast_to(weight, patches.shape), dx, dy, size).sum(axis=1)
    reached = denominator > 0
    return np.where(reached, numerator / np.where(reached, denominator, 1.0), 1.0)
