"""Positions, offsets and frames, against numbers that can be worked out by hand."""

import doctest

import numpy as np
import pytest

from ptycho.core import geometry
from ptycho.core.geometry import (
    LOCAL_OFFSET_SIGN,
    ObjectFrame,
    astray,
    canvas_size,
    group_coordinates,
    member_positions,
    object_frame,
    pixel_positions,
)
from ptycho.core.physics.patches import extract
from ptycho.errors import DataError


@pytest.mark.parametrize(("size", "expected"), [(100, [50.0, 52.0, 47.5]), (101, [50.5, 52.5, 48.0])])
def test_metres_to_pixels_counts_the_centre_as_half_the_width(size: int, expected: list[float]) -> None:
    position_m = np.array([3e-8, 5e-8, 0.5e-8])
    assert pixel_positions(position_m, 3e-8, 1e-8, size) == pytest.approx(expected, rel=1e-12)


def test_metres_increase_with_pixels_and_a_pixel_size_of_zero_is_refused() -> None:
    assert np.all(np.diff(pixel_positions(np.array([-1e-6, 0, 2e-6]), 0.0, 1e-8, 7)) > 0)
    with pytest.raises(DataError, match="found 0"):
        pixel_positions([1.0], 0.0, 0.0, 7)


def test_group_coordinates_by_hand() -> None:
    x, y = [0.0, 4.0, 10.0], [1.0, 1.0, 7.0]
    offsets, relative = group_coordinates(x, y, np.array([[0, 1], [2, 0]]))
    assert offsets.dtype == relative.dtype == np.float64
    assert offsets.tolist() == [[[[2.0], [1.0]]], [[[5.0], [4.0]]]]
    # member 0 of group 0 lies 2 px left of the centre: to centre it the canvas moves right.
    assert relative.tolist() == [[[[2.0, -2.0], [0.0, 0.0]]], [[[-5.0, 5.0], [-3.0, 3.0]]]]


def test_offsets_and_relative_coordinates_give_the_positions_back(rng: np.random.Generator) -> None:
    x, y = rng.random((2, 9)) * 100
    groups = rng.integers(0, 9, (5, 4))
    offsets, relative = group_coordinates(x, y, groups)
    assert offsets.shape == (5, 1, 2, 1)
    assert relative.shape == (5, 1, 2, 4)
    positions = member_positions(x, y, groups)
    np.testing.assert_allclose(offsets + LOCAL_OFFSET_SIGN * relative, positions, rtol=1e-14)
    assert positions[3, 0, :, 2].tolist() == [x[groups[3, 2]], y[groups[3, 2]]]


def test_a_group_of_one_has_no_offset(rng: np.random.Generator) -> None:
    x, y = rng.random((2, 5)) * 1e4
    offsets, relative = group_coordinates(x, y, np.arange(5)[:, None])
    assert not relative.any()
    np.testing.assert_array_equal(offsets[:, 0, :, 0], np.stack([x, y], axis=1))


@pytest.mark.parametrize(
    ("N", "reach", "expected"),
    [(64, 0.0, 64), (64, 0.01, 72), (64, 4.0, 72), (64, 4.001, 80), (6, 0.0, 6), (6, -1.0, 8)],
)
def test_canvas_size(N: int, reach: float, expected: int) -> None:
    assert canvas_size(N, np.array([0.0, reach])) == expected


def test_canvas_holds_every_member_and_no_more_than_a_multiple_of_eight_beyond(
    rng: np.random.Generator,
) -> None:
    for reach in rng.random(50) * 40:
        size, needed = canvas_size(64, [reach]), 64 + 2 * np.ceil(reach)
        assert size % 8 == 0
        assert needed <= size < needed + 8


def test_canvas_size_refuses_offsets_that_are_not_finite() -> None:
    with pytest.raises(DataError, match="finite"):
        canvas_size(64, [0.0, np.nan])


@pytest.mark.parametrize(
    ("xcoords", "x0", "width"),
    [([4.0], 0, 8), ([4.5], 0, 9), ([-3.25, 4.0], -8, 16), ([2.5, 10.75], -2, 17), ([3.0, 3.0], -1, 8)],
)
def test_object_frame_by_hand(xcoords: list[float], x0: int, width: int) -> None:
    frame = object_frame(xcoords, [4.0] * len(xcoords), 8)
    assert frame == ObjectFrame(height=8, width=width, x0=x0, y0=0)
    assert frame.shape == (8, width)


def test_object_frame_is_the_smallest_that_holds_every_bilinear_patch(rng: np.random.Generator) -> None:
    x, y = rng.random((2, 11)) * 30 - 10
    x[0], y[3] = 7.0, -4.0
    frame = object_frame(x, y, 6)
    full = extract(np.ones(frame.shape), *frame.local(x, y), 6)
    np.testing.assert_allclose(full, 1, rtol=1e-12)
    for edge in (np.s_[0], np.s_[-1], np.s_[:, 0], np.s_[:, -1]):
        smaller = np.ones(frame.shape)
        smaller[edge] = 0
        assert extract(smaller, *frame.local(x, y), 6).min() < 1 - 1e-3


@pytest.mark.parametrize("xcoords", [[], [1.0, np.inf]])
def test_object_frame_refuses_no_or_infinite_positions(xcoords: list[float]) -> None:
    with pytest.raises(DataError, match="xcoords"):
        object_frame(xcoords, [1.0] * len(xcoords), 8)


def raster(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """49 points of a field of 60 x 60 pixels."""
    x, y = np.meshgrid(np.arange(7) * 10.0, np.arange(7) * 10.0)
    return x.ravel() + rng.random(49), y.ravel() + rng.random(49)


def test_a_canvas_that_one_stray_position_makes_is_refused_by_its_pattern(rng: np.random.Generator) -> None:
    x, y = raster(rng)
    object_frame(x, y, 64)
    x[17], y[17] = 1e5, 1e5
    with pytest.raises(DataError, match=r"pattern 17 at \(100000, 100000\) is far from all others; .* --drop 17\)"):
        object_frame(x, y, 64)
    assert astray(x, y, 64).tolist() == [17]
    y[5] = -9e5
    assert astray(x, y, 64).tolist() == [5, 17]


def test_positions_in_another_unit_are_refused(rng: np.random.Generator) -> None:
    x, y = raster(rng)
    with pytest.raises(DataError, match=r"span 1.*e.09: their unit may not be the pixel"):
        object_frame(x * 1e3 / 2, y * 1e3, 64)


def test_scans_that_hang_together_pass(rng: np.random.Generator) -> None:
    """A long line across, few points, a gap: nothing of it is astray."""
    line = np.arange(2000) * 8.0
    assert object_frame(line, line / 5, 64).height == 3263
    for x, y in (([0.0], [0.0]), ([0.0, 900.0], [0.0, 9.0]), ([0.0, 40.0, 700.0], [0.0] * 3)):
        object_frame(x, y, 64)
    x, y = raster(rng)
    x[25:] += 200
    assert astray(x, y, 64).size == 0
    assert astray([0.0, 1.0, 5000.0], [0.0, 1.0, 2.0], 64).tolist() == [2]


def test_examples_in_the_docstrings() -> None:
    result = doctest.testmod(geometry)
    assert result.attempted >= 3
    assert result.failed == 0
