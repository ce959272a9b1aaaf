"""A refinement without a network as a result like any other: saved, drawn and compared in the same way."""

from __future__ import annotations

import time

import numpy as np

from ptycho.config.config import TrainingConfig
from ptycho.core.reconstruction import Reconstruction
from ptycho.core.refinement.passes import places
from ptycho.core.refinement.preconditioner import illumination
from ptycho.core.refinement.run import Refinement
from ptycho.core.stitching.stitch import probe_weight
from ptycho.errors import DataError
from ptycho.raw_data import RawData
from ptycho.workflows.trust import scan_trust

__all__ = ["reconstruction_of"]

LIT = 1e-6
"""Light, relative to the brightest pixel of the object, below which a pixel is in no pattern."""


def reconstruction_of(
    refinement: Refinement, scan: RawData, nominal_photons: float = TrainingConfig.nphotons
) -> Reconstruction:
    """The reconstruction that a refinement of this scan found, with its trust measured.

    `coverage` is the light that the refined probe brings to each pixel, 0 below a millionth of the brightest; there
    the object is 1+0j.

    Args:
        refinement: of `scan`.
        scan: every pattern is compared with the object.
        nominal_photons: mean photons per pattern to assume where the scan does not tell.

    Raises:
        DataError: the refinement is of another scan.
    """
    r, n = refinement, refinement.probe.shape[-1]
    if len(r.xcoords) != len(scan) or n != scan.N:
        raise DataError(
            f"refinement: expected {len(scan)} patterns of {scan.N} pixels as in the scan, found {len(r.xcoords)} of "
            f"{n}; give the scan that was refined"
        )
    rows, cols, _, _ = places(r.xcoords, r.ycoords, n, r.frame.shape)
    light = illumination(probe_weight(r.probe), rows, cols, r.frame.shape)
    coverage = np.where(light > LIT * light.max(), light, 0).astype(np.float32)
    image = np.where(coverage > 0, r.object, np.complex64(1))
    begun = time.perf_counter()
    trust = scan_trust(image, r.probe, r.xcoords, r.ycoords, scan, nominal_photons)
    return Reconstruction(
        object=image,
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
        timings={"refinement": r.seconds, "trust": time.perf_counter() - begun},
        synchronised=False,
        agreement=(1.0, 1.0),
        trust=trust,
    )
