"""Which points are seeds and who joins them: by hand on small rasters, and against a slow search."""

import logging
import re
import time
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ptycho.config.options import NEUTRAL_GROUPS, GroupOptions
from ptycho.core.groups.grouping import make_groups, nearest_points, seed_points
from ptycho.core.groups.neighbourhood import make_neighbourhoods
from ptycho.core.groups.neighbours import quadrants
from ptycho.core.groups.options import axis_step, measured
from ptycho.errors import ConfigError

MIDDLE = 12
"""The middle of the 5 x 5 raster."""


def raster(width: int, height: int, dx: float = 1.0, dy: float | None = None) -> tuple[NDArray[Any], NDArray[Any]]:
    y, x = np.mgrid[:height, :width]
    return (x * dx).ravel(), (y * (dx if dy is None else dy)).ravel()


def neighbours_of(groups: NDArray[Any], seed: int) -> set[int]:
    return set(groups[groups[:, 0] == seed][:, 1:].ravel().tolist())


@pytest.mark.parametrize("options", [{}, {"options": NEUTRAL_GROUPS}, {"options": GroupOptions()}])
def test_the_default_draw_stays_as_it_was(options: dict[str, Any]) -> None:
    x, y = raster(4, 3, 3.0)
    groups = make_groups(x, y, 2, K=6, nsamples=5, seed=3, **options)
    assert groups.tolist() == [[0, 5, 8, 6], [1, 0, 2, 3], [2, 6, 5, 0], [6, 2, 10, 3], [11, 10, 6, 2]]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"neighbor_function": "nearest"},
            "neighbor_function='nearest': expected one of Nearest, Min_dist, 4_quadrant",
        ),
        ({"scan_pattern": "Spiral"}, "scan_pattern='Spiral': expected one of Isotropic, Rectangular"),
        ({"K_quadrant": 0}, "K_quadrant=0: expected a whole number at least 1"),
        ({"groups_per_seed": 0}, "groups_per_seed=0: expected a whole number at least 1"),
        ({"min_neighbor_distance": -1.0}, "min_neighbor_distance=-1.0: expected pixels, at least 0"),
        (
            {"min_neighbor_distance": 4.0},
            "max_neighbor_distance=3.0: expected pixels, at least min_neighbor_distance=4",
        ),
        ({"max_neighbor_distance": np.inf}, "max_neighbor_distance=inf: expected pixels"),
        ({"x_bounds": (0.5, 0.5)}, "x_bounds=(0.5, 0.5): expected two rising numbers from 0 to 1"),
        ({"y_bounds": (-0.1, 0.5)}, "y_bounds=(-0.1, 0.5): expected two rising numbers from 0 to 1"),
        ({"y_bounds": (0.1, 0.5, 0.9)}, "y_bounds=(0.1, 0.5, 0.9): expected two rising numbers"),
    ],
)
def test_values_that_an_option_may_not_hold(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)) as error:
        GroupOptions(**values)
    assert "\n" not in str(error.value)


# Distances


def test_the_nearest_within_two_distances_by_hand() -> None:
    # distances from point 0: 1, 3, 7, 15, 31; from the others as they come
    x = np.array([0.0, 1.0, 3.0, 7.0, 15.0, 31.0])
    options = GroupOptions("Min_dist", min_neighbor_distance=2.0, max_neighbor_distance=15.0)
    groups = make_groups(x, np.zeros(6), 2, K=4, options=options)
    # 0 has 3, 7, 15; 1 has 3, 7, 15; 2 has 0, 1, 7, 15; 3 has 0, 1, 3, 15; 4 all but 5, too far; 5 has none
    assert groups.tolist()[:2] == [[0, 2, 3, 4], [1, 2, 3, 4]]
    assert groups[:, 0].tolist() == [0, 1, 2, 3, 4]
    assert seed_points(x, np.zeros(6), 2, K=4, options=options).tolist() == [0, 1, 2, 3, 4]
    assert all(set(row) <= {0, 1, 3, 4} for row in groups[groups[:, 0] == 2][:, 1:].tolist())


