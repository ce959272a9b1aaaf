"""The way of a probe that does not stop for a pattern."""

from __future__ import annotations

import numpy as np
import pytest

from ptycho.core.physics.diffraction import diffract
from ptycho.core.physics.fly_scan import check_fly_path, fly_path, line_ways, places_on_the_way, points_for
from ptycho.core.physics.probes import make_probe
from ptycho.core.physics.recording import Recording
from ptycho.errors import DataError


def test_a_row_is_gone_along_half_way_to_both_neighbours() -> None:
    x, y = np.array([0.0, 4.0, 9.0, 13.0]), np.array([0.0, 0.0, 1.0, 1.0])
    np.testing.assert_allclose(line_ways(x, y), [[4, 0], [4.5, 0.5], [4.5, 0.5], [4, 0]])


@pytest.mark.parametrize("turns", [False, True], ids=["every row from the left", "to and fro"])
def test_the_step_from_line_to_line_is_none_of_the_way(turns) -> None:
    column, row = np.meshgrid(5.0 * np.arange(4), 5.0 * np.arange(3))
    if turns:
        column[1] = column[1, ::-1]
    ways = line_ways(column.ravel(), row.ravel())
    np.testing.assert_allclose(np.abs(ways), np.tile([5.0, 0.0], (12, 1)), atol=1e-12)


def test_ways_do_not_cancel_at_a_hairpin() -> None:
    x = np.array([0.0, 5.0, 10.0, 5.2, 0.2])
    np.testing.assert_allclose(np.abs(line_ways(x, np.zeros(5)))[:, 0], [5, 5, 4.9, 4.9, 5], atol=1e-12)


def test_points_in_no_order_and_points_in_one_place_are_at_rest() -> None:
    square = np.array([0.0, 7.0, 7.0, 0.0, 0.0]), np.array([0.0, 0.0, 7.0, 7.0, 0.0])
    assert not line_ways(*square).any()
    assert not line_ways(np.zeros(3), np.zeros(3)).any()
    assert line_ways(np.zeros(1), np.zeros(1)).shape == (1, 2)


@pytest.mark.parametrize("points", [2, 3, 4, 7])
def test_places_are_as_wide_apart_as_the_way(points) -> None:
    path = fly_path(np.array([[6.0, -3.0], [0.0, 1.0]]), points, duty=0.5)
    assert path.shape == (2, points, 2)
    np.testing.assert_allclose(path.sum(axis=1), 0, atol=1e-12)
    np.testing.assert_allclose((path**2).mean(axis=1), np.square([[3.0, 1.5], [0.0, 0.5]]) / 12)
    assert not fly_path(np.ones((2, 2)), 1).any()


def test_few_places_stand_for_a_way(rng) -> None:
    """As many as are told give the pattern of a hundred, to a thousandth; one does not."""
    probe = make_probe("zone_plate", 32)
    patches = np.exp(1j * rng.uniform(-1, 1, (2, 32, 32)))
    ways, zero = np.array([[4.0, 0.0], [3.0, -3.0]]), np.zeros(2)
    many, few, one = (
        np.sqrt(diffract(probe, patches, zero, zero, Recording(fly_path=fly_path(ways, points))))
        for points in (100, points_for(ways, probe), 1)
    )
    assert points_for(ways, probe) < 8
    assert np.sum((few - many) ** 2) < 1e-3 * np.sum(many**2)
    assert np.sum((one - many) ** 2) > 1e-2 * np.sum(many**2)


def test_the_intensity_is_the_mean_over_the_places(rng) -> None:
    probe, patches = rng.standard_normal((2, 8, 8)) + 0j, rng.standard_normal((3, 8, 8)) + 0j
    (dx, dy), path, flux = rng.uniform(-0.5, 0.5, (2, 3)), rng.uniform(-1, 1, (3, 2, 2)), rng.uniform(0.5, 1, 3)
    expected = sum(diffract(probe, patches, dx + path[:, s, 0], dy + path[:, s, 1]) for s in (0, 1)) / 2
    np.testing.assert_allclose(diffract(probe, patches, dx, dy, Recording(flux, path)), flux[:, None, None] * expected)


def test_places_come_pattern_by_pattern() -> None:
    path = np.array([[[-1.0, 0.5], [1.0, -0.5]], [[0.0, 2.0], [0.0, -2.0]]])
    x, y = places_on_the_way(np.array([10.0, 20.0]), np.array([3.0, 4.0]), path)
    assert (x.tolist(), y.tolist()) == ([9, 11, 20, 20], [3.5, 2.5, 6, 2])


@pytest.mark.parametrize("shape", [(3, 2), (2, 1, 2), (3, 0, 2), (3, 1, 3)])
def test_a_path_of_another_scan_is_refused(shape) -> None:
    with pytest.raises(DataError, match="fly_path: expected shape"):
        check_fly_path(np.zeros(shape), 3)
    with pytest.raises(DataError, match="fly_path: expected finite"):
        check_fly_path(np.full((3, 1, 2), np.nan), 3)
