"""Which patches overlap, and what their overlaps measure: differences of phases and of phase ramps.

`overlap_pairs` chooses the pairs to compare, a bounded number per patch, so the cost is linear in n. The patches are
multiplied on their overlap at the rounded displacement; `pair_products` sums that to `sum w_i w_j conj(O_i) O_j`, whose
phase is the difference of the phases of the two patches, and `pair_slopes` takes its slope along x and y, the
difference of their phase ramps. Both do so for two halves of the pixels, so that what is fitted to one half can be
validated on the other. Memory is that of a cache full of patches and some 100 bytes per pair: the patches may be
memory-mapped.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import cKDTree

from ptycho.errors import DataError

__all__ = [
    "PAIR_FLOOR",
    "WEIGHT_FLOOR",
    "Factors",
    "Turns",
    "check_patches",
    "compact_weight",
    "overlap_pairs",
    "pair_products",
    "pair_slopes",
    "row_stride",
    "scan_positions",
]

Array = NDArray[np.complexfloating]
Complex = NDArray[np.complex128]
Float = NDArray[np.float64]
Int = NDArray[np.int64]

WEIGHT_FLOOR = 1e-6
"""Relative to the largest weight of one patch: what is below counts as not illuminated."""
PAIR_FLOOR = 1e-3
"""The same, where patches are compared: the faint rest adds time, not certainty."""

_OVERLAP_FLOOR = 1e-3  # pairs that share less of their squared weight than this are not compared
_NEAREST = (4, 2)  # neighbours of a patch among all patches, and among each thinned set
_ROWS = 16  # rows of a patch that are compared: more of them add time, not certainty
_CHUNK = 1 << 14  # pixels gathered at once; a larger working set leaves the cache and takes five times as long
_SPAN = 1 << 12  # patches that are compared in one go: what a memory-mapped file has to keep at hand


@dataclass(frozen=True)
class Turns:
    """What patches are multiplied with: `phases[j] exp(i (kx u + ky v))`, (u, v) pixels from the patch's centre."""

    phases: Array
    """(n,) factors."""
    ramps: Float | None = None
    """(n, 2) slopes (kx, ky), radians per pixel; None is none."""

    def factors(self, patches: NDArray[np.integer], rows: slice, columns: slice, N: int, dtype: np.dtype) -> Factors:
        """The factors (k,) on a window of some patches."""
        phases = self.phases[patches].astype(dtype, copy=False)
        if self.ramps is None:
            return Factors(phases)
        kx, ky = self.ramps[patches].T
        u, v = (np.arange(N)[part] - N // 2 for part in (columns, rows))
        along = (np.exp(1j * np.multiply.outer(k, line)).astype(dtype, copy=False) for k, line in ((ky, v), (kx, u)))
        return Factors(phases, (*along,))


class Factors(NamedTuple):
    """What some patches are multiplied with."""

    phases: Array
    """(k,)"""
    along: tuple[Array, ...] | None = None
    """Ramps along the rows (k, h) and the columns (k, w) of a window; None is none."""

    @property
    def whole(self) -> Array:
        """Their product: (k, 1, 1) without ramps, else (k, h, w)."""
        phases = self.phases[:, None, None]
        return phases if self.along is None else phases * self.along[0][:, :, None] * self.along[1][:, None, :]


def scan_positions(xcoords: ArrayLike, ycoords: ArrayLike) -> Float:
    """Positions (n, 2), ordered (x, y), from two coordinate arrays (n,); DataError when they do not fit."""
    x, y = np.asarray(xcoords, np.float64), np.asarray(ycoords, np.float64)
    if x.ndim != 1 or x.shape != y.shape:
        raise DataError(f"positions: expected xcoords and ycoords (n,) of one length, found {x.shape} and {y.shape}")
    positions = np.stack([x, y], axis=1)
    bad = np.flatnonzero(~np.isfinite(positions).all(axis=1))
    if bad.size:
        raise DataError(f"positions: expected finite pixels, found {positions[bad[0]]} at {bad[0]}; remove that point")
    return positions


def check_patches(patches: NDArray[np.complexfloating], N: int, first: int = 0) -> None:
    """DataError unless the patches are complex, finite and (n, N, N); `first` is the index of the first one."""
    if patches.ndim != 3 or patches.shape[1:] != (N, N) or not np.iscomplexobj(patches):
        raise DataError(f"patches: expected complex (n, {N}, {N}) as the weight, found {patches.dtype} {patches.shape}")
    size = max(1, _CHUNK // (N * N))
    for start in range(0, len(patches), size):
        finite = np.isfinite(patches[start : start + size])
        if not finite.all():
            bad = first + start + int(np.flatnonzero(~finite.all(axis=(1, 2)))[0])
            raise DataError(f"patches: expected finite values, found NaN or infinity in patch {bad}; check the model")


def compact_weight(weight: ArrayLike, floor: float = WEIGHT_FLOOR) -> tuple[Float, tuple[slice, slice]]:
    """Weight scaled to a maximum of 1 and cropped to the box where it reaches the floor.

    Args:
        weight: (N, N), not negative, any unit.
        floor: what is below this part of the maximum becomes 0.

    Returns:
        The cropped weight (h, w) float64, and the slices (rows, columns) that crop a patch alike.

    Raises:
        DataError: not square, not finite, negative, or zero everywhere.
    """
    full = np.asarray(weight, np.float64)
    if full.ndim != 2 or full.shape[0] != full.shape[1]:
        raise DataError(f"stitching weight: expected (N, N), found {full.shape}; sum |P|^2 over the modes")
    if not np.isfinite(full).all() or full.min() < 0 or full.max() == 0:
        raise DataError(
            "stitching weight: expected finite values, none negative and some positive, "
            f"found {full.min()} to {full.max()}; check the probe"
        )
    full = full / full.max()
    full[full < floor] = 0
    rows, columns = np.flatnonzero(full.any(axis=1)), np.flatnonzero(full.any(axis=0))
    box = slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)
    return full[box], box


def overlap_pairs(xcoords: ArrayLike, ycoords: ArrayLike, weight: ArrayLike) -> Int:
    """Pairs of overlapping patches to compare: five to eight times as many as patches, however dense the scan.

    A patch is paired with its nearest neighbours among all patches, among a quarter of them, among a
    sixteenth and so on (nested sets of one fixed random order) as far as the weight reaches. The thinned sets
    give the long links that hold a large scan together, and those across the lines of a scan that is fine
    along x and coarse along y, which by nearest neighbours alone would fall apart into lines.

    Args:
        xcoords, ycoords: (n,) patch centres, pixels.
        weight: (N, N) stitching weight of a patch.

    Returns:
        (m, 2) indices i < j, each pair once, sorted.
    """
    positions = scan_positions(xcoords, ycoords)
    shared = _shared_weight(compact_weight(weight, PAIR_FLOOR)[0])
    half = np.array(shared.shape) // 2
    near = np.argwhere(shared >= _OVERLAP_FLOOR)
    reach = np.hypot(*np.minimum(near, 2 * half - near).T).max() + 1  # displacements are rounded
    n = len(positions)
    order = np.random.default_rng(0).permutation(n)
    keys, size, count = [np.zeros(0, np.int64)], n, _NEAREST[0]
    while size > 1:
        subset = order[:size]
        tree = cKDTree(positions[subset])
        distance, index = map(np.asarray, tree.query(positions, count + 1, distance_upper_bound=reach))
        i, k = np.nonzero(np.isfinite(distance))
        j = subset[index[i, k]]
        keys.append((np.minimum(i, j) * n + np.maximum(i, j))[i != j])
        if np.isinf(distance[:, -1]).all():  # each patch has met all that are within reach
            break
        size, count = size // 4, _NEAREST[1]
    pairs = np.stack(np.divmod(np.unique(np.concatenate(keys)), max(n, 1)), axis=1)
    step = _displacements(positions, pairs)[:, ::-1]
    inside = (np.abs(step) < half).all(axis=1)
    pairs, step = pairs[inside], step[inside]
    return pairs[shared[step[:, 0], step[:, 1]] >= _OVERLAP_FLOOR]


def _shared_weight(weight: Float) -> Float:
    """Autocorrelation of the weight over its value at 0, `[dy, dx]` modulo its shape (2h, 2w)."""
    shape = 2 * weight.shape[0], 2 * weight.shape[1]
    correlation = np.fft.irfft2(np.abs(np.fft.rfft2(weight, shape)) ** 2, shape)
    return np.asarray(correlation / correlation[0, 0])


def _displacements(positions: Float, pairs: Int) -> NDArray[np.int32]:
    """Whole-pixel (dx, dy) from the first to the second patch of each pair, (m, 2)."""
    step = np.empty((len(pairs), 2), np.int32)
    for axis, along in enumerate(positions.T):
        step[:, axis] = np.rint(along[pairs[:, 1]] - along[pairs[:, 0]])
    return step


def pair_products(
    patches: Array,
    xcoords: ArrayLike,
    ycoords: ArrayLike,
    weight: ArrayLike,
    pairs: Int,
    turns: Turns | None = None,
    stride: int = 1,
) -> Complex:
    """Weighted products of overlapping patches, `c_ij = sum w_i w_j conj(O_i) O_j`, in two halves.

    The sum runs over the pixels that both patches see when they are displaced by the rounded difference of
    their positions. The halves are the black and the white fields, an eighth of a patch wide, of a
    checkerboard on the object: the same phases with other noise.

    Args:
        patches: (n, N, N) complex; may be memory-mapped.
        xcoords, ycoords: (n,) patch centres, pixels.
        weight: (N, N) stitching weight of a patch.
        pairs: (m, 2) indices i, j.
        turns: what the patches are multiplied with first.
        stride: every so many rows of an overlap are summed.

    Returns:
        (2, m) in units of |O|^2, the weight scaled to a maximum of 1; the sum of both halves is c_ij.
    """
    halves = np.zeros((2, len(pairs)), np.complex128)
    for part in _overlaps(patches, xcoords, ycoords, weight, pairs, turns, stride):
        part.product *= part.shared
        # sums and no products with a vector: BLAS divides these among threads, which wait more than they do
        black, both = (
            values.reshape(len(values), -1).sum(axis=1) for values in (part.product * part.fields, part.product)
        )
        for half, values in zip(halves, (black, both - black), strict=True):
            half[part.pairs] = np.where(part.swapped, values.conj(), values)
    return halves


def pair_slopes(
    patches: Array,
    xcoords: ArrayLike,
    ycoords: ArrayLike,
    weight: ArrayLike,
    pairs: Int,
    turns: Turns | None = None,
    stride: int = 1,
) -> tuple[Float, Float]:
    """Slopes of the phase of `conj(O_i) O_j` on the overlap of each pair, in the halves of `pair_products`.

    Where patch j carries the ramp k_j, the slope is k_j - k_i. The product is summed over rows (columns) and compared
    with itself an eighth of a patch further on, so slopes up to half a turn over that distance are told apart.

    Args:
        patches, xcoords, ycoords, weight, pairs, turns, stride: as in `pair_products`.

    Returns:
        Slopes (2, m, 2), along x and y, radians per pixel, and how much each counts, (2, m, 2), in units of |O|^4.
    """
    lag = max(1, patches.shape[-1] // 8)
    slopes, counts = np.zeros((2, len(pairs), 2)), np.zeros((2, len(pairs), 2))
    for part in _overlaps(patches, xcoords, ycoords, weight, pairs, turns, stride):
        part.product *= part.shared
        black = part.product * part.fields
        part.product -= black
        sign = np.where(part.swapped, -1.0, 1.0)
        for half, values in enumerate((black, part.product)):
            for axis, (sums, step) in enumerate(((1, lag), (2, max(1, lag // stride)))):
                line = values.sum(axis=sums, dtype=np.complex128)
                ahead = (line[:, :-step].conj() * line[:, step:]).sum(axis=1)
                length = step * (stride if axis else 1)
                slopes[half, part.pairs, axis] = sign * np.angle(ahead) / length
                counts[half, part.pairs, axis] = np.abs(ahead)
    return slopes, counts


@dataclass
class _Overlaps:
    """Some pairs of one displacement, first patch times second; `swapped` where the first is j."""

    pairs: Int
    swapped: NDArray[np.bool_]
    product: Array
    fields: NDArray[np.floating]
    shared: NDArray[np.floating]


def _overlaps(
    patches: Array,
    xcoords: ArrayLike,
    ycoords: ArrayLike,
    weight: ArrayLike,
    pairs: Int,
    turns: Turns | None,
    stride: int,
) -> Iterator[_Overlaps]:
    """Products of pairs, those of equal displacement together, a cache full at a time."""
    compact, (rows, columns) = compact_weight(weight, PAIR_FLOOR)
    positions, N = scan_positions(xcoords, ycoords), patches.shape[-1]
    column, row = np.rint(positions).astype(np.int64).T
    board, period = _checkerboard(compact.shape, max(1, N // 8), patches.real.dtype)
    if not len(pairs):
        return
    step = _displacements(positions, pairs)
    swap = (step[:, 1] < 0) | ((step[:, 1] == 0) & (step[:, 0] < 0))  # a half plane of displacements will do
    first, second = (np.where(swap, pairs[:, 1 - k], pairs[:, k]).astype(np.int32) for k in (0, 1))
    step[swap] *= -1

    def cut(j: NDArray[np.int32], across: slice, along: slice) -> Array:
        window = (
            slice(rows.start + across.start, rows.start + across.stop, stride),
            slice(columns.start + along.start, columns.start + along.stop),
        )
        values = patches[(j, *window)]
        return values if turns is None else values * turns.factors(j, *window, N, values.dtype).whole

    for members in _alike(step, first):
        dx, dy = step[members[0]].tolist()
        (rows_i, rows_j), (columns_i, columns_j) = _common(compact.shape[0], dy), _common(compact.shape[1], dx)
        shared = (compact[rows_i, columns_i] * compact[rows_j, columns_j]).astype(patches.real.dtype)
        if shared.size == 0:
            continue
        fields = sliding_window_view(board, shared.shape)[:, :, ::stride]
        shared = shared[::stride]
        size = max(1, _CHUNK // shared.size)
        for start in range(0, len(members), size):
            chunk = members[start : start + size]
            i = first[chunk]
            product = np.conj(cut(i, rows_i, columns_i))
            product *= cut(second[chunk], rows_j, columns_j)
            seen = fields[(row[i] + rows_i.start) % period, (column[i] + columns_i.start) % period]
            yield _Overlaps(chunk, swap[chunk], product, seen, shared)


def _alike(step: NDArray[np.int32], first: NDArray[np.int32]) -> list[Int]:
    """Indices of the pairs of each displacement (m, 2), a span of first patches (m,) at a time."""
    columns = first // _SPAN, step[:, 1] - step[:, 1].min(), step[:, 0] - step[:, 0].min()
    key = np.ravel_multi_index(columns, [int(column.max()) + 1 for column in columns])
    del columns
    order = np.argsort(key, kind="stable")
    return np.split(order, 1 + np.flatnonzero(np.diff(key[order])))


def row_stride(N: int) -> int:
    """Every so many rows of patches N x N are compared: all up to 16, then as many as that."""
    return max(1, N // _ROWS)


def _checkerboard(shape: tuple[int, ...], field: int, dtype: np.dtype) -> tuple[NDArray[np.floating], int]:
    """Fields of 0 and 1, large enough to cut a window of `shape` at any phase of the period; and the period."""
    rows, columns = ((np.arange(length + 2 * field) // field) % 2 for length in shape)
    return (rows[:, None] ^ columns).astype(dtype), 2 * field


def _common(length: int, shift: int) -> tuple[slice, slice]:
    """Where two intervals of one length overlap, the second moved by `shift`, in the indices of each."""
    shift = max(-length, min(length, shift))
    return slice(max(shift, 0), length + min(shift, 0)), slice(max(-shift, 0), length - max(shift, 0))
