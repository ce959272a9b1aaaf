"""How far patterns are from those that a model predicts, one number per pattern, and what that comes down to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ptycho.core.result import ByValue

__all__ = ["SIGNIFICANT", "Misfits"]

Float = NDArray[np.float64]

SIGNIFICANT = 5.0
"""Standard deviations by which a number has to stand out of the noise."""
_STEADY = 6.0  # the same, in units of the scatter over the scan


@dataclass(frozen=True, eq=False, repr=False)
class Misfits(ByValue):
    """Measured patterns against predicted ones, pattern by pattern; `ptycho.core.quality.trust` has the formulas."""

    deviance: Float
    """(n,) deviance D of each pattern."""
    expected: Float
    """(n,) what D would be on average if photon noise alone were at work."""
    deviation: Float
    """(n,) standard deviation of D about `expected`."""
    misfit: Float
    """(n,) `sum (|F| - A)^2`, in photons."""
    noise: Float
    """(n,) what `misfit` would be on average if photon noise alone were at work."""
    uniform: Float
    """(n,) what `misfit` is for a uniform object of the best transmission, the same for all patterns."""
    counts: Float
    """(n,) photons in the valid pixels, `sum A^2`."""

    @property
    def ratio(self) -> Float:
        """(n,) deviance over its expectation, 1 for a correct model; 1 too where no light is expected."""
        return np.divide(self.deviance, self.expected, out=np.ones_like(self.expected), where=self.expected > 0)

    @property
    def z(self) -> Float:
        """(n,) standard deviations by which the deviance lies above its expectation."""
        excess = self.deviance - self.expected
        return np.divide(excess, self.deviation, out=np.zeros_like(excess), where=self.deviation > 0)

    @property
    def overall_ratio(self) -> float:
        """Summed deviance over its summed expectation."""
        return float(self.deviance.sum() / self.expected.sum())

    @property
    def overall_z(self) -> float:
        """Standard deviations by which the summed deviance lies above its expectation."""
        return float((self.deviance - self.expected).sum() / np.sqrt(np.square(self.deviation).sum()))

    @property
    def fourier_error(self) -> float:
        """Relative Fourier error of the scan, `sum (|F| - A)^2 / sum A^2`."""
        return float(self.misfit.sum() / self.counts.sum())

    @property
    def noise_level(self) -> float:
        """Root of the relative Fourier error that photon noise alone would give: a fraction of the amplitude."""
        return float(np.sqrt(self.noise.sum() / self.counts.sum()))

    @property
    def model_error(self) -> float:
        """Root of the relative Fourier error beyond the noise: a fraction of the amplitude."""
        return float(np.sqrt(max(0.0, self.misfit.sum() - self.noise.sum()) / self.counts.sum()))

    @property
    def model_error_limit(self) -> float:
        """Model error that the noise could hide: two standard deviations above `model_error`.

        In bright pixels the squared misfit is a quarter of the deviance, and so is its standard deviation.
        """
        hidden = 2 * np.sqrt(np.square(self.deviation).sum()) / 4 / self.counts.sum()
        return float(np.sqrt(self.model_error**2 + hidden))

    @property
    def unexplained(self) -> float:
        """Part of the structure in the patterns that the model leaves, noise taken out, as a ratio of amplitudes.

        Root of (misfit - noise) over (uniform - noise): 0 for a correct model, 1 for one no better than a uniform
        object.
        """
        structure = self.uniform.sum() - self.noise.sum()
        excess = max(0.0, self.misfit.sum() - self.noise.sum())
        return float(np.sqrt(excess / structure)) if structure > excess else float(excess > 0)

    @property
    def outliers(self) -> NDArray[np.intp]:
        """(k,) patterns that fit far worse than the rest of the scan, the worst first.

        Their deviance lies beyond the noise, and the logarithm of their ratio above the median by six times the
        scatter (1.48 times the median deviation, or what noise makes of it).
        """
        logarithm = np.log(np.maximum(self.ratio, 1e-12))
        beyond = logarithm - np.median(logarithm)
        noise = np.divide(self.deviation, self.deviance, out=np.ones_like(self.deviance), where=self.deviance > 0)
        scatter = np.maximum(1.4826 * np.median(np.abs(beyond)), noise)
        far = np.flatnonzero((beyond > _STEADY * scatter) & (self.z > SIGNIFICANT))
        return far[np.argsort(-self.ratio[far])]
