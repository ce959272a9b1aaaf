"""What a refinement minimises, and the floors of intensities.

With `a = sqrt(K (sum_m |F_m|^2) K + b + e)`, K the blur of the detector (`ptycho.core.physics.detector_blur`; 1 where
it is sharp), b the background, and the amplitudes A, both likelihoods are sums over valid pixels of

    amplitude: (a - A)^2                                               residual r = a - A
    poisson:   1/2 [(Y + e) log((Y + e) / a^2) - (Y + e) + a^2]        residual r = (a^2 - Y - e) / (2 a), Y = A^2

(the second is a quarter of the deviance: both have the same gradient and curvature where a is near A). The derivative
with respect to `conj F_m` is `K (r / a) K F_m`, and `J = K (Re sum_m conj(F_m) D_m) K / a` is the change of a along a
change D of the field at the detector; the Gauss-Newton curvature is `sum J^2`. The floors e are relative to the mean
intensity.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from ptycho.core.refinement.device.kernels import ScanData
from ptycho.errors import DataError

__all__ = ["FLOORS", "ROUNDING", "Likelihood", "check_finite", "intensity_floor"]

Likelihood = Literal["amplitude", "poisson"]

FLOORS: dict[str, float] = {"amplitude": 1e-8, "poisson": 1e-4}
"""e, relative to the mean intensity of a valid pixel: below it an intensity is rounding (amplitude), or so far from
any count that a single one would outweigh all others (Poisson; ten times more loses what dark pixels tell, ten times
less takes twice the iterations)."""
ROUNDING = float(np.finfo(np.float32).eps) ** 2
"""Intensity, relative to the brightest pixel, below which it is rounding of objects and probes in single precision."""


def intensity_floor(scan: ScanData, likelihood: Likelihood) -> float:
    """The floor e of a likelihood, from the mean intensity of a valid pixel of up to 32 patterns all over the scan.

    Raises:
        DataError: patterns without light.
    """
    chosen = np.unique(np.linspace(0, len(scan) - 1, 32).round().astype(int))
    values, mask = scan.amplitude(chosen), scan.mask
    valid = np.ones(1, bool) if mask is None else mask[chosen] if mask.ndim == 3 else mask
    mean = float(np.vdot(values, values)) / max(np.broadcast_to(valid, values.shape).sum(), 1)
    check_finite(mean)
    if not mean > 0:
        raise DataError("diffraction: expected light in valid pixels, found none; check patterns and mask")
    return FLOORS[likelihood] * mean


def check_finite(energy: float) -> None:
    """Whether the sum of squared amplitudes of some patterns is finite.

    Raises:
        DataError: it is not.
    """
    if not np.isfinite(energy):
        raise DataError("diffraction: expected finite values in valid pixels, found NaN or infinity; mask them")
