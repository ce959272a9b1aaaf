"""Neighbours on a raster that a person can check."""

import numpy as np
import pytest

from ptycho.core.groups.neighbours import NOBODY, nearest, quadrants, within

RASTER = np.array([[x, y] for y in range(3) for x in range(3)], float)
"""Points 0 to 8, rows of three; 4 is in the middle."""


def test_the_nearest_by_distance_then_by_index() -> None:
    found = nearest(RASTER, np.array([4, 0], np.int32), 5)
    assert found.tolist() == [[1, 3, 5, 7, 0], [1, 3, 4, 2, 6]]


def test_a_distance_that_differs_by_rounding_is_within() -> None:
    shaken = RASTER.copy()
    shaken[1] += [0, 1e-9]
    shaken[7] += [0, 1e-9]
    assert sorted(within(shaken, np.array([4], np.int32), 5, 1, 1)[0].tolist()) == [NOBODY, 1, 3, 5, 7]


@pytest.mark.parametrize(
    ("least", "most", "expected"),
    [(0, 1, [1, 3, 5, 7, NOBODY]), (1.2, 1.5, [0, 2, 6, 8, NOBODY]), (1, 1.5, [1, 3, 5, 7, 0]), (3, 4, [NOBODY] * 5)],
)
def test_within_a_distance_then_nobody(least: float, most: float, expected: list[int]) -> None:
    assert within(RASTER, np.array([4], np.int32), 5, least, most).tolist() == [expected]


def test_a_quadrant_holds_the_axis_at_which_it_begins() -> None:
    around = np.array([[1, 0], [1, 1], [0, 1], [-1, 1], [-1, 0], [-1, -1], [0, -1], [1, -1], [0, 0]], float)
    assert quadrants(around).tolist() == [0, 0, 1, 1, 2, 2, 3, 3, -1]
