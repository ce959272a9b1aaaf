"""Room for arrays that are too large for memory: a temporary file without a name, mapped."""

from __future__ import annotations

import math
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ptycho.core.scaling import frame_blocks
from ptycho.errors import OutputError

__all__ = ["SCRATCH_BYTES", "scratch_array", "taken"]

Array = NDArray[Any]

SCRATCH_BYTES = 1 << 28
"""What is taken out of a memory-mapped scan goes to a file above 256 MiB."""


def scratch_array(
    shape: tuple[int, ...],
    dtype: DTypeLike,
    budget_bytes: int = SCRATCH_BYTES,
    folder: Path | None = None,
    what: str = "patterns",
    advice: str = "free some, or point TMPDIR to a larger disk",
) -> Array:
    """An array of zeros, to be filled block by block and read as often as needed.

    Above the budget it is mapped to a temporary file, whose space is reserved at once, so that a full disk is found
    before the work and not in the middle of it. The file has no name (on Windows: goes when it is closed) and is gone
    with the array, also after a crash; the operating system keeps of it in memory what there is room for. Where the
    folder lies in memory itself (a tmpfs, as /tmp is on some systems) all of it stays there: name another by TMPDIR.

    Args:
        shape: of the array; 0 in front is allowed.
        dtype: any type of numbers.
        budget_bytes: up to which the array is held in memory.
        folder: where the file is made; None is the system's folder for temporary files.
        what, advice: what the array holds, and what to do where there is no room; for the error.

    Raises:
        OutputError: the file cannot be made, or there is no room for it.
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if size <= budget_bytes or size == 0:
        return np.zeros(shape, dtype)
    place = folder or Path(tempfile.gettempdir())
    try:
        with tempfile.TemporaryFile(dir=place) as file:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
            return np.memmap(file, dtype, "r+" if hasattr(os, "posix_fallocate") else "w+", shape=shape)
    except OSError as error:
        raise OutputError(
            f"{place}: expected room for {size / 2**30:.1f} GiB of {what}, found: {error.strerror}; {advice}"
        ) from error


def taken(
    array: Array, indices: NDArray[np.integer], budget_bytes: int = SCRATCH_BYTES, folder: Path | None = None
) -> Array:
    """`array[indices]` along the first axis; of a memory map without holding more than the budget in memory.

    Of a memory map all in order is the map itself; other choices above the budget are copied to a `scratch_array`.

    Args:
        array: (n, ...), in memory or a memory map.
        indices: (b,) whole numbers from 0.
        budget_bytes, folder: as in `scratch_array`.

    Raises:
        OutputError: no room for the temporary file.
    """
    if not isinstance(array, np.memmap):
        return array[indices]
    if np.array_equal(indices, np.arange(len(array))):
        return array
    room = scratch_array((len(indices), *array.shape[1:]), array.dtype, budget_bytes, folder)
    for block in frame_blocks(len(indices), math.prod(array.shape[1:])):
        room[block] = array[indices[block]]
    return room
