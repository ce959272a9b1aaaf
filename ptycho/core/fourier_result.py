"""A result of Fourier ptychography as a sample in space, which one looks at, and as the spectrum that was found.

Both are a `Reconstruction`. That of the sample is returned and written: `object` is the sample, `probe` the pupil, and
its metadata have an entry `fourier_ptychography`. That of the spectrum predicts the images, as every other object
predicts its patterns.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from ptycho.core.physics.fourier_ptychography import KEY, sample_of, spectrum_of
from ptycho.core.reconstruction import Reconstruction
from ptycho.core.refinement.steps.preconditioner import illumination
from ptycho.core.refinement.sums.parts import places

__all__ = ["as_sample", "as_spectrum"]


def as_sample(solved: Reconstruction, optics: Mapping[str, Any], pixel_m: float) -> Reconstruction:
    """The sample (L, L) of a spectrum.

    Args:
        solved: the spectrum as the iteration found it, and the conjugate of its pupil.
        optics: what is noted of the microscope.
        pixel_m: side of a pixel of the sample, metres.
    """
    return replace(
        solved,
        object=sample_of(solved.object).astype(np.complex64),
        coverage=np.ones(solved.frame.shape, np.float32),
        probe=solved.probe.conj(),
        metadata={**solved.metadata, "object_pixel_m": pixel_m, KEY: dict(optics)},
    )


def as_spectrum(found: Reconstruction) -> Reconstruction:
    """What predicts the patterns: the spectrum of a sample; any other result as it is."""
    if KEY not in found.metadata:
        return found
    rows, cols, _, _ = places(found.xcoords, found.ycoords, found.probe.shape[-1], found.object.shape)
    light = illumination(np.square(np.abs(found.probe)).sum(axis=0), rows, cols, found.object.shape)
    return replace(
        found,
        object=spectrum_of(found.object).astype(np.complex64),
        coverage=light.astype(np.float32),
        probe=found.probe.conj(),
        metadata={name: value for name, value in found.metadata.items() if name not in (KEY, "object_pixel_m")},
    )
