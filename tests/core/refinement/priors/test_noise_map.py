"""Light and sharing of pixels, against sums pattern by pattern."""

import numpy as np
import pytest

from ptycho.core.refinement.priors.noise_map import NoiseMap


def test_two_patterns_by_hand() -> None:
    """A beam of one pixel of light 4 and one of light 1; both patterns meet at one pixel."""
    probe = np.zeros((4, 4), complex)
    probe[2, 2], probe[2, 3] = 2j, 1
    found = NoiseMap.of(probe, np.array([3.2, 4.0]), np.array([2.0, 1.8]), (5, 6))
    light = np.zeros((5, 6))
    light[2, 3:6] = 4, 1 + 4, 1
    np.testing.assert_array_equal(found.light, light)
    sharing = np.zeros((5, 6))
    sharing[2, 3:6] = 1, 25 / 17, 1
    np.testing.assert_allclose(found.sharing, sharing)


def test_modes_share_a_pattern_and_edges_are_cut(rng) -> None:
    probe = rng.standard_normal((2, 6, 6)) + 1j * rng.standard_normal((2, 6, 6))
    found = NoiseMap.of(probe, np.array([1.0]), np.array([8.0]), (9, 7))
    beam = (abs(probe) ** 2).sum(axis=0)
    expected = np.zeros((9, 7))
    expected[5:9, 0:4] = beam[:4, 2:]
    np.testing.assert_allclose(found.light, expected)
    assert found.sharing[5:, :4] == pytest.approx(1) and found.sharing[0, 6] == 0
