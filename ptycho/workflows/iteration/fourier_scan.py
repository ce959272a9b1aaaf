"""Images under many LEDs as a scan of the spectrum of the sample, with what is plainly wrong with them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.core.formats.led_table import Leds
from ptycho.core.geometry import ObjectFrame
from ptycho.core.physics.fourier_ptychography import INSIDE, KEY, Microscope, bright_field_start
from ptycho.core.reconstruction import Reconstruction
from ptycho.core.scaling import Units
from ptycho.core.scan.scan import is_fast_side
from ptycho.core.scan.stream import Frames
from ptycho.errors import ConfigError, DataError
from ptycho.raw_data import RawData
from ptycho.workflows.iteration.start_from import unmeasured

__all__ = ["FourierScan", "Region", "fourier_scan"]

Array = NDArray[Any]
Region = tuple[int, int, int]
"""First column, first row and side of the part of the images that is reconstructed, camera pixels."""

BRIGHTER = 2.0
"""How many times brighter images of LEDs that shine into the objective are at least."""


@dataclass(frozen=True, eq=False)
class FourierScan:
    """Images and LEDs as a scan of the spectrum."""

    data: RawData
    """Images as patterns, places of the LEDs in the spectrum, and the pupil without aberrations as the probe."""
    start: Reconstruction
    """The spectrum to begin with."""
    microscope: Microscope
    region: Region
    notes: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()


def fourier_scan(
    images: Frames,
    leds: Leds,
    microscope: Microscope,
    region: Region | None = None,
    units: Units = "counts",
    name: str = "images",
) -> FourierScan:
    """Prepare images for their reconstruction.

    Args:
        images: (k, rows, columns), intensities unless `units` says otherwise.
        leds: of each image.
        microscope: its optics.
        region: the part to reconstruct; None: the largest square in the middle that transforms take fast.
        units: 'counts' or 'amplitude', what pixels hold.
        name: of the images.

    Raises:
        ConfigError: a region outside the images, or optics that cannot be.
        DataError: another number of LEDs than of images, or no LED that shines into the objective.
    """
    if len(images) != len(leds):
        raise DataError(
            f"{name}: expected one LED for every image, found {len(leds)} for {len(images)}; correct the table or the "
            "board (--leds, --led-grid)"
        )
    rows, columns = images.shape[1:]
    x0, y0, n = _region(region, rows, columns)
    patterns = np.empty((len(images), n, n), images.dtype)
    for block, values in images.blocks():
        patterns[block] = values[:, y0 : y0 + n, x0 : x0 + n]
    middle = (x0 + n // 2 - columns // 2) * microscope.pixel_m, (y0 + n // 2 - rows // 2) * microscope.pixel_m
    x, y, side = microscope.places(leds.sines(middle), n)
    away = np.hypot(x - side // 2, y - side // 2)
    inside = away < INSIDE * microscope.radius_px(n)
    if not inside.any():
        raise DataError(
            f"LEDs: expected one within the numerical aperture {microscope.na:g}, found the nearest at "
            f"{away.min() / microscope.radius_px(n) * microscope.na:.2g}; check the height, --led-centre and --na"
        )
    central = int(np.argmin(away))
    bright = patterns[central].astype(np.float64)
    spectrum, pupil = bright_field_start(bright if units == "amplitude" else np.sqrt(bright), microscope, side)
    optics = {**asdict(microscope), "region": [x0, y0, n], "pupil_radius_px": microscope.radius_px(n)}
    data = RawData(x, y, None, None, patterns, pupil, metadata={"name": name, KEY: optics}, units=units)
    largest = microscope.na + float(away.max()) * microscope.wavelength_m / (n * microscope.pixel_m)
    notes = (
        f"{len(images)} images of {n} x {n} pixels, {np.count_nonzero(inside)} of them bright; synthetic NA "
        f"{largest:.3g}, a pixel of the sample is {1e9 * microscope.pixel_m * n / side:.4g} nm",
    )
    start = _start(spectrum, pupil, x, y)
    return FourierScan(data, start, microscope, (x0, y0, n), notes, _faults(patterns, inside))


def _region(region: Region | None, rows: int, columns: int) -> Region:
    if region is None:
        n = min(rows, columns)
        while n > 2 and not is_fast_side(n):
            n -= 1
        region = (columns - n) // 2, (rows - n) // 2, n
    x0, y0, n = region
    if not (is_fast_side(n) and 0 <= x0 <= columns - n and 0 <= y0 <= rows - n):
        raise ConfigError(
            f"region: expected X,Y,SIDE inside images of {columns} x {rows} pixels, SIDE even and without a prime "
            f"factor above 13, found {x0},{y0},{n}; correct it"
        )
    return region


def _start(spectrum: Array, pupil: Array, x: Array, y: Array) -> Reconstruction:
    """The spectrum as a result to go on from."""
    frame = ObjectFrame(spectrum.shape[0], spectrum.shape[1], 0, 0)
    return unmeasured(spectrum, pupil[None], x, y, frame, "numpy")


def _faults(patterns: Array, inside: NDArray[np.bool_]) -> tuple[str, ...]:
    """LEDs that do not go with the images: those within the aperture make them bright."""
    brightness = patterns.mean(axis=(1, 2))
    if inside.all() or np.median(brightness[inside]) > BRIGHTER * np.median(brightness[~inside]):
        return ()
    return (
        "images of LEDs within the aperture are no brighter than the others: check --led-order, --led-centre, "
        "--rotation and the order of the images",
    )
