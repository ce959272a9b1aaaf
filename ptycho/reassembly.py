"""Groups on their canvas in TensorFlow: the functions of `ptycho.core.patches` that training needs, differentiable.

A bilinear shift is two small matrix products with static shapes; the transpose is the exact adjoint.
"""

from __future__ import annotations

import tensorflow as tf

from ptycho.physics import to_complex

__all__ = ["assemble_group", "cut", "place", "placement_matrix", "translate"]


def placement_matrix(offset_px: tf.Tensor, n_patch: int, n_canvas: int) -> tf.Tensor:
    """Bilinear matrix `(..., n_canvas, n_patch)` that puts a line of pixels at offsets `(...)` from the middle."""
    row = tf.range(n_canvas, dtype=offset_px.dtype)[:, None]
    column = tf.range(n_patch, dtype=offset_px.dtype)[None, :]
    centre = offset_px[..., None, None] + (n_canvas - n_patch) / 2
    return tf.nn.relu(1.0 - tf.abs(row - column - centre))


def _sandwich(left: tf.Tensor, images: tf.Tensor, right: tf.Tensor) -> tf.Tensor:
    """`left @ images @ right` for real matrices and real or complex images: no complex product of matrices."""
    if images.dtype.is_complex:
        return tf.complex(left @ tf.math.real(images) @ right, left @ tf.math.imag(images) @ right)
    return left @ images @ right


def translate(images: tf.Tensor, dx: tf.Tensor, dy: tf.Tensor) -> tf.Tensor:
    """Move the content of `images (..., H, W)` by `(+dx, +dy)` pixels, bilinear, zero from outside."""
    height, width = images.shape[-2:]
    along_x = tf.linalg.matrix_transpose(placement_matrix(dx, width, width))
    return _sandwich(placement_matrix(dy, height, height), images, along_x)


def place(patches: tf.Tensor, dx: tf.Tensor, dy: tf.Tensor, size: int) -> tf.Tensor:
    """Put `patches (..., N, N)` on canvases `(..., size, size)`, `(dx, dy)` px from the canvas' middle."""
    n = patches.shape[-1]
    along_x = tf.linalg.matrix_transpose(placement_matrix(dx, n, size))
    return _sandwich(placement_matrix(dy, n, size), patches, along_x)


def cut(canvases: tf.Tensor, dx: tf.Tensor, dy: tf.Tensor, N: int) -> tf.Tensor:
    """Cut patches `(..., N, N)` at `(dx, dy)` px from the middle of `canvases (..., S, S)`: the adjoint of `place`."""
    size = canvases.shape[-1]
    along_y = tf.linalg.matrix_transpose(placement_matrix(dy, N, size))
    return _sandwich(along_y, canvases, placement_matrix(dx, N, size))


def assemble_group(patches: tf.Tensor, dx: tf.Tensor, dy: tf.Tensor, weight: tf.Tensor, size: int) -> tf.Tensor:
    """Average the members `(B, C, N, N)` of each group on its canvas `(B, size, size)`, 1 where none reaches.

    `dx`, `dy` `(B, C)`: member minus group centre, pixels; `weight` `(N, N)` real and positive.
    """
    to_kind = to_complex if patches.dtype.is_complex else tf.identity
    numerator = tf.reduce_sum(place(to_kind(weight) * patches, dx, dy, size), axis=1)
    denominator = tf.reduce_sum(place(weight, dx, dy, size), axis=1)
    reached = denominator > 0
    divisor = to_kind(tf.where(reached, denominator, tf.ones_like(denominator)))
    return tf.where(reached, numerator / divisor, tf.ones_like(numerator))
