"""A refinement without a network, held against the patterns of its scan: a result like any other."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ptycho.core.provenance import provenance
from ptycho.core.reconstruction import Reconstruction
from ptycho.core.refinement.refinement import Refinement
from ptycho.core.refinement.result import reconstruction_of
from ptycho.core.refinement.trust import TrustEngine
from ptycho.errors import DataError
from ptycho.raw_data import RawData
from ptycho.workflows.trust import NOMINAL_PHOTONS, scan_trust

__all__ = ["measured_reconstruction"]


def measured_reconstruction(
    refinement: Refinement,
    scan: RawData,
    engine: TrustEngine,
    nominal_photons: float = NOMINAL_PHOTONS,
    settings: Mapping[str, Any] | None = None,
    device: str | None = None,
) -> Reconstruction:
    """The reconstruction that a refinement of this scan found (`reconstruction_of`), with its trust measured.

    It has the metadata of the scan, and the provenance.

    Args:
        refinement: of `scan`.
        scan: every pattern is compared with the object.
        engine: what compares them (`ptycho.workflows.solver.Solver.trust`).
        nominal_photons: mean photons per pattern to assume where the scan does not tell.
        settings: of the refinement as used, for the provenance; `seed` is told apart.
        device: that computed it; None where that is not known.

    Raises:
        DataError: the refinement is of another scan.
    """
    count, n = len(refinement.xcoords), refinement.probe.shape[-1]
    if count != len(scan) or n != scan.N:
        raise DataError(
            f"refinement: expected {len(scan)} patterns of {scan.N} pixels as in the scan, found {count} of {n}; give "
            "the scan that was refined"
        )
    found, begun = reconstruction_of(refinement), time.perf_counter()
    where = found.xcoords, found.ycoords
    trust = scan_trust(found.layers, found.probe, *where, scan, nominal_photons, engine, recording=found.recording)
    told = dict(settings or {})
    seeds = {"refinement": told.pop("seed", 0)}
    return replace(
        found,
        trust=trust,
        timings=found.timings | {"trust": time.perf_counter() - begun},
        metadata=scan.known_metadata,
        provenance=provenance(scan=scan.source, settings=told, seeds=seeds, device=device),
    )
