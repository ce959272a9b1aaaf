"""Groups on their canvas in TensorFlow: what training needs of `ptycho.core.physics.patches`, differentiable.

A bilinear shift is two small matrix products with static shapes; the transpose is the exact adjoint.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from ptycho.tf.physics import to_complex

__all__ = [
    "assemble_group",
    "channel_first",
    "channel_last",
    "cut",
    "cut_whole",
    "members_first",
    "place",
    "place_sum",
    "place_whole",
    "placement_matrix",
    "translate",
]


def channel_first(images: tf.Tensor) -> tf.Tensor:
    """Images `(B, N, N, C)` as `(B, C, N, N)`."""
    return tf.transpose(images, (0, 3, 1, 2))


def channel_last(images: tf.Tensor) -> tf.Tensor:
    """Images `(B, C, N, N)` as `(B, N, N, C)`."""
    return tf.transpose(images, (0, 2, 3, 1))


def members_first(positions: tf.Tensor) -> tf.Tensor:
    """Positions `(B, 1, 2, C)` as `(B, C, 2)`."""
    return tf.transpose(positions[:, 0], (0, 2, 1))


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


def place_sum(patches: tf.Tensor, dx: tf.Tensor, dy: tf.Tensor, size: int) -> tf.Tensor:
    """The sum over the members of `place`, `(B, C, N, N)` -> `(B, size, size)`: one matrix product for a group."""
    members, n = patches.shape[1], patches.shape[-1]
    along_x = tf.linalg.matrix_transpose(placement_matrix(dx, n, size))
    along_y = tf.reshape(tf.transpose(placement_matrix(dy, n, size), (0, 2, 1, 3)), (-1, size, members * n))

    def placed(images: tf.Tensor) -> tf.Tensor:
        return along_y @ tf.reshape(images @ along_x, (-1, members * n, size))

    if patches.dtype.is_complex:
        return tf.complex(placed(tf.math.real(patches)), placed(tf.math.imag(patches)))
    return placed(patches)


def cut(canvases: tf.Tensor, dx: tf.Tensor, dy: tf.Tensor, N: int) -> tf.Tensor:
    """Cut patches `(..., N, N)` at `(dx, dy)` px from the middle of `canvases (..., S, S)`: the adjoint of `place`."""
    size = canvases.shape[-1]
    along_y = tf.linalg.matrix_transpose(placement_matrix(dy, N, size))
    return _sandwich(along_y, canvases, placement_matrix(dx, N, size))


def cut_whole(canvases: tf.Tensor, dx: tf.Tensor, dy: tf.Tensor, N: int) -> tf.Tensor:
    """`cut` at whole pixels, `(B, S, S)` -> `(B, C, N, N)`: a copy where `cut` has two products of matrices.

    `dx`, `dy` `(B, C)` are whole; every patch lies inside its canvas.
    """
    size = canvases.shape[-1]
    index = _pixels(dx, dy, N, size)

    @tf.custom_gradient
    def windows(canvases: tf.Tensor) -> Any:
        return _gathered(canvases, index, N), lambda gradient: _added(gradient, index, size)

    return windows(canvases)


def place_whole(patches: tf.Tensor, dx: tf.Tensor, dy: tf.Tensor, size: int) -> tf.Tensor:
    """`place_sum` at whole pixels, `(B, C, N, N)` -> `(B, size, size)`: the adjoint of `cut_whole`."""
    n = patches.shape[-1]
    index = _pixels(dx, dy, n, size)

    @tf.custom_gradient
    def added(patches: tf.Tensor) -> Any:
        return _added(patches, index, size), lambda gradient: _gathered(gradient, index, n)

    return added(patches)


def _pixels(dx: tf.Tensor, dy: tf.Tensor, n: int, size: int) -> tf.Tensor:
    """Where the pixels of patches lie in the flattened canvas of their group, int32 `(B, C n n)`."""
    margin, side = (size - n) // 2, tf.range(n)
    rows, cols = (tf.cast(tf.round(offset), tf.int32)[..., None] + margin + side for offset in (dy, dx))
    return tf.reshape(rows[..., :, None] * size + cols[..., None, :], (-1, dx.shape[-1] * n * n))


def _gathered(canvases: tf.Tensor, index: tf.Tensor, n: int) -> tf.Tensor:
    flat = tf.reshape(canvases, (-1, canvases.shape[-1] ** 2))
    return tf.reshape(tf.gather(flat, index, axis=1, batch_dims=1), (-1, index.shape[-1] // n**2, n, n))


def _added(patches: tf.Tensor, index: tf.Tensor, size: int) -> tf.Tensor:
    batch = tf.shape(index)[0]
    segments = index + size**2 * tf.range(batch)[:, None]
    # a sum by segments: many times faster than tf.scatter_nd
    total = tf.math.unsorted_segment_sum(tf.reshape(patches, [-1]), tf.reshape(segments, [-1]), batch * size**2)
    return tf.reshape(total, (-1, size, size))


def assemble_group(patches: tf.Tensor, dx: tf.Tensor, dy: tf.Tensor, weight: tf.Tensor, size: int) -> tf.Tensor:
    """Average the members `(B, C, N, N)` of each group on its canvas `(B, size, size)`, 1 where none reaches.

    `dx`, `dy` `(B, C)`: member minus group centre, pixels; `weight` `(N, N)` real and positive.
    """
    to_kind = to_complex if patches.dtype.is_complex else tf.identity
    numerator = place_sum(to_kind(weight) * patches, dx, dy, size)
    denominator = place_sum(tf.broadcast_to(weight, tf.shape(patches)), dx, dy, size)
    reached = denominator > 0
    divisor = to_kind(tf.where(reached, denominator, tf.ones_like(denominator)))
    return tf.where(reached, numerator / divisor, tf.ones_like(numerator))
