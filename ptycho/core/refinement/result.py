"""A refinement without a network as a reconstruction: the same object, with the light that each pixel received."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.core.physics.fly_scan import places_on_the_way
from ptycho.core.physics.patches import assemble
from ptycho.core.physics.scan_probes import ScanProbes
from ptycho.core.quality.trust import Trust
from ptycho.core.reconstruction import Reconstruction
from ptycho.core.refinement.refinement import Refinement
from ptycho.core.scaling import frame_blocks
from ptycho.core.stitching.stitch import probe_weight

__all__ = ["reconstruction_of"]

LIT = 1e-6
"""Light, relative to the brightest pixel of the object, below which a pixel is in no pattern."""


def reconstruction_of(refinement: Refinement, trust: Trust | None = None) -> Reconstruction:
    """The result of a refinement in the form of every other result, with `method` 'refined'.

    `coverage` is the light of the refined probe, `sum_j sum_m |P_m(r - r_j)|^2` (of a fly scan the mean over the places
    of each pattern), bilinear between pixels and 0 below a millionth of the brightest; there the object is 1+0j.

    Args:
        refinement: what was found.
        trust: how well it explains the patterns, where that was measured (`ptycho.workflows.iteration.refined_result`).
    """
    r, light = refinement, _light(refinement)
    coverage = np.where(light > LIT * light.max(), light, 0).astype(np.float32)
    return Reconstruction(
        object=np.where(coverage > 0, r.object, np.complex64(1)),
        slices=None if r.slices is None else np.where(coverage > 0, r.slices, np.complex64(1)),
        gap=r.gap,
        coverage=coverage,
        probe=r.probe,
        xcoords=r.xcoords,
        ycoords=r.ycoords,
        frame=r.frame,
        backend=r.engine,
        method="refined",
        subpixel="fourier",
        network_object=None,
        error_history=r.error_history[: r.kept + 1],
        timings={"refinement": r.seconds},
        synchronised=False,
        agreement=(float("nan"), float("nan")),
        trust=trust,
        flux=None if (r.flux == 1).all() else r.flux,
        fly_path=r.fly_path,
        variation=r.variation,
        blur=r.blur,
        background=r.background if r.background.any() else None,
        counts_from=r.counts_from if r.counts_from is not None and r.counts_from <= r.kept else None,
    )


def _light(found: Refinement) -> NDArray[np.float64]:
    """The light of the probe at all positions, `(H, W)`, block by block."""
    if isinstance(found.variation, ScanProbes):
        probes, scan = found.variation.all(found.probe), found.variation.scan
        return sum(
            (_light_of(found, probe, scan == k) for k, probe in enumerate(probes)), start=np.zeros(found.frame.shape)
        )
    return _light_of(found, found.probe, np.ones(len(found.xcoords), bool))


def _light_of(found: Refinement, probe: NDArray[Any], mine: NDArray[np.bool_]) -> NDArray[np.float64]:
    """That of some patterns, which have this probe."""
    weight = probe_weight(probe).astype(np.float64)
    at = found.xcoords[mine], found.ycoords[mine]
    if found.fly_path is not None:
        at = places_on_the_way(*at, found.fly_path[mine])
        weight /= found.fly_path.shape[1]
    total = np.zeros(found.frame.shape)
    for block in frame_blocks(len(at[0]), weight.size):
        x, y = (each[block] for each in at)
        total += assemble(np.broadcast_to(weight, (len(x), *weight.shape)), x, y, found.frame.shape)
    return total
