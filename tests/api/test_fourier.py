"""`ptycho.fourier_ptychography`: arrays and files, boards and tables give the same."""

from pathlib import Path

import numpy as np
import pytest

import ptycho
from ptycho.core.physics.fourier_ptychography import Microscope
from ptycho.core.simulation.fourier import lit_sample
from ptycho.errors import DataError

OPTICS = {"na": 0.1, "magnification": 4.0, "detector_pixel_m": 6.5e-6, "wavelength_m": 632e-9}


def test_three_lines_give_the_sample(tmp_path: Path) -> None:
    """A board and arrays; or places and a file; iterations are reported."""
    leds = ptycho.led_board(3, 3, 4e-3, 80e-3)
    made = lit_sample(Microscope(0.1, 4.0, 632e-9, 6.5e-6), leds.sines(), 16, kind="smooth", seed=1)
    told: list[int] = []
    found = ptycho.fourier_ptychography(
        made.images, leds, **OPTICS, iterations=4, report=lambda iteration, error: told.append(iteration)
    )
    assert found.object.shape == made.sample.shape and found.probe.shape == (1, 16, 16)
    assert told[:2] == [0, 1] and found.trust is not None
    np.save(tmp_path / "images.npy", made.images)
    again = ptycho.fourier_ptychography(tmp_path / "images.npy", leds.places_m, **OPTICS, iterations=4)
    np.testing.assert_array_equal(again.object, found.object)


def test_arrays_that_are_none_are_refused() -> None:
    """LEDs of four numbers, images without an axis of LEDs."""
    with pytest.raises(DataError, match="leds: expected places"):
        ptycho.fourier_ptychography(np.ones((2, 16, 16)), np.ones((2, 4)), **OPTICS)
    with pytest.raises(DataError, match="images: expected real numbers"):
        ptycho.fourier_ptychography(np.ones((16, 16)), np.zeros((2, 2)), **OPTICS)
