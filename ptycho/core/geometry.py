"""Scan positions, group offsets and canvas sizes: the one place that knows their signs and centres.

Coordinates are float64 pixels of the object grid, ordered (x, y) wherever both share an axis; a position is
the centre of its N x N patch, whose first pixel lies at (x - N/2, y - N/2).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ptycho.errors import DataError

__all__ = [
    "LOCAL_OFFSET_SIGN",
    "FramedOffsets",
    "ObjectFrame",
    "astray",
    "astray_text",
    "canvas_size",
    "group_coordinates",
    "member_positions",
    "object_frame",
    "pixel_positions",
    "reframe",
]

LOCAL_OFFSET_SIGN = -1
"""coords_relative = LOCAL_OFFSET_SIGN * (position - centre): a canvas moved by it centres its member."""

FloatArray = NDArray[np.float64]

_CANVAS_MULTIPLE = 8
_MOST_PIXELS, _LOOSE = 1 << 24, 4
"""A canvas may have so many pixels in any case, and so many times those that the patterns can cover."""
_FAR = 10.0
_LINE = 16
"""So many times as many where no point is far from the others: the canvas of a slanting line is mostly empty, too."""


@dataclass(frozen=True)
class ObjectFrame:
    """Where a canvas of `height` x `width` pixels sits on the object grid of a scan.

    Pixel [0, 0] of the canvas is at the object-grid coordinate (x0, y0), whole pixels.
    """

    height: int
    width: int
    x0: int
    y0: int

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width), as NumPy indexes the canvas."""
        return self.height, self.width

    def local(self, xcoords: ArrayLike, ycoords: ArrayLike) -> tuple[FloatArray, FloatArray]:
        """Object-grid positions (n,) as positions (n,) on this canvas: (x - x0, y - y0), pixels."""
        return np.asarray(xcoords, np.float64) - self.x0, np.asarray(ycoords, np.float64) - self.y0

    def joined(self, other: ObjectFrame) -> ObjectFrame:
        """The smallest canvas that holds both."""
        x0, y0 = min(self.x0, other.x0), min(self.y0, other.y0)
        right = max(self.x0 + self.width, other.x0 + other.width)
        bottom = max(self.y0 + self.height, other.y0 + other.height)
        return ObjectFrame(bottom - y0, right - x0, x0, y0)

    def widened(self, margin: int) -> ObjectFrame:
        """A canvas that is larger by `margin` pixels on every side."""
        return ObjectFrame(self.height + 2 * margin, self.width + 2 * margin, self.x0 - margin, self.y0 - margin)


class FramedOffsets(np.ndarray):
    """Group centres (B, 1, 2, 1) that know the object they were measured on.

    `object_shape` is the (H, W) of the scan's `objectGuess`, or None. Slices and copies keep it, so that a caller who
    hands offsets back for reassembly gets an object with just that shape and pixel frame.
    """

    object_shape: tuple[int, int] | None

    def __new__(cls, offsets: ArrayLike, object_shape: tuple[int, int] | None) -> FramedOffsets:
        """View `offsets` as offsets of an object of this shape."""
        framed = np.asarray(offsets, np.float64).view(cls)
        framed.object_shape = object_shape
        return framed

    def __array_finalize__(self, source: Any) -> None:
        self.object_shape = getattr(source, "object_shape", None)

    def __reduce__(self) -> tuple[Any, ...]:
        return FramedOffsets, (np.asarray(self), self.object_shape)


def pixel_positions(position_m: ArrayLike, center_m: float, pixel_size_m: float, size: int) -> FloatArray:
    """Positions in metres as pixels of an object array of `size` pixels along this axis.

    `x_px = (x_m - center_m) / pixel_size_m + size / 2`. Increasing metres give increasing pixels.

    >>> float(pixel_positions(2e-8, 0.0, 1e-8, 101))
    52.5
    """
    if not pixel_size_m > 0:
        raise DataError(f"pixel size: expected metres above 0, found {pixel_size_m}; correct the geometry")
    return np.asarray((np.asarray(position_m, np.float64) - center_m) / pixel_size_m + size / 2)


def group_coordinates(
    xcoords: ArrayLike, ycoords: ArrayLike, nn_indices: NDArray[np.integer]
) -> tuple[FloatArray, FloatArray]:
    """Centre of each group and the offsets of its members.

    Args:
        xcoords, ycoords: positions (n,), pixels.
        nn_indices: (B, C) scan points of each group.

    Returns:
        coords_offsets (B, 1, 2, 1): mean (x, y) of the members.
        coords_relative (B, 1, 2, C): -(position - centre), pixels.
    """
    positions = member_positions(xcoords, ycoords, nn_indices)
    offsets = positions.mean(axis=-1, keepdims=True)
    return offsets, LOCAL_OFFSET_SIGN * (positions - offsets)


def member_positions(xcoords: ArrayLike, ycoords: ArrayLike, nn_indices: NDArray[np.integer]) -> FloatArray:
    """Positions (x, y) of the members of each group, (B, 1, 2, C) float64 pixels."""
    x, y = np.asarray(xcoords, np.float64), np.asarray(ycoords, np.float64)
    return np.stack([x[nn_indices], y[nn_indices]], axis=1)[:, None]


