"""Slices of a thick object: what they are together, how far apart they stand, and what waves do between them."""

from __future__ import annotations

import numpy as np
import pytest

from ptycho.core.physics.diffraction import diffract
from ptycho.core.physics.multislice import gap_distance_m, gap_of, projected
from ptycho.core.physics.near_field import NearField
from ptycho.core.physics.recording import Recording
from ptycho.errors import ConfigError

WAVELENGTH, PIXEL = 1e-10, 20e-9


def test_each_slice_stands_in_the_middle_of_its_part() -> None:
    gap = gap_of(4, 20e-6, WAVELENGTH, PIXEL, 64)
    assert gap == NearField(PIXEL**2 / (WAVELENGTH * 5e-6), WAVELENGTH / PIXEL)
    assert gap_distance_m(gap, PIXEL) == pytest.approx(5e-6)
    assert gap_distance_m(gap, None) is None and gap_distance_m(NearField(0.5), PIXEL) is None


@pytest.mark.parametrize(
    "slices, thickness, told",
    [
        (1, 1e-6, "2 to 20"),
        (21, 1e-6, "2 to 20"),
        (2, 0.0, "metres above 0"),
        (2, 1e-3, "take 4 slices or more"),
        (2, 1.0, "check thickness"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(slices, thickness, told) -> None:
    with pytest.raises(ConfigError, match=told):
        gap_of(slices, thickness, WAVELENGTH, PIXEL, 64)


def test_the_product_of_slices_is_what_a_thin_object_would_be(rng) -> None:
    slices = rng.standard_normal((3, 5, 4)) + 1j
    np.testing.assert_allclose(projected(slices), slices[0] * slices[1] * slices[2])
    np.testing.assert_array_equal(projected(slices[0]), slices[0])


def test_patterns_of_empty_slices_are_those_of_the_probe_and_of_thin_gaps_those_of_the_product(rng) -> None:
    probe = rng.standard_normal((2, 8, 8)) + 1j
    patches = 1 + 0.3 * (rng.standard_normal((5, 3, 8, 8)) + 1j)
    dx, dy = rng.uniform(-0.5, 0.5, (2, 5))
    empty = diffract(probe, np.ones((5, 3, 8, 8)), dx, dy, Recording(gap=NearField(0.2)))
    np.testing.assert_allclose(empty, diffract(probe, np.ones((5, 8, 8)), dx, dy), rtol=1e-9)
    thin = diffract(probe, patches, dx, dy, Recording(gap=NearField(1e12)))
    np.testing.assert_allclose(thin, diffract(probe, patches.prod(axis=1), dx, dy), rtol=1e-6)
    thick = diffract(probe, patches, dx, dy, Recording(gap=NearField(0.2)))
    assert np.linalg.norm(thick - thin) > 0.05 * np.linalg.norm(thin)


def test_the_second_slice_is_lit_by_what_free_space_makes_of_a_wave() -> None:
    """A plane wave through a grating of one period: the orders of the second slice turn by the phase of the gap."""
    x = np.arange(8)
    gap = NearField(0.25)
    turn = np.exp(1j * gap.turns(8)[0, 2])  # of frequency 1/4
    grating = np.exp(2j * np.pi * x / 4)[None, :] * np.ones((8, 1))
    patches = np.stack([1 + 0.5 * grating, 1 + 0.5 * grating])[None]
    orders = diffract(np.ones((8, 8)), patches, recording=Recording(gap=gap))[0, 4]
    np.testing.assert_allclose(orders[[4, 6, 0]] / 64, np.abs([1, 0.5 * turn + 0.5, 0.25 * turn]) ** 2, atol=1e-12)
