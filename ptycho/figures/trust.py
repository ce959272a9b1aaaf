"""Where to trust a reconstruction, on one sheet: in words, as maps over the object, and by pattern of the scan."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from pathlib import Path

import matplotlib.style
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from ptycho.core.quality.trust import Grade, Trust
from ptycho.core.quality.trust_map import trust_map
from ptycho.core.reconstruction import Reconstruction
from ptycho.core.stitching.stitch import probe_weight
from ptycho.errors import DataError
from ptycho.figures.curves import draw_ratios, plain_ticks, ratio_limits
from ptycho.figures.drawing import (
    MOST_POINTS,
    bright_pixels,
    colour_range,
    draw_bar,
    draw_map,
    name_point,
    save_figure,
    seen_box,
    seen_pixels,
)

__all__ = ["COLOURS", "RATIO_COLOURS", "ratio_map", "save_trust_png"]

SHEET = 13.0
"""Width of the sheet, inches."""
COLOURS: dict[Grade, str] = {"to the noise": "#2e7d4f", "usable": "#a8690f", "fails": "#b3261e", "unknown": "#5a6472"}
"""Of the title."""
_NAMED = 12  # outliers that are labelled

RATIO_COLOURS = "RdYlBu_r"
"""Of the deviance over that of noise: blue below 1, red above."""

Real = npt.NDArray[np.floating]
Mask = npt.NDArray[np.bool_]


def save_trust_png(reconstruction: Reconstruction, path: Path, pdf: bool = False) -> Path:
    """Write the sheet and return its path.

    It has the amplitude of the object; the deviance over that of noise as a map (geometric mean over the patterns that
    lit a pixel) with the patterns that stand out; where there is one, the spread of overlapping predictions in per cent
    of the median amplitude; and the deviance pattern by pattern in the order of the scan.

    Args:
        reconstruction: what to show; it has to have `trust`.
        path: PNG file to write, atomically.
        pdf: write a PDF beside it.

    Raises:
        DataError: there is no `trust`.
        OutputError: the file cannot be written.
    """
    r = reconstruction
    if r.trust is None:
        raise DataError("trust: expected a reconstruction whose trust was measured, found none; measure it first")
    panels = 2 + (r.spread is not None)
    width = SHEET / panels - 1.3
    y0, y1, x0, x1 = seen_box(seen_pixels(r.object, r.coverage))
    above, below = min(width * (y1 - y0) / (x1 - x0), 7.0) + 0.8, 2.7
    with matplotlib.style.context("default"):
        figure = Figure(figsize=(SHEET, above + below + 0.9), layout="constrained")
        grid = figure.add_gridspec(2, 1, height_ratios=(above, below))
        maps = iter(figure.add_subfigure(grid[0]).subplots(1, panels))
        patterns = figure.add_subfigure(grid[1]).subplots()
        _draw_title(figure, r.trust)
        _draw_amplitude(next(maps), r)
        _draw_ratio(next(maps), r, r.trust)
        _draw_spread(maps, r)
        draw_ratios(patterns, r.trust)
        patterns.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8, frameon=False)
        return save_figure(figure, path, pdf)


def _draw_title(figure: Figure, trust: Trust) -> None:
    """`Trust.verdict` as the title of the sheet, in a colour of its own."""
    text = "\n".join(textwrap.wrap(trust.verdict[0].upper() + trust.verdict[1:], 125))
    box = {"boxstyle": "round,pad=0.5", "facecolor": COLOURS[trust.grade], "edgecolor": "none"}
    figure.suptitle(text, fontsize=11, color="white", bbox=box)


def _draw_amplitude(axes: Axes, r: Reconstruction) -> None:
    seen, bright = seen_pixels(r.object, r.coverage), bright_pixels(r.object, r.coverage)
    amplitude = np.abs(r.object)
    image = draw_map(axes, amplitude, seen, "amplitude", colour_range([amplitude[bright]], "amplitude"), r.pixel_m)
    axes.set_title("Amplitude", fontsize=10)
    draw_bar(axes, image, "amplitude")


def ratio_map(r: Reconstruction, trust: Trust) -> tuple[Real, Mask, LogNorm]:
    """The deviance over that of noise over the object.

    Returns:
        (H, W) the geometric mean over the patterns that lit a pixel; (H, W) where it is shown; and its colours:
        logarithmic and symmetric about 1, so that yellow is 1 however far the ratios go.
    """
    logarithm = np.log(np.maximum(trust.ratio, 1e-3))
    values = np.exp(trust_map(logarithm, probe_weight(r.probe), r.xcoords, r.ycoords, r.frame.shape))
    low, high = ratio_limits(trust.ratio)
    reach = max(high, 1 / low)
    return values, np.isfinite(values) & seen_pixels(r.object, r.coverage), LogNorm(1 / reach, reach)


def _draw_ratio(axes: Axes, r: Reconstruction, trust: Trust) -> None:
    """The map of the ratio, with the scan positions and a ring around those that stand out."""
    values, seen, colours = ratio_map(r, trust)
    image = draw_map(axes, values, seen, "phase", (0.0, 1.0), r.pixel_m)
    image.set(cmap=RATIO_COLOURS, norm=colours)
    few, some = r.xcoords.size <= 5000, slice(None, None, -(-r.xcoords.size // MOST_POINTS))
    axes.plot(r.xcoords[some], r.ycoords[some], "." if few else ",", color="black", markersize=1.2, alpha=0.5)
    for j in trust.outliers[:_NAMED]:
        place = float(r.xcoords[j]), float(r.ycoords[j])
        axes.plot(*place, "o", markersize=9, markerfacecolor="none", markeredgecolor="black", markeredgewidth=1.3)
        name_point(axes, str(j), place, 7, 5, fontweight="bold")
    axes.set_title("Deviance / that of noise (1: explained, red: not)", fontsize=10)
    plain_ticks(draw_bar(axes, image, "ratio").ax)


def _draw_spread(panels: Iterator[Axes], r: Reconstruction) -> None:
    """The spread of overlapping predictions, where there is one."""
    if r.spread is None:
        return
    axes, seen = next(panels), seen_pixels(r.object, r.coverage)
    source = r.object if r.network_object is None else r.network_object
    level = float(np.median(np.abs(source[seen]))) if seen.any() else 1.0
    values = 100 * r.spread / (level or 1.0)
    known = seen & np.isfinite(values)
    top = float(np.percentile(values[known], 99)) if known.any() else 1.0
    image = draw_map(axes, values, known, "phase", (0.0, top or 1.0), r.pixel_m)
    axes.set_title("Spread of the network's overlapping patches", fontsize=10)
    draw_bar(axes, image, "% of the median amplitude")
