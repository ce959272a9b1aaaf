"""The forward model: Parseval, adjoints, whole-pixel shifts, modes, noise and deviance."""

import numpy as np
import pytest

from ptycho.core.physics import diffraction as d
from ptycho.core.physics.recording import Recording


def complex_normal(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape) + 1j * rng.standard_normal(shape)


def test_far_field_of_a_point_is_flat_and_of_a_plane_wave_is_central() -> None:
    point = np.zeros((4, 4), complex)
    point[2, 2] = 1
    np.testing.assert_allclose(np.abs(d.far_field(point)), 0.25, atol=1e-15)
    plane = d.far_field(np.ones((4, 4), complex))
    assert plane[2, 2] == pytest.approx(4)
    assert np.count_nonzero(np.abs(plane) > 1e-12) == 1


def test_far_field_moves_to_larger_index_for_a_positive_ramp() -> None:
    x = np.arange(8)
    ramp = np.exp(2j * np.pi * 2 * x / 8)[None, :] * np.ones((8, 1))
    assert np.unravel_index(np.argmax(np.abs(d.far_field(ramp))), (8, 8)) == (4, 6)


@pytest.mark.parametrize("shape", [(6, 6), (3, 5, 5), (2, 3, 8, 8)])
def test_parseval_and_inverse(shape: tuple[int, ...], rng: np.random.Generator) -> None:
    waves = complex_normal(rng, *shape)
    field = d.far_field(waves)
    assert np.linalg.norm(field) == pytest.approx(np.linalg.norm(waves), rel=1e-14)
    np.testing.assert_allclose(d.propagate_back(field), waves, atol=1e-14)


def test_propagate_back_is_the_adjoint(rng: np.random.Generator) -> None:
    x, y = complex_normal(rng, 7, 7), complex_normal(rng, 7, 7)
    assert np.vdot(y, d.far_field(x)) == pytest.approx(np.vdot(d.propagate_back(y), x), rel=1e-13)


@pytest.mark.parametrize(("dx", "dy"), [(0, 0), (1, 0), (0, -2), (3, 5)])
def test_fourier_shift_by_whole_pixels_is_a_roll(dx: int, dy: int, rng: np.random.Generator) -> None:
    image = complex_normal(rng, 7, 8)
    np.testing.assert_allclose(d.fourier_shift(image, dx, dy), np.roll(image, (dy, dx), (0, 1)), atol=1e-13)


def test_fourier_shift_is_unitary_and_its_adjoint_is_the_shift_back(rng: np.random.Generator) -> None:
    x, y = complex_normal(rng, 3, 8, 8), complex_normal(rng, 3, 8, 8)
    dx, dy = rng.uniform(-1, 1, 3), rng.uniform(-1, 1, 3)
    shifted = d.fourier_shift(x, dx, dy)
    assert np.vdot(y, shifted) == pytest.approx(np.vdot(d.fourier_shift(y, -dx, -dy), x), rel=1e-13)


def test_modes_add_incoherently(rng: np.random.Generator) -> None:
    probe, patches = complex_normal(rng, 3, 8, 8), complex_normal(rng, 2, 8, 8)
    expected = sum(np.abs(d.far_field(mode * patches)) ** 2 for mode in probe)
    np.testing.assert_allclose(d.intensity(d.illuminate(probe, patches)), expected, rtol=1e-13)
    np.testing.assert_allclose(
        d.intensity(d.illuminate(probe[0], patches)), np.abs(d.far_field(probe[0] * patches)) ** 2
    )


def test_diffract_moves_the_probe_with_the_remainder() -> None:
    """A band-limited object shifted by -d under a fixed probe gives what the probe moved by +d gives."""
    n, (dx, dy) = 32, (0.31, -0.42)
    y, x = np.mgrid[:n, :n] - n / 2
    probe = np.exp(-(x**2 + y**2) / 18).astype(complex)
    phase = 0.4 * np.cos(2 * np.pi * (2 * x + y) / n)
    shifted_phase = 0.4 * np.cos(2 * np.pi * (2 * (x + dx) + (y + dy)) / n)
    at_rounded = d.diffract(probe, np.exp(1j * phase)[None], np.array([dx]), np.array([dy]))
    exact = d.intensity(d.illuminate(probe, np.exp(1j * shifted_phase)[None]))
    assert np.abs(at_rounded - exact).max() < 1e-5 * exact.max()
    opposite = d.diffract(probe, np.exp(1j * phase)[None], np.array([-dx]), np.array([-dy]))
    assert np.abs(opposite - exact).max() > 1e-2 * exact.max()


def test_smoothing_keeps_a_constant_away_from_the_border_and_spreads_a_point() -> None:
    flat = d.smooth(np.ones((1, 21, 21), complex), 1.2)
    np.testing.assert_allclose(flat[0, 8:13, 8:13], 1, atol=1e-9)
    point = np.zeros((1, 9, 9), complex)
    point[0, 4, 4] = 1
    spread = d.smooth(point, 0.8)[0].real
    assert spread[4, 5] / spread[4, 4] == pytest.approx(np.exp(-1 / (2 * 0.64)))
    assert d.smooth(point, 0.0) is point


def test_poisson_amplitude_has_the_mean_and_variance_of_counts(rng: np.random.Generator) -> None:
    counts = d.poisson_amplitude(np.full((200, 200), 5.0), rng) ** 2
    assert counts.mean() == pytest.approx(25, abs=4 * 5 / 200)
    assert counts.var() == pytest.approx(25, rel=0.05)


def test_deviance_by_hand() -> None:
    counts, expected = np.array([[0.0, 4.0, 9.0]]), np.array([[2.0, 4.0, 3.0]])
    np.testing.assert_allclose(d.deviance(counts, expected), [[4.0, 0.0, 2 * (9 * np.log(3) - 6)]], rtol=1e-14)
    assert d.deviance(counts, expected, np.array([[False, True, True]]))[0, 0] == 0


def test_deviance_gradient_is_twice_one_minus_the_ratio() -> None:
    counts, expected, step = np.array([3.0]), np.array([7.0]), 1e-5
    slope = (d.deviance(counts, expected + step) - d.deviance(counts, expected - step)) / (2 * step)
    assert slope[0] == pytest.approx(2 * (1 - 3 / 7), rel=1e-9)


def test_cleared_takes_off_what_a_recording_puts_on(rng: np.random.Generator) -> None:
    probe, patches = complex_normal(rng, 2, 6, 6), complex_normal(rng, 4, 6, 6)
    known = Recording(rng.uniform(0.5, 2, 4), background=rng.random((6, 6)))
    measured = np.sqrt(d.diffract(probe, patches, recording=known))
    plain = np.sqrt(d.diffract(probe, patches))
    assert known.flux is not None
    np.testing.assert_allclose(d.cleared(measured, known.flux[:, None, None], known.background), plain, atol=1e-12)
    np.testing.assert_allclose(d.cleared(measured), measured, rtol=1e-15)
    assert d.cleared(np.array([[1.0]]), background=np.array([[4.0]])) == 0
