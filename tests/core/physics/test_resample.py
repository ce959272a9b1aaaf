"""A probe on other pixels is the same beam."""

import numpy as np
import pytest

from ptycho.core.physics.probes import gaussian_probe
from ptycho.core.physics.resample import resampled_probe
from ptycho.errors import DataError


@pytest.mark.parametrize(("pixels", "N"), [(0.5, 96), (1.5, 32), (1.0, 64), (0.8, 60), (1.0, 33), (2 / 3, 72)])
def test_a_gaussian_keeps_its_size(pixels: float, N: int) -> None:
    known = gaussian_probe(48, 8.0, 1.0).astype(np.complex128)
    expected = gaussian_probe(N, 8.0 / pixels, 1.0)
    expected = expected * (known.real.max() / expected.real.max())
    np.testing.assert_allclose(resampled_probe(known, pixels, N), expected, atol=1e-4 * known.real.max())


def test_modes_go_and_come_back(rng: np.random.Generator) -> None:
    modes = rng.random((2, 16, 16)) + 1j * rng.random((2, 16, 16))
    finer = resampled_probe(modes, 0.5, 32)
    assert finer.shape == (2, 32, 32)
    np.testing.assert_allclose(finer[:, ::2, ::2], modes, atol=1e-12)
    assert resampled_probe(modes, 1.0, 16) is modes


def test_what_was_never_known_is_dark() -> None:
    wider = resampled_probe(np.ones((8, 8), complex), 1.0, 12)
    expected = np.pad(np.ones((8, 8)), 2)
    np.testing.assert_allclose(wider, expected, atol=1e-12)


def test_frequencies_that_larger_pixels_cannot_hold_are_left_out() -> None:
    stripes = np.ones((16, 16)) + np.cos(np.pi * np.arange(16) * 0.75)
    np.testing.assert_allclose(resampled_probe(stripes + 0j, 2.0, 8), 1.0, atol=1e-12)


@pytest.mark.parametrize("pixels", [0.0, -1.0, np.nan, np.inf])
def test_ratios_that_cannot_be(pixels: float) -> None:
    with pytest.raises(DataError, match="ratio of pixels above 0"):
        resampled_probe(np.ones((4, 4), complex), pixels, 4)
