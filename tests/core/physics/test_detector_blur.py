"""The blur of a detector: a Gaussian that keeps photons, that of SciPy, and its derivative."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from ptycho.core.physics.detector_blur import blur_matrix, blur_slope, blurred, check_blur, share_of, sigma_of
from ptycho.core.physics.diffraction import diffract
from ptycho.core.physics.recording import Recording
from ptycho.errors import DataError


@pytest.mark.parametrize("sigma", [0.3, 0.8, 2.5])
def test_it_is_a_gaussian_reflected_at_the_edges(sigma, rng) -> None:
    patterns = rng.random((2, 11, 11))
    expected = gaussian_filter(patterns, sigma, mode="reflect", axes=(1, 2), truncate=10)
    np.testing.assert_allclose(blurred(patterns, sigma), expected, rtol=1e-12)


def test_every_photon_is_kept_and_none_is_negative() -> None:
    for sigma in (0.0, 1e-3, 0.5, 4.0):
        matrix = blur_matrix(7, sigma)  # 4 pixels reach beyond both edges
        np.testing.assert_allclose(matrix.sum(axis=0), 1, rtol=1e-14)
        np.testing.assert_allclose(matrix, matrix.T, rtol=1e-12)
        assert (matrix >= 0).all()


def test_its_slope_is_a_difference() -> None:
    for sigma in (0.4, 1.7):
        t, step = share_of(sigma), 1e-6
        ends = [blur_matrix(9, sigma_of(t + sign * step)) for sign in (1, -1)]
        np.testing.assert_allclose(blur_slope(9, sigma), (ends[0] - ends[1]) / (2 * step), atol=1e-8)


def test_a_sharp_detector_has_a_slope_too() -> None:
    """Where it begins to be blurred each pixel gives to both neighbours, those at the edge to one and to themselves."""
    np.testing.assert_array_equal(blur_matrix(4, 0.0), np.eye(4))
    expected = np.array([[-1, 1, 0, 0], [1, -2, 1, 0], [0, 1, -2, 1], [0, 0, 1, -1]])
    np.testing.assert_array_equal(blur_slope(4, 0.0), expected)
    patterns = np.ones((1, 4, 4))
    assert blurred(patterns, None) is patterns and blurred(patterns, 0.0) is patterns
    assert (share_of(0.0), sigma_of(0.0)) == (0, 0) and sigma_of(share_of(1.3)) == pytest.approx(1.3)


def test_the_background_is_not_blurred_the_beam_is(rng) -> None:
    probe = rng.standard_normal((2, 8, 8)) + 1j * rng.standard_normal((2, 8, 8))
    patches, flux = np.ones((3, 8, 8)), np.array([1.0, 0.5, 2.0])
    background = rng.random((8, 8))
    plain = diffract(probe, patches, recording=Recording(flux))
    found = diffract(probe, patches, recording=Recording(flux, background=background, blur=0.9))
    np.testing.assert_allclose(found, blurred(plain, 0.9) + background, rtol=1e-12)
    path = np.zeros((3, 2, 2))
    flown = diffract(probe, patches, recording=Recording(flux, path, background, blur=0.9))
    np.testing.assert_allclose(flown, found, rtol=1e-12)
    assert Recording(blur=0.9).known == {"blur": 0.9} and Recording(blur=0.9).of(np.arange(2)).blur == 0.9


def test_a_source_of_some_width_is_one() -> None:
    """A Gaussian degree of coherence over l pixels of the object blurs by `N / (2 pi l)`."""
    n, length = 32, 5.0
    lag = np.fft.fftfreq(n, 1 / n)
    coherence = np.exp(-(lag**2) / (2 * length**2))
    spread = np.fft.fftshift(np.fft.ifft(coherence).real)
    gaussian = blur_matrix(n, n / (2 * np.pi * length))[n // 2]
    np.testing.assert_allclose(spread, gaussian, atol=2e-3)


def test_what_cannot_be_one_is_refused() -> None:
    assert check_blur(2, 16) == 2.0
    for bad in (-0.1, 2.1, float("nan"), float("inf")):
        with pytest.raises(DataError, match="blur: expected 0 to 2 pixels of a pattern of 16, found"):
            check_blur(bad, 16)
