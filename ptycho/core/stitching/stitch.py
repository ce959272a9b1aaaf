"""From patches to one object: weighted by the probe, placed between pixels, divided once.

`O(r) = sum_j w_j(r) O_j(r) / sum_j w_j(r)`, both sums bilinear between pixels and held in double precision.
A pixel whose summed weight stays below `WEIGHT_FLOOR` (one millionth of the largest weight of one patch) counts
as uncovered: coverage 0 and, exactly, object 1. The cost is O(n N^2), the memory that of the canvas and of a
cache full of patches, which may come batch by batch.

The spread of the patches about their mean, `sum_j w_j |O_j - O|^2 / sum_j w_j`, comes in the same pass from the second
moment. It is divided by `1 - 1 / n_eff`, `n_eff = (sum w_j)^2 / sum w_j^2` being the number of patches that count, so
that its root is the standard deviation of one patch however few there are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import ConvexHull

from ptycho.core.geometry import ObjectFrame
from ptycho.core.stitching.overlaps import WEIGHT_FLOOR, Turns, check_patches, compact_weight, scan_positions
from ptycho.core.stitching.sums import Layout, MakeSums, NumpySums, Piece
from ptycho.core.stitching.synchronise import synchronise
from ptycho.errors import DataError

__all__ = ["Stitched", "central_weight", "probe_weight", "reassemble_position", "stitch", "stitch_variants"]

ComplexArray = NDArray[np.complexfloating]
Float = NDArray[np.float64]

_FEW = 1.5  # patches that count, below which there is no spread


def probe_weight(probe: ComplexArray) -> Float:
    """Stitching weight (N, N) of a probe (N, N) or (M, N, N): `sum_m |P_m|^2`, the light a pixel received."""
    modes = np.asarray(probe).astype(np.complex128)
    return np.asarray((np.abs(modes.reshape(-1, *modes.shape[-2:])) ** 2).sum(axis=0))


def central_weight(N: int, M: int) -> Float:
    """Weight (N, N) that is 1 on the central M x M pixels and 0 elsewhere; M beyond N counts as N.

    >>> central_weight(4, 2).astype(int).tolist()
    [[0, 0, 0, 0], [0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0]]
    """
    if M < 1:
        raise DataError(f"M: expected at least 1 central pixel of each patch, found {M}; 20 is usual")
    inside = np.abs(np.arange(N) - N // 2 + 0.5 * (M % 2 == 0)) <= M / 2
    return np.outer(inside, inside).astype(np.float64)


@dataclass(frozen=True)
class Stitched:
    """A weighted mean of patches."""

    object: NDArray[np.complex64]
    """(H, W), 1+0j where no patch reaches."""
    coverage: NDArray[np.float32]
    """(H, W) summed weight in units of the largest weight of one patch; 0 where no patch reaches."""
    spread: NDArray[np.float32]
    """(H, W) standard deviation of one patch about the mean, in the unit of the object; NaN where fewer than 1.5
    patches count (one patch alone says nothing about its error). Below 5e-4 of |O| it is rounding."""


def stitch(
    patches: ComplexArray | Iterable[ComplexArray],
    xcoords: ArrayLike,
    ycoords: ArrayLike,
    weight: ArrayLike,
    frame: ObjectFrame,
    phases: ComplexArray | None = None,
    sums: MakeSums = NumpySums,
) -> tuple[NDArray[np.complex64], NDArray[np.float32]]:
    """Weighted mean of overlapping patches at their sub-pixel positions.

    Args:
        patches: (n, N, N) complex, or an iterable of batches (b, N, N) that are n together.
        xcoords, ycoords: (n,) patch centres on the object grid, pixels.
        weight: (N, N) of each patch, any unit; `probe_weight(probe)` is the natural one.
        frame: which part of the object grid to fill; what reaches beyond is cut off.
        phases: (n,) factors for the patches, as `synchronise` gives them; 1 by default.
        sums: what adds them; a backend may bring its own.

    Returns:
        `object` and `coverage` as in `Stitched`.

    Raises:
        DataError: shapes or numbers that do not fit, or NaN or infinity in patches, positions or weight.
    """
    turns = None if phases is None else Turns(np.asarray(phases))
    found = _summed(patches, xcoords, ycoords, weight, frame, [turns], False, sums)
    return found.mean(0), found.coverage


def stitch_variants(
    patches: ComplexArray | Iterable[ComplexArray],
    xcoords: ArrayLike,
    ycoords: ArrayLike,
    weight: ArrayLike,
    frame: ObjectFrame,
    variants: Sequence[Turns | None],
    middle: int | None = None,
    sums: MakeSums = NumpySums,
) -> list[Stitched]:
    """The mean and the spread for several choices of phases and ramps, in one pass over the patches.

    Args:
        patches, xcoords, ycoords, weight, frame: as in `stitch`; with `middle` the patches are an array.
        variants: what to multiply the patches with; None leaves them as they are.
        middle: use only the central `middle` x `middle` pixels of each patch, and the whole patch where that leaves
            holes inside the scan (the convex hull of all central squares), in a second pass.
        sums: what adds them; a backend may bring its own.

    Raises:
        DataError: as `stitch`.
    """
    if middle is None:
        found, whole, holes = _summed(patches, xcoords, ycoords, weight, frame, variants, True, sums), None, None
    else:
        found, whole, holes = _middles(patches, xcoords, ycoords, weight, middle, frame, variants, True, sums)
    made = []
    for k in range(len(variants)):
        each = Stitched(found.mean(k), found.coverage, found.spread(k))
        if whole is not None:
            each.object[holes] = whole.mean(k)[holes]
            each.coverage[holes] = whole.coverage[holes]
            each.spread[holes] = whole.spread(k)[holes]
        made.append(each)
    return made


def _middles(
    patches: ComplexArray | Iterable[ComplexArray],
    xcoords: ArrayLike,
    ycoords: ArrayLike,
    weight: ArrayLike,
    M: int,
    frame: ObjectFrame,
    variants: Sequence[Turns | None],
    spread: bool,
    sums: MakeSums = NumpySums,
) -> tuple[_Sums, _Sums | None, NDArray[np.bool_]]:
    """Sums over the central M x M pixels, those over whole patches where they are needed, and for which pixels."""
    N = np.shape(weight)[-1]
    centre = np.asarray(weight) * central_weight(N, M)
    if not centre.any():
        centre = np.asarray(weight)
    found = _summed(patches, xcoords, ycoords, centre, frame, variants, spread, sums)
    x, y = np.asarray(xcoords, np.float64), np.asarray(ycoords, np.float64)
    holes = (found.coverage == 0) & _inside_hull(x, y, min(M, N), frame)
    whole = _summed(patches, xcoords, ycoords, weight, frame, variants, spread, sums) if holes.any() else None
    return found, whole, holes


@dataclass(frozen=True)
class _Sums:
    """Weighted sums of K variants in the frame."""

    weights: Float
    """(H, W)"""
    squared_weights: Float
    """(H, W), the sum of the square of the weight of each patch."""
    first: NDArray[np.complex128]
    """(K, H, W) of the patches."""
    second: Float
    """(K, H, W) of their squared modulus; (1, H, W) where all variants have that in common."""

    @property
    def covered(self) -> NDArray[np.bool_]:
        return self.weights >= WEIGHT_FLOOR

    @property
    def coverage(self) -> NDArray[np.float32]:
        return np.where(self.covered, self.weights, 0).astype(np.float32)

    def mean(self, k: int) -> NDArray[np.complex64]:
        result = np.ones(self.weights.shape, np.complex64)
        np.divide(self.first[k], self.weights, out=result, where=self.covered, casting="same_kind")
        return result

    def spread(self, k: int) -> NDArray[np.float32]:
        result = np.full(self.weights.shape, np.nan, np.float32)
        second = self.second[min(k, len(self.second) - 1)]
        for row, found in enumerate(result):  # a canvas of temporaries more would be the largest of all
            weights, squared = self.weights[row], self.squared_weights[row]
            several = (weights >= WEIGHT_FLOOR) & (weights**2 >= _FEW * squared)
            total = weights[several]
            variance = second[row][several] / total - np.abs(self.first[k, row][several] / total) ** 2
            found[several] = np.sqrt(np.maximum(variance, 0) / (1 - squared[several] / total**2))
        return result


def _summed(
    patches: ComplexArray | Iterable[ComplexArray],
    xcoords: ArrayLike,
    ycoords: ArrayLike,
    weight: ArrayLike,
    frame: ObjectFrame,
    variants: Sequence[Turns | None],
    spread: bool,
    sums: MakeSums,
) -> _Sums:
    """All sums in one pass; those for the spread stay 0 where it is not asked for."""
    positions = scan_positions(xcoords, ycoords)
    for turns in variants:
        if turns is not None and turns.phases.shape != (len(positions),):
            found = turns.phases.shape
            raise DataError(f"phases: expected one per patch ({len(positions)}), found {found}; synchronise again")
    N = np.shape(weight)[-1]
    compact, (rows, columns) = compact_weight(weight)
    corner = positions - N / 2 + [columns.start - frame.x0, rows.start - frame.y0]
    corner_pixel = np.floor(corner).astype(np.int64)
    fraction = corner - corner_pixel
    window = np.array(compact.shape) + 1
    # A margin as wide as a window takes what reaches beyond the frame.
    height, width = (int(length) for length in np.array(frame.shape) + 2 * window)
    reaches = ((corner_pixel[:, ::-1] > -window) & (corner_pixel[:, ::-1] < frame.shape)).all(axis=1)
    ramps = any(turns is not None and turns.ramps is not None for turns in variants)  # phases alone leave |O_j|
    seconds = (len(variants) if ramps else 1) if spread else 0
    made = sums(Layout((height, width), compact, len(variants), seconds))
    size = max(1, made.pixels // compact.size)
    for known, batch in _batches(patches, N, len(positions)):
        members = np.flatnonzero(reaches[known : known + len(batch)])
        for chunk in (members[k : k + size] for k in range(0, len(members), size)):
            j, values = known + chunk, batch[chunk, rows, columns]
            first_cols, first_rows = (corner_pixel[j] + window[::-1]).T
            dx, dy = fraction[j].T
            turned = [None if turns is None else turns.factors(j, rows, columns, N, values.dtype) for turns in variants]
            made.add(Piece(values, first_rows, first_cols, dx, dy, turned))

    def inner(values: NDArray[Any]) -> NDArray[Any]:
        return values[..., window[0] : window[0] + frame.height, window[1] : window[1] + frame.width]

    return _Sums(*(inner(each) for each in made.totals()))


def _batches(patches: ComplexArray | Iterable[ComplexArray], N: int, n: int) -> Iterator[tuple[int, ComplexArray]]:
    """Batches of patches, checked, each with the index of its first patch; DataError unless they are n together."""
    count = 0
    for batch in [patches] if isinstance(patches, np.ndarray) else patches:
        check_patches(batch, N, count)
        if count + len(batch) <= n:
            yield count, batch
        count += len(batch)
    if count != n:
        raise DataError(f"patches: expected {n}, one per position, found {count}; pass as many positions")


def reassemble_position(
    obj: NDArray[np.generic],
    global_offsets: ArrayLike,
    M: int = 20,
    probe: ComplexArray | None = None,
    shape: tuple[int, int] | None = None,
) -> NDArray[np.complex64]:
    """One object from patches at their offsets, phases synchronised, by the central pixels of each patch.

    The weight is |P|^2 where the probe has the size of the patches, else uniform, restricted to the central
    M x M pixels. Where that leaves holes inside the scan (the convex hull of all central squares), those
    pixels are filled with the weight of the whole patch.

    Args:
        obj: (B, N, N, 1) or (B, N, N) patches.
        global_offsets: (B, 1, 2, 1) patch centres (x, y), pixels.
        M: pixels along the side of the central square; N and more uses the whole patch.
        probe: (N, N) or (modes, N, N).
        shape: (H, W) of the object the offsets belong to, whose pixel frame the result then has; by default
            the smallest canvas that holds all patches and has the mean position in its middle, [H/2, W/2].

    Returns:
        (H, W) complex64, 1+0j where no patch reaches.

    Raises:
        DataError: shapes that do not fit, or NaN or infinity in patches or offsets.
    """
    patches, offsets = np.asarray(obj), np.asarray(global_offsets, np.float64)
    patches = patches[..., 0] if patches.ndim == 4 and patches.shape[-1] == 1 else patches
    if patches.ndim != 3 or patches.shape[1] != patches.shape[2] or offsets.shape != (len(patches), 1, 2, 1):
        raise DataError(
            "reassembly: expected patches (B, N, N, 1) or (B, N, N) and offsets (B, 1, 2, 1), "
            f"found {np.shape(obj)} and {offsets.shape}; pass the offsets of these patches"
        )
    patches = patches.astype(np.complex64, copy=False)
    x, y = scan_positions(offsets[:, 0, 0, 0], offsets[:, 0, 1, 0]).T
    N = patches.shape[-1]
    fits = probe is not None and np.shape(probe)[-2:] == (N, N)
    weight = probe_weight(probe) if probe is not None and fits else np.ones((N, N))
    frame = ObjectFrame(*shape, x0=0, y0=0) if shape is not None else _centred_frame(x, y, N)
    turns = synchronise(patches, x, y, weight).turns
    sums, whole, holes = _middles(patches, x, y, weight, M, frame, [turns], spread=False)
    result = sums.mean(0)
    if whole is not None:
        result[holes] = whole.mean(0)[holes]
    return result


def _centred_frame(x: Float, y: Float, N: int) -> ObjectFrame:
    """Smallest frame that holds every patch, between pixels too, and has the mean position in its middle."""
    middles, halves = [], []
    for coords in (x, y):
        middle = int(np.rint(coords.mean()))
        ends = middle - np.floor(coords.min() - N / 2), np.ceil(coords.max() - N / 2) + N - middle
        middles.append(middle)
        halves.append(int(max(ends)))
    return ObjectFrame(2 * halves[1], 2 * halves[0], x0=middles[0] - halves[0], y0=middles[1] - halves[1])


def _inside_hull(x: Float, y: Float, M: int, frame: ObjectFrame) -> NDArray[np.bool_]:
    """Pixels (H, W) of the frame in the convex hull of the central M x M pixels of all patches."""
    low, high = -M / 2, M / 2 - (M % 2 == 0)
    square = np.array([[low, low], [low, high], [high, low], [high, high]])
    corners = (np.stack([x - frame.x0, y - frame.y0], axis=1)[:, None] + square).reshape(-1, 2)
    a, b, c = ConvexHull(corners).equations.T[:, :, None]  # inside: a x + b y + c <= 0 for every edge
    a = np.where(a == 0, 1e-30, a)  # an edge along x keeps all of a row or nothing
    # 1e-9: a pixel on an edge is inside, whichever way its sum is rounded
    crossing = (1e-9 - b * np.arange(frame.height) - c) / a
    upper = np.where(a > 0, crossing, np.inf).min(axis=0)
    lower = np.where(a < 0, crossing, -np.inf).max(axis=0)
    column = np.arange(frame.width)
    return np.asarray((column >= lower[:, None]) & (column <= upper[:, None]))
