"""The iterative reconstruction as a user asks for it: what is left open is decided by the patterns themselves."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ptycho.config.options import IterationOptions
from ptycho.core.geometry import ObjectFrame, object_frame
from ptycho.core.physics.diffraction import as_modes
from ptycho.core.reconstruction import Reconstruction
from ptycho.core.refinement.passes import Likelihood
from ptycho.core.refinement.run import Refinement, Start
from ptycho.raw_data import RawData
from ptycho.workflows.trust import NOMINAL_PHOTONS, noise_error, scan_trust

__all__ = ["Iterated", "iterate", "object_grid"]

logger = logging.getLogger(__name__)

Refine = Callable[..., Refinement]
Report = Callable[[int, float], None]


@dataclass(frozen=True)
class Iterated:
    """What an iteration found, and what was decided on the way."""

    refinement: Refinement
    notes: tuple[str, ...]
    """One sentence each, with the numbers behind it."""


def iterate(
    data: RawData,
    refine: Refine,
    options: IterationOptions,
    start: Start | None = None,
    report: Report | None = None,
) -> Iterated:
    """Find the object of a scan, and its probe, by iteration.

    It ends early where photon noise is all that is left, so far as the dose is known, or where it gains nothing more.

    Args:
        data: the scan, with a probe.
        refine: `refine(scan, start, iterations, *, probe, frame, likelihood, ...)` of a backend.
        options: what is asked for.
        start: None begins flat, on the pixels of the scan's `objectGuess` where every patch lies in it; a result goes
            on where it ended.
        report: called with the iteration (0 = start) and its relative error.

    Raises:
        ConfigError: a setting that cannot work. DataError: a scan or a start that cannot be used.
    """
    kind: Likelihood = "amplitude" if options.likelihood == "auto" else options.likelihood
    begun = isinstance(start, Reconstruction | Refinement)
    found = refine(
        data,
        start,
        options.iterations,
        frame=None if begun else object_grid(data),
        likelihood=kind,
        refine_probe=options.refine_probe is not False,
        refine_positions=options.refine_positions,
        position_bound_px=options.position_bound_px,
        holdout=options.holdout,
        batch_size=options.batch_size,
        seed=options.seed,
        noise=_noise(data, kind),
        report=report,
    )
    return Iterated(found, ())


def object_grid(data: RawData) -> ObjectFrame | None:
    """The pixels of `objectGuess`, where every patch lies in it; None leaves the choice to the refinement."""
    if data.objectGuess is None:
        return None
    height, width = data.objectGuess.shape[-2:]
    needed = object_frame(data.xcoords, data.ycoords, data.N)
    inside = needed.x0 >= 0 and needed.y0 >= 0
    inside = inside and needed.x0 + needed.width <= width and needed.y0 + needed.height <= height
    return ObjectFrame(height, width, 0, 0) if inside else None


def _noise(data: RawData, likelihood: Likelihood) -> float:
    """What photon noise leaves of the relative error, by the light that a flat object lets through."""
    frame = object_frame(data.xcoords, data.ycoords, data.N)
    x, y = frame.local(data.xcoords, data.ycoords)
    flat, probe = np.ones(frame.shape, np.complex64), as_modes(np.asarray(data.probeGuess))
    return noise_error(scan_trust(flat, probe, x, y, data, NOMINAL_PHOTONS), likelihood)
