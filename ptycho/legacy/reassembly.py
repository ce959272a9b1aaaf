"""Stitching as callers of `ptycho.tf_helper` know it, on the shared core; loads no framework."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho import params
from ptycho.core.stitching import stitch as stitching

__all__ = ["reassemble_position"]


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
        np.asarray(obj),
        np.asarray(global_offsets),
        M,
        probe=params.cfg.get("probe"),
        shape=getattr(global_offsets, "object_shape", None),
    )
