"""Room for the patches of a whole scan: in memory as long as they fit a budget, else in a temporary file."""

from __future__ import annotations

import math
import os
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ptycho.errors import OutputError

__all__ = ["BUDGET_BYTES", "patch_array"]

BUDGET_BYTES = 1 << 31
"""Patches above 2 GiB (65,536 of 64 x 64) go to a file."""


def patch_array(
    shape: tuple[int, ...], budget_bytes: int = BUDGET_BYTES, folder: Path | None = None
) -> NDArray[np.complex64]:
    """An array of zeros for patches, to be filled batch by batch and read as often as needed.

    Above the budget it is mapped to a temporary file, whose space is reserved at once, so that a full disk is found
    before the work and not in the middle of it. The file has no name (on Windows: goes when it is closed) and is gone
    with the array, also after a crash; the operating system keeps of it in memory what there is room for.

    Args:
        shape: of the array, complex64; 0 in front is allowed.
        budget_bytes: up to which the array is held in memory.
        folder: where the file is made; None is the system's folder for temporary files.

    Raises:
        OutputError: the file cannot be made, or there is no room for it.
    """
    size = math.prod(shape) * np.dtype(np.complex64).itemsize
    if size <= budget_bytes:
        return np.zeros(shape, np.complex64)
    place = folder or Path(tempfile.gettempdir())
    try:
        with tempfile.TemporaryFile(dir=place) as file:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
            return np.memmap(file, np.complex64, "r+" if hasattr(os, "posix_fallocate") else "w+", shape=shape)
    except OSError as error:
        raise OutputError(
            f"{place}: expected room for {size / 2**30:.1f} GiB of patches, found: {error.strerror}; free some, or "
            "reconstruct fewer points (n_groups)"
        ) from error
