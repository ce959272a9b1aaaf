"""Images under many LEDs as a scan: LEDs that do not fit, regions, and what is refused."""

from typing import Any

import numpy as np
import pytest

from ptycho.core.formats.led_table import Leds, led_board
from ptycho.core.physics.fourier_ptychography import Microscope
from ptycho.core.scan.stream import Frames
from ptycho.core.simulation.fourier import lit_sample
from ptycho.errors import ConfigError, DataError
from ptycho.workflows.iteration.fourier_scan import FourierScan, fourier_scan

N = 24
OPTICS = Microscope(na=0.1, magnification=4.0, wavelength_m=632e-9, camera_pixel_m=6.5e-6)
BOARD = led_board(7, 7, 4e-3, 80e-3)


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    """49 images of 24 x 24 pixels."""
    return lit_sample(OPTICS, BOARD.sines(), N, seed=1).images


def scan_of(images: np.ndarray, leds: Leds = BOARD, **options: Any) -> FourierScan:
    return fourier_scan(Frames.of(images), leds, OPTICS, **options)


def test_leds_that_do_not_go_with_the_images_are_a_fault(images: np.ndarray) -> None:
    """The first are the brightest, the board begins at its corner."""
    order = np.argsort(np.hypot(*BOARD.sines().T), kind="stable")
    scan = scan_of(images[order])
    assert scan.faults and "--led-order" in scan.faults[0]
    assert not scan_of(images).faults


def test_a_region_sees_the_leds_from_its_own_place() -> None:
    """16 pixels to the right of the middle: LEDs lie farther to the left."""
    wide = np.ones((49, 40, 72), np.uint16)
    middle, beside = scan_of(wide, region=(24, 8, N)), scan_of(wide, region=(40, 8, N))
    away = [scan.data.xcoords[24] - scan.start.frame.width // 2 for scan in (middle, beside)]
    assert away[0] == pytest.approx(0.0)
    sine = -16 * OPTICS.pixel_m / 80e-3
    assert away[1] == pytest.approx(sine * N * OPTICS.pixel_m / OPTICS.wavelength_m, rel=1e-6)
    assert scan_of(wide).region == (16, 0, 40)


def test_what_cannot_be_is_refused(images: np.ndarray) -> None:
    """Another number of LEDs, none in the aperture, a region outside."""
    with pytest.raises(DataError, match="expected one LED for every image, found 49 for 48"):
        scan_of(images[1:])
    with pytest.raises(DataError, match="within the numerical aperture"):
        scan_of(images, led_board(7, 7, 4e-3, 80e-3, (-5, -5)))
    for region in ((0, 0, 23), (4, 0, N), (-1, 0, 16)):
        with pytest.raises(ConfigError, match="region: expected X,Y,SIDE"):
            scan_of(images, region=region)
