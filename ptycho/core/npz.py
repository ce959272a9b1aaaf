"""Arrays written as an NPZ, alike with every release of NumPy."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy

__all__ = ["write_arrays"]


def write_arrays(file: IO[bytes] | Path, arrays: Mapping[str, Any]) -> None:
    """Write arrays by their names, uncompressed, as `numpy.savez` does; nothing is pickled.

    `numpy.savez` pickles objects, and older releases store its argument against that as one more array.

    Raises:
        ValueError: an array of objects.
    """
    with zipfile.ZipFile(file, "w") as archive:
        for name, values in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                npy.write_array(member, np.asanyarray(values), allow_pickle=False)
