"""Pictures read from image files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ptycho.errors import DataError, MissingFileError

__all__ = ["read_picture"]

_LUMA = (0.2125, 0.7154, 0.0721)
"""Weights of red, green and blue in brightness (ITU-R BT.709)."""


def read_picture(path: Path | str) -> NDArray[np.float64]:
    """Read the brightness of a picture (PNG, JPEG, TIFF, ...), float64 (h, w); transparency is ignored.

    Raises:
        MissingFileError: no such file.
        DataError: the file is no picture.
    """
    from matplotlib.image import imread  # not at the top: import of this module stays quick

    path = Path(path)
    if not path.is_file():
        raise MissingFileError(f"{path}: expected a picture, found no such file; correct the path")
    try:
        image = np.asarray(imread(path), np.float64)
    except (OSError, ValueError, SyntaxError) as error:
        raise DataError(f"{path}: expected a picture, found: {error}; convert it to PNG") from error
    if image.ndim == 3 and image.shape[2] >= 3:
        return image[..., :3] @ np.array(_LUMA)
    return image[..., 0] if image.ndim == 3 else image
