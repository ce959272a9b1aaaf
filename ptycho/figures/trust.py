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
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator

from ptycho.core.quality.trust import NOISE, Grade, Trust
from ptycho.core.quality.trust_map import trust_map
from ptycho.core.reconstruction import Reconstruction
from ptycho.core.stitching.stitch import probe_weight
from ptycho.errors import DataError
from ptycho.figures.drawing import colour_range, draw_bar, draw_map, save_figure, seen_pixels

__all__ = ["save_trust_png"]

SHEET = 13.0
"""Width of the sheet, inches."""
COLOURS: dict[Grade, str] = {"to the noise": "#2e7d4f", "usable": "#a8690f", "fails": "#b3261e", "unknown": "#5a6472"}
"""Of the title."""
_NAMED = 12  # outliers that are labelled

Real = npt.NDArray[np.floating]


def save_trust_png(reconstruction: Reconstruction, path: Path) -> Path:
    """Write the sheet and return its path.

    It has the amplitude of the object; the deviance over that of noise as a map (geometric mean over the patterns that
    lit a pixel) with the patterns that stand out; where there is one, the spread of overlapping predictions in per cent
    of the median amplitude; and the deviance pattern by pattern in the order of the scan.

    Args:
        reconstruction: what to show; it has to have `trust`.
        path: PNG file to write, atomically.

    Raises:
        DataError: there is no `trust`.
        OutputError: the file cannot be written.
    """
    r = reconstruction
    if r.trust is None:
        raise DataError("trust: expected a reconstruction whose trust was measured, found none; measure it first")
    panels = 2 + (r.spread is not None)
    width = SHEET / panels - 1.3
    above, below = min(width * r.frame.height / r.frame.width, 7.0) + 0.8, 2.7
    with matplotlib.style.context("default"):
        figure = Figure(figsize=(SHEET, above + below + 0.9), layout="constrained")
        grid = figure.add_gridspec(2, 1, height_ratios=(above, below))
        maps = iter(figure.add_subfigure(grid[0]).subplots(1, panels))
        patterns = figure.add_subfigure(grid[1]).subplots()
        _draw_title(figure, r.trust)
        _draw_amplitude(next(maps), r)
        limits = _limits(r.trust.ratio)
        _draw_ratio(next(maps), r, r.trust, limits)
        _draw_spread(maps, r)
        _draw_patterns(patterns, r.trust, limits)
        return save_figure(figure, path)


def _draw_title(figure: Figure, trust: Trust) -> None:
    """`Trust.verdict` as the title of the sheet, in a colour of its own."""
    text = "\n".join(textwrap.wrap(trust.verdict[0].upper() + trust.verdict[1:], 125))
    box = {"boxstyle": "round,pad=0.5", "facecolor": COLOURS[trust.grade], "edgecolor": "none"}
    figure.suptitle(text, fontsize=11, color="white", bbox=box)


def _limits(ratio: Real) -> tuple[float, float]:
    """Colour limits of the ratio: they hold 1 and most patterns, on a logarithmic scale."""
    low, high = (float(value) for value in np.percentile(ratio, (1, 99)))
    return max(min(low, 0.8), 1e-3), max(high, 2.0)


def _draw_amplitude(axes: Axes, r: Reconstruction) -> None:
    seen, amplitude = seen_pixels(r.object, r.coverage), np.abs(r.object)
    image = draw_map(axes, amplitude, seen, "amplitude", colour_range([amplitude[seen]], "amplitude"))
    axes.set_title("Amplitude", fontsize=10)
    draw_bar(axes, image, "amplitude")


def _draw_ratio(axes: Axes, r: Reconstruction, trust: Trust, limits: tuple[float, float]) -> None:
    """The map of the ratio, with the scan positions and a ring around those that stand out."""
    logarithm = np.log(np.maximum(trust.ratio, 1e-3))
    values = np.exp(trust_map(logarithm, probe_weight(r.probe), r.xcoords, r.ycoords, r.frame.shape))
    image = draw_map(axes, values, np.isfinite(values), "phase", limits)
    image.set(cmap="RdYlBu_r", norm=_norm(limits))
    few = r.xcoords.size <= 5000
    axes.plot(r.xcoords, r.ycoords, "." if few else ",", color="black", markersize=1.2, alpha=0.5)
    for j in trust.outliers[:_NAMED]:
        place = float(r.xcoords[j]), float(r.ycoords[j])
        axes.plot(*place, "o", markersize=9, markerfacecolor="none", markeredgecolor="black", markeredgewidth=1.3)
        axes.annotate(str(j), place, (7, 5), textcoords="offset points", fontsize=8, fontweight="bold")
    axes.set(xlim=(-0.5, r.frame.width - 0.5), ylim=(r.frame.height - 0.5, -0.5))
    axes.set_title("Deviance / that of noise (1: explained, red: not)", fontsize=10)
    _plain_ticks(draw_bar(axes, image, "ratio").ax)


def _plain_ticks(axes: Axes) -> None:
    """1, 2, 5, 10 and so on along a logarithmic y axis."""
    low, high = axes.get_ylim()
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high < 1e3 * low else (1.0,)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(FuncFormatter(lambda value, _: ""))


def _norm(limits: tuple[float, float]) -> LogNorm:
    """Logarithmic, and symmetric about 1: yellow is 1 however far the ratios go."""
    reach = max(limits[1], 1 / limits[0])
    return LogNorm(1 / reach, reach)


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
    image = draw_map(axes, values, known, "phase", (0.0, top or 1.0))
    axes.set_title("Spread of the network's overlapping patches", fontsize=10)
    draw_bar(axes, image, "% of the median amplitude")


def _draw_patterns(axes: Axes, trust: Trust, limits: tuple[float, float]) -> None:
    """The ratio in the order of the scan, what noise would give, and the names of those that stand out."""
    ratio, order = trust.ratio, np.arange(len(trust.ratio))
    noise = np.divide(trust.deviation, trust.expected, out=np.zeros_like(ratio), where=trust.expected > 0)
    axes.fill_between(order, np.maximum(1 - 3 * noise, 0.01), 1 + 3 * noise, color="#9db8dc", label="noise alone, 3 σ")
    axes.plot(order, ratio, "." if len(ratio) <= 5000 else ",", color="#333333", markersize=4, label="measured")
    axes.axhline(NOISE, color="#2e7d4f", linewidth=1, label=f"to the noise (up to {NOISE:g})")
    axes.axhline(float(np.median(ratio)), color="#333333", linewidth=1, linestyle="--", label="median")
    for j in trust.outliers[:_NAMED]:
        axes.plot(j, ratio[j], "o", markersize=8, markerfacecolor="none", markeredgecolor="#b3261e")
        axes.annotate(str(j), (j, ratio[j]), (6, -3), textcoords="offset points", fontsize=8, color="#b3261e")
    low, high = min(limits[0], float(ratio.min())), max(limits[1], float(ratio.max()))
    axes.set(yscale="log", ylim=(max(0.8 * low, 1e-3), 1.3 * high), xlim=(-0.5, len(ratio) - 0.5))
    _plain_ticks(axes)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="pattern, in the order of the scan", ylabel="deviance / that of noise")
    axes.grid(True, axis="y", color="#dddddd", linewidth=0.5)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8, frameon=False)
