"""Registration: planted phases, planes and shifts are found again."""

import numpy as np
import pytest

from ptycho.core.quality.registration import (
    align_global_phase,
    find_offset,
    fit_plane,
    register_subpixel,
    remove_plane,
    shift_subpixel,
)
from ptycho.core.simulation.objects import make_object
from ptycho.errors import ConfigError, DataError


def plane(shape: tuple[int, int], phase: float, ky: float, kx: float) -> np.ndarray:
    y, x = np.indices(shape)
    return np.exp(1j * (phase + 2 * np.pi * (ky * y + kx * x)))


def test_the_global_phase_is_removed_and_nothing_else(truth: np.ndarray) -> None:
    turned = align_global_phase(3 * truth * np.exp(2.5j), truth)
    np.testing.assert_allclose(turned, 3 * truth, atol=1e-12)


def test_a_weight_says_where_the_phase_is_read(truth: np.ndarray) -> None:
    spoilt = truth * np.exp(0.7j)
    spoilt[:, :60] *= np.exp(2j)
    weight = np.zeros(truth.shape)
    weight[:, 60:] = 1
    np.testing.assert_allclose(align_global_phase(spoilt, truth, weight)[:, 60:], truth[:, 60:], atol=1e-12)
    assert fit_plane(spoilt, truth, weight) == pytest.approx((0.7, 0, 0), abs=1e-6)


@pytest.mark.parametrize(("ky", "kx"), [(0.0, 0.0), (0.0123, -0.0371), (-0.31, 0.22), (1 / 75, 1 / 90)])
def test_a_plane_is_fitted_and_removed_without_unwrapping(truth: np.ndarray, ky: float, kx: float) -> None:
    tilted = 0.5 * truth * plane(truth.shape, 0.9, ky, kx)
    assert fit_plane(tilted, truth) == pytest.approx((0.9, ky, kx), abs=1e-5)
    np.testing.assert_allclose(remove_plane(tilted, truth), 0.5 * truth, atol=1e-4)


def test_single_precision_stays_single(truth: np.ndarray) -> None:
    small = truth.astype(np.complex64)
    assert align_global_phase(small, small).dtype == np.complex64
    assert remove_plane(small, small).dtype == np.complex64


@pytest.mark.parametrize(("dy", "dx"), [(0.0, 0.0), (0.27, -0.41), (-6.63, 12.08), (37.0, -44.0)])
def test_a_shift_is_found_to_a_hundredth_of_a_pixel(truth: np.ndarray, dy: float, dx: float) -> None:
    moved = shift_subpixel(truth, -dy, -dx) * (2 - 1j)
    assert register_subpixel(moved, truth) == pytest.approx((dy, dx), abs=0.0051)
    assert register_subpixel(moved, truth, upsample=1000) == pytest.approx((dy, dx), abs=0.00051)


def test_whole_pixels_are_enough_when_asked(truth: np.ndarray) -> None:
    assert register_subpixel(np.roll(truth, (3, -7), (0, 1)), truth, upsample=1) == (-3, 7)
    with pytest.raises(ConfigError, match="found 0"):
        register_subpixel(truth, truth, upsample=0)


def test_real_images_stay_real_and_whole_shifts_roll() -> None:
    image = np.arange(35.0).reshape(5, 7)
    moved = shift_subpixel(image, 2, -3)
    assert moved.dtype == np.float64
    np.testing.assert_allclose(moved, np.roll(image, (2, -3), (0, 1)), atol=1e-12)


@pytest.mark.parametrize("offset", [(0, 0), (11, 20), (-6, -9)])
def test_a_crop_is_found_again_under_a_plane_and_wild_borders(
    offset: tuple[int, int], rng: np.random.Generator
) -> None:
    truth = make_object("lines", (75, 90), rng).astype(np.complex128)
    row, col = offset
    canvas = 6 * (rng.standard_normal((160, 160)) + 1j * rng.standard_normal((160, 160)))
    canvas[35:-50, 35:-35] = truth
    seen = canvas[35 + row : 35 + row + 70, 35 + col : 35 + col + 85] * plane((70, 85), 1.0, 0.02, -0.05)
    assert find_offset(seen, truth, (15, 60, 25, 70)) == offset


def test_a_flat_image_stays_where_it_is(truth: np.ndarray) -> None:
    flat = np.ones(truth.shape, complex)
    assert find_offset(flat, truth) == (0, 0)
    assert register_subpixel(flat - flat.mean(), truth) == (0, 0)


def test_unequal_shapes_are_named(truth: np.ndarray) -> None:
    for function in (align_global_phase, fit_plane, register_subpixel):
        with pytest.raises(DataError, match=r"found \(75, 89\) and \(75, 90\)"):
            function(truth[:, 1:], truth)