def canvas_size(N: int, coords_relative: ArrayLike) -> int:
    """Side of the square canvas that holds every member of every group, in pixels.

    The smallest multiple of 8 that is at least `N + 2 ceil(max |offset|)`; N itself when every offset is 0.

    >>> canvas_size(64, [0.0]), canvas_size(64, [-3.2, 1.0]), canvas_size(64, [4.01])
    (64, 72, 80)
    """
    reach = np.abs(np.asarray(coords_relative, np.float64)).max(initial=0.0)
    if not np.isfinite(reach):
        raise DataError("group offsets: expected finite pixels, found NaN or infinity; remove these points")
    if reach == 0:
        return N
    return ceil((N + 2 * ceil(reach)) / _CANVAS_MULTIPLE) * _CANVAS_MULTIPLE


def object_frame(xcoords: ArrayLike, ycoords: ArrayLike, N: int) -> ObjectFrame:
    """Smallest whole-pixel frame that holds every N x N patch of a scan.

    A patch between pixels reaches one pixel further than N, since bilinear interpolation reads both
    neighbours: an axis runs from `min floor(x - N/2)` to `max ceil(x - N/2) + N` (exclusive).

    >>> object_frame([32.0, 40.5], [32.0, 32.0], 64)
    ObjectFrame(height=64, width=73, x0=0, y0=0)
    """
    (x0, width), (y0, height) = _extent(xcoords, N, "xcoords"), _extent(ycoords, N, "ycoords")
    _check_area(xcoords, ycoords, width * height, N)
    return ObjectFrame(height=height, width=width, x0=x0, y0=y0)


def astray(xcoords: ArrayLike, ycoords: ArrayLike, N: int) -> NDArray[np.int64]:
    """Indices of scan points so far from all others that they cannot belong to the scan, the farthest first.

    A point is astray from ten times the distance of the 90th percentile of all points from their median on, and
    from `4 N` on besides. At most every tenth point can be; of more nothing can be said.
    """
    points = np.stack([np.asarray(xcoords, np.float64), np.asarray(ycoords, np.float64)])
    reach = np.abs(points - np.median(points, axis=1, keepdims=True)).max(axis=0)
    # of few points the nearest nine in ten are all but one
    usual = float(np.percentile(reach, 90, method="lower")) if len(reach) else 0.0
    found = np.flatnonzero(reach > max(_FAR * usual, 4 * N))
    return found[np.argsort(-reach[found], kind="stable")]


def astray_text(xcoords: ArrayLike, ycoords: ArrayLike, found: NDArray[np.integer]) -> str:
    """Points that are astray in words, of many the first three."""
    x, y = np.asarray(xcoords, np.float64), np.asarray(ycoords, np.float64)
    told = ", ".join(f"pattern {index} at ({x[index]:.6g}, {y[index]:.6g})" for index in found[:3])
    return f"{told}{f' and {len(found) - 3} more' if len(found) > 3 else ''}"


def _check_area(xcoords: ArrayLike, ycoords: ArrayLike, pixels: int, N: int) -> None:
    """Refuse a canvas that is many times what all patterns can cover, and large.

    Raises:
        DataError: naming the points that make it so.
    """
    count = np.asarray(xcoords).size
    if pixels <= max(_MOST_PIXELS, _LOOSE * count * max(N, 1) ** 2):
        return
    found = astray(xcoords, ycoords, N)
    if not found.size and pixels <= _LINE * _MOST_PIXELS:
        return
    size = f"{count} patterns of {N} x {N} pixels can cover {count * N * N:.3g} pixels, found positions that span"
    if found.size:
        why = f"{astray_text(xcoords, ycoords, found)} is far from all others"
        advice = f"leave it out (ptycho dataset subsample SCAN -o mended.npz --drop {','.join(map(str, found[:3]))})"
    else:
        why, advice = "their unit may not be the pixel of the object", "give the unit, or scale them"
    raise DataError(f"positions: expected a scan that hangs together, {size} {pixels:.3g}: {why}; {advice}")


def _extent(coords: ArrayLike, N: int, name: str) -> tuple[int, int]:
    """First pixel and number of pixels along one axis."""
    starts = np.asarray(coords, np.float64) - N / 2
    if starts.size == 0 or not np.isfinite(starts).all():
        raise DataError(
            f"{name}: expected at least one position, all finite, found {starts.size} with "
            f"{np.count_nonzero(~np.isfinite(starts))} not finite; remove these scan points"
        )
    first = int(np.floor(starts.min()))
    return first, int(np.ceil(starts.max())) + N - first


def reframe(image: NDArray[Any], frame: ObjectFrame, target: ObjectFrame, fill: complex) -> NDArray[Any]:
    """What `image`, which lies in `frame`, is in the frame `target`: cropped, and padded with `fill`."""
    result = np.full(target.shape, fill, image.dtype)
    top, left = frame.y0 - target.y0, frame.x0 - target.x0
    rows = slice(max(0, top), min(target.height, top + frame.height))
    cols = slice(max(0, left), min(target.width, left + frame.width))
    if rows.start < rows.stop and cols.start < cols.stop:
        result[rows, cols] = image[rows.start - top : rows.stop - top, cols.start - left : cols.stop - left]
    return result
