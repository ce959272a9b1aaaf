"""How well a few neighbouring patterns foretell others among them: what decides between sets of positions.

The error of the patterns that an object was made from falls when positions are drawn apart, as patterns that share
nothing explain themselves. That of patterns kept back does not: it is lowest where the positions are right.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.core.doctor.samples import Sample
from ptycho.core.doctor.short_reconstruction import expected_intensity, noise_misfit, reconstruct, sample_frame

__all__ = ["Prediction", "foretell", "inner_points", "significance"]

Array = NDArray[Any]

_INNER = 0.6
"""Share of a sample that counts as its middle."""


@dataclass(frozen=True)
class Prediction:
    """Patterns that were kept back, and what the others made of them."""

    squares: Array
    """(m, N, N) `(|F| - A)^2` of the patterns kept back, 0 where not valid."""
    noise: float
    """What photon noise adds to their sum; 0 when doses are unknown."""
    energy: float
    """`sum A^2` of the patterns kept back."""
    flat: float
    """Relative Fourier error of an object without contrast."""
    trained: float
    """Relative Fourier error left in the patterns that the object was made from."""
    floor: float
    """What photon noise alone leaves of that."""

    @property
    def error(self) -> float:
        """Relative Fourier error of the patterns kept back."""
        return float(self.squares.sum()) / self.energy

    @property
    def excess(self) -> float:
        """The same without what photon noise adds."""
        return self.error - self.noise / self.energy

    @property
    def unexplained(self) -> float:
        """Share of what the object does to the patterns that it was made from that it does not explain."""
        return max(self.trained - self.floor, 0.0) / max(self.flat - self.floor, 1e-30)


def foretell(sample: Sample, kept_back: NDArray[np.bool_], iterations: int, refine_probe: bool) -> Prediction:
    """Reconstruct a sample without some of its patterns and predict those.

    Args:
        sample: patterns of scan points that lie together.
        kept_back: (n,) True for the patterns to predict; both kinds are needed.
        iterations: of the reconstruction.
        refine_probe: whether the probe moves.
    """
    used, test = sample.only(~kept_back), sample.only(kept_back)
    found = reconstruct(used, iterations, refine_probe, sample_frame(sample))
    expected = expected_intensity(test, found)
    squares = np.where(test.mask, (np.sqrt(expected) - test.patterns) ** 2, np.float32(0))
    return Prediction(
        squares,
        noise=noise_misfit(test, expected),
        energy=test.energy,
        flat=found.error_history[0],
        trained=found.error_history[found.kept],
        floor=noise_misfit(used, expected_intensity(used, found)) / used.energy,
    )


def significance(worse: Array, better: Array) -> float:
    """By how many standard deviations the sum of `better` is below that of `worse`, squares of the same pixels.

    The differences are taken for independent from pixel to pixel, as photon noise is.
    """
    difference = worse.astype(np.float64) - better
    return float(difference.sum() / max(np.sqrt(np.sum(difference**2)), 1e-30))


def inner_points(xcoords: Array, ycoords: Array, first: int = 0) -> NDArray[np.bool_]:
    """(n,) True for every third of the points in the middle of a sample, from the one with index `first` on."""
    distance = np.hypot(xcoords - np.median(xcoords), ycoords - np.median(ycoords))
    inner = np.argsort(distance, kind="stable")[: max(3, int(_INNER * len(distance)))]
    chosen = np.zeros(len(distance), bool)
    chosen[inner[first::3]] = True
    return chosen
