"""Metrics against hand-made cases and against scikit-image and torchmetrics."""

import math

import numpy as np
import pytest
from skimage.metrics import structural_similarity

from ptycho.core.quality.metrics import (
    mae,
    ms_ssim,
    mse,
    nrmse,
    psnr,
    relative_fourier_error,
    ssim,
)
from ptycho.core.quality.ring_correlation import FrcCurve, frc
from ptycho.core.simulation.objects import make_object
from ptycho.errors import DataError


def textured(shape: tuple[int, int], seed: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """An image and a noisy, darkened copy of it."""
    rng = np.random.default_rng(seed)
    image = np.abs(make_object("lines", shape, rng)).astype(np.float64)
    return 0.9 * image + 0.05 * rng.standard_normal(shape), image


def test_errors_of_a_hand_made_pair() -> None:
    a, b = np.array([[1.0, 2.0, 3.0]]), np.array([[1.0, 4.0, -1.0]])
    assert mae(a, b) == 2.0
    assert mse(a, b) == pytest.approx(20 / 3)
    assert nrmse(a, b) == pytest.approx(math.sqrt(20 / 18))
    assert mae(a + 0j, a + np.array([[3 + 4j, 0, 0]])) == pytest.approx(5 / 3)
    assert mse(a + 0j, a + np.array([[3 + 4j, 0, 0]])) == pytest.approx(25 / 3)


def test_whole_numbers_do_not_wrap() -> None:
    assert mae(np.array([[0]], np.uint8), np.array([[255]], np.uint8)) == 255


def test_psnr_of_a_known_error() -> None:
    image = np.zeros((4, 5))
    assert psnr(image + 0.1, image, data_range=2.0) == pytest.approx(20 * math.log10(20))
    assert psnr(image + 0.1, image, data_range=255) == pytest.approx(20 * math.log10(2550))
    assert psnr(image, image, data_range=1.0) == math.inf
    with pytest.raises(TypeError, match="data_range"):
        psnr(image, image)  # type: ignore[call-arg]


@pytest.mark.parametrize("metric", [mae, mse, nrmse])
def test_unequal_shapes_are_named(metric) -> None:
    with pytest.raises(DataError, match=r"found \(2, 3\) and \(3, 2\)"):
        metric(np.ones((2, 3)), np.ones((3, 2)))


def test_a_reference_or_range_of_zero_is_refused() -> None:
    with pytest.raises(DataError, match="not zero everywhere"):
        nrmse(np.ones((2, 2)), np.zeros((2, 2)))
    for metric in (psnr, ssim):
        with pytest.raises(DataError, match="found 0"):
            metric(np.ones((9, 9)), np.ones((9, 9)), 0.0)


@pytest.mark.parametrize(
    ("window", "settings"),
    [
        ("uniform", {}),
        ("gaussian", {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}),
    ],
)
@pytest.mark.parametrize("shape", [(11, 30), (53, 40)])
def test_ssim_is_that_of_scikit_image(window: str, settings: dict, shape: tuple[int, int]) -> None:
    a, b = textured((64, 64))
    a, b = a[: shape[0], : shape[1]], b[: shape[0], : shape[1]]
    expected = structural_similarity(a, b, data_range=0.6, **settings)
    assert 0.1 < expected < 0.95
    assert ssim(a, b, 0.6, window=window) == pytest.approx(expected, abs=1e-9)


def test_ssim_of_a_constant_offset_is_its_luminance() -> None:
    flat = np.full((9, 9), 0.5)
    assert ssim(flat, flat, 1.0) == 1.0
    assert ssim(flat + 0.25, flat, 1.0) == pytest.approx((2 * 0.375 + 1e-4) / (0.5625 + 0.25 + 1e-4), abs=1e-9)


def test_ssim_needs_real_images_as_large_as_its_window() -> None:
    with pytest.raises(DataError, match=r"7 pixels a side or more, found float64 and float64, \(6, 9\)"):
        ssim(np.ones((6, 9)), np.ones((6, 9)), 1.0)
    with pytest.raises(DataError, match="complex128"):
        ssim(np.ones((9, 9), complex), np.ones((9, 9)), 1.0)


def test_ms_ssim_is_that_of_torchmetrics() -> None:
    import torch
    from torchmetrics.functional.image import multiscale_structural_similarity_index_measure as reference

    a, b = textured((256, 260))
    tensors = [torch.from_numpy(image)[None, None] for image in (a, b)]
    expected = float(reference(*tensors, data_range=0.6))
    assert 0.3 < expected < 0.99
    # torchmetrics averages the smallest scale over a reflected border as well
    assert ms_ssim(a, b, 0.6) == pytest.approx(expected, abs=1e-4)


def test_ms_ssim_says_how_large_images_must_be() -> None:
    assert ms_ssim(*[textured((176, 176))[1]] * 2, 0.6) == pytest.approx(1.0, abs=1e-12)
    with pytest.raises(DataError, match=r"at least 176 pixels each way, found \(175, 200\)"):
        ms_ssim(np.ones((175, 200)), np.ones((175, 200)), 1.0)


def test_rings_of_a_small_square_are_counted() -> None:
    image = np.arange(16.0).reshape(4, 4) ** 2
    curve = frc(image, image)
    np.testing.assert_allclose(curve.frequency, [0, 0.25, 0.5])
    np.testing.assert_array_equal(curve.n, [1, 8, 6])
    np.testing.assert_allclose(curve.correlation[1:], 1.0)


def test_frc_tells_same_opposite_and_unrelated(rng: np.random.Generator) -> None:
    a, b = rng.standard_normal((2, 60, 75))
    np.testing.assert_allclose(frc(a, 3 * a + 2).correlation[1:], 1.0)
    np.testing.assert_allclose(frc(a, -a).correlation[1:], -1.0)
    curve = frc(a, b)
    assert np.all(np.abs(curve.correlation[2:]) < 6 / np.sqrt(curve.n[2:]))  # the window couples neighbouring pixels
    assert frc(a, 1j * a).correlation[5] == pytest.approx(0.0, abs=1e-12)


def test_frc_finds_where_two_images_part(rng: np.random.Generator) -> None:
    common, mine, yours = rng.standard_normal((3, 128, 128))
    radius = np.hypot(np.fft.fftfreq(128)[:, None], np.fft.fftfreq(128)[None, :])
    low = np.fft.ifft2(np.fft.fft2(common) * (radius < 0.2)).real
    high = [np.fft.ifft2(np.fft.fft2(noise) * (radius >= 0.2)).real for noise in (mine, yours)]
    curve = frc(low + high[0], low + high[1])
    assert curve.cutoff() == pytest.approx(0.2, abs=0.012)
    assert curve.cutoff(curve.one_bit()) == pytest.approx(0.2, abs=0.012)


def test_cutoffs_of_a_hand_made_curve() -> None:
    curve = FrcCurve(np.array([0.0, 0.1, 0.2, 0.3]), np.array([0.1, 0.9, 0.3, 0.8]), np.array([1, 100, 400, 10**12]))
    assert curve.cutoff() == pytest.approx(0.1 + 0.1 * 0.4 / 0.6)
    assert curve.cutoff(0.95) == 0.1
    assert curve.cutoff(0.2) == 0.3
    assert curve.cutoff(above=0.15) == 0.2
    assert curve.cutoff(above=0.3) == 0.3
    np.testing.assert_allclose(curve.one_bit(), [1.0, 0.451703, 0.395186, 1 / 3], atol=1e-5)
    assert curve.cutoff(curve.one_bit()) == pytest.approx(0.1 + 0.1 * 0.448297 / (0.448297 + 0.095186), abs=1e-5)


def test_the_relative_fourier_error_of_a_hand_made_pair() -> None:
    predicted, measured = np.array([[[3.0, 1.0]], [[0.0, 5.0]]]), np.array([[[2.0, 2.0]], [[0.0, 1.0]]])
    assert relative_fourier_error(predicted, measured) == pytest.approx(18 / 9)
    assert relative_fourier_error(predicted, measured, np.array([[True, False]])) == pytest.approx(1 / 4)
    with pytest.raises(DataError, match="found none where the mask is True"):
        relative_fourier_error(predicted, measured, np.zeros((1, 2), bool))


def test_information_thresholds_are_those_of_the_paper() -> None:
    """The constants as printed: (0.2071 + 1.9102/sqrt n) / (1.2071 + 0.9102/sqrt n), and 0.5, 2.4142, 1.5, 1.4142."""
    n = np.array([1, 9, 100, 10**8])
    curve = FrcCurve(np.arange(4) / 6, np.zeros(4), n)
    root = np.sqrt(n)
    np.testing.assert_allclose(curve.half_bit(), (0.2071 + 1.9102 / root) / (1.2071 + 0.9102 / root), atol=5e-5)
    np.testing.assert_allclose(curve.one_bit(), (0.5 + 2.4142 / root) / (1.5 + 1.4142 / root), atol=5e-5)
    assert curve.half_bit()[-1] == pytest.approx(0.17157, abs=1e-3)  # many pixels: the correlation at that SNR


def test_half_data_of_half_a_bit_lie_on_the_half_bit_threshold(rng: np.random.Generator) -> None:
    """Two halves of signal-to-noise ratio 0.2071: their correlation scatters about the threshold's first term."""
    side = 256
    signal, one, two = (rng.standard_normal((side, side)) + 1j * rng.standard_normal((side, side)) for _ in range(3))
    curve = frc(signal * math.sqrt(0.2071) + one, signal * math.sqrt(0.2071) + two)
    assert np.average(curve.correlation[5:], weights=curve.n[5:]) == pytest.approx(0.2071 / 1.2071, abs=0.015)
    assert curve.cutoff(curve.half_bit()) < 0.1 < frc(signal * 2 + one, signal * 2 + two).cutoff(curve.half_bit())


def test_psnr_is_that_of_scikit_image() -> None:
    from skimage.metrics import normalized_root_mse, peak_signal_noise_ratio

    a, b = textured((40, 31))
    assert psnr(a, b, 0.6) == pytest.approx(peak_signal_noise_ratio(b, a, data_range=0.6), abs=1e-9)
    assert nrmse(a, b) == pytest.approx(normalized_root_mse(b, a, normalization="euclidean"), abs=1e-12)
