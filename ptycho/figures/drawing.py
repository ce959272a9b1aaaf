"""What all pictures share: colours, colour bars, hatching of what was not seen, and how a figure becomes a file."""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path

import matplotlib.style
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colorbar import Colorbar
from matplotlib.colors import hsv_to_rgb
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from ptycho.core.atomic import atomic_path
from ptycho.errors import DataError

__all__ = [
    "DPI",
    "SEEN",
    "bar_ends",
    "colour_range",
    "draw_bar",
    "draw_map",
    "draw_probe",
    "figure_size",
    "png_bytes",
    "save_figure",
    "seen_pixels",
]

DPI = 150
SEEN = 1e-3
"""A pixel counts as seen where its coverage is above this fraction of the largest coverage."""
ROBUST = (1.0, 99.0)
"""Percentiles of the seen pixels that the colours span."""

Complex = npt.NDArray[np.complexfloating]
Real = npt.NDArray[np.floating]
Mask = npt.NDArray[np.bool_]


def seen_pixels(object: Complex, coverage: Real) -> Mask:
    """Return where there is something to show: covered and finite."""
    if object.ndim != 2 or object.shape != coverage.shape:
        raise DataError(f"object and coverage: expected one shape (H, W), found {object.shape} and {coverage.shape}")
    return (coverage > SEEN * coverage.max(initial=0.0)) & np.isfinite(object)


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


def draw_map(axes: Axes, values: Real, seen: Mask, kind: str, limits: tuple[float, float]) -> AxesImage:
    """Draw a map of the object plane; pixels not seen show the hatched background."""
    cyclic = limits == (-np.pi, np.pi)
    cmap = "gray" if kind == "amplitude" else "twilight_shifted" if cyclic else "viridis"
    axes.patch.set(facecolor="#d5d9e0", hatch="////", edgecolor="#bfc5cf", linewidth=0.0)
    axes.set(xlabel="x (pixels)", ylabel="y (pixels)")
    axes.locator_params(nbins=6)
    return axes.imshow(np.ma.masked_array(values, ~seen), cmap=cmap, vmin=limits[0], vmax=limits[1])


def draw_bar(axes: Axes, image: AxesImage, label: str, extend: str = "neither") -> Colorbar:
    """Put a colour bar beside `axes`, exactly as high as they are, and return it."""
    height, width = image.get_size()
    thickness = 0.045 * max(1.0, height / width)
    bar = axes.inset_axes((1.0 + 0.6 * thickness, 0.0, thickness, 1.0))
    return bar.figure.colorbar(image, cax=bar, label=label, extend=extend)


def bar_ends(values: Real, limits: tuple[float, float]) -> str:
    """Return which ends of the colour bar need an arrow because values lie beyond them."""
    below, above = bool(np.any(values < limits[0])), bool(np.any(values > limits[1]))
    return ("both" if above else "min") if below else ("max" if above else "neither")


def draw_probe(axes: Axes, probe: Complex) -> None:
    """Draw the strongest mode: brightness is amplitude, hue is phase, with a wheel as the key."""
    power = np.square(np.abs(probe), dtype=np.float64).sum(axis=(1, 2))
    strongest = int(np.argmax(power))
    mode, size = probe[strongest], probe.shape[-1]
    extent = (-size / 2 - 0.5, size / 2 - 0.5, size / 2 - 0.5, -size / 2 - 0.5)
    axes.imshow(_hue(mode / (np.abs(mode).max() or 1.0)), extent=extent)
    axes.set(xlabel="x (pixels)", ylabel="y (pixels)")
    share = 100 * power[strongest] / (power.sum() or 1.0)
    axes.set_title("Probe" if len(probe) == 1 else f"Probe, strongest mode ({share:.0f} %)", fontsize=10)
    wheel = axes.inset_axes((0.72, 0.02, 0.2, 0.2))
    x, y = np.meshgrid(np.linspace(-1.05, 1.05, 96), np.linspace(1.05, -1.05, 96))
    disc = x + 1j * y
    wheel.imshow(np.dstack([_hue(np.where(np.abs(disc) <= 1, disc, 0)), np.abs(disc) <= 1]))
    wheel.axis("off")
    for position, text, side in ((1.05, "0", "left"), (-0.05, "π", "right")):
        wheel.text(position, 0.5, text, transform=wheel.transAxes, color="white", ha=side, va="center")


def _hue(values: Complex) -> Real:
    """Return (..., 3) colours: hue the phase, brightness the amplitude (0 to 1)."""
    hue = np.angle(values) / (2 * np.pi) % 1.0
    return hsv_to_rgb(np.stack([hue, np.full_like(hue, 0.75), np.minimum(np.abs(values), 1.0)], axis=-1))


def figure_size(height: int, width: int, side: float) -> tuple[float, float]:
    """Inches for a map whose longer side is `side`, with room for title, axes and colour bar."""
    longer = max(height, width)
    return max(side * width / longer, 3.6) + 1.6, max(side * height / longer, 2.2) + 0.9


def save_figure(figure: Figure, path: Path) -> Path:
    """Write a figure as PNG, the same bytes each time, and return the path."""
    with atomic_path(path) as temporary:
        _print_png(figure, temporary)
    return Path(path)


def png_bytes(figure: Figure) -> bytes:
    """What `save_figure` writes."""
    written = io.BytesIO()
    _print_png(figure, written)
    return written.getvalue()


def _print_png(figure: Figure, to: Path | io.BytesIO) -> None:
    canvas, plain = FigureCanvasAgg(figure), {"Software": None}
    with matplotlib.style.context("default"):
        canvas.print_figure(to, format="png", dpi=DPI, bbox_inches="tight", metadata=plain)