@pytest.mark.parametrize("pattern", ["Isotropic", "Rectangular"])
@pytest.mark.parametrize(("gridsize", "K", "least", "most"), [(2, 5, 0.0, 12.0), (2, 4, 6.0, 14.0), (3, 11, 5.0, 25.0)])
def test_distances_against_a_slow_search(
    pattern: Any, gridsize: int, K: int, least: float, most: float, rng: np.random.Generator
) -> None:
    x, y = rng.random(60) * 50, rng.random(60) * 20
    options = GroupOptions("Min_dist", pattern, min_neighbor_distance=least, max_neighbor_distance=most)
    groups = make_groups(x, y, gridsize, K=K, seed=4, options=options)
    u, v = measured(np.stack([x, y], axis=1), options).T
    assert (pattern == "Isotropic") == bool((u == x).all())
    allowed = {}
    for j in range(60):
        d = np.hypot(u - u[j], v - v[j])
        ring = sorted((d[i], i) for i in range(60) if i != j and least <= d[i] <= most)
        allowed[j] = [i for _, i in ring[:K]]
    enough = [j for j in range(60) if len(allowed[j]) >= gridsize**2 - 1]
    assert 0 < len(enough) <= 60 and groups[:, 0].tolist() == enough
    for seed, *others in groups.tolist():
        ranks = [allowed[seed].index(member) for member in others]
        assert ranks == sorted(set(ranks))


def test_a_distance_on_the_limit_counts_whatever_its_last_digit() -> None:
    x, y = raster(7, 1, 0.1)
    assert (np.abs(np.diff(x)) > 0.1).any() and (np.abs(np.diff(x)) < 0.1).any()
    options = GroupOptions("Min_dist", min_neighbor_distance=0.1, max_neighbor_distance=0.2)
    assert seed_points(x, y, 2, options=options).tolist() == [1, 2, 3, 4, 5]
    assert neighbours_of(make_groups(x, y, 2, options=options, seed=1), 1) == {0, 2, 3}


def test_too_few_neighbours_within_the_distances(caplog: pytest.LogCaptureFixture) -> None:
    x, y = raster(4, 1, 5.0)
    with pytest.raises(ConfigError, match="needs 3 neighbours from 0 to 3 pixels, found at most 0") as error:
        make_groups(x, y, 2, options=GroupOptions("Min_dist"))
    assert "raise max_neighbor_distance" in str(error.value) and "\n" not in str(error.value)
    with pytest.raises(ConfigError, match="from 6 to 100 pixels, found at most 2"):
        make_groups(x, y, 2, options=GroupOptions("Min_dist", min_neighbor_distance=6, max_neighbor_distance=100))
    near = GroupOptions("Min_dist", max_neighbor_distance=2.0)
    with caplog.at_level(logging.INFO), pytest.raises(ConfigError, match="5 groups around 4 seed points of 6"):
        make_groups(*raster(6, 1), 2, nsamples=5, options=near)
    assert "4 of 6 scan points are seeds: the others have fewer than 3 neighbours within the distances" in caplog.text


# Quadrants


def test_quadrants_by_hand() -> None:
    steps = np.array([[1, 0], [1, 1], [0, 1], [-1, 1], [-1, 0], [-1, -1], [0, -1], [1, -1], [0, 0], [1, -1e-9]])
    assert quadrants(steps.astype(float)).tolist() == [0, 0, 1, 1, 2, 2, 3, 3, -1, 0]


def test_every_neighbour_lies_in_a_quadrant_of_its_own() -> None:
    x, y = raster(5, 5)
    groups = make_groups(x, y, 2, nsamples=9, options=GroupOptions("4_quadrant", K_quadrant=8))
    # a point at the edge has an empty quadrant
    assert groups[:, 0].tolist() == [6, 7, 8, 11, 12, 13, 16, 17, 18]
    for seed, *others in groups.tolist():
        steps = np.stack([x[others] - x[seed], y[others] - y[seed]], axis=1)
        assert len(set(quadrants(steps).tolist())) == 3
        ranks = np.hypot(*steps.T).round(9) * 100 + others
        assert all(a < b for a, b in pairwise(ranks))


def test_every_quadrant_and_every_point_of_it_is_equally_likely() -> None:
    """Two points to the right in quadrant 0, one in each other: no quadrant comes more often for having more."""
    x = np.array([0.0, 1, 2, -1, -1, 1])
    y = np.array([0.0, 1, 2, 1, -1, -1])
    options = GroupOptions("4_quadrant", groups_per_seed=2400)
    groups = make_groups(x, y, 2, options=options, seed=5)
    assert groups.shape == (2400, 4) and set(groups[:, 0].tolist()) == {0}
    counts = np.array([np.sum((groups[:, 1:] == j).any(axis=1)) for j in range(1, 6)])
    assert counts.sum() == 7200
    # three of four quadrants: 1800 +- 21 each, and the points of the first share its number, 900 +- 24 each
    assert np.all(np.abs(counts[2:] - 1800) < 106) and np.all(np.abs(counts[:2] - 900) < 120)
    assert not ((groups == 1).any(axis=1) & (groups == 2).any(axis=1)).any()


