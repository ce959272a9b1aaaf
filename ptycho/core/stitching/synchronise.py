"""One phase per patch, and where they carry one a phase ramp: what overlapping patches say about each other.

A far-field intensity fixes its patch only up to a constant phase, so neighbouring patches may disagree by a
factor `exp(i a)` where they overlap, and averaging them blurs the object. A network may besides leave a linear phase
`exp(i k r)` in a patch. Every overlapping pair (`ptycho.core.stitching.overlaps`) measures the difference of two phases
and of two ramps; here all are solved for at once:

1. ramps, where a sample of the pairs shows that there are any (`ptycho.core.stitching.ramps`);
2. the phases z that maximise `Re sum c_ij conj(z_i) z_j` (`phase_graph.solve_phases`);
3. both are fitted to one half of the pixels and validated on the other.

What overlaps cannot tell: a phase that all patches of a region share, and a ramp that all of them share, since the
same ramp in every patch is, but for phases, a plane through the whole object. Means over a region are therefore left
as they are. The plane shifts every predicted pattern, so whoever has the measured ones can find it
(`ptycho.workflows.networks.stitch_scan`).

Multiply patch j by `turns`, not by its conjugate.

Source: S. Marchesini et al., "Alternating projection, ptychographic imaging and phase synchronization", Appl.
Comput. Harmon. Anal. 41, 815 (2016).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ptycho.core.stitching.overlaps import (
    Turns,
    check_patches,
    overlap_pairs,
    pair_products,
    row_stride,
    scan_positions,
)
from ptycho.core.stitching.phase_graph import agreement, count_regions, solve_phases
from ptycho.core.stitching.ramps import find_ramps
from ptycho.errors import DataError

__all__ = ["Synchronisation", "synchronise"]

Complex = NDArray[np.complex128]
Float = NDArray[np.float64]
Int = NDArray[np.int64]

_KEEP = 0.25  # part of the disagreement of unseen pixels that may remain; independent noise leaves all of it
_ROUNDING = 1e-6  # disagreement of equal patches in single precision


@dataclass(frozen=True)
class Synchronisation:
    """Phases and ramps that make overlapping patches agree, and whether they deserved to be kept.

    The agreement of phases z is `Re sum c_ij conj(z_i) z_j / sum |c_ij|`, 1 when every overlap agrees:
    `agreement_before` of the patches as they are, `agreement_after` of the solved ones, kept or not. `n_edges` pairs
    of phases were compared, in `n_components` regions that no overlap connects (a lone patch is a region).

    `unseen` is the agreement, before and after, of pixels that the phases were not fitted to: noise makes it fall.
    `solved` is what the overlaps ask for; `kept` says that it removes three quarters of the disagreement of unseen
    pixels, which is the rule for callers who have nothing but patches. Overlaps alone cannot tell an error that
    neighbouring patches share (a network's, say) from an open phase; whoever has the measured patterns can, by
    stitching with and without `solved` and taking the object that predicts the patterns better.
    """

    solved: Turns
    agreement_before: float
    agreement_after: float
    unseen: tuple[float, float]
    kept: bool
    n_edges: int
    n_components: int

    @property
    def turns(self) -> Turns | None:
        """`solved` where it was kept, else None."""
        return self.solved if self.kept else None

    @property
    def phases(self) -> NDArray[np.complex64]:
        """(n,) the phases where they were kept, else 1."""
        return self.solved.phases if self.kept else np.ones_like(self.solved.phases)

    @property
    def beyond_noise(self) -> bool:
        """Whether unseen pixels agree better, by more than rounding."""
        return self.unseen[1] > self.unseen[0] + _ROUNDING


def synchronise(
    patches: NDArray[np.complexfloating],
    xcoords: ArrayLike,
    ycoords: ArrayLike,
    weight: ArrayLike,
    labels: ArrayLike | None = None,
) -> Synchronisation:
    """Phases, and ramps if there are any, by which patches are to be multiplied before they are averaged.

    They are `kept` only where they are more than a fit to noise: the phases solved from the black fields of a
    checkerboard on the object must lower the disagreement `1 - agreement` of the white fields to less than a quarter.
    On the pixels they were fitted to they always lower it (n - 1 phases to m pairs of pure noise by about
    1 - (n - 1)/m); on the others, noise makes it rise. Ramps have to pass the same test.
    Per connected region the weighted mean of the phases is 1 and that of the ramps 0, so patches that agree are left
    alone.

    Args:
        patches: (n, N, N) complex; may be memory-mapped.
        xcoords, ycoords: (n,) patch centres, pixels.
        weight: (N, N) stitching weight of a patch, such as |P|^2.
        labels: (n,) patches of one label share one phase, and one ramp through all of them; by default each has its
            own.

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
    members = np.bincount(node)
    centres = np.stack([np.bincount(node, positions[:, k]) / members for k in (0, 1)], axis=1)
    links, plain, halves, given = _compared(patches, positions, weight, node, centres)
    both = halves.sum(axis=0)
    black, solved = (solve_phases(c, links, centres) for c in (halves[0], both))
    same = np.ones_like(solved)
    unseen = agreement(plain[1], links, same), agreement(halves[1], links, black)
    kept = bool(1 - unseen[0] > _ROUNDING and 1 - unseen[1] < _KEEP * (1 - unseen[0]))
    return Synchronisation(
        solved=Turns((solved[node] * given.phases).astype(np.complex64), given.ramps),
        agreement_before=agreement(plain.sum(axis=0), links, same),
        agreement_after=agreement(both, links, solved),
        unseen=unseen,
        kept=kept,
        n_edges=len(links),
        n_components=count_regions(both, links, len(centres)),
    )


def _compared(
    patches: NDArray[np.complexfloating], positions: Float, weight: ArrayLike, node: Int, centres: Float
) -> tuple[Int, Complex, Complex, Turns]:
    """Links of nodes (m, 2), what they measure (2, m) before and after ramps are taken out, and these ramps."""
    x, y = positions.T
    pairs = overlap_pairs(x, y, weight)
    pairs = pairs[node[pairs[:, 0]] != node[pairs[:, 1]]]
    stride = row_stride(patches.shape[-1])
    links, plain = _merge(node[pairs], pair_products(patches, x, y, weight, pairs, stride=stride))
    ramps = find_ramps(patches, x, y, weight, pairs, node, stride)
    if ramps is None:
        return links, plain, plain, Turns(np.ones(len(positions), np.complex64))
    # a ramp turns about the middle of its patch; seen from the middle of the node this constant phase comes along
    about = np.einsum("jk,jk->j", ramps[node], positions - centres[node])
    given = Turns(np.exp(1j * about).astype(np.complex64), ramps[node])
    _, halves = _merge(node[pairs], pair_products(patches, x, y, weight, pairs, given, stride))
    return links, plain, halves, given


def _merge(pairs: Int, halves: Complex) -> tuple[Int, Complex]:
    """Sum of the products (2, m) of all pairs that link the same two nodes, i < j in the result; spoils `halves`."""
    # a link from j to i measures the conjugate of one from i to j
    np.conj(halves, out=halves, where=pairs[:, 0] > pairs[:, 1])
    nodes = pairs.max(initial=0) + 1
    keys, index = np.unique(
        pairs.min(axis=1, initial=nodes) * nodes + pairs.max(axis=1, initial=0), return_inverse=True
    )
    links, count = np.stack(np.divmod(keys, nodes), axis=1), len(keys)
    merged = np.empty((len(halves), count), np.complex128)
    for total, half in zip(merged, halves, strict=True):
        total.real, total.imag = np.bincount(index, half.real, count), np.bincount(index, half.imag, count)
    return links, merged
