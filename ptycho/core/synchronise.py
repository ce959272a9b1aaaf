"""One phase per patch: what a far-field pattern leaves open, found from the overlaps of the patches.

A far-field intensity fixes its patch only up to a constant phase, so neighbouring patches may disagree by a
factor `exp(i a)` where they overlap, and averaging them blurs the object. Every overlapping pair measures the
difference of two phases; here all phases are solved for at once:

1. `overlap_pairs` chooses which pairs to compare: a bounded number per patch, so the cost is linear in n.
2. `pair_products` measures `c_ij = sum w_i w_j conj(O_i) O_j` on the overlap at the rounded displacement.
3. `solve_phases` maximises `Re sum c_ij conj(z_i) z_j` over `|z_j| = 1`: leading eigenvectors of
   `D^-1/2 C D^-1/2` in blocks and then between blocks, polished by minorise-maximise steps.
4. `synchronise` does all three and keeps the phases only where they are better than those that came.

Multiply patch j by `phases[j]`, not by its conjugate.

Sources: A. Singer, "Angular synchronization by eigenvectors and semidefinite programming", Appl. Comput.
Harmon. Anal. 30, 20 (2011); S. Marchesini et al., "Alternating projection, ptychographic imaging and phase
synchronization", Appl. Comput. Harmon. Anal. 41, 815 (2016).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import cg, eigsh
from scipy.spatial import cKDTree

from ptycho.errors import DataError

__all__ = [
    "WEIGHT_FLOOR",
    "Synchronisation",
    "agreement",
    "compact_weight",
    "overlap_pairs",
    "pair_products",
    "solve_phases",
    "synchronise",
]

Complex = NDArray[np.complex128]
Float = NDArray[np.float64]
Int = NDArray[np.int64]

WEIGHT_FLOOR = 1e-6
"""Relative to the largest weight of one patch: what is below counts as not illuminated."""

_OVERLAP_FLOOR = 1e-3  # pairs that share less of their (squared) weight than this are not compared
_NEAREST = (8, 4)  # neighbours of a patch among all patches, and among each thinned set
_BLOCK = 400  # nodes solved at once; on larger lattices the eigenvalue gap closes and Lanczos fails silently
_DENSE = 64  # nodes up to which a dense eigensolver is faster
_POLISH = 30  # steps at most; a handful is usual
_CHUNK = 1 << 14  # pixels gathered at once; a larger working set leaves the cache and takes five times as long


@dataclass(frozen=True)
class Synchronisation:
    """Phases that make overlapping patches agree, and whether they deserved to be kept.

    The agreement of phases z is `Re sum c_ij conj(z_i) z_j / sum |c_ij|`, 1 when every overlap agrees:
    `agreement_before` with all z = 1, `agreement_after` with the solved phases, kept or not. Where `kept` is
    False, `phases` (n,) is 1 throughout. `n_edges` pairs of phases were compared, in `n_components` regions
    that no overlap connects (a lone patch is a region).
    """

    phases: NDArray[np.complex64]
    agreement_before: float
    agreement_after: float
    kept: bool
    n_edges: int
    n_components: int


def compact_weight(weight: ArrayLike) -> tuple[Float, tuple[slice, slice]]:
    """Weight scaled to a maximum of 1 and cropped to the box where it is above the floor.

    Args:
        weight: (N, N), not negative, any unit; what is below `WEIGHT_FLOOR` of its maximum becomes 0.

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
    full[full < WEIGHT_FLOOR] = 0
    rows, columns = np.flatnonzero(full.any(axis=1)), np.flatnonzero(full.any(axis=0))
    box = slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)
    return full[box], box


