"""What a few patterns of a scan look like to their neighbours: the object without them predicts them, or it does not.

A pattern that nothing overlaps can always be explained, by an object of its own; that says nothing about the object.
What counts is how much of it the others foretell.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ptycho.core.quality.misfits import SIGNIFICANT
from ptycho.core.result import ByValue
from ptycho.errors import DataError

__all__ = ["Foretold"]

Float = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Foretold(ByValue):
    """Patterns that were kept back, and how near the others came to them.

    Raises:
        DataError: the parts are not of one length.
    """

    patterns: NDArray[np.int64]
    """(k,) which of the scan."""
    misfit: Float
    """(k,) `sum (|F| - A)^2` in photons, of an object made from the other patterns."""
    noise: Float
    """(k,) what that would be on average if photon noise alone were at work."""
    blank: Float
    """(k,) what it was before they were asked: of an object that is uniform where the pattern has its light."""
    deviation: Float
    """(k,) standard deviation of a misfit that photon noise alone makes."""

    def __post_init__(self) -> None:
        shapes = {name: array.shape for name, array in vars(self).items()}
        if len(set(shapes.values())) != 1 or self.patterns.ndim != 1 or not self.patterns.size:
            raise DataError(f"foretold: expected one number per pattern, (k,) each, found {shapes}; measure it again")

    @property
    def telling(self) -> bool:
        """Whether there is something to foretell: the uniform object fits worse than noise lets a right one."""
        structure = float((self.blank - self.noise).sum())
        return structure > SIGNIFICANT * float(np.sqrt(np.square(self.deviation).sum()))

    @property
    def share(self) -> float:
        """Share of their structure that is foretold, noise taken out: `1 - (misfit - noise) / (blank - noise)`.

        1 for what is foretold to the noise, 0 for what nothing is known of; NaN where there is nothing to foretell.
        """
        if not self.telling:
            return float("nan")
        return 1 - float((self.misfit - self.noise).sum() / (self.blank - self.noise).sum())
