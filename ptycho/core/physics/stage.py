"""What a stage does to all positions alike: a linear map, and the play between lines there and back.

A position is displaced by `M (r - c) + t b / 2`: M (2, 2) on its distance (x, y) from the mean c of all, and the
backlash b (x, y) with the direction of travel t, 1 or -1, less its mean over the scan. Both are found in positions by
least squares; what remains of their displacement is each position's own.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Stage", "directions", "stage_of"]

Array = NDArray[Any]

ALONG = 0.75
"""Mean squared cosine of the angle of the steps with one axis, from which on a scan goes in lines."""
EACH_WAY, RUN = 0.25, 4
"""Share of the points that are reached either way, at least, and the mean length of a line, points."""
FEWEST = 12
"""Positions, below which nothing is told of a stage."""


class Stage(NamedTuple):
    """The numbers of a stage; all 0: it does what it says."""

    matrix: NDArray[np.float64]
    """M (2, 2), dimensionless; rows and columns ordered (x, y)."""
    backlash: NDArray[np.float64]
    """b (2,): pixels (x, y) between points reached one way and the other; 0 where lines all go one way."""

    @classmethod
    def of(cls, scale: tuple[float, float], rotation: float, shear: float, backlash: tuple[float, float]) -> Stage:
        """From its figures: factors of x and y, degrees, degrees, pixels."""
        angle, slant = np.radians(rotation), np.tan(np.radians(shear))
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        upper = np.array([[scale[0], slant * scale[1]], [0.0, scale[1]]])
        return cls(turn @ upper - np.eye(2), np.array(backlash, np.float64))

    @property
    def scale(self) -> tuple[float, float]:
        """Factors of x and y."""
        upper = self._upper()
        return float(upper[0, 0]), float(upper[1, 1])

    @property
    def rotation(self) -> float:
        """Degrees, from x towards y."""
        return float(np.degrees(np.arctan2(self.matrix[1, 0], 1 + self.matrix[0, 0])))

    @property
    def shear(self) -> float:
        """Degrees by which the angle between the axes is less than 90."""
        upper = self._upper()
        return float(np.degrees(np.arctan2(upper[0, 1], upper[1, 1])))

    def __str__(self) -> str:
        (x, y), (play_x, play_y) = self.scale, self.backlash
        told = f"scale {x:.4f} x {y:.4f}, turned by {self.rotation:.2f} degrees, sheared by {self.shear:.2f}"
        return f"{told}, backlash {np.hypot(play_x, play_y):.2g} pixels" if play_x or play_y else told

    def displacement(self, x: Array, y: Array) -> Array:
        """What it does to positions (n,), pixels: (n, 2), ordered (x, y), with a mean of 0."""
        along, ways = _seen_from_middle(x, y), directions(x, y)
        moved = along @ self.matrix.T
        return moved if ways is None else moved + np.multiply.outer(ways - ways.mean(), self.backlash / 2)

    def _upper(self) -> Array:
        """The map without its rotation, upper triangular."""
        angle = np.radians(self.rotation)
        turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        return turn @ (np.eye(2) + self.matrix)


NOTHING = Stage(np.zeros((2, 2)), np.zeros(2))


def stage_of(x: Array, y: Array, displacement: Array) -> Stage:
    """The stage that explains displacements (n, 2) of positions (n,) best; nothing where positions are too few."""
    if len(x) < FEWEST:
        return NOTHING
    ways = directions(x, y)
    columns = [np.ones((len(x), 1)), _seen_from_middle(x, y)]
    if ways is not None:
        columns.append((ways - ways.mean())[:, None] / 2)
    found = np.linalg.lstsq(np.concatenate(columns, axis=1), displacement, rcond=None)[0]
    return Stage(found[1:3].T, np.zeros(2) if ways is None else found[3])


def directions(x: Array, y: Array) -> NDArray[np.float64] | None:
    """Which way (n,) each point was passed, 1 or -1; None where points are not in lines there and back."""
    if len(x) < FEWEST:
        return None
    steps = np.stack([np.diff(x), np.diff(y)], axis=1)
    lengths = np.linalg.norm(steps, axis=1, keepdims=True)
    turned = steps / np.where(lengths > 0, lengths, 1)  # a few jumps tell nothing of the lines
    squares, axes = np.linalg.eigh(turned.T @ turned)
    if not squares[1] > ALONG * squares.sum():
        return None
    place = np.stack([x, y], axis=1) @ axes[:, 1]
    ways = np.where(np.gradient(place) > 0, 1.0, -1.0)
    share, turns = float((ways > 0).mean()), int(np.count_nonzero(np.diff(ways)))
    return ways if EACH_WAY < share < 1 - EACH_WAY and turns * RUN < len(x) else None


def _seen_from_middle(x: Array, y: Array) -> Array:
    return np.stack([x - x.mean(), y - y.mean()], axis=1)
