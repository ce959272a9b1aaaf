"""One sheet that shows a scan: some patterns, their mean, the probe and its far field, the path, the object."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.style
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from ptycho.core.formats.record import ScanRecord, resolved_units
from ptycho.core.physics.diffraction import as_modes, far_field
from ptycho.core.physics.probes import probe_diameter
from ptycho.core.quality.registration import fit_plane
from ptycho.core.scaling import Units
from ptycho.core.scan_edit.centre import mean_intensity
from ptycho.errors import DataError
from ptycho.figures.drawing import bar_ends, colour_range, draw_bar, draw_map, draw_probe, save_figure

__all__ = ["save_scan_png", "scan_figure"]

_CELL = (4.3, 3.4)
"""Width and height of a panel, inches."""
_DARKEST = 1e-6
"""Intensities below this part of the largest are drawn as dark."""

Array = npt.NDArray[Any]
Panel = Callable[[Axes], None]


def save_scan_png(record: ScanRecord, name: str, path: Path, units: Units | None = None) -> Path:
    """Write the sheet of `scan_figure` to a PNG file, atomically, and return its path."""
    return save_figure(scan_figure(record, name, units), path)


def scan_figure(record: ScanRecord, name: str, units: Units | None = None) -> Figure:
    """One sheet of everything that a scan or product holds.

    Patterns are drawn as intensity on a logarithmic scale, masked pixels in green, axes in pixels from the zero
    frequency; the probe with its phase as hue; the path over where the probe's 90 % disk reaches; the object with
    its phase plane and its global phase removed.

    Args:
        record: what to show.
        name: of the file, for the title.
        units: what the patterns hold, instead of what the record says or its numbers show.

    Raises:
        DataError: there is nothing to draw.
    """
    panels: list[Panel] = []
    facts = [name]
    if record.patterns is not None:
        held: Units = units or resolved_units(record)
        panels += _pattern_panels(record, held)
        n, N, _ = record.patterns.shape
        facts.append(f"{n} patterns of {N} × {N}, {record.patterns.dtype}, {held}")
    if record.probe is not None:
        probe = record.probe
        pixel = record.object_pixel_m
        panels += [lambda axes: draw_probe(axes, probe, pixel), lambda axes: _draw_far_field(axes, probe)]
        facts.append(f"probe {probe_diameter(probe):.3g} pixels wide (90 %), energy {np.sum(np.abs(probe) ** 2):.3g}")
    if record.xcoords is not None and record.xcoords.size:
        panels.append(lambda axes: _draw_path(axes, record))
        facts.append(f"{record.xcoords.size} positions")
    if record.object is not None:
        panels += _object_panels(record.object, record.object_pixel_m)
        facts.append(f"object {record.object.shape[1]} × {record.object.shape[0]}")
    if not panels:
        raise DataError(f"{name}: expected patterns, a probe, positions or an object to draw, found none of them")
    columns = min(len(panels), 3 if len(panels) in (5, 6, 9) else 4)
    rows = -(-len(panels) // columns)
    with matplotlib.style.context("default"):
        figure = Figure(figsize=(columns * (_CELL[0] + 0.35), rows * _CELL[1] + 0.5), layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes, draw in zip(grid, panels, strict=False):
            draw(axes)
        for axes in grid[len(panels) :]:
            axes.axis("off")
        figure.suptitle("   ·   ".join(facts), fontsize=10)
    return figure


def _pattern_panels(record: ScanRecord, units: Units) -> list[Panel]:
    """The mean pattern, and those of least and most energy."""
    frames, mask = record.patterns, record.mask
    assert frames is not None
    mean = mean_intensity(frames, units, mask)
    energies = np.concatenate([_intensity(values, units).sum(axis=(1, 2)) for _, values in frames.blocks()])
    order = np.argsort(energies, kind="stable")
    words = dict(zip((int(order[0]), int(order[-1])), ("least light", "most light"), strict=True))
    single = {j: _intensity(frames.read(np.array([j]))[0], units) for j in words}
    top = max(float(mean.max()), *(float(image.max()) for image in single.values())) or 1.0
    shared: Array | None = mask if mask is None or mask.ndim == 2 else np.asarray(mask.any(axis=0))
    lit = mean[mean > 0]
    limits = (max(_DARKEST * top, 0.5 * float(lit.min()) if lit.size else _DARKEST * top), top)
    unit = "intensity (counts)" if units == "counts" else "intensity (amplitude²)"

    def panel(image: Array, title: str) -> Panel:
        return lambda axes: _draw_pattern(axes, image, shared, limits, title, unit)

    return [
        panel(mean, f"Mean of {len(frames)} patterns"),
        *(panel(image, f"Pattern {j} ({words[j]})") for j, image in single.items()),
    ]


def _draw_pattern(
    axes: Axes, image: Array, mask: Array | None, limits: tuple[float, float], title: str, unit: str
) -> None:
    half = image.shape[0] / 2
    extent = (-half - 0.5, half - 0.5, half - 0.5, -half - 0.5)
    shown = np.ma.masked_array(np.maximum(image, limits[0]), np.ma.nomask if mask is None else ~mask)
    axes.patch.set(facecolor="#3fa34d")
    drawn = axes.imshow(shown, norm=LogNorm(*limits), cmap="magma", extent=extent)
    axes.set(xlabel="detector x (pixels)", ylabel="detector y (pixels)")
    axes.set_title(title, fontsize=10)
    draw_bar(axes, drawn, unit)


def _draw_far_field(axes: Axes, probe: Array) -> None:
    image = np.sum(np.abs(far_field(as_modes(probe).astype(np.complex128))) ** 2, axis=0)
    top = float(image.max()) or 1.0
    _draw_pattern(axes, image, None, (_DARKEST * top, top), "Far field of the probe", "intensity")


def _draw_path(axes: Axes, record: ScanRecord) -> None:
    x, y = record.xcoords, record.ycoords
    assert x is not None and y is not None
    few = x.size <= 5000
    if few:
        axes.plot(x, y, "-", color="#9db8d9", linewidth=0.6)
    points = axes.scatter(x, y, c=np.arange(x.size), s=6 if few else 0.5, cmap="viridis", linewidths=0)
    axes.plot(x[:1], y[:1], "o", color="#c4501b", markersize=5, label="first")
    if record.probe is not None and record.position_unit == "px":
        turn = np.linspace(0, 2 * np.pi, 90)
        radius = probe_diameter(record.probe) / 2
        axes.plot(x[0] + radius * np.cos(turn), y[0] + radius * np.sin(turn), color="#c4501b", linewidth=0.8)
    unit = "pixels" if record.position_unit == "px" else "m"
    axes.set(xlabel=f"x ({unit})", ylabel=f"y ({unit})", aspect="equal")
    if record.object is not None and record.position_unit == "px":
        height, width = record.object.shape
        axes.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
    else:
        axes.invert_yaxis()
    axes.set_title("Scan path, the first point with the probe's 90 % disk", fontsize=9)
    bar = axes.inset_axes((1.03, 0.0, 0.045, 1.0))
    axes.figure.colorbar(points, cax=bar, label="number of the pattern")


def _object_panels(image: Array, pixel_m: float | None) -> list[Panel]:
    amplitude, everywhere = np.abs(image), np.isfinite(image)
    shown = np.where(everywhere, image, 0).astype(np.complex128)
    _, ky, kx = fit_plane(shown, np.ones_like(shown))
    y, x = (np.arange(n) for n in shown.shape)
    level = shown * np.exp(-2j * np.pi * (ky * y[:, None] + kx * x))
    phase = np.angle(level * np.exp(-1j * np.angle(level.sum())))

    def panel(values: Array, kind: str, unit: str) -> Panel:
        def draw(axes: Axes) -> None:
            limits = colour_range([values[everywhere]], kind)
            drawn = draw_map(axes, values, everywhere, kind, limits, pixel_m)
            axes.set_title(f"Object, {kind}", fontsize=10)
            draw_bar(axes, drawn, f"{kind}{unit}", bar_ends(values[everywhere], limits))

        return draw

    return [panel(amplitude, "amplitude", ""), panel(phase, "phase", " (rad)")]


def _intensity(values: Array, units: Units) -> npt.NDArray[np.float64]:
    wide = np.nan_to_num(values.astype(np.float64), posinf=0, neginf=0)
    return wide**2 if units == "amplitude" else np.maximum(wide, 0)
