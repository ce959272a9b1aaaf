"""Linear phases that patches carry, from the slopes that their overlaps measure.

A patch `O_j exp(i k_j r)` disagrees with its neighbours by a phase that runs across the overlap: its slope is
`k_j - k_i`. All ramps at once are the least-squares solution on the graph of the pairs, per axis
`min sum_ij c_ij (s_ij - (k_j - k_i))^2`, up to a constant per connected region, which is left at a mean of 0.

Most patches carry none; a sample of the pairs says so first, at a cost that does not grow with the scan.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import cg

from ptycho.core.stitching.overlaps import PAIR_FLOOR, Turns, compact_weight, pair_slopes, scan_positions

__all__ = ["find_ramps", "solve_ramps"]

Float = NDArray[np.float64]
Int = NDArray[np.int64]

_SAMPLE = 600  # pairs that say whether there are ramps at all
_WORTH = 0.1  # rad at the edge of the light: ramps below that blur nothing
_ALIKE = 0.5  # correlation of the slopes in the two halves; noise gives 0
_AGAIN = 2  # times that what is left is measured once more: a slope along x dims the sum that tells the one along y
_KEEP = 0.25  # part of the slopes of the other half that may remain unexplained; noise leaves all of it


def find_ramps(
    patches: NDArray[np.complexfloating],
    xcoords: ArrayLike,
    ycoords: ArrayLike,
    weight: ArrayLike,
    pairs: Int,
    node: Int,
    stride: int = 1,
) -> Float | None:
    """Ramps that make overlapping patches agree, or None where there are none beyond the noise.

    They are kept where those solved from one half of the pixels explain three quarters of the squared slopes of the
    other half, and reach a tenth of a radian at the edge of the light.

    Args:
        patches, xcoords, ycoords, weight, pairs, stride: as in `overlaps.pair_slopes`.
        node: (n,) patches of one node share one ramp.

    Returns:
        (nodes, 2) slopes (kx, ky) in radians per pixel to multiply by `exp(i (kx x + ky y))`, mean 0 per region.
    """
    near = _nearest_pairs(xcoords, ycoords, pairs)
    reach = max(compact_weight(weight, PAIR_FLOOR)[0].shape) / 2

    def measured(chosen: Int, turns: Turns | None = None) -> tuple[Float, Float]:
        return pair_slopes(patches, xcoords, ycoords, weight, chosen, turns, stride)

    # noise differs between the halves, a ramp does not: where their slopes are unlike, there is nothing to solve for
    slopes, counts = measured(near[:: max(1, len(near) // _SAMPLE)])
    counts = np.sqrt(counts[0] * counts[1])
    power = [float((counts * half**2).sum()) for half in slopes]
    alike = float((counts * slopes[0] * slopes[1]).sum())
    rms = np.sqrt(np.sqrt(power[0] * power[1]) / max(2 * counts.sum(), np.finfo(float).tiny))
    if not (alike > _ALIKE * np.sqrt(power[0] * power[1]) and rms * reach > _WORTH):
        return None
    slopes, counts = measured(near)
    links, nodes = node[near], int(node.max()) + 1
    black = solve_ramps(slopes[0], counts[0], links, nodes)
    # the half that was not fitted decides: n ramps fit some of any noise
    left = slopes[1] - (black[links[:, 1]] - black[links[:, 0]])
    if (counts[1] * left**2).sum() > _KEEP * (counts[1] * slopes[1] ** 2).sum():
        return None
    ramps = -solve_ramps(*_both(slopes, counts), links, nodes)
    for _ in range(_AGAIN):
        turns = Turns(np.ones(len(node), np.complex64), ramps[node])
        ramps -= solve_ramps(*_both(*measured(near, turns)), links, nodes)
    return ramps


def _both(slopes: Float, counts: Float) -> tuple[Float, Float]:
    """Slopes (m, 2) and counts (m, 2) of both halves together."""
    total = counts.sum(axis=0)
    return np.divide((counts * slopes).sum(axis=0), total, out=np.zeros_like(total), where=total > 0), total


def solve_ramps(slopes: Float, counts: Float, links: Int, nodes: int) -> Float:
    """Ramps k (nodes, 2) that minimise `sum counts (slopes - (k_j - k_i))^2`, mean 0 in each connected region.

    Args:
        slopes: (m, 2) measured k_j - k_i along x and y, radians per pixel.
        counts: (m, 2) weight of each.
        links: (m, 2) nodes i, j.
        nodes: their number; a node without a link gets 0.
    """
    result = np.zeros((nodes, 2))
    i, j = links.T
    for axis in (0, 1):
        c, s = counts[:, axis], slopes[:, axis]
        graph = sp.coo_array((np.r_[c, c], (np.r_[i, j], np.r_[j, i])), shape=(nodes, nodes)).tocsr()
        degree = np.asarray(graph.sum(axis=1), np.float64).ravel()
        linked = degree > 0
        inverse = np.divide(1, degree, out=np.zeros_like(degree), where=linked)
        pull = np.bincount(j, c * s, nodes) - np.bincount(i, c * s, nodes)
        laplacian = (sp.diags_array(degree) - graph).tocsr()
        found, _ = cg(laplacian, pull, rtol=1e-6, maxiter=2000, M=sp.diags_array(inverse))
        count, region = connected_components(graph, directed=False)
        mean = np.bincount(region, found, count) / np.bincount(region, minlength=count)
        result[:, axis] = np.where(linked, found - mean[region], 0)
    return result


def _nearest_pairs(xcoords: ArrayLike, ycoords: ArrayLike, pairs: Int) -> Int:
    """The pairs that overlap most, three per patch on average: the faint overlaps say little about slopes."""
    positions = scan_positions(xcoords, ycoords)
    distance = np.square(positions[pairs[:, 1]] - positions[pairs[:, 0]]).sum(axis=1)
    return pairs[np.sort(np.argsort(distance, kind="stable")[: 3 * len(positions)])]