def test_larger_groups_take_as_many_from_every_quadrant() -> None:
    x, y = raster(9, 9)
    groups = make_groups(x, y, 3, options=GroupOptions("4_quadrant", K_quadrant=24))
    for seed, *others in groups.tolist():
        steps = np.stack([x[others] - x[seed], y[others] - y[seed]], axis=1)
        assert np.bincount(quadrants(steps)).tolist() == [2, 2, 2, 2]
    assert {10, 40, 70} <= set(groups[:, 0].tolist()) and not {0, 9, 80} & set(groups[:, 0].tolist())
    # 15 neighbours: three from every quadrant and one more from three of them
    larger = make_groups(x, y, 4, options=GroupOptions("4_quadrant", K_quadrant=48, x_bounds=(0.4, 0.6)), seed=2)
    for seed, *others in larger.tolist():
        steps = np.stack([x[others] - x[seed], y[others] - y[seed]], axis=1)
        assert sorted(np.bincount(quadrants(steps)).tolist()) == [3, 4, 4, 4]


def test_a_pool_that_does_not_surround_its_seed() -> None:
    x, y = raster(5, 5, 1.0, 4.0)
    with pytest.raises(ConfigError, match="1 of the 4 nearest points in every quadrant, found at most 0; raise K_quad"):
        make_groups(x, y, 2, options=GroupOptions("4_quadrant", K_quadrant=4))
    assert make_groups(x, y, 2, options=GroupOptions("4_quadrant", "Rectangular", K_quadrant=4)).shape == (9, 4)
    with pytest.raises(ConfigError, match=r"K_quadrant=3 neighbours: gridsize 2 .* raise K_quadrant or neighbor_pool"):
        make_groups(x, y, 2, K=9, options=GroupOptions("4_quadrant", K_quadrant=3))
    one = GroupOptions("4_quadrant", K_quadrant=3)
    assert make_groups(x, y, 2, neighbor_pool_size=24, options=one).shape == (9, 4)


