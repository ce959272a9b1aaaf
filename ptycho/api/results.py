"""Results: read one back, compare two."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.core.formats.placing import placed_object, placed_result
from ptycho.core.formats.reconstruction_npz import read_npz
from ptycho.core.formats.registry import in_folder
from ptycho.core.quality.comparison import Comparison, PlacedObject
from ptycho.core.quality.comparison import compare as compare_placed
from ptycho.core.quality.registration import Region
from ptycho.core.reconstruction import Reconstruction
from ptycho.core.refinement.refinement import Refinement
from ptycho.errors import DataError
from ptycho.raw_data import RawData

__all__ = ["Comparable", "compare", "load_reconstruction"]

Comparable = Reconstruction | Refinement | RawData | NDArray[Any] | Path | str
"""A result, a scan with its true object, an object (H, W) alone, or a file that holds one."""


def load_reconstruction(path: Path | str) -> Reconstruction:
    """Read a reconstruction that `save` wrote, the `.npz` or the folder that holds it.

    Raises:
        MissingFileError, DataError: no such file, or no reconstruction in it.

    >>> saved = reconstruct(example, iterations=2)
    >>> load_reconstruction(saved.save(folder / "result.npz")) == saved
    True
    """
    path = Path(path)
    return read_npz(in_folder(path))


def compare(
    a: Comparable,
    b: Comparable,
    *,
    region: Region | None = None,
    halves: bool = False,
    search: bool = False,
    turn: bool = False,
) -> Comparison:
    """Compare two objects; shift, phase plane, scale and global phase are taken out first.

    Args:
        a: what is compared: a result, a scan with `objectGuess`, an array (H, W) complex, or a file.
        b: what it is compared with, the truth perhaps.
        region: (y0, y1, x0, x1) pixels of b, half open; None is the box around the scan positions.
        halves: whether both were reconstructed from half of the data each, for the half-bit threshold.
        search: look for a in b, wherever both say that they lie.
        turn: also try all orientations and conjugates of a.

    Returns:
        Figures of merit of amplitude (in the unit of b) and phase (radians), the Fourier ring correlation and what was
        taken out; `print` gives a table.

    Raises:
        MissingFileError, DataError: no object, or objects that cannot be aligned.

    >>> scan = load_scan(example)
    >>> found = compare(reconstruct(scan, iterations=20), scan)
    >>> found.score.complex_nrmse < 0.2
    True
    """
    return compare_placed(_placed(a, "A"), _placed(b, "B"), region, halves, search, turn)


def _placed(given: Comparable, name: str) -> PlacedObject:
    if isinstance(given, Path | str):
        return placed_object(Path(given))
    if isinstance(given, Reconstruction | Refinement):
        return placed_result(given, name)
    if isinstance(given, RawData):
        if given.objectGuess is None:
            raise DataError(f"{name}: expected a scan with its object (objectGuess), found none; give the object")
        return PlacedObject(name, given.objectGuess, (0.0, 0.0), given.xcoords, given.ycoords, given.probeGuess)
    return PlacedObject(name, np.asarray(given))
