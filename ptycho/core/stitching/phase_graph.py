"""One phase per node of a graph, from the products that its links measure.

A link measures `c_ij`, whose phase is the difference of the phases of its two nodes up to noise. All phases at
once maximise `Re sum c_ij conj(z_i) z_j` over `|z_j| = 1`: leading eigenvectors of `D^-1/2 C D^-1/2`, D the row
sums of |C|, in blocks of neighbouring nodes and then between the blocks, polished by minorise-maximise steps.

Source: A. Singer, "Angular synchronization by eigenvectors and semidefinite programming", Appl. Comput.
Harmon. Anal. 30, 20 (2011).
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import LinearOperator, cg, eigsh, splu

__all__ = ["agreement", "count_regions", "solve_phases"]

Complex = NDArray[np.complex128]
Float = NDArray[np.float64]
Int = NDArray[np.int64]

_BLOCK = 400  # nodes solved at once; on larger lattices the eigenvalue gap closes and Lanczos fails silently
_DENSE = 64  # nodes up to which a dense eigensolver is faster
_KRYLOV = 8  # vectors that Lanczos keeps; with twenty BLAS divides its work among threads, which wait more than they do
_POLISH = 30  # steps at most; a handful is usual
_HELD = 1e-6  # added to the coarse Laplacian, relative to the degrees


def agreement(products: Complex, pairs: Int, phases: Complex) -> float:
    """`Re sum c_ij conj(z_i) z_j / sum |c_ij|`: 1 when all overlaps agree, and 1 when there are none.

    >>> pair, quarter_turn = np.array([[0, 1]]), np.array([1j])
    >>> agreement(quarter_turn, pair, np.array([1, 1])), agreement(quarter_turn, pair, np.array([1, -1j]))
    (0.0, 1.0)
    """
    total = float(np.abs(products).sum())
    if total == 0:
        return 1.0
    return float((products * phases[pairs[:, 0]].conj() * phases[pairs[:, 1]]).real.sum()) / total


def solve_phases(products: Complex, pairs: Int, positions: Float) -> Complex:
    """Phases z, |z_j| = 1, that maximise `Re sum c_ij conj(z_i) z_j`.

    Args:
        products: (m,) c_ij; those that are 0 link nothing.
        pairs: (m, 2) indices i, j of nodes.
        positions: (n, 2) where the nodes lie; large graphs are cut into blocks of neighbours by it.

    Returns:
        (n,) complex128. In each connected region the mean of z, with the weights `sum_j |c_ij|`, is real and
        positive, so nodes that agree already get 1; so do lone nodes.
    """
    phases = np.ones(len(positions), np.complex128)
    matrix = _hermitian(products, pairs, len(positions))
    linked = np.flatnonzero(np.diff(matrix.indptr))
    if linked.size == 0:
        return phases
    if linked.size < len(positions):  # the degree of a lone node is 0, and degrees divide
        matrix = matrix[linked][:, linked]
    z = _polish(matrix, _by_blocks(matrix, positions[linked]), _tiles(positions[linked]))
    region, count = _regions(matrix)
    weighted = _degree(matrix) * z
    mean = np.bincount(region, weighted.real, count) + 1j * np.bincount(region, weighted.imag, count)
    phases[linked] = z * np.exp(-1j * np.angle(mean))[region]
    return phases


def count_regions(products: Complex, pairs: Int, n: int) -> int:
    """How many regions of the n nodes no link holds together; a lone node is a region.

    Args:
        products: (m,) c_ij; those that are 0 link nothing.
        pairs: (m, 2) indices i, j of nodes.
        n: number of nodes.
    """
    return _regions(_hermitian(products, pairs, n))[1]


def _hermitian(products: Complex, pairs: Int, n: int) -> sp.csr_array:
    """The matrix C of the products, c_ji = conj(c_ij)."""
    found = products != 0
    upper = sp.coo_array((products[found], tuple(pairs[found].astype(np.int32).T)), shape=(n, n)).tocsr()
    return (upper + upper.conj().T.tocsr()).tocsr()


def _by_blocks(matrix: sp.csr_array, positions: Float) -> Complex:
    """Leading eigenvectors of blocks of neighbouring nodes, then of the graph whose nodes are the blocks."""
    n = matrix.shape[0]
    part, count = _regions(matrix, _tiles(positions))
    if count == n:  # not one pair within a tile
        part, count = _regions(matrix)
    z = _phases_within(matrix, part)
    # the phases within a block are settled up to one for all of it: from outside it is one node with summed links
    spread = sp.csr_array((z, part, np.arange(n + 1)), shape=(n, count))
    coarse = (spread.conj().T @ matrix @ spread).tocoo()
    between = coarse.row != coarse.col
    if not between.any():
        return z
    coarse = sp.csr_array((coarse.data[between], (coarse.row[between], coarse.col[between])), shape=(count, count))
    centres = np.stack([np.bincount(part, positions[:, k]) / np.bincount(part) for k in (0, 1)], axis=1)
    return np.asarray(z * _by_blocks(coarse, centres)[part])


def _phases_within(matrix: sp.csr_array, part: Int) -> Complex:
    """The leading phases of the nodes of each part (n,), without the links between parts."""
    order, ends = np.argsort(part, kind="stable"), np.cumsum(np.bincount(part))
    place = np.empty(len(order), np.int32)
    place[order] = np.arange(len(order))
    rows = matrix[order]  # renaming its columns is `matrix[order][:, order]` with one copy less
    ordered = sp.csr_array((rows.data, place[rows.indices], rows.indptr), shape=matrix.shape)
    z = np.ones(len(order), np.complex128)
    for start, stop in zip(np.r_[0, ends[:-1]], ends, strict=True):
        if stop - start > 1:
            z[order[start:stop]] = _leading_phases(ordered[start:stop, start:stop])
    return z


def _tiles(positions: Float) -> NDArray[np.int32]:
    """Index of the tile each node lies in: halved along the longer axis down to the size of a block."""
    tile = np.zeros(len(positions), np.int32)
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


def _regions(matrix: sp.csr_array, tile: NDArray[np.int32] | None = None) -> tuple[Int, int]:
    """Connected regions, within each tile where tiles are given: the region of each node (n,), and how many."""
    parts = np.ones(matrix.nnz), matrix.indices, matrix.indptr
    links = sp.csr_array(parts, shape=matrix.shape, copy=tile is not None)
    if tile is not None:
        of_row = np.repeat(tile, np.diff(links.indptr))
        links.data[of_row != tile[links.indices]] = 0
        links.eliminate_zeros()
        del of_row
    count, region = connected_components(links, directed=False)
    return region.astype(np.int64), int(count)


def _degree(matrix: sp.csr_array) -> Float:
    """Row sums of |C|, (n,)."""
    return np.asarray(abs(matrix).sum(axis=1), np.float64).ravel()


def _leading_phases(matrix: sp.csr_array) -> Complex:
    """Phases of the leading eigenvector of D^-1/2 C D^-1/2, D the row sums of |C|."""
    n = matrix.shape[0]
    scale = sp.diags_array(1 / np.sqrt(_degree(matrix)))
    normalised = scale @ matrix @ scale
    if n <= _DENSE:
        vector = np.linalg.eigh(normalised.toarray())[1][:, -1]
    else:
        # a start of its own would be another one every time: the same products are to give the same phases
        start = np.random.default_rng(0).standard_normal((2, n))
        vector = eigsh(normalised, k=1, which="LA", ncv=_KRYLOV, v0=start[0] + 1j * start[1], tol=1e-6)[1][:, 0]
    return np.asarray(np.exp(1j * np.angle(vector)))


def _polish(matrix: sp.csr_array, z: Complex, tile: NDArray[np.int32]) -> Complex:
    """Climb to the maximum of `Re z^H C z` over |z_j| = 1.

    By `cos(t + d) >= cos t - d sin t - d^2 / 2` the gain of turning each z_j by d_j is at least
    `2 d^T Im(conj(z) C z) - d^T L d`, L the graph Laplacian of |C|; each step maximises that, so none descends.
    """
    degree = _degree(matrix)
    region, count = _regions(matrix)
    share = degree / np.bincount(region, degree, count)[region]
    laplacian = (sp.diags_array(degree) - abs(matrix)).tocsr()
    preconditioner = _two_levels(laplacian, degree, tile)
    for _ in range(_POLISH):
        slope = np.asarray((z.conj() * (matrix @ z)).imag, np.float64)
        slope -= share * np.bincount(region, slope, count)[region]  # 0 but for rounding, which L cannot invert
        # a rough solution will do: conjugate gradients from 0 raise the bound with every step of theirs
        turn, _ = cg(laplacian, slope, rtol=1e-2, maxiter=1000, M=preconditioner)
        z = z * np.exp(1j * turn)
        if slope @ turn < 1e-9 * degree.sum():
            break
    return z


def _two_levels(laplacian: sp.csr_array, degree: Float, tile: NDArray[np.int32]) -> LinearOperator:
    """An inverse of a Laplacian, roughly: every node by itself, and what is common to each tile (n,) solved exactly.

    With the first alone the steps of conjugate gradients grow with the root of the number of nodes.
    """
    n = len(degree)
    spread = sp.csr_array((np.ones(n), tile, np.arange(n + 1)), shape=(n, int(tile.max()) + 1))
    gather = spread.T.tocsr()
    # what a whole region has in common is open: hold it
    held = sp.diags_array(_HELD * (gather @ degree))
    solve = splu((gather @ laplacian @ spread + held).tocsc()).solve
    return LinearOperator((n, n), matvec=lambda r: r / degree + spread @ solve(gather @ r), dtype=np.float64)
