"""One phase per patch: what a far-field pattern leaves open, found from the overlaps of the patches.

A far-field intensity fixes its patch only up to a constant phase, so neighbouring patches may disagree by a
factor `exp(i a)` where they overlap, and averaging them blurs the object. Every overlapping pair measures the
difference of two phases; here all phases are solved for at once:

1. `overlap_pairs` chooses which pairs to compare: a bounded number per patch, so the cost is linear in n.
2. `pair_products` measures `c_ij = sum w_i w_j conj(O_i) O_j` on the overlap at the rounded displacement.
3. `phase_graph.solve_phases` finds the phases z that maximise `Re sum c_ij conj(z_i) z_j`.
4. `synchronise` does all three and keeps the phases only where pixels they were not fitted to agree better.

Multiply patch j by `phases[j]`, not by its conjugate.

Source: S. Marchesini et al., "Alternating projection, ptychographic imaging and phase synchronization", Appl.
Comput. Harmon. Anal. 41, 815 (2016).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import cKDTree

from ptycho.core.phase_graph import agreement, count_regions, solve_phases
from ptycho.errors import DataError

__all__ = [
    "WEIGHT_FLOOR",
    "Synchronisation",
    "check_patches",
    "compact_weight",
    "overlap_pairs",
    "pair_products",
    "scan_positions",
    "synchronise",
]

Complex = NDArray[np.complex128]
Float = NDArray[np.float64]
Int = NDArray[np.int64]

WEIGHT_FLOOR = 1e-6
"""Relative to the largest weight of one patch: what is below counts as not illuminated."""

_PAIR_FLOOR = 1e-3  # the same, where patches are compared: the faint rest adds time, not certainty
_OVERLAP_FLOOR = 1e-3  # pairs that share less of their squared weight than this are not compared
_NEAREST = (6, 3)  # neighbours of a patch among all patches, and among each thinned set
_KEEP = 0.25  # part of the disagreement of unseen pixels that may remain; independent noise leaves all of it
_ROUNDING = 1e-6  # disagreement of equal patches in single precision
_CHUNK = 1 << 14  # pixels gathered at once; a larger working set leaves the cache and takes five times as long


@dataclass(frozen=True)
class Synchronisation:
    """Phases that make overlapping patches agree, and whether they deserved to be kept.

    The agreement of phases z is `Re sum c_ij conj(z_i) z_j / sum |c_ij|`, 1 when every overlap agrees:
    `agreement_before` with all z = 1, `agreement_after` with the solved phases, kept or not. `n_edges` pairs
    of phases were compared, in `n_components` regions that no overlap connects (a lone patch is a region).

    `phases` (n,) are the `solved` ones where they were kept, else 1. Overlaps alone cannot tell an error that
    neighbouring patches share (a network's, say) from an open phase; whoever has the measured patterns can,
    by stitching with 1 and with `solved` and taking the object that predicts the patterns better.
    """

    phases: NDArray[np.complex64]
    solved: NDArray[np.complex64]
    agreement_before: float
    agreement_after: float
    kept: bool
    n_edges: int
    n_components: int


def synchronise(
    patches: NDArray[np.complexfloating],
    xcoords: ArrayLike,
    ycoords: ArrayLike,
    weight: ArrayLike,
    labels: ArrayLike | None = None,
) -> Synchronisation:
    """Phases by which patches, or groups of patches, are to be multiplied before they are averaged.

    They are kept only where they are more than a fit to noise: the phases solved from the black fields of a
    checkerboard on the object must lower the disagreement `1 - agreement` of the white fields, and the white
    ones that of the black, to less than a quarter. On the pixels they were fitted to they always lower it
    (n - 1 phases to m pairs of pure noise by about 1 - (n - 1)/m); on the others, noise makes it rise.
    Per connected region the weighted mean of the phases is 1, so patches that agree are left alone.

    Args:
        patches: (n, N, N) complex; may be memory-mapped.
        xcoords, ycoords: (n,) patch centres, pixels.
        weight: (N, N) stitching weight of a patch, such as |P|^2.
        labels: (n,) patches of one label share one phase; by default each has its own.

    Raises:
        DataError: shapes that do not fit, or NaN or infinity in patches, positions or weight.
    """
    positions = scan_positions(xcoords, ycoords)
    check_patches(patches, np.shape(weight)[-1])
    if len(patches) != len(positions):
        raise DataError(f"patches: expected {len(positions)}, one per position, found {len(patches)}; pass as many")
    node = np.arange(len(positions)) if labels is None else np.unique(np.asarray(labels), return_inverse=True)[1]
    if node.shape != (len(positions),):
        raise DataError(f"labels: expected one per patch, ({len(positions)},), found {node.shape}; give each patch one")
    pairs = overlap_pairs(xcoords, ycoords, weight)
    pairs = pairs[node[pairs[:, 0]] != node[pairs[:, 1]]]
    links, halves = _merge(node[pairs], pair_products(patches, xcoords, ycoords, weight, pairs))
    members = np.bincount(node)
    centres = np.stack([np.bincount(node, positions[:, k]) / members for k in (0, 1)], axis=1)
    products = halves.sum(axis=0)
    black, white, solved = (solve_phases(c, links, centres) for c in (*halves, products))
    same = np.ones_like(solved)
    start = 2 - agreement(halves[0], links, same) - agreement(halves[1], links, same)
    unseen = 2 - agreement(halves[0], links, white) - agreement(halves[1], links, black)
    kept = bool(start > _ROUNDING and unseen < _KEEP * start)
    return Synchronisation(
        phases=(solved if kept else same)[node].astype(np.complex64),
        solved=solved[node].astype(np.complex64),
        agreement_before=agreement(products, links, same),
        agreement_after=agreement(products, links, solved),
        kept=kept,
        n_edges=len(links),
        n_components=count_regions(products, links, len(centres)),
    )


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
    """Pairs of overlapping patches to compare: some seven times as many as patches, however dense the scan.

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
    shared = _shared_weight(compact_weight(weight, _PAIR_FLOOR)[0])
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


def _displacements(positions: Float, pairs: Int) -> Int:
    """Whole-pixel (dx, dy) from the first to the second patch of each pair, (m, 2)."""
    return np.rint(positions[pairs[:, 1]] - positions[pairs[:, 0]]).astype(np.int64)


def pair_products(
    patches: NDArray[np.complexfloating], xcoords: ArrayLike, ycoords: ArrayLike, weight: ArrayLike, pairs: Int
) -> Complex:
    """Weighted products of overlapping patches, `c_ij = sum w_i w_j conj(O_i) O_j`, in two halves.

    The sum runs over the pixels that both patches see when they are displaced by the rounded difference of
    their positions. The halves are the black and the white fields, an eighth of a patch wide, of a
    checkerboard on the object: the same phases with other noise. Pairs of equal displacement are multiplied
    together, a cache full at a time.

    Args:
        patches: (n, N, N) complex; may be memory-mapped.
        xcoords, ycoords: (n,) patch centres, pixels.
        weight: (N, N) stitching weight of a patch.
        pairs: (m, 2) indices i, j.

    Returns:
        (2, m) in units of |O|^2, the weight scaled to a maximum of 1; the sum of both halves is c_ij.
    """
    compact, box = compact_weight(weight, _PAIR_FLOOR)
    cropped = patches[(slice(None), *box)]
    positions = scan_positions(xcoords, ycoords)
    column, row = np.rint(positions).astype(np.int64).T
    board, period = _checkerboard(compact.shape, max(1, patches.shape[-1] // 8), patches.real.dtype)
    step = _displacements(positions, pairs)
    swap = (step[:, 1] < 0) | ((step[:, 1] == 0) & (step[:, 0] < 0))  # a half plane of displacements will do
    first, second = np.where(swap[:, None], pairs[:, ::-1], pairs).T
    step = np.where(swap[:, None], -step, step)
    order = np.lexsort(step.T)
    groups = np.split(order, 1 + np.flatnonzero(np.diff(step[order], axis=0).any(axis=1)))
    halves = np.zeros((2, len(pairs)), np.complex128)
    for members in groups if len(pairs) else []:
        dx, dy = step[members[0]].tolist()
        (rows_i, rows_j), (columns_i, columns_j) = _common(compact.shape[0], dy), _common(compact.shape[1], dx)
        shared = (compact[rows_i, columns_i] * compact[rows_j, columns_j]).astype(patches.dtype)
        if shared.size == 0:
            continue
        fields = sliding_window_view(board, shared.shape)
        size = max(1, _CHUNK // shared.size)
        for start in range(0, len(members), size):
            chunk = members[start : start + size]
            i = first[chunk]
            product = np.conj(cropped[i, rows_i, columns_i])
            product *= cropped[second[chunk], rows_j, columns_j]
            black = product * fields[(row[i] + rows_i.start) % period, (column[i] + columns_i.start) % period]
            product -= black
            halves[0, chunk] = black.reshape(len(chunk), -1) @ shared.ravel()
            halves[1, chunk] = product.reshape(len(chunk), -1) @ shared.ravel()
    return np.where(swap, halves.conj(), halves)


def _checkerboard(shape: tuple[int, ...], field: int, dtype: np.dtype) -> tuple[NDArray[np.floating], int]:
    """Fields of 0 and 1, large enough to cut a window of `shape` at any phase of the period; and the period."""
    rows, columns = ((np.arange(length + 2 * field) // field) % 2 for length in shape)
    return (rows[:, None] ^ columns).astype(dtype), 2 * field


def _common(length: int, shift: int) -> tuple[slice, slice]:
    """Where two intervals of one length overlap, the second moved by `shift`, in the indices of each."""
    shift = max(-length, min(length, shift))
    return slice(max(shift, 0), length + min(shift, 0)), slice(max(-shift, 0), length - max(shift, 0))


def _merge(pairs: Int, halves: Complex) -> tuple[Int, Complex]:
    """Sum of the products (2, m) of all pairs that link the same two nodes; i < j in the result."""
    swap = pairs[:, 0] > pairs[:, 1]
    halves = np.where(swap, halves.conj(), halves)
    nodes = pairs.max(initial=0) + 1
    keys, index = np.unique(
        pairs.min(axis=1, initial=nodes) * nodes + pairs.max(axis=1, initial=0), return_inverse=True
    )
    links, count = np.stack(np.divmod(keys, nodes), axis=1), len(keys)
    merged = [np.bincount(index, h.real, count) + 1j * np.bincount(index, h.imag, count) for h in halves]
    return links, np.stack(merged)
