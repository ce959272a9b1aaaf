"""A short reconstruction of a few dozen neighbouring patterns: what decides whether a scan can be explained at all.

Some iterations of the refinement engine in NumPy, single precision, from an object without contrast. Seconds on one
core.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.core.doctor.samples import Sample
from ptycho.core.geometry import ObjectFrame, object_frame
from ptycho.core.physics.diffraction import diffract
from ptycho.core.physics.patches import extract_rounded
from ptycho.core.physics.poisson import poisson_moments
from ptycho.core.physics.recording import Recording
from ptycho.core.refinement.refinement import Refinement
from ptycho.core.refinement.run import refine_scan

__all__ = ["expected_intensity", "noise_misfit", "reconstruct", "sample_frame"]

Array = NDArray[Any]


def sample_frame(sample: Sample) -> ObjectFrame:
    """The smallest frame that holds every patch of a sample."""
    return object_frame(sample.xcoords, sample.ycoords, sample.patterns.shape[-1])


def reconstruct(
    sample: Sample, iterations: int, refine_probe: bool = True, frame: ObjectFrame | None = None
) -> Refinement:
    """Reconstruct object and probe from the probe given and a flat object that passes the energy of the patterns.

    Args:
        sample: patterns, positions, probe.
        iterations: at most so many; fewer where nothing is gained any more.
        refine_probe: whether the probe moves.
        frame: of the object; None: that of the sample.
    """
    frame = sample_frame(sample) if frame is None else frame
    lit = float(np.sum(np.abs(sample.probeGuess) ** 2, dtype=np.float64)) * len(sample)
    flat = np.full(frame.shape, np.sqrt(sample.energy / lit), np.complex64)
    return refine_scan(
        sample, flat, iterations, frame=frame, refine_probe=refine_probe, tolerance=0.0, dtype=np.float32
    )


def expected_intensity(sample: Sample, found: Refinement) -> Array:
    """(n, N, N) what a reconstruction expects for the patterns of a sample, zero frequency in the middle."""
    x, y = found.frame.local(sample.xcoords, sample.ycoords)
    patches, dx, dy = extract_rounded(found.object, x, y, found.probe.shape[-1])
    return diffract(found.probe, patches, dx, dy, recording=Recording(near_field=sample.near_field))


def noise_misfit(sample: Sample, expected: Array) -> float:
    """What `sum (|F| - A)^2` would be on average if these intensities were the truth; 0 when doses are unknown."""
    counts = sample.counts_per_intensity
    if counts is None:
        return 0.0
    return float(poisson_moments(expected * counts, sample.mask)[:, 2].sum()) / counts
