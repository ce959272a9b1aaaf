"""A small picture of an object that is still growing, drawn in a hundredth of the time of a sheet."""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt
from matplotlib.colors import Normalize
from PIL import Image

from ptycho.figures.drawing import bright_pixels, colour_range, colours_of, seen_box, seen_pixels
from ptycho.figures.raster import raster_png
from ptycho.figures.reconstruction import centred_phase

__all__ = ["live_png"]

_MOST = 700
"""Pixels a side; larger objects are thinned out."""
_GAP = 8
_BETWEEN = (128, 132, 140)

Complex = npt.NDArray[np.complexfloating]
Real = npt.NDArray[np.floating]


def live_png(image: Complex, light: Real) -> bytes:
    """Phase (left) and amplitude of an object as PNG, cropped to what has received light.

    Args:
        image: (H, W); its phase plane and global phase are taken out, as in every picture of a result.
        light: (H, W) that its pixels have received.
    """
    seen, bright = seen_pixels(image, light), bright_pixels(image, light)
    y0, y1, x0, x1 = seen_box(seen)
    step = max(1, -(-max(y1 - y0, x1 - x0) // _MOST))
    box = np.s_[y0:y1:step, x0:x1:step]
    phase = centred_phase(image, light, seen)[0]
    sides = []
    for kind, values in (("phase", phase), ("amplitude", np.abs(image))):
        limits = colour_range([values[bright]], kind)
        sides.append(raster_png(values[box], seen[box], colours_of(kind, limits), Normalize(*limits)))
    return _beside(sides)


def _beside(pictures: list[bytes]) -> bytes:
    """Pictures of one height in a row."""
    opened = [Image.open(io.BytesIO(one)).convert("RGBA") for one in pictures]
    width = sum(one.width for one in opened) + _GAP * (len(opened) - 1)
    sheet = Image.new("RGB", (width, opened[0].height), _BETWEEN)
    place = 0
    for one in opened:
        sheet.paste(one, (place, 0), one)
        place += one.width + _GAP
    written = io.BytesIO()
    sheet.save(written, "PNG", compress_level=3)
    return written.getvalue()
