"""Waves on their way to a near detector, against what optics says of them."""

import numpy as np
import pytest

from ptycho.core.physics.diffraction import diffract, fourier_shift
from ptycho.core.physics.near_field import NearField, carried, fresnel_number
from ptycho.core.physics.probes import gaussian_probe
from ptycho.core.physics.recording import Recording
from ptycho.errors import DataError

N = 32


def test_the_phase_of_a_plane_wave_is_that_of_its_slant(rng) -> None:
    """`2 pi z (sqrt(1/wavelength^2 - f^2) - 1/wavelength)`, lengths in pixels, and Fresnel's where that is small."""
    z, wavelength = 3.0, 0.6
    f = np.fft.fftfreq(N)
    square = f[:, None] ** 2 + f**2
    exact = np.exp(2j * np.pi * z * (np.sqrt(1 / wavelength**2 - square) - 1 / wavelength))
    near = NearField(1 / (wavelength * z), wavelength)
    np.testing.assert_allclose(near.transfer_function(N), exact, atol=1e-12)
    np.testing.assert_allclose(NearField(0.2).transfer_function(N), np.exp(-1j * np.pi * square / 0.2), atol=1e-12)
    wave = rng.standard_normal((2, N, N)) + 1j * rng.standard_normal((2, N, N))
    there = carried(wave, near)
    assert np.linalg.norm(there) == pytest.approx(np.linalg.norm(wave))
    np.testing.assert_allclose(carried(there, NearField(-near.fresnel_number, wavelength)), wave, atol=1e-12)


def test_a_grating_images_itself() -> None:
    """At the distance `2 d^2 / wavelength` of Talbot, and shifted by half a period at half of it."""
    period, n = 8, 128
    grating = np.broadcast_to(1 + 0.5 * np.cos(2 * np.pi * np.arange(n) / period), (n, n))
    itself = NearField(1 / (2 * period**2))
    np.testing.assert_allclose(carried(grating, itself), grating, atol=1e-12)
    half = NearField(2 * itself.fresnel_number)
    np.testing.assert_allclose(carried(grating, half), np.roll(grating, period // 2, 1), atol=1e-12)


def test_a_cone_of_light_magnifies_a_parallel_beam() -> None:
    """Fresnel's integral behind a point source, by brute force along one axis, is a parallel beam's by the theorem."""
    wavelength, z1, z2, pixel = 1e-10, 2e-3, 0.6, 30e-6
    magnification = (z1 + z2) / z1
    x = np.linspace(-6e-6, 6e-6, 6001)
    sample = np.exp(-((x / 1.2e-6) ** 2)) * np.exp(1j * np.cos(2 * np.pi * x / 1.5e-6))
    detector = (np.arange(128) - 64) * pixel
    phase = x**2 / (wavelength * z1) + (detector[:, None] - x) ** 2 / (wavelength * z2)
    expected = np.abs(np.exp(1j * np.pi * phase) @ sample) ** 2
    shadow = detector / magnification
    wave = np.exp(-((shadow / 1.2e-6) ** 2)) * np.exp(1j * np.cos(2 * np.pi * shadow / 1.5e-6))
    near = NearField(fresnel_number(wavelength, z2, pixel, magnification))
    found = np.abs(carried(np.outer(np.ones(128), wave), near)[0]) ** 2
    np.testing.assert_allclose(found / found.sum(), expected / expected.sum(), atol=2e-4 * found.max() / found.sum())


def test_a_place_between_pixels_moves_the_sample_and_not_the_beam() -> None:
    """The probe that was moved in place of the sample is moved back on the way."""
    near, (x, y), (dx, dy) = NearField(0.15), (3.0, -2.0), (0.3, -0.4)
    probe = gaussian_probe(N, 6.0).astype(complex) * np.exp(0.5j * np.arange(N))
    r = np.arange(N) - N // 2

    def sample(left: float, top: float) -> np.ndarray:
        along = 2 * np.pi * 3 * (r[None, :] + left) / N, 2 * np.pi * 2 * (r[:, None] + top) / N
        return 1 + 0.3j * np.cos(along[0] + along[1])

    expected = np.abs(carried(probe * sample(x + dx, y + dy), near)) ** 2
    found = diffract(probe, sample(x, y)[None], np.array([dx]), np.array([dy]), Recording(near_field=near))[0]
    np.testing.assert_allclose(found, expected, atol=1e-5 * expected.max())
    wave = probe * sample(x, y)
    moved = carried(fourier_shift(wave, dx, dy), near, -dx, -dy)
    np.testing.assert_allclose(moved, carried(wave, near), atol=1e-12)


def test_metadata_tell_it_and_bin_it() -> None:
    near = NearField(0.09, 1e-3)
    assert NearField.of({"name": "x", **near.noted()}) == near
    assert NearField.of(None) is NearField.of({"near_field": False}) is None
    assert near.spread_px == 6
    assert NearField(2.0).spread_px == 1


@pytest.mark.parametrize("said", [True, 3.0, {"fresnel_number": "many"}, {"number": 1.0}, {"fresnel_number": 0.0}])
def test_metadata_that_say_something_else_are_one_line(said) -> None:
    with pytest.raises(DataError, match=r"near.field: expected"):
        NearField.of({"near_field": said})


def test_what_pixels_do_not_sample_is_refused() -> None:
    with pytest.raises(DataError, match=r"at least 1/32 for patterns of 32 pixels, found 0\.03"):
        NearField(0.03).transfer_function(N)
    with pytest.raises(DataError, match=r"wavelength below 1.4 pixels, found 2"):
        NearField(1.0, 2.0)
