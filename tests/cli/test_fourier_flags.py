"""Flags of the microscope and its LEDs: units, and the order in which LEDs are mirrored and turned."""

import argparse

import numpy as np
import pytest

from ptycho.cli.console import LineParser
from ptycho.cli.fourier_flags import add_fourier_flags, leds_of, microscope_of
from ptycho.errors import ConfigError

OPTICS = ["--na", "0.1", "--magnification", "2", "--detector-pixel-um", "4", "--wavelength-nm", "500"]


def given(*words: str) -> argparse.Namespace:
    parser = LineParser()
    add_fourier_flags(parser)
    return parser.parse_flags(["images.tif", *OPTICS, *words])


def test_units_become_metres() -> None:
    """Micrometres on the camera, nanometres of the light, millimetres of the board."""
    microscope = microscope_of(given())
    assert (microscope.pixel_m, microscope.wavelength_m) == pytest.approx((2e-6, 5e-7))
    leds = leds_of(given("--led-grid", "1,3", "--led-pitch-mm", "3", "--led-height-mm", "4"), 5e-7)
    np.testing.assert_allclose(leds.sines(), [[-0.6, 0], [0, 0], [0.6, 0]], atol=1e-15)
    moved = leds_of(
        given("--led-grid", "1,3", "--led-pitch-mm", "3", "--led-height-mm", "4", "--led-centre", "0,0"), 5e-7
    )
    np.testing.assert_allclose(moved.sines()[:2], [[0, 0], [0.6, 0]], atol=1e-15)


def test_leds_are_mirrored_before_they_are_turned() -> None:
    """The first of the row, at -x, mirrored to +x and turned to +y."""
    board = ("--led-grid", "1,3", "--led-pitch-mm", "3", "--led-height-mm", "4")
    leds = leds_of(given(*board, "--flip", "x", "--rotation", "90"), 5e-7)
    np.testing.assert_allclose(leds.sines()[0], [0, 0.6], atol=1e-15)


@pytest.mark.parametrize("words", [("--na", "-1"), ("--led-grid", "3"), ("--led-centre", "a,b"), ("--region", "1,2,x")])
def test_values_that_cannot_be_are_refused(words: tuple[str, str]) -> None:
    """With what was expected."""
    with pytest.raises(ConfigError, match="expected"):
        given(*words)
