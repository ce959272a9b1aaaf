"""Registration: planted phases, planes, shifts and scales are found again."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from ptycho.core.objects import make_object
from ptycho.core.registration import (
    align,
    align_global_phase,
    find_offset,
    fit_plane,
    register_subpixel,
    remove_plane,
    shift_subpixel,
)
from ptycho.errors import ConfigError, DataError


@pytest.fixture
def truth() -> np.ndarray:
    """A band-limited object, so that a sub-pixel shift of it is exact."""
    drawn = make_object("smooth", (75, 90), np.random.default_rng(11)).astype(np.complex128)
    radius = np.hypot(np.fft.fftfreq(75)[:, None], np.fft.fftfreq(90)[None, :])
    return np.fft.ifft2(np.fft.fft2(drawn) * (radius < 0.3))


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


def test_everything_at_once_is_taken_out(truth: np.ndarray) -> None:
    spoilt = 2.5 * shift_subpixel(truth, 0.43, -0.28) * plane(truth.shape, 0.7, 0.0051, -0.0072)
    found = align(spoilt, truth, region=(20, 55, 22, 70))
    assert found.region == (20, 55, 22, 70)
    assert found.shift == pytest.approx((-0.43, 0.28), abs=1e-3)
    assert found.plane == pytest.approx((0.0051, -0.0072), abs=1e-5)
    assert abs(found.factor) == pytest.approx(1 / 2.5, rel=1e-4)
    assert found.correlation == pytest.approx(1.0, abs=1e-6)
    np.testing.assert_allclose(found.truth, truth[20:55, 22:70])
    assert np.linalg.norm(found.image - found.truth) < 2e-3 * np.linalg.norm(found.truth)


def test_a_perfect_reconstruction_is_left_alone(truth: np.ndarray) -> None:
    found = align(truth, truth)
    assert found.region == (2, 73, 2, 88)
    assert found.shift == pytest.approx((0, 0), abs=1e-6)
    assert found.plane == pytest.approx((0, 0), abs=1e-8)
    assert found.factor == pytest.approx(1, abs=1e-9)


def test_a_reconstruction_of_another_frame_is_laid_where_it_belongs(rng: np.random.Generator) -> None:
    truth = make_object("lines", (90, 80), rng).astype(np.complex128)
    crop = truth[10:70, 5:77] * plane((60, 72), 0.4, 0.01, 0.0)
    for offset in ((10, 5), None):
        found = align(crop, truth, offset=offset)
        assert found.offset == (10, 5)
        assert found.region == (12, 68, 7, 75)
        np.testing.assert_allclose(found.image, truth[12:68, 7:75], atol=1e-4)


@pytest.mark.parametrize(("dy", "dx"), [(0.43, -0.37), (5.43, -3.37)])
def test_a_shift_is_taken_out_and_image_edges_do_not_wrap_into_the_region(dy: float, dx: float) -> None:
    wide = make_object("lines", (160, 160), np.random.default_rng(5)).astype(np.complex128)
    inside = (slice(40, 120), slice(40, 120))
    found = align(shift_subpixel(wide, dy, dx)[inside], wide[inside], region=(20, 60, 20, 60))
    assert found.shift == pytest.approx((-dy, -dx), abs=5e-4)
    error = np.linalg.norm(found.image - found.truth) / np.linalg.norm(found.truth)
    assert error < 1e-3  # 2e-3 when what surrounds the region is not faded out


def test_the_joint_fit_does_not_wander_off_after_chance_likenesses() -> None:
    rng = np.random.default_rng(1)
    truth = make_object("lines", (80, 80), rng).astype(np.complex128)
    slow = gaussian_filter(rng.standard_normal((80, 80)), 12)
    found = align(truth * np.exp(60j * slow), truth)  # the best likeness is 7.7 pixels away
    assert max(np.abs(found.shift)) <= 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"reconstruction": np.full((75, 90), np.nan + 0j)}, "reconstruction: .* 6750"),
        ({"reconstruction": np.zeros((75, 90), complex)}, "only zeros"),
        ({"reconstruction": np.ones((1, 75, 90), complex)}, r"reconstruction: .*shape \(1, 75, 90\)"),
        ({"region": (0, 76, 0, 90)}, r"inside \(75, 90\), found \(0, 76, 0, 90\)"),
        ({"region": (9, 9, 0, 90), "offset": None}, r"found \(9, 9, 0, 90\)"),
        ({"offset": (-80, 0)}, r"overlap with the region, found shape \(75, 90\) at offset \(-80, 0\)"),
    ],
)
def test_what_cannot_be_aligned_is_refused(change: dict, words: str, truth: np.ndarray) -> None:
    with pytest.raises(DataError, match=words):
        align(**{"reconstruction": truth, "truth": truth, **change})


def test_unequal_shapes_are_named(truth: np.ndarray) -> None:
    for function in (align_global_phase, fit_plane, register_subpixel):
        with pytest.raises(DataError, match=r"found \(75, 89\) and \(75, 90\)"):
            function(truth[:, 1:], truth)
