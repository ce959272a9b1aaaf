"""Optics of Fourier ptychography: images are those of the textbook formula, LEDs lie where they should."""

import numpy as np
import pytest

from ptycho.core.physics.diffraction import diffract
from ptycho.core.physics.fourier_ptychography import (
    Microscope,
    bright_field_start,
    pupil_functions,
    sample_of,
    spectrum_of,
)
from ptycho.core.physics.patches import extract_rounded
from ptycho.errors import ConfigError, DataError

OPTICS = Microscope(na=0.1, magnification=4.0, wavelength_m=632e-9, camera_pixel_m=6.5e-6)
N = 16


def test_a_tilted_plane_wave_through_a_pupil_gives_the_same_image() -> None:
    """By the formula itself: light of an LED at +X runs towards -X, times the sample, filtered, squared.

    The sample is fine enough for the camera to see every second or so of its pixels; the LED lies on whole pixels.
    """
    fx, fy = 3, -2  # pixels of the spectrum that the pupil sees moved by
    sines = np.array([[fx, fy]]) * OPTICS.wavelength_m / (N * OPTICS.pixel_m)
    x, y, side = OPTICS.places(sines, N)
    assert (x[0], y[0]) == pytest.approx((side // 2 + fx, side // 2 + fy))
    rng = np.random.default_rng(0)
    sample = rng.normal(size=(side, side)) + 1j * rng.normal(size=(side, side))
    pupil = OPTICS.disk(N) * np.exp(1j * rng.normal(size=(N, N)))
    r = (np.arange(side) - side // 2) / side  # of the field of view
    wave = np.exp(-2j * np.pi * (fx * r[None, :] + fy * r[:, None]))
    passed = np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(sample * wave), norm="ortho"))
    first = side // 2 - N // 2
    passed = passed[first : first + N, first : first + N] * pupil
    image = np.abs(np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(passed), norm="ortho"))) ** 2
    patches, dx, dy = extract_rounded(spectrum_of(sample), x, y, N)
    np.testing.assert_allclose(diffract(pupil.conj(), patches, dx, dy)[0], image, rtol=1e-9)


def test_sample_and_spectrum_are_inverse_and_unitary() -> None:
    """Of an odd place and of a unit of energy."""
    image = np.zeros((8, 8), complex)
    image[3, 6] = 2j
    np.testing.assert_allclose(sample_of(spectrum_of(image)), image, atol=1e-12)
    assert np.linalg.norm(spectrum_of(image)) == pytest.approx(2)
    np.testing.assert_allclose(spectrum_of(np.ones((4, 4)))[2, 2], 4)  # the unscattered light lies in the middle


def test_a_flat_image_begins_as_a_flat_sample_of_its_brightness() -> None:
    """What is predicted for the LED in the middle is the image."""
    spectrum, pupil = bright_field_start(np.full((N, N), 7.0), OPTICS, 24)
    np.testing.assert_allclose(sample_of(spectrum), 1, atol=1e-12)
    middle = np.array([12.0])
    patches, dx, dy = extract_rounded(spectrum, middle, middle, N)
    np.testing.assert_allclose(np.sqrt(diffract(pupil, patches, dx, dy)), 7, rtol=1e-12)
    with pytest.raises(DataError, match="light in the bright field"):
        bright_field_start(np.zeros((N, N)), OPTICS, 24)


def test_functions_of_a_pupil_are_orthonormal_and_follow_its_aberrations() -> None:
    """45 of degree 8, nothing outside the disk; defocus of 0.5 radian rms is theirs to 1 %."""
    disk = Microscope(0.1, 4.0, 632e-9, 6.5e-6).disk(32)
    functions = pupil_functions(disk)
    flat = functions.reshape(len(functions), -1)
    assert len(flat) == 45
    np.testing.assert_allclose(flat @ flat.T, np.eye(45), atol=1e-10)
    assert not functions[:, disk == 0].any()
    k = (np.arange(32) - 16) / OPTICS.radius_px(32)
    rho = np.hypot(k[:, None], k[None, :])
    pupil = (disk * np.exp(0.5j * np.sqrt(3) * (2 * rho**2 - 1))).ravel()
    left = pupil - flat.T @ (flat @ pupil)
    assert np.linalg.norm(left) < 0.01 * np.linalg.norm(pupil)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"na": 0.0}, "na: expected a number above 0"),
        ({"magnification": np.nan}, "magnification"),
        ({"camera_pixel_m": 20e-6}, "camera pixel: expected at most"),
        ({"na": 0.01}, "radius of 2 pixels"),
    ],
)
def test_optics_that_cannot_be_are_refused(values: dict[str, float], message: str) -> None:
    """In one line that names what to look at."""
    with pytest.raises(ConfigError, match=message):
        Microscope(**{**vars(OPTICS), **values}).disk(N)


def test_leds_behind_the_sample_are_refused() -> None:
    """Sines of 1 and more, or no pairs."""
    for sines in (np.array([[0.8, 0.8]]), np.zeros((3, 3)), np.array([[np.nan, 0.0]])):
        with pytest.raises(DataError, match="LEDs: expected"):
            OPTICS.places(sines, N)
