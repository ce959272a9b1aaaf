"""Room for the patches of a whole scan: in memory as long as they fit a budget, else in a temporary file."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ptycho.core.files.scratch import scratch_array

__all__ = ["BUDGET_BYTES", "gathered", "patch_array"]

BUDGET_BYTES = 1 << 28
"""Patches above 256 MiB (8,192 of 64 x 64) go to a file."""


def patch_array(
    shape: tuple[int, ...], budget_bytes: int = BUDGET_BYTES, folder: Path | None = None
) -> NDArray[np.complex64]:
    """An array of zeros for patches, to be filled batch by batch and read as often as needed: a `scratch_array`.

    Args:
        shape: of the array, complex64; 0 in front is allowed.
        budget_bytes: up to which the array is held in memory; above, it is mapped to a temporary file.
        folder: where the file is made; None is the system's folder for temporary files. Where that lies in memory
            itself (a tmpfs), the patches stay there as shared memory.

    Raises:
        OutputError: the file cannot be made, or there is no room for it.
    """
    advice = "free some, or reconstruct fewer points (n_groups)"
    return scratch_array(shape, np.complex64, budget_bytes, folder, "patches", advice)


def gathered(batches: Iterable[NDArray[np.complex64]], shape: tuple[int, ...]) -> NDArray[np.complex64]:
    """The patches of all batches in one array of a shape that is known before (`patch_array`)."""
    patches, done = patch_array(shape), 0
    for batch in batches:
        patches[done : done + len(batch)] = batch
        done += len(batch)
    return patches
