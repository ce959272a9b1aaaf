"""The first look at a pattern: one projection from vacuum, which carries an amplitude to the sample plane.

An empty sample would give the far field `F_m` of the bare probe. Giving the *measured* amplitude the phases of that
far field and propagating back yields an exit wave; dividing the probe out of it gives a first complex picture of the
object (the first step of every iterative solver, e.g. Rodenburg & Faulkner, Appl. Phys. Lett. 85, 4795 (2004)).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.core.physics.diffraction import as_modes, far_field, propagate_back

__all__ = ["ProjectionConstants", "project_from_vacuum", "projection_constants"]

PROBE_FLOOR = 0.05
"""Added to `sum |P|^2` in the division by the probe, relative to its maximum."""
FIELD_FLOOR = 1e-3
"""Added to the vacuum amplitude in the division that leaves its phase, relative to its maximum."""

Array = NDArray[Any]


@dataclass(frozen=True)
class ProjectionConstants:
    """What the projection needs of a probe `(M, N, N)`; every array is `(M, N, N)` or `(N, N)`."""

    phases: Array
    """`F_m / (F + floor)`, complex `(M, N, N)`, F the vacuum amplitude."""
    vacuum_amplitude: Array
    """`F = sqrt(sum_m |F_m|^2)`, real `(N, N)`: what an empty sample would give."""
    weights: Array
    """`conj(P_m) / (sum_m |P_m|^2 + floor)`, complex `(M, N, N)`."""
    vacuum: Array
    """`sum |P|^2 / (sum |P|^2 + floor)`, real `(N, N)`: what an empty sample looks like; taken off the picture."""


def projection_constants(probe: Array) -> ProjectionConstants:
    """Prepare the projection for a probe `(M, N, N)` or `(N, N)`, in the unit of the amplitudes that it will see."""
    modes = as_modes(probe)
    fields = far_field(modes)
    amplitude = np.sqrt(np.sum(np.abs(fields) ** 2, axis=0))
    power = np.sum(np.abs(modes) ** 2, axis=0)
    power_floored = power + PROBE_FLOOR * power.max()
    return ProjectionConstants(
        phases=fields / (amplitude + FIELD_FLOOR * amplitude.max()),
        vacuum_amplitude=amplitude,
        weights=np.conj(modes) / power_floored,
        vacuum=power / power_floored,
    )


def project_from_vacuum(amplitudes: Array, probe: Array, mask: Array | None = None) -> Array:
    """Carry amplitudes `(..., N, N)` to the sample plane; complex `(..., N, N)`, 0 for an empty sample.

    `q = sum_m conj(P_m) F^-1(A F_m / F) / sum_m |P_m|^2 - vacuum`, with the floors above. Where `mask` is False the
    vacuum amplitude stands in for the measured one. Linear in the amplitudes; `probe` is in their unit.
    """
    constants = projection_constants(probe)
    if mask is not None:
        amplitudes = np.where(mask, amplitudes, constants.vacuum_amplitude)
    waves = propagate_back(amplitudes[..., None, :, :] * constants.phases)
    return np.sum(constants.weights * waves, axis=-3) - constants.vacuum
