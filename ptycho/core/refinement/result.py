"""A refinement as a reconstruction: the same object with the light that each of its pixels received."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ptycho.core.physics.patches import assemble
from ptycho.core.quality.trust import Trust
from ptycho.core.reconstruction import Reconstruction
from ptycho.core.refinement.run import Refinement
from ptycho.core.scaling import frame_blocks

__all__ = ["reconstruction_of"]


def reconstruction_of(refinement: Refinement, trust: Trust | None = None, backend: str = "unknown") -> Reconstruction:
    """The result of a refinement in the form of every other result, with `method` 'refined'.

    `coverage` is the light of the probe, `sum_j sum_m |P_m(r - r_j)|^2`; where it is 0 the object is 1.

    Args:
        refinement: what was found.
        trust: how well it explains the patterns, where that was measured.
        backend: the one that refined.
    """
    coverage = _light(refinement)
    return Reconstruction(
        object=np.where(coverage > 0, refinement.object, np.complex64(1)),
        coverage=coverage,
        probe=refinement.probe,
        xcoords=refinement.xcoords,
        ycoords=refinement.ycoords,
        frame=refinement.frame,
        backend=backend,
        method="refined",
        subpixel="fourier",
        network_object=None,
        error_history=refinement.error_history[: refinement.kept + 1],
        timings={"refinement": refinement.seconds},
        synchronised=False,
        agreement=(float("nan"), float("nan")),
        trust=trust,
    )


def _light(found: Refinement) -> NDArray[np.float32]:
    """The light of the probe at all positions, `(H, W)`, block by block."""
    weight = np.sum(np.abs(found.probe.astype(np.complex128)) ** 2, axis=0)
    total = np.zeros(found.frame.shape)
    for block in frame_blocks(len(found.xcoords), weight.size):
        x, y = found.xcoords[block], found.ycoords[block]
        total += assemble(np.broadcast_to(weight, (len(x), *weight.shape)), x, y, found.frame.shape)
    return total.astype(np.float32)