def test_points_left_out_are_told(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        make_groups(*raster(5, 5), 2, options=GroupOptions("4_quadrant"))
    assert "9 of 25 scan points are seeds: the others have fewer than 1 neighbours in every quadrant" in caplog.text


# Steps


@pytest.mark.parametrize(
    ("coords", "step"),
    [
        ([0, 2, 4, 6], 2.0),
        ([6, 0, 4, 2, 0, 2, 4, 6, 6], 2.0),
        ([0, 2, 6, 8, 10], 2.0),  # a line is missing
        ([0, 0.1, 5, 5.1, 10, 20, 25], 5.0),
        ([3.0], 0.0),
        ([3.0, 3.0], 0.0),
    ],
)
def test_the_step_of_an_axis(coords: list[float], step: float) -> None:
    assert axis_step(np.array(coords, float)) == pytest.approx(step)


def test_the_step_of_an_uneven_raster(rng: np.random.Generator) -> None:
    x, y = raster(30, 12, 2.0, 7.0)
    order = rng.permutation(len(x))
    assert axis_step(x[order]) == 2.0 and axis_step(y[order]) == 7.0
    jitter = rng.uniform(-0.1, 0.1, (2, len(x)))
    assert axis_step(x + 2 * jitter[0]) / axis_step(y + 7 * jitter[1]) == pytest.approx(2 / 7, rel=0.1)


def test_a_rectangular_scan_takes_the_next_of_each_line() -> None:
    x, y = raster(5, 5, 1.0, 4.0)
    along = make_groups(x, y, 2, seed=1)
    assert neighbours_of(along, MIDDLE) <= {10, 11, 13, 14}  # the line it is on
    options = GroupOptions(scan_pattern="Rectangular", groups_per_seed=20)
    across = make_groups(x, y, 2, seed=1, options=options)
    assert neighbours_of(across, MIDDLE) == {7, 11, 13, 17}
    np.testing.assert_allclose(np.ptp(measured(np.stack([x, y], axis=1), options), axis=0), [8, 8])


def test_a_rectangular_scan_of_equal_steps_and_a_single_line_are_isotropic() -> None:
    for x, y in (raster(6, 4, 3.0), raster(8, 1, 3.0)):
        np.testing.assert_array_equal(
            make_groups(x, y, 2, K=5, options=GroupOptions(scan_pattern="Rectangular")), make_groups(x, y, 2, K=5)
        )


# Seeds


@pytest.mark.parametrize("gridsize", [1, 2])
def test_seed_points_lie_within_the_bounds_and_neighbours_anywhere(gridsize: int) -> None:
    x, y = raster(5, 5, 10.0)
    options = GroupOptions(x_bounds=(0.5, 1.0), y_bounds=(0.0, 0.25))
    groups = make_groups(x + 7, y - 9, gridsize, options=options)
    assert groups[:, 0].tolist() == [2, 3, 4, 7, 8, 9]  # ends included
    if gridsize == 2:
        assert not set(groups.ravel().tolist()) <= {2, 3, 4, 7, 8, 9}
    first = make_groups(x, y, gridsize, nsamples=2, sequential_sampling=True, options=options)
    assert first[:, 0].tolist() == [2, 3]


def test_no_point_within_the_bounds() -> None:
    x, y = np.array([0.0, 1, 9, 10]), np.zeros(4)
    with pytest.raises(ConfigError, match=r"x_bounds=\(0.3, 0.7\), .* found none of 4; widen them"):
        make_groups(x, y, 1, options=GroupOptions(x_bounds=(0.3, 0.7)))


def test_several_groups_around_each_seed_point() -> None:
    x, y = raster(5, 5)
    options = GroupOptions(groups_per_seed=3, x_bounds=(0.25, 0.75))
    groups = make_groups(x, y, 2, K=8, options=options)
    assert np.bincount(groups[:, 0])[np.unique(groups[:, 0])].tolist() == [3] * 15
    assert len(np.unique(groups, axis=0)) > 15
    # a number of groups is spread over all seed points before any has a second one
    fewer = make_groups(x, y, 2, K=8, nsamples=20, options=options)
    assert sorted(np.unique(fewer[:, 0], return_counts=True)[1].tolist()) == [1] * 10 + [2] * 5
    with pytest.raises(ConfigError, match="46 groups around 15 seed points of 25: expected at most 45") as error:
        make_groups(x, y, 2, K=8, nsamples=46, options=options)
    assert "groups_per_seed=3" in str(error.value)
    assert make_groups(x, y, 2, K=8, nsamples=46, options=options, enable_oversampling=True).shape == (46, 4)
    # a group of one is the point itself, once
    assert make_groups(x, y, 1, nsamples=500, options=options)[:, 0].tolist() == sorted({*groups[:, 0].tolist()})


def test_inference_leaves_no_point_out() -> None:
    x, y = raster(5, 5, 1.0, 4.0)
    options = GroupOptions("4_quadrant", "Rectangular", groups_per_seed=3, x_bounds=(0.4, 0.6), y_bounds=(0.1, 0.9))
    groups = make_groups(x, y, 2, options=options.for_inference())
    assert groups[:, 0].tolist() == list(range(25))
    assert neighbours_of(groups, MIDDLE) < {7, 11, 13, 17}  # steps still count
    assert GroupOptions().for_inference() == NEUTRAL_GROUPS


# Held-out neighbours


def test_held_out_neighbours_keep_the_distances() -> None:
    x, y = raster(5, 5, 1.0, 4.0)
    centre = np.array([MIDDLE])
    assert nearest_points(x, y, centre, 5).tolist() == [[12, 11, 13, 10, 14]]
    rectangular = GroupOptions(scan_pattern="Rectangular")
    assert nearest_points(x, y, centre, 5, rectangular).tolist() == [[12, 7, 11, 13, 17]]
    assert make_neighbourhoods(x, y, centre, 5, options=rectangular).pool.tolist() == [[12, 7, 11, 13, 17]]
    ring = GroupOptions("Min_dist", min_neighbor_distance=1.5, max_neighbor_distance=4.0)
    assert nearest_points(x, y, centre, 5, ring).tolist() == [[12, 10, 14, 7, 17]]
    with pytest.raises(
        ConfigError, match="expected 5 neighbours of every seed point, seen and held out, found 4 of one"
    ):
        nearest_points(x, y, centre, 6, ring)
    with pytest.raises(ConfigError, match="'4_quadrant' does not go with held-out neighbours"):
        nearest_points(x, y, centre, 5, GroupOptions("4_quadrant"))


@pytest.mark.parametrize("function", ["Min_dist", "4_quadrant"])
def test_twenty_thousand_points_take_a_second_not_minutes(function: Any, rng: np.random.Generator) -> None:
    x, y = rng.random((2, 20_000)) * 1400
    options = GroupOptions(function, min_neighbor_distance=5.0, max_neighbor_distance=60.0)
    start = time.process_time()
    assert len(make_groups(x, y, 2, seed=0, options=options)) > 19_000
    assert time.process_time() - start < 5.0
