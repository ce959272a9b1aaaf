"""Where a result lies on the pixel grid of its scan, for callers who lay it over an object of their own."""

from __future__ import annotations

from collections.abc import Mapping
from math import floor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.core.geometry import ObjectFrame
from ptycho.raw_data import RawData

__all__ = ["frame_of", "scan_frame"]

_SAME = 1e-3
"""Scans whose outermost positions differ by less, in pixels, are the same."""


def scan_frame(train: RawData, validation: RawData | None = None) -> dict[str, Any]:
    """What a checkpoint keeps of the scans of its training, so that `frame_of` knows them again, or both as one."""
    shape = None if train.objectGuess is None else [int(size) for size in train.objectGuess.shape[-2:]]
    limits = [_limits(scan) for scan in (train, validation) if scan is not None]
    both = np.array([np.min(limits, axis=0)[0], np.max(limits, axis=0)[1]])
    return {"object_shape": shape, "limits": [one.tolist() for one in (*limits, both)]}


def frame_of(data: RawData, known: Mapping[str, Any] | None) -> ObjectFrame:
    """Where the result lies on the pixel grid of the scan's positions.

    Whoever lays the result over an object of their own goes by the middle of both. So the frame is

    1. that of the scan's `objectGuess`;
    2. for the scan of the training (`known`, of `scan_frame`), whole or one of its parts, that of the object it had;
    3. else one whose middle is that of the positions, `W = x_min + x_max` for an object from pixel 0 on: exact for
       an object that was made around the scan, by both ways to count its middle, (W - 1)/2 of pixels (N - 1)/2 and
       W/2 of pixels N/2. Where pixel 0 is not near the scan, the smallest such frame.
    """
    if data.objectGuess is not None:
        height, width = data.objectGuess.shape[-2:]
        return ObjectFrame(height, width, 0, 0)
    shape, limits = (known or {}).get("object_shape"), _limits(data)
    if known and shape and any(np.allclose(one, limits, rtol=0, atol=_SAME) for one in known["limits"]):
        return ObjectFrame(shape[0], shape[1], 0, 0)
    (x0, width), (y0, height) = (_around(coords, data.N) for coords in (data.xcoords, data.ycoords))
    return ObjectFrame(height, width, x0, y0)


def _around(coords: NDArray[np.float64], N: int) -> tuple[int, int]:
    """First pixel and size of an axis that is symmetric about the positions."""
    low, high = float(coords.min()), float(coords.max())
    first = floor(low - N / 2)
    if -1 <= first <= N:
        first = 0
    return first, round(low + high) - 2 * first


def _limits(data: RawData) -> NDArray[np.float64]:
    """Least and largest position, ((x, y), (x, y))."""
    xy = np.stack([data.xcoords, data.ycoords], axis=1)
    return np.stack([xy.min(axis=0), xy.max(axis=0)])
