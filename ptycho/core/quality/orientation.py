"""The eight ways in which the axes of an image can be exchanged and reversed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.core.quality.alignment import rough_correlation
from ptycho.core.quality.registration import Region

__all__ = ["ORIENTATIONS", "Orientation", "OrientedMatch", "rank_orientations"]

Array = NDArray[Any]


@dataclass(frozen=True)
class Orientation:
    """One of the eight: first the axes are exchanged, then y and x are reversed."""

    transpose: bool
    flip_y: bool
    flip_x: bool

    @property
    def name(self) -> str:
        """'as it is', or what is done, in the words of the command line: 'transpose+flip-x'."""
        steps = (("transpose", self.transpose), ("flip-y", self.flip_y), ("flip-x", self.flip_x))
        return "+".join(word for word, done in steps if done) or "as it is"

    @property
    def half_turn(self) -> Orientation:
        """The same followed by a turn by 180 degrees."""
        return Orientation(self.transpose, not self.flip_y, not self.flip_x)

    def image(self, image: Array) -> Array:
        """`image (..., H, W)` turned as a picture: a reversed axis begins with what was its last pixel."""
        turned = np.swapaxes(image, -1, -2) if self.transpose else image
        return turned[..., :: -1 if self.flip_y else 1, :: -1 if self.flip_x else 1]

    def patterns(self, patterns: Array) -> Array:
        """`patterns (..., N, N)` turned about the zero frequency at [N/2, N/2], which stays where it is.

        Reversal maps index i to (N - i) mod N, so the same holds for patterns with the zero frequency at [0, 0].
        """
        turned = self.image(patterns)
        return np.roll(turned, (int(self.flip_y), int(self.flip_x)), axis=(-2, -1))


ORIENTATIONS = tuple(
    Orientation(transpose, flip_y, flip_x)
    for transpose in (False, True)
    for flip_y in (False, True)
    for flip_x in (False, True)
)
"""All eight; the first changes nothing."""


@dataclass(frozen=True)
class OrientedMatch:
    """How well an object matches another in one orientation."""

    orientation: Orientation
    conjugate: bool
    """Whether the complex conjugate was taken after turning."""
    correlation: float
    """`alignment.rough_correlation`, 1 for a perfect match."""


def rank_orientations(reconstruction: Array, truth: Array, region: Region | None = None) -> list[OrientedMatch]:
    """All 16 orientations and conjugates of a reconstruction by their likeness to the truth, best first.

    Each is placed and levelled (`alignment.rough_correlation`) before it is compared. A half turn with
    conjugation is the twin image, which explains the same patterns.

    Args:
        reconstruction: complex (h, w).
        truth: complex (H, W).
        region: (y0, y1, x0, x1) of the truth to compare in; None is all of it.
    """
    matches = []
    for orientation in ORIENTATIONS:
        turned = orientation.image(reconstruction)
        for conjugate in (False, True):
            likeness = rough_correlation(np.conj(turned) if conjugate else turned, truth, region)
            matches.append(OrientedMatch(orientation, conjugate, likeness))
    return sorted(matches, key=lambda match: -match.correlation)
