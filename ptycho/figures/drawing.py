"""What all pictures share: colours, lengths, what of an object is shown, and how a figure becomes a file.

Only where enough light fell is an object shown, and sets the crop; the rest is hatched. Its bright part sets colours.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import matplotlib.style
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colorbar import Colorbar
from matplotlib.colors import hsv_to_rgb
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import FuncFormatter, MaxNLocator

from ptycho.core.files.atomic import atomic_path
from ptycho.errors import DataError

__all__ = [
    "DPI",
    "MOST_POINTS",
    "bar_ends",
    "bright_pixels",
    "colour_range",
    "colours_of",
    "draw_bar",
    "draw_map",
    "draw_probe",
    "figure_size",
    "hue_of",
    "length_axes",
    "length_unit",
    "name_point",
    "png_bytes",
    "save_figure",
    "seen_box",
    "seen_pixels",
]

DPI = 150
LIT = 0.05
"""A pixel is shown where its coverage is above this part of what is usual (`_usual`): the noise of its amplitude is
then below 1 / sqrt(0.05) = 4.5 times that of the usual pixel."""
NAMED_RIGHT = 0.9
"""Share of the width of axes up to which the name of a point stands to its right."""
BRIGHT = 0.3
"""Likewise, the part above which a pixel counts for the colours."""
MARGIN = 0.02
"""Of the longer side of the box of what is shown: so much more is in the picture."""
MICROMETRES = 1e-5
"""From this length on, metres, axes are in µm, not nm."""
MOST_POINTS = 20000
"""Scan positions over a map, at most; more would hide it."""
ROBUST = (1.0, 99.0)
"""Percentiles of the seen pixels that the colours span."""

Complex = npt.NDArray[np.complexfloating]
Real = npt.NDArray[np.floating]
Mask = npt.NDArray[np.bool_]


def seen_pixels(object: Complex, coverage: Real) -> Mask:
    """Return where there is something to show: (H, W), finite and with enough light."""
    if object.ndim != 2 or object.shape != coverage.shape:
        raise DataError(f"object and coverage: expected one shape (H, W), found {object.shape} and {coverage.shape}")
    return (coverage > LIT * _usual(coverage)) & np.isfinite(object)


def bright_pixels(object: Complex, coverage: Real) -> Mask:
    """Return which pixels set the colours: (H, W), those of `seen_pixels` whose noise is about the usual one."""
    return seen_pixels(object, coverage) & (coverage > BRIGHT * _usual(coverage))


def _usual(coverage: Real) -> float:
    """The coverage that half of all light lies below: a few pixels with far more do not shift it."""
    ordered = np.sort(coverage[coverage > 0], axis=None).astype(np.float64)
    if not ordered.size:
        return 0.0
    total = np.cumsum(ordered)
    return float(ordered[np.searchsorted(total, total[-1] / 2)])


def seen_box(seen: Mask) -> tuple[int, int, int, int]:
    """Rows and columns (y0, y1, x0, x1), half open, of what is shown, with a margin; all where nothing is."""
    rows, columns = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
    if not rows.size:
        return 0, seen.shape[0], 0, seen.shape[1]
    more = 1 + round(MARGIN * max(np.ptp(rows), np.ptp(columns)))
    (y0, y1), (x0, x1) = ((max(0, line[0] - more), line[-1] + 1 + more) for line in (rows, columns))
    return int(y0), min(int(y1), seen.shape[0]), int(x0), min(int(x1), seen.shape[1])


def length_unit(pixel_m: float | None, pixels: float) -> tuple[float, str]:
    """How long a pixel is in the unit of a picture of so many pixels, and the unit: nm, µm, or pixels where none is
    known.

    >>> length_unit(2e-8, 300), length_unit(2e-8, 3000), length_unit(None, 300)
    ((20.0, 'nm'), (0.02, 'µm'), (1.0, 'pixels'))
    """
    if pixel_m is None:
        return 1.0, "pixels"
    factor, unit = (1e6, "µm") if pixel_m * pixels >= MICROMETRES else (1e9, "nm")
    return round(pixel_m * factor, 12), unit


def length_axes(axes: Axes, pixel_m: float | None, pixels: float, what: str = "") -> None:
    """Label both axes, whose data are pixels, in the unit of `length_unit`, with round numbers of it."""
    factor, unit = length_unit(pixel_m, pixels)
    axes.set(xlabel=f"{what}x ({unit})", ylabel=f"{what}y ({unit})")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(_LengthLocator(factor))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value * factor:.6g}".replace("-", "−")))


class _LengthLocator(MaxNLocator):
    """Round numbers of another unit than that of the data."""

    def __init__(self, factor: float) -> None:
        super().__init__(nbins=6, steps=[1, 2, 2.5, 5, 10])
        self.factor = factor

    def tick_values(self, vmin: float, vmax: float) -> Sequence[float]:
        """Where the ticks are, in the unit of the data."""
        return [tick / self.factor for tick in super().tick_values(vmin * self.factor, vmax * self.factor)]


def colour_range(values: Iterable[Real], kind: str) -> tuple[float, float]:
    """Return the robust span of all values, never empty; phases that nearly fill the circle get all of it."""
    pooled = np.concatenate([np.ravel(value) for value in values])
    if pooled.size == 0:
        return 0.0, 1.0
    low, high = (float(value) for value in np.percentile(pooled, ROBUST))
    if kind == "phase" and high - low > 0.9 * 2 * np.pi:
        return -np.pi, np.pi
    scale = 1.0 if kind == "phase" else abs(high) or 1.0
    if high - low < 1e-5 * scale:  # flat: show it as such, not its rounding errors
        return low - 0.05 * scale, high + 0.05 * scale
    return low, high


def colours_of(kind: str, limits: tuple[float, float]) -> str:
    """The colour map of amplitudes, of phases, or of phases that fill the circle, which is cyclic."""
    if kind == "amplitude":
        return "gray"
    return "twilight_shifted" if limits == (-np.pi, np.pi) else "viridis"


def draw_map(
    axes: Axes,
    values: Real,
    seen: Mask,
    kind: str,
    limits: tuple[float, float],
    pixel_m: float | None = None,
    origin: tuple[float, float] = (0.0, 0.0),
) -> AxesImage:
    """Draw what is seen of a map of the object plane; the hatched background shows elsewhere.

    Args:
        axes: where to.
        values: (H, W).
        seen: (H, W), what is shown; its box is the crop.
        kind: 'amplitude' or 'phase'.
        limits: of the colours.
        pixel_m: side of a pixel, metres; None labels the axes in pixels.
        origin: (x, y) of the first pixel, pixels.
    """
    axes.patch.set(facecolor="#d5d9e0", hatch="////", edgecolor="#bfc5cf", linewidth=0.0)
    (height, width), (x, y) = values.shape, origin
    extent = (x - 0.5, x + width - 0.5, y + height - 0.5, y - 0.5)
    shown = np.ma.masked_array(values, ~seen)
    image = axes.imshow(shown, cmap=colours_of(kind, limits), vmin=limits[0], vmax=limits[1], extent=extent)
    y0, y1, x0, x1 = seen_box(seen)
    axes.set(xlim=(x + x0 - 0.5, x + x1 - 0.5), ylim=(y + y1 - 0.5, y + y0 - 0.5))
    length_axes(axes, pixel_m, max(y1 - y0, x1 - x0))
    return image


def draw_bar(axes: Axes, image: AxesImage, label: str, extend: str = "neither") -> Colorbar:
    """Put a colour bar beside `axes`, exactly as high as they are, and return it."""
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    thickness = 0.045 * max(1.0, abs((high - low) / (right - left)))
    bar = axes.inset_axes((1.0 + 0.6 * thickness, 0.0, thickness, 1.0))
    return bar.figure.colorbar(image, cax=bar, label=label, extend=extend)


def bar_ends(values: Real, limits: tuple[float, float]) -> str:
    """Return which ends of the colour bar need an arrow because values lie beyond them."""
    below, above = bool(np.any(values < limits[0])), bool(np.any(values > limits[1]))
    return ("both" if above else "min") if below else ("max" if above else "neither")


def name_point(axes: Axes, name: str, place: tuple[float, float], right: float, up: float, **style: Any) -> None:
    """Write the name of a point beside it, `right` and `up` points away; near the right edge to its left.

    The limits of the axes are to be set.
    """
    first, last = axes.get_xlim()
    inside = (place[0] - first) / (last - first) <= NAMED_RIGHT
    offset, side = ((right, up), "left") if inside else ((-right, up), "right")
    axes.annotate(name, place, offset, textcoords="offset points", ha=side, fontsize=8, **style)


def draw_probe(axes: Axes, probe: Complex, pixel_m: float | None = None) -> None:
    """Draw the strongest mode: brightness is amplitude, hue is phase, with a wheel as the key."""
    power = np.square(np.abs(probe), dtype=np.float64).sum(axis=(1, 2))
    strongest = int(np.argmax(power))
    mode, size = probe[strongest], probe.shape[-1]
    extent = (-size / 2 - 0.5, size / 2 - 0.5, size / 2 - 0.5, -size / 2 - 0.5)
    axes.imshow(hue_of(mode), extent=extent)
    length_axes(axes, pixel_m, size)
    share = 100 * power[strongest] / (power.sum() or 1.0)
    axes.set_title("Probe" if len(probe) == 1 else f"Probe, strongest mode ({share:.0f} %)", fontsize=10)
    wheel = axes.inset_axes((0.72, 0.02, 0.2, 0.2))
    x, y = np.meshgrid(np.linspace(-1.05, 1.05, 96), np.linspace(1.05, -1.05, 96))
    disc = x + 1j * y
    wheel.imshow(np.dstack([hue_of(np.where(np.abs(disc) <= 1, disc, 0)), np.abs(disc) <= 1]))
    wheel.axis("off")
    for position, text, side in ((1.05, "0", "left"), (-0.05, "π", "right")):
        wheel.text(position, 0.5, text, transform=wheel.transAxes, color="white", ha=side, va="center")


def hue_of(values: Complex) -> Real:
    """Return (..., 3) colours from 0 to 1: hue the phase, brightness the amplitude over the largest."""
    hue, amplitude = np.angle(values) / (2 * np.pi) % 1.0, np.abs(values)
    return hsv_to_rgb(np.stack([hue, np.full_like(hue, 0.75), amplitude / (amplitude.max() or 1.0)], axis=-1))


def figure_size(height: int, width: int, side: float) -> tuple[float, float]:
    """Inches for a map whose longer side is `side`, with room for title, axes and colour bar."""
    longer = max(height, width)
    return max(side * width / longer, 3.6) + 1.6, max(side * height / longer, 2.2) + 0.9


def save_figure(figure: Figure, path: Path, pdf: bool = False) -> Path:
    """Write a figure as PNG, the same bytes each time, and return the path; with `pdf` also as PDF beside it."""
    for place, form in ((Path(path), "png"), (Path(path).with_suffix(".pdf"), "pdf"))[: 1 + pdf]:
        with atomic_path(place) as temporary:
            _print(figure, temporary, form)
    return Path(path)


def png_bytes(figure: Figure, **settings: Any) -> bytes:
    """What `save_figure` writes, or with other settings of `print_figure`."""
    written = io.BytesIO()
    _print(figure, written, "png", **settings)
    return written.getvalue()


def _print(figure: Figure, to: Path | io.BytesIO, form: str, **settings: Any) -> None:
    canvas = FigureCanvasAgg(figure)
    plain = {"png": {"Software": None}, "pdf": {"CreationDate": None, "Creator": None, "Producer": None}}[form]
    with matplotlib.style.context("default"):
        canvas.print_figure(to, format=form, metadata=plain, **{"dpi": DPI, "bbox_inches": "tight", **settings})
