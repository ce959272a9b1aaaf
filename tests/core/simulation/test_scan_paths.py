"""Scan paths: density, neighbours, borders, overlap, errors."""

import numpy as np
import pytest
from scipy.spatial import cKDTree

from ptycho.core.physics.probes import disk_probe, zone_plate_probe
from ptycho.core.simulation.scan_paths import (
    SCAN_PATHS,
    displaced,
    linear_overlap,
    raster_positions,
    scan_positions,
    step_for_count,
    step_for_overlap,
)
from ptycho.errors import ConfigError

SHAPE = (200, 260)


def nearest(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    points = np.stack([x, y], axis=1)
    return cKDTree(points).query(points, k=2)[0][:, 1]


@pytest.mark.parametrize("path", SCAN_PATHS)
def test_every_path_has_a_point_per_area_and_stays_inside(path: str, rng: np.random.Generator) -> None:
    x, y = scan_positions(path, SHAPE, 64, 5.0, 0.0, rng)
    assert len(x) == pytest.approx(194 * 134 / 25, rel=0.06)
    assert 33 <= x.min() < 40
    assert 33 <= y.min() < 40
    assert 220 < x.max() <= 227
    assert 160 < y.max() <= 167
    # as many on either side of the middle
    unevenness = 0.07 if path == "random" else 0.02
    assert np.mean(x < 130) == pytest.approx(0.5, abs=unevenness)
    assert np.mean(y < 100) == pytest.approx(0.5, abs=unevenness)


@pytest.mark.parametrize(
    ("path", "least", "most"), [("raster", 1.0, 1.0), ("spiral", 0.56, 1.07), ("fermat", 0.55, 1.1)]
)
def test_neighbours_are_about_a_step_apart(path: str, least: float, most: float, rng: np.random.Generator) -> None:
    distance = nearest(*scan_positions(path, SHAPE, 64, 6.0, 0.0, rng)) / 6.0
    assert least - 1e-9 <= distance.min()
    assert distance.max() <= most + 1e-9
    assert np.median(distance) > 0.9


def test_a_spiral_goes_outwards_with_even_turns(rng: np.random.Generator) -> None:
    x, y = scan_positions("spiral", (200, 200), 64, 4.0, 0.0, rng)
    radius, angle = np.hypot(x - 100, y - 100), np.unwrap(np.arctan2(y - 100, x - 100))
    whole = np.flatnonzero(radius < 60)
    assert np.all(np.diff(radius) > 0)
    turns = (angle[whole] - angle[whole[1]])[1:] / (2 * np.pi)
    slope = np.polyfit(turns, radius[whole][1:], 1)[0]
    assert slope == pytest.approx(4.0, rel=1e-6)


def test_a_fermat_spiral_turns_by_the_golden_angle(rng: np.random.Generator) -> None:
    x, y = scan_positions("fermat", (200, 200), 64, 4.0, 0.0, rng)
    assert (x[0], y[0]) == (100.0, 100.0)
    first = np.arctan2(y[1:20] - 100, x[1:20] - 100)
    turned = np.mod(np.diff(first), 2 * np.pi)
    np.testing.assert_allclose(turned, np.deg2rad(137.50776405), atol=1e-8)
    np.testing.assert_allclose(np.hypot(x[1:20] - 100, y[1:20] - 100), 4.0 * np.sqrt(np.arange(1, 20) / np.pi))


def test_a_random_path_has_exactly_the_count_asked_for(rng: np.random.Generator) -> None:
    for count in (1, 7, 700):
        step = step_for_count(SHAPE, 64, count)
        assert len(scan_positions("random", SHAPE, 64, step, 0.0, rng)[0]) == count
    with pytest.raises(ConfigError, match="found 0"):
        step_for_count(SHAPE, 64, 0)


def test_the_overlap_is_linear_in_the_disk_that_holds_90_percent(rng: np.random.Generator) -> None:
    probe = disk_probe(64, diameter=50.0, sigma=0.0)
    y, x = np.indices((64, 64)) - 32
    counted = np.sum(np.hypot(x, y) <= step_for_overlap(probe, 0.0) / 2) / np.sum(np.hypot(x, y) <= 25)
    assert counted == pytest.approx(0.9, abs=0.005)
    for overlap in (0.8, 0.5, -0.2):
        step = step_for_overlap(probe, overlap)
        distance = nearest(*raster_positions(SHAPE, 64, step, 0.0, rng))
        assert linear_overlap(probe, float(distance.mean())) == pytest.approx(overlap, abs=1e-12)
    assert linear_overlap(zone_plate_probe(64), 20.0) == pytest.approx(0.18, abs=0.005)
    with pytest.raises(ConfigError, match=r"below 1, found 1\.0"):
        step_for_overlap(probe, 1.0)


def test_errors_have_the_size_asked_for(rng: np.random.Generator) -> None:
    x, y = np.full(20000, 50.0), np.full(20000, -3.0)
    moved_x, moved_y = displaced(x, y, 0.7, rng)
    for moved, at in ((moved_x, 50.0), (moved_y, -3.0)):
        assert moved.mean() == pytest.approx(at, abs=0.02)
        assert moved.std() == pytest.approx(0.7, abs=0.02)
    assert abs(np.corrcoef(moved_x, moved_y)[0, 1]) < 0.03
    with pytest.raises(ConfigError, match="found -1"):
        displaced(x, y, -1.0, rng)


@pytest.mark.parametrize("path", SCAN_PATHS)
def test_jitter_moves_every_path_and_the_seed_decides(path: str) -> None:
    first, again, still = (
        scan_positions(path, SHAPE, 64, 9.0, jitter, np.random.default_rng(5)) for jitter in (2.0, 2.0, 0.0)
    )
    np.testing.assert_array_equal(first, again)
    moved = np.abs(np.array(first) - np.array(still))
    assert 1.5 < moved.max() <= 2.0


def test_an_unknown_path_is_named(rng: np.random.Generator) -> None:
    with pytest.raises(ConfigError, match="raster, snake, spiral, fermat, random, found 'zigzag'"):
        scan_positions("zigzag", SHAPE, 64, 9.0, 0.0, rng)
