"""Pictures in a page: maps that can be enlarged and moved, and curves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import matplotlib.style
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure

from ptycho.figures.drawing import png_bytes, seen_box
from ptycho.figures.raster import colour_strip, raster_png
from ptycho.report.elements import Markup, data_uri, tag

__all__ = ["Map", "curve", "viewer"]

_MOST = 2400
"""Pixels a side of a picture; larger maps are thinned out."""
_DOTS = 20000
"""Scan positions that are drawn, at most."""
_DPI = 200
_BUTTONS = (("−", "out", "Zoom out"), ("+", "in", "Zoom in"), ("⤢", "fit", "Show all"))

Real = npt.NDArray[np.floating]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Map:
    """A map over the object or the detector, and how it is shown."""

    title: str
    values: Real
    """(H, W)."""
    seen: Mask
    """(H, W), where there is something to show; its box is the crop."""
    colours: str
    """Name of the colour map."""
    norm: Normalize
    unit: str
    """What the values are, under the colour bar."""
    pixel_m: float | None = None
    centred: bool = False
    """Whether pixels count from the middle, as on a detector."""


def viewer(shown: Map, group: str, dots: tuple[Real, Real] | None = None) -> Markup:
    """A map that can be enlarged by wheel, pinch, buttons and keys, and moved.

    Args:
        shown: the map.
        group: maps of one group, of one size, move together.
        dots: x and y (n,) of scan positions to draw on it, pixels of the map.
    """
    y0, y1, x0, x1 = seen_box(shown.seen)
    step = max(1, -(-max(y1 - y0, x1 - x0) // _MOST))
    cut = (slice(y0, y1, step), slice(x0, x1, step))
    png = raster_png(shown.values[cut], shown.seen[cut], shown.colours, shown.norm)
    height, width = y1 - y0, x1 - x0
    image = tag("img", src=data_uri(png), alt=shown.title, draggable="false")
    sheet = tag("div", image, _dots(dots, x0, y0, width, height), class_="sheet")
    thinned = None if step == 1 else tag("small", f"Along each side one pixel in {step} is shown; the files have all.")
    first = (-(width // 2), -(height // 2)) if shown.centred else (x0, y0)
    return tag(
        "figure",
        tag("figcaption", shown.title),
        tag(
            "div",
            sheet,
            tag("div", tag("span"), tag("i"), class_="scalebar", hidden=True),
            tag("output", class_="where", aria_hidden="true"),
            class_="stage",
            tabindex=0,
            role="group",
            aria_label=f"{shown.title}. Plus and minus zoom, arrows move, 0 shows all.",
            style=f"aspect-ratio:{width}/{height}",
        ),
        tag(
            "div",
            _colour_bar(shown),
            tag(
                "div",
                *(
                    tag("button", sign, type="button", data_zoom=what, aria_label=f"{label}: {shown.title}")
                    for sign, what, label in (
                        ("−", "out", "Zoom out"),
                        ("+", "in", "Zoom in"),
                        ("⤢", "fit", "Show all"),
                    )
                ),
                class_="tools",
            ),
            class_="under",
        ),
        thinned,
        class_="viewer",
        data_group=group,
        data_width=width,
        data_height=height,
        data_x=first[0],
        data_y=first[1],
        data_nm=None if shown.pixel_m is None else f"{1e9 * shown.pixel_m:.8g}",
    )


def curve(draw: Callable[[Axes], None], alt: str, size: tuple[float, float] = (4.6, 3.1)) -> Markup:
    """A curve as a picture without a background, so that it stands on a light page and, turned, on a dark one.

    Args:
        draw: draws on axes.
        alt: what the picture shows, in words.
        size: inches.
    """
    with matplotlib.style.context("default"):
        figure = Figure(figsize=size, layout="constrained", facecolor="none")
        axes = figure.subplots()
        axes.patch.set_alpha(0)
        draw(axes)
        written = png_bytes(figure, dpi=_DPI, bbox_inches=None, facecolor="none")
    width, height = (round(inches * 100) for inches in size)
    return tag("img", src=data_uri(written), alt=alt, class_="curve", width=width, height=height)


def _dots(dots: tuple[Real, Real] | None, x0: int, y0: int, width: int, height: int) -> Markup | None:
    """Scan positions over a picture whose first pixel is (x0, y0)."""
    if dots is None:
        return None
    step = -(-len(dots[0]) // _DOTS)
    marks = "".join(f"M{x:.1f} {y:.1f}h0" for x, y in zip(dots[0][::step], dots[1][::step], strict=True))
    box = f"{x0 - 0.5} {y0 - 0.5} {width} {height}"
    apart = (width * height / max(1, len(dots[0]))) ** 0.5
    radius = f"--dot:{min(max(width, height) / 100, 0.2 * apart):.3g}"
    return tag("svg", tag("path", d=marks), viewBox=box, class_="dots", aria_hidden="true", style=radius)


def _colour_bar(shown: Map) -> Markup:
    """The colours from the least value to the largest, and what they are."""
    low, high = float(shown.norm.vmin or 0.0), float(shown.norm.vmax or 0.0)
    scale = ", logarithmic" if isinstance(shown.norm, LogNorm) else ""
    return tag(
        "div",
        tag("span", _short(low)),
        tag("img", src=data_uri(colour_strip(shown.colours)), alt="colours from the least to the largest value"),
        tag("span", _short(high)),
        tag("b", f"{shown.unit}{scale}"),
        class_="bar",
    )


def _short(value: float) -> str:
    return f"{value:.3g}".replace("-", "−")
