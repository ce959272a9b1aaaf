"""The picture of a resolution."""

from __future__ import annotations

from pathlib import Path

import matplotlib.style
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ptycho.core.quality.resolution import Resolution
from ptycho.figures.curves import INK, draw_correlation
from ptycho.figures.drawing import save_figure

__all__ = ["draw_resolution", "resolution_figure", "save_resolution_png"]


def save_resolution_png(found: Resolution, path: Path, pdf: bool = False) -> Path:
    """Write the picture of `resolution_figure` to a PNG file, atomically, and with `pdf` a PDF; return its path."""
    return save_figure(resolution_figure(found), path, pdf)


def resolution_figure(found: Resolution) -> Figure:
    """The Fourier ring correlation of two halves of a scan, with its thresholds and the cut-off as a length."""
    with matplotlib.style.context("default"):
        figure = Figure(figsize=(7.0, 4.4), layout="constrained")
        draw_resolution(figure.subplots(), found)
        figure.suptitle("Two halves of the scan agree down to\n" + found.summary, fontsize=10)
    return figure


def draw_resolution(axes: Axes, found: Resolution) -> None:
    """Draw the correlation; where a pixel has a length, the upper axis says the period."""
    draw_correlation(axes, found.curve, "half-bit", found.cutoff)
    smooth = found.smoothed
    axes.plot(smooth.frequency[1:], smooth.correlation[1:], color=INK, alpha=0.3, linewidth=4, label="over 5 rings")
    axes.legend(fontsize=8, loc="lower left")
    if found.pixel_m is None:
        return
    frequencies = [0.1, 0.2, 0.3, 0.4, 0.5]
    above = axes.secondary_xaxis("top")
    above.set_xticks(frequencies, [f"{1e9 * found.pixel_m / f:.3g}" for f in frequencies])
    above.set_xlabel("period (nm)")
