"""Maps as bare pictures, one pixel of the picture for one of the map: what a browser can enlarge without end."""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt
from matplotlib import colormaps
from matplotlib.colors import Normalize
from PIL import Image

from ptycho.figures.drawing import hue_of

__all__ = ["colour_strip", "raster_png", "wave_png"]

_COLOURS = 255
"""Of a palette; the one left is that of what is not seen."""

Complex = npt.NDArray[np.complexfloating]
Real = npt.NDArray[np.floating]
Mask = npt.NDArray[np.bool_]


def raster_png(values: Real, seen: Mask, colours: str, norm: Normalize) -> bytes:
    """A map as PNG with a palette; what is not seen is transparent.

    Args:
        values: (H, W).
        seen: (H, W), True where a value is shown.
        colours: name of the colour map.
        norm: brings values to 0 .. 1; what lies beyond has the colour of the end.
    """
    scaled = np.ma.filled(norm(np.where(seen, values, norm.vmin or 0.0)), 0.0)
    index = np.where(seen, np.clip(scaled * _COLOURS, 0, _COLOURS - 1), _COLOURS).astype(np.uint8)
    picture = Image.fromarray(index, "P")
    picture.putpalette([*_palette(colours).ravel().tolist(), 0, 0, 0])
    written = io.BytesIO()
    picture.save(written, "PNG", optimize=True, transparency=_COLOURS)
    return written.getvalue()


def colour_strip(colours: str) -> bytes:
    """A colour map as a PNG of one row, from its least value to its largest."""
    written = io.BytesIO()
    Image.fromarray(_palette(colours)[None]).save(written, "PNG", optimize=True)
    return written.getvalue()


def wave_png(wave: Complex) -> bytes:
    """A complex map (N, N) as PNG: hue the phase, brightness the amplitude."""
    written = io.BytesIO()
    Image.fromarray(np.rint(255 * hue_of(wave)).astype(np.uint8)).save(written, "PNG", optimize=True)
    return written.getvalue()


def _palette(colours: str) -> npt.NDArray[np.uint8]:
    """(255, 3) colours of a map by name."""
    return np.asarray(colormaps[colours](np.linspace(0, 1, _COLOURS), bytes=True)[:, :3])
