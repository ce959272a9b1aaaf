"""Simulated images of a microscope: bright inside the aperture, dark outside, and the same for the same seed."""

import numpy as np

from ptycho.core.physics.fourier_ptychography import Microscope
from ptycho.core.simulation.fourier import lit_sample

OPTICS = Microscope(na=0.1, magnification=4.0, wavelength_m=632e-9, camera_pixel_m=6.5e-6)


def test_leds_within_the_aperture_make_bright_images() -> None:
    """By a factor of five and more; the mean of all is the dose."""
    sines = np.array([[0.0, 0.0], [0.05, 0.0], [0.0, 0.2]])
    lit = lit_sample(OPTICS, sines, 24, photons=1e5, seed=2)
    counts = lit.images.sum(axis=(1, 2))
    assert counts[:2].min() > 5 * counts[2]
    assert abs(counts.mean() / 1e5 - 1) < 0.02
    assert np.abs(lit.whole).min() > 0.3


def test_everything_follows_the_seed_and_effects_are_planted() -> None:
    """Brightness, background and places change the images; without effects the pupil is clear."""
    sines = np.array([[0.0, 0.0], [0.05, 0.05]])
    plain = lit_sample(OPTICS, sines, 24, seed=3)
    np.testing.assert_array_equal(plain.images, lit_sample(OPTICS, sines, 24, seed=3).images)
    np.testing.assert_array_equal(np.abs(plain.pupil), plain.pupil)
    brighter = lit_sample(OPTICS, sines, 24, background=500.0, seed=3).images
    assert np.mean(brighter.astype(float) - plain.images) > 400
    for effect in ("flicker", "position_error_px", "turned_deg", "aberrations"):
        other = lit_sample(OPTICS, sines, 24, seed=3, **{effect: 0.5})
        assert (other.images != plain.images).any()
