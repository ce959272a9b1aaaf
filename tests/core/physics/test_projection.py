"""The projection from vacuum: empty samples, linearity, masks, and that it loses nothing."""

import numpy as np
import pytest

from ptycho.core.physics import diffraction as d
from ptycho.core.physics.projection import project_from_vacuum, projection_constants


@pytest.fixture
def probe() -> np.ndarray:
    y, x = np.mgrid[:16, :16] - 8.0
    first = np.exp(-(x**2 + y**2) / 12 + 0.05j * (x**2 + y**2))
    return np.stack([first, 0.3 * x * first])


def test_an_empty_sample_is_zero(probe: np.ndarray) -> None:
    amplitude = np.sqrt(d.diffract(probe, np.ones((1, 16, 16))))
    bright = projection_constants(probe).vacuum > 0.5
    assert np.abs(project_from_vacuum(amplitude, probe)[0, bright]).max() < 5e-3


def test_it_is_linear_in_the_amplitudes(probe: np.ndarray, rng: np.random.Generator) -> None:
    a, b = rng.random((2, 3, 16, 16))
    zero = project_from_vacuum(np.zeros_like(a), probe)
    total = project_from_vacuum(a, probe) + project_from_vacuum(b, probe) - zero
    np.testing.assert_allclose(project_from_vacuum(a + b, probe), total, atol=1e-13)


def test_a_weak_phase_object_is_seen_upright(probe: np.ndarray) -> None:
    phase = np.zeros((16, 16))
    phase[5, 6:11] = phase[8:11, 9] = 0.1
    picture = project_from_vacuum(np.sqrt(d.diffract(probe[:1], np.exp(1j * phase)[None])), probe[:1])[0].imag
    likeness = [np.sum(picture * turned) for turned in (phase, phase[::-1], phase[:, ::-1], phase[::-1, ::-1], phase.T)]
    assert likeness[0] > 2 * max(likeness[1:])


def test_invalid_pixels_are_taken_as_vacuum(probe: np.ndarray, rng: np.random.Generator) -> None:
    amplitude = np.sqrt(d.diffract(probe, np.exp(1j * rng.random((1, 16, 16)))))
    mask = rng.random((16, 16)) > 0.2
    spoiled = np.where(mask, amplitude, 99.0)
    filled = np.where(mask, amplitude, projection_constants(probe).vacuum_amplitude)
    np.testing.assert_array_equal(project_from_vacuum(spoiled, probe, mask), project_from_vacuum(filled, probe))
