"""Stitching and translation as older callers know them, on the shared core.

Tensors of either framework are taken where they lie on the CPU; importing this loads no framework.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ptycho import params
from ptycho.core.geometry import LOCAL_OFFSET_SIGN, ObjectFrame, object_frame
from ptycho.core.physics.patches import assemble_group
from ptycho.core.scaling import frame_blocks
from ptycho.core.stitching import stitch as stitching
from ptycho.errors import ConfigError, DataError

__all__ = [
    "assemble_barycentric",
    "reassemble_patches_position_batched_real",
    "reassemble_position",
    "stitch_patches",
    "translate_core",
    "translate_images_simple",
]


def reassemble_position(obj: Any, global_offsets: Any, M: int = 20) -> NDArray[np.complex64]:
    """One complex object `(H, W)` from patches of either backend: `ptycho.core.stitching.stitch.reassemble_position`.

    The probe is `params.cfg["probe"]`, when it is set and fits; the frame is that of the scan's `objectGuess`, which
    `global_offsets` of a container carry with them (`ptycho.core.geometry.FramedOffsets`), else the smallest one.

    Args:
        obj: `(B, N, N, 1)` or `(B, N, N)` complex patches, as NumPy or as a tensor on the CPU.
        global_offsets: `(B, 1, 2, 1)` centres (x, y) of the patches, pixels of the object grid.
        M: central pixels of each patch to use.

    Raises:
        DataError: shapes that do not fit, or NaN or infinity in patches or offsets.
    """
    return stitching.reassemble_position(
        _plain(obj),
        _plain(global_offsets),
        M,
        probe=params.cfg.get("probe"),
        shape=getattr(global_offsets, "object_shape", None),
    )


def stitch_patches(patches: Any, positions: Any, M: int = 20) -> NDArray[np.complex64]:
    """`reassemble_position` of patches at positions (n, 2), [x, y] pixels, or at `global_offsets` (n, 1, 2, 1)."""
    offsets = _plain(positions)
    if offsets.ndim == 2:
        offsets = offsets[:, None, :, None]
    return reassemble_position(patches, offsets, M)


def assemble_barycentric(
    patches: Any,
    xcoords: ArrayLike,
    ycoords: ArrayLike,
    weight: ArrayLike | None = None,
    shape: tuple[int, int] | None = None,
) -> tuple[NDArray[np.complex64], NDArray[np.float32]]:
    """Weighted mean of patches, each shared among the four pixels around its place (`stitching.stitch.stitch`).

    Args:
        patches: (n, N, N), (n, N, N, 1) or (B, C, N, N) complex, n = B C.
        xcoords, ycoords: (n,) centres of the patches, pixels of the object.
        weight: (N, N) of each patch, such as `sum |P|^2`; None weighs all pixels alike.
        shape: (H, W) of the object that the positions belong to; None is the smallest that holds every patch.

    Returns:
        The object (H, W), 1 where no patch reaches, and its coverage (H, W).

    Raises:
        DataError: shapes that do not fit, or NaN or infinity in patches or positions.
    """
    plain = _plain(patches)
    plain = plain[..., 0] if plain.ndim == 4 and plain.shape[-1] == 1 else plain.reshape(-1, *plain.shape[-2:])
    N = plain.shape[-1]
    frame = object_frame(xcoords, ycoords, N) if shape is None else ObjectFrame(*shape, x0=0, y0=0)
    return stitching.stitch(plain, xcoords, ycoords, np.ones((N, N)) if weight is None else weight, frame)


def reassemble_patches_position_batched_real(
    patches: Any, offsets_xy: Any, padded_size: int, batch_size: int | None = None
) -> NDArray[np.floating[Any]]:
    """The mean of the members of each group on the group's canvas, 1 where none reaches: real (B, S, S, 1).

    Args:
        patches: real (B, N, N, C).
        offsets_xy: (B, 1, 2, C), `coords_relative`: minus the member's place seen from the group's centre, (x, y).
        padded_size: S, side of the canvas, pixels.
        batch_size: groups at a time; None: as many as suit the memory.

    Raises:
        DataError: shapes that do not belong together.
    """
    images, offsets = _plain(patches), _plain(offsets_xy)
    if images.ndim != 4 or offsets.shape != (len(images), 1, 2, images.shape[-1]):
        found = f"{images.shape} and {offsets.shape}"
        raise DataError(f"patches, offsets: expected (B, N, N, C) and (B, 1, 2, C), found {found}; correct them")
    made = np.ones((len(images), padded_size, padded_size, 1), images.dtype)
    size = padded_size**2 * images.shape[-1]
    for block in frame_blocks(len(images), size) if batch_size is None else _steps(len(images), batch_size):
        members = np.moveaxis(images[block], -1, 1)
        dx, dy = LOCAL_OFFSET_SIGN * np.moveaxis(offsets[block, 0], 1, 0)
        made[block, ..., 0] = assemble_group(members, dx, dy, np.ones(members.shape[-2:]), padded_size)
    return made


def translate_core(images: Any, translations: Any, interpolation: str = "bilinear") -> Any:
    """Move the content of images (B, H, W, C) by `translations` (B, 2), (+dx, +dy) pixels each: a TensorFlow tensor.

    Bilinear, zero from outside, differentiable (`ptycho.tf.reassembly.translate`).

    Raises:
        ConfigError: another interpolation.
    """
    if interpolation != "bilinear":
        raise ConfigError(f"interpolation={interpolation!r}: expected 'bilinear', the only one here; leave it out")
    import tensorflow as tf  # late: stitching needs no framework

    moves = tf.convert_to_tensor(translations)
    return translate_images_simple(images, moves[:, 0], moves[:, 1])


def translate_images_simple(images: Any, dx: Any, dy: Any) -> Any:
    """`translate_core` with `dx` and `dy` (B,) apart."""
    import tensorflow as tf

    from ptycho.tf.reassembly import channel_first, channel_last, translate

    moved = (tf.convert_to_tensor(shift)[..., None] for shift in (dx, dy))
    return channel_last(translate(channel_first(tf.convert_to_tensor(images)), *moved))


def _plain(array: Any) -> NDArray[Any]:
    """A tensor or an array as an array."""
    return np.asarray(array.detach().cpu() if hasattr(array, "detach") else array)


def _steps(count: int, size: int) -> list[slice]:
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]