def overlap_pairs(xcoords: ArrayLike, ycoords: ArrayLike, weight: ArrayLike) -> Int:
    """Pairs of overlapping patches to compare: about ten times as many as patches, however dense the scan.

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
    positions = _positions(xcoords, ycoords)
    shared = _shared_weight(compact_weight(weight)[0])
    dy, dx = np.nonzero(shared >= _OVERLAP_FLOOR)
    height, width = shared.shape
    reach = np.hypot(np.minimum(dy, height - dy), np.minimum(dx, width - dx)).max() + 1
    n = len(positions)
    order = np.random.default_rng(0).permutation(n)
    keys, size, count = [np.zeros(0, np.int64)], n, _NEAREST[0]
    while size > 1:
        members = order[:size]
        distance, near = cKDTree(positions[members]).query(positions, count + 1, distance_upper_bound=reach)
        i, k = np.nonzero(np.isfinite(distance))
        j = members[near[i, k]]
        keys.append(np.minimum(i, j)[i != j] * n + np.maximum(i, j)[i != j])
        if np.isinf(distance[:, -1]).all():  # each patch has found all that are within reach
            break
        size, count = size // 4, _NEAREST[1]
    key = np.unique(np.concatenate(keys))
    pairs = np.stack([key // max(n, 1), key % max(n, 1)], axis=1)
    step = _displacements(positions, pairs)
    inside = (np.abs(step) < [width // 2, height // 2]).all(axis=1)
    pairs, step = pairs[inside], step[inside]
    return pairs[shared[step[:, 1], step[:, 0]] >= _OVERLAP_FLOOR]


def _positions(xcoords: ArrayLike, ycoords: ArrayLike) -> Float:
    """(n, 2) positions (x, y)."""
    return np.stack([np.asarray(xcoords, np.float64), np.asarray(ycoords, np.float64)], axis=1)


def _shared_weight(weight: Float) -> Float:
    """Autocorrelation of the weight over its value at 0, `[dy, dx]` modulo the shape (2h, 2w)."""
    shape = 2 * weight.shape[0], 2 * weight.shape[1]
    correlation = np.fft.irfft2(np.abs(np.fft.rfft2(weight, shape)) ** 2, shape)
    return correlation / correlation[0, 0]


def _displacements(positions: Float, pairs: Int) -> Int:
    """Whole-pixel (dx, dy) from the first to the second patch of each pair (m, 2)."""
    return np.rint(positions[pairs[:, 1]] - positions[pairs[:, 0]]).astype(np.int64)


def pair_products(
    patches: NDArray[np.complexfloating], xcoords: ArrayLike, ycoords: ArrayLike, weight: ArrayLike, pairs: Int
) -> Complex:
    """Weighted products of overlapping patches, `c_ij = sum w_i w_j conj(O_i) O_j`.

    The sum runs over the pixels that both patches see when they are displaced by the rounded difference of
    their positions. Pairs of equal displacement are multiplied together, a cache full at a time.

    Args:
        patches: (n, N, N) complex; may be memory-mapped.
        xcoords, ycoords: (n,) patch centres, pixels.
        weight: (N, N) stitching weight of a patch.
        pairs: (m, 2) indices i, j.

    Returns:
        (m,) in units of |O|^2, the weight scaled to a maximum of 1.
    """
    compact, box = compact_weight(weight)
    cropped = patches[(slice(None), *box)]
    step = _displacements(_positions(xcoords, ycoords), pairs)
    swap = (step[:, 1] < 0) | ((step[:, 1] == 0) & (step[:, 0] < 0))  # a half plane of displacements will do
    first, second = np.where(swap[:, None], pairs[:, ::-1], pairs).T
    distinct, group = np.unique(np.where(swap[:, None], -step, step), axis=0, return_inverse=True)
    order = np.argsort(group.ravel(), kind="stable")
    ends = np.cumsum(np.bincount(group.ravel(), minlength=len(distinct)))
    products = np.zeros(len(pairs), np.complex128)
    for (dx, dy), members in zip(distinct.tolist(), np.split(order, ends[:-1]), strict=True):
        (rows_i, rows_j), (columns_i, columns_j) = _common(compact.shape[0], dy), _common(compact.shape[1], dx)
        both = (compact[rows_i, columns_i] * compact[rows_j, columns_j]).astype(patches.dtype).ravel()
        size = max(1, _CHUNK // max(1, both.size))
        for start in range(0, len(members), size):
            chunk = members[start : start + size]
            product = np.conj(cropped[first[chunk], rows_i, columns_i])
            product *= cropped[second[chunk], rows_j, columns_j]
            products[chunk] = product.reshape(len(chunk), -1) @ both
    return np.where(swap, products.conj(), products)


def _common(length: int, shift: int) -> tuple[slice, slice]:
    """Where two intervals of one length overlap, the second moved by `shift`, in the indices of each."""
    shift = max(-length, min(length, shift))
    return slice(max(shift, 0), length + min(shift, 0)), slice(max(-shift, 0), length - max(shift, 0))


def agreement(products: Complex, pairs: Int, phases: Complex) -> float:
    """`Re sum c_ij conj(z_i) z_j / sum |c_ij|`: 1 when all overlaps agree, 0 for random phases, 1 without pairs."""
    total = float(np.abs(products).sum())
    if total == 0:
        return 1.0
    return float((products * phases[pairs[:, 0]].conj() * phases[pairs[:, 1]]).real.sum()) / total


def solve_phases(products: Complex, pairs: Int, positions: Float) -> Complex:
    """Phases z, |z_j| = 1, that maximise `Re sum c_ij conj(z_i) z_j`.

    Args:
        products: (m,) c_ij.
        pairs: (m, 2) indices i, j of the n nodes.
        positions: (n, 2) where the nodes lie; large graphs are cut into blocks by it.

    Returns:
        (n,) complex128. In each connected region the weighted mean of z, with the weights
        `sum_j |c_ij|`, is real and positive, so nodes that agree already get 1; lone nodes get 1.
    """
    n = len(positions)
    matrix = sp.coo_array((products, (pairs[:, 0], pairs[:, 1])), shape=(n, n)).tocsr()
    matrix = (matrix + matrix.conj().T).tocsr()
    strength = np.asarray(abs(matrix).sum(axis=1)).ravel()
    z = _polish(matrix, _by_blocks(matrix, positions))
    count, region = connected_components(abs(matrix), directed=False)
    mean = np.bincount(region, (strength * z).real, count) + 1j * np.bincount(region, (strength * z).imag, count)
    turn = np.where(np.abs(mean) > 0, mean.conj() / np.maximum(np.abs(mean), np.finfo(float).tiny), 1)
    return np.where(strength > 0, z * turn[region], 1)


def _by_blocks(matrix: sp.csr_array, positions: Float) -> Complex:
    """Leading eigenvectors of blocks of neighbouring nodes, then of the graph whose nodes are the blocks."""
    n = matrix.shape[0]
    part, count = _parts(matrix, _tiles(positions))
    if count == n:  # not one pair within a tile
        part, count = _parts(matrix, np.zeros(n, np.int64))
    order = np.argsort(part, kind="stable")
    ends = np.cumsum(np.bincount(part))
    sorted_matrix = matrix[order][:, order]
    z = np.ones(n, np.complex128)
    for start, stop in zip(np.r_[0, ends[:-1]], ends, strict=True):
        if stop - start > 1:
            z[order[start:stop]] = _leading_phases(sorted_matrix[start:stop, start:stop])
    spread = sp.csr_array((z, part, np.arange(n + 1)), shape=(n, count))
    coarse = (spread.conj().T @ matrix @ spread).tocoo()
    off = coarse.row != coarse.col
    if not off.any():
        return z
    coarse = sp.csr_array((coarse.data[off], (coarse.row[off], coarse.col[off])), shape=(count, count))
    centres = np.stack([np.bincount(part, positions[:, k]) / np.bincount(part) for k in (0, 1)], axis=1)
    return z * _by_blocks(coarse, centres)[part]


def _tiles(positions: Float) -> Int:
    """Index of the tile each node lies in: halves along the longer axis until a tile has a block's nodes."""
    tile = np.zeros(len(positions), np.int64)
    waiting, count = [np.arange(len(positions))], 0
    while waiting:
        members = waiting.pop()
        if len(members) <= _BLOCK:
            tile[members] = count
            count += 1
            continue
        axis = int(np.argmax(np.ptp(positions[members], axis=0)))
        members = members[np.argsort(positions[members, axis], kind="stable")]
        waiting += [members[: len(members) // 2], members[len(members) // 2 :]]
    return tile


def _parts(matrix: sp.csr_array, tile: Int) -> tuple[Int, int]:
    """Connected parts of each tile: the index of a node's part (n,), and how many there are."""
    entries = matrix.tocoo()
    same = tile[entries.row] == tile[entries.col]
    links = sp.csr_array((np.ones(same.sum()), (entries.row[same], entries.col[same])), shape=matrix.shape)
    count, part = connected_components(links, directed=False)
    return part.astype(np.int64), int(count)


def _leading_phases(matrix: sp.csr_array) -> Complex:
    """Phases of the leading eigenvector of D^-1/2 C D^-1/2, D the row sums of |C|."""
    n = matrix.shape[0]
    scale = sp.diags_array(1 / np.sqrt(abs(matrix).sum(axis=1)))
    normalised = scale @ matrix @ scale
    if n <= _DENSE:
        vector = np.linalg.eigh(normalised.toarray())[1][:, -1]
    else:
        start = np.random.default_rng(0).standard_normal((2, n))
        vector = eigsh(normalised, k=1, which="LA", v0=start[0] + 1j * start[1], tol=1e-4)[1][:, 0]
    return np.exp(1j * np.angle(vector))


def _polish(matrix: sp.csr_array, z: Complex) -> Complex:
    """Climb to the maximum of `Re z^H C z` over |z_j| = 1.

    With `cos(t + d) >= cos t - d sin t - d^2 / 2` the objective has the lower bound
    `d^T Im(conj(z) C z) - d^T L d / 2`, L the graph Laplacian of |C|; each step maximises it, so none descends.
    """
    laplacian, inverse_degree = _laplacian(matrix)
    total = abs(matrix).sum()
    for _ in range(_POLISH):
        slope = (z.conj() * (matrix @ z)).imag
        step, _ = cg(laplacian, slope, rtol=1e-2, maxiter=1000, M=inverse_degree)
        z = z * np.exp(1j * step)
        if slope @ step < 1e-8 * total:
            break
    return z


def _laplacian(matrix: sp.csr_array) -> tuple[sp.csr_array, sp.dia_array]:
    """Graph Laplacian of |C| and the inverse of its diagonal, which preconditions it."""
    links = abs(matrix)
    degree = links.sum(axis=1)
    return (sp.diags_array(degree) - links).tocsr(), sp.diags_array(1 / degree)
