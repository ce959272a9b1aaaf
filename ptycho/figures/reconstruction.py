"""Pictures of a reconstruction, drawn on a canvas of their own: no window, no pyplot, no global backend."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import matplotlib.style
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from ptycho.core.fourier_result import as_spectrum
from ptycho.core.geometry import ObjectFrame
from ptycho.core.physics.scan_probes import ScanProbes
from ptycho.core.quality.registration import fit_plane
from ptycho.core.reconstruction import Reconstruction
from ptycho.errors import DataError
from ptycho.figures import drawing
from ptycho.figures.curves import draw_errors
from ptycho.figures.drawing import (
    bar_ends,
    bright_pixels,
    colour_range,
    draw_bar,
    draw_map,
    draw_probe,
    figure_size,
    save_figure,
    seen_box,
    seen_pixels,
)
from ptycho.figures.uncertainty import draw_uncertainty

__all__ = ["centred_phase", "save_amplitude_png", "save_phase_png", "save_summary_png", "summary_figure"]

SHEET = 13.0
"""Width of the summary sheet, inches."""

MOST_SLICES, MOST_PROBES = 6, 3
"""On one sheet."""
SCANS = ("#e0803c", "#3c8fe0", "#4fae5b", "#b86ad1", "#d9c445", "#e05c7a")
"""Colours of the positions of several scans of one object, in turn."""

UNITS = {"amplitude": "amplitude", "phase": "phase (rad)"}

Complex = npt.NDArray[np.complexfloating]
Real = npt.NDArray[np.floating]
Mask = npt.NDArray[np.bool_]


def save_amplitude_png(
    object: Complex, coverage: Real, path: Path, pixel_m: float | None = None, pdf: bool = False
) -> Path:
    """Write a grey-scale picture of |object| and return its path.

    Args:
        object: (H, W) complex transmission.
        coverage: (H, W) sum of stitching weights; pixels with hardly any of it (`drawing.seen_pixels`) are hatched
            out, and count neither for the greys nor for the crop.
        path: PNG file to write, atomically.
        pixel_m: side of a pixel, metres; None labels the axes in pixels.
        pdf: write a PDF beside it.

    Raises:
        DataError: `object` and `coverage` are not two arrays of one shape (H, W).
        OutputError: the file cannot be written.
    """
    seen = seen_pixels(object, coverage)
    amplitude = np.abs(object)
    return _save_map(
        amplitude,
        seen,
        bright_pixels(object, coverage),
        "amplitude",
        _amplitude_title(amplitude, seen),
        path,
        pixel_m,
        pdf,
    )


def save_phase_png(
    object: Complex, coverage: Real, path: Path, pixel_m: float | None = None, pdf: bool = False
) -> Path:
    """Write a picture of the phase of `object` in radians and return its path.

    What no measurement fixes is removed first: the phase plane of `registration.fit_plane` (a detector or a probe
    that is off centre tilts it), then the global phase: the mean of the object weighted by `coverage` is turned
    onto the positive real axis, so that the picture does not wrap without need.
    Arguments and errors are those of `save_amplitude_png`.
    """
    seen = seen_pixels(object, coverage)
    phase, plane = centred_phase(object, coverage, seen)
    return _save_map(
        phase, seen, bright_pixels(object, coverage), "phase", _phase_title(phase, seen, plane), path, pixel_m, pdf
    )


def save_summary_png(
    reconstruction: Reconstruction,
    path: Path,
    truth: Complex | None = None,
    patterns: Real | None = None,
    pdf: bool = False,
) -> Path:
    """Write the sheet of `summary_figure` to a PNG file, atomically, and with `pdf` a PDF beside it; return its path.

    Raises:
        DataError: as `summary_figure`.
        OutputError: the file cannot be written.
    """
    return save_figure(summary_figure(reconstruction, truth, patterns), path, pdf)


def summary_figure(
    reconstruction: Reconstruction, truth: Complex | None = None, patterns: Real | None = None
) -> Figure:
    """One sheet that shows how the reconstruction came about.

    It has the scan path over the coverage, the mean pattern, the probe, the error per refinement iteration,
    and amplitude and phase of the object: network, refined, its slices and true, as far as there are such, on one
    scale of colours, and beside them how far noise takes each pixel, where that was measured. Of more than six slices
    six are shown, of the probes of more than three scans those of three.

    Args:
        reconstruction: what to show.
        truth: true object, complex (H', W') on the scan's own pixel grid (as `objectGuess` in a scan file),
            or None.
        patterns: measured amplitudes (n, N, N), or None.

    Raises:
        DataError: `truth` or `patterns` has another number of axes.
    """
    r = reconstruction
    objects: list[tuple[str, Complex]] = []
    if r.network_object is not None:
        objects.append(("network", r.network_object))
    objects.append(("network" if r.method == "network" else "refined", r.object))
    if r.slices is not None:
        shown = np.unique(np.linspace(0, len(r.slices) - 1, MOST_SLICES).round().astype(int))
        objects += [(f"slice {k + 1} of {len(r.slices)}", r.slices[k]) for k in shown]
    if truth is not None:
        objects.append(("truth", _in_frame(truth, r.frame)))
    columns = len(objects) + (r.uncertainty is not None)
    rows, columns = (1, 2) if columns == 1 else (2, columns)
    panels = 1 + len(_shown_probes(r)) + (patterns is not None) + bool(r.error_history)
    y0, y1, x0, x1 = seen_box(seen_pixels(r.object, r.coverage))
    heights = (
        min(SHEET / panels - 1.0, 2.7) + 0.8,
        rows * (min((SHEET / columns - 1.1) * (y1 - y0) / (x1 - x0), 7.0) + 0.8),
    )
    with matplotlib.style.context("default"):
        figure = Figure(figsize=(SHEET, sum(heights) + 0.6), layout="constrained")
        grid = figure.add_gridspec(2, 1, height_ratios=heights)
        above = figure.add_subfigure(grid[0]).subplots(1, panels)
        below = figure.add_subfigure(grid[1]).subplots(rows, columns, squeeze=False).reshape(2, -1)
        figure.suptitle(_summary_title(r), fontsize=11)
        _draw_overview(above, as_spectrum(r), patterns)
        _draw_objects(below, objects, r)
        if r.uncertainty is not None:
            draw_uncertainty(below[:, -1], r.uncertainty, r.pixel_m)
    return figure


def centred_phase(object: Complex, coverage: Real, seen: Mask) -> tuple[Real, tuple[float, float]]:
    """Return the phase (rad) less its plane and weighted circular mean, and the plane (kx, ky), cycles per pixel."""
    shown = np.where(seen, object, 0)
    _, ky, kx = fit_plane(shown, np.ones_like(shown), coverage) if seen.any() else (0.0, 0.0, 0.0)
    y, x = (np.arange(n) for n in shown.shape)
    level = shown * np.exp(-2j * np.pi * (ky * y[:, None] + kx * x))
    return np.angle(level * np.exp(-1j * np.angle(np.sum(level * coverage)))), (kx, ky)


def _save_map(
    values: Real, seen: Mask, bright: Mask, kind: str, title: str, path: Path, pixel_m: float | None, pdf: bool
) -> Path:
    """Draw one map with its colour bar, at least one screen pixel per object pixel, and save it."""
    y0, y1, x0, x1 = seen_box(seen)
    height, width = y1 - y0, x1 - x0
    limits = colour_range([values[bright]], kind)
    side = max(5.0, max(height, width) / drawing.DPI)
    with matplotlib.style.context("default"):
        figure = Figure(figsize=figure_size(height, width, side), layout="constrained")
        axes = figure.add_subplot()
        image = draw_map(axes, values, seen, kind, limits, pixel_m)
        axes.set_title(title, fontsize=10)
        draw_bar(axes, image, UNITS[kind], bar_ends(values[seen], limits))
        return save_figure(figure, path, pdf)


def _amplitude_title(amplitude: Real, seen: Mask) -> str:
    height, width = amplitude.shape
    median = f"median {np.median(amplitude[seen]):.3g}" if seen.any() else "nothing covered"
    return f"Amplitude: {width} × {height} pixels, {100 * seen.mean():.0f} % covered, {median}"


def _phase_title(phase: Real, seen: Mask, plane: tuple[float, float]) -> str:
    if not seen.any():
        return "Phase: nothing covered"
    slopes = " and ".join(f"{1e3 * slope:.2f}" for slope in plane).replace("-", "−")
    return f"Phase: standard deviation {np.std(phase[seen]):.3g} rad, slopes of {slopes} mcycles/pixel removed"


def _summary_title(r: Reconstruction) -> str:
    modes, size, _ = r.probe.shape
    facts = [
        *([str(r.metadata["name"])] if r.metadata.get("name") else []),
        f"{r.method}, {r.backend}",
        f"{r.xcoords.size} positions",
        f"{modes} probe mode{'s' * (modes > 1)} of {size} × {size}",
        f"object {r.frame.width} × {r.frame.height} pixels",
        f"sub-pixel shifts {r.subpixel}",
    ]
    numbers = []
    if r.method != "refined" and np.isfinite(r.agreement).all():  # on one canvas nothing was stitched
        phases = "phases synchronised" if r.synchronised else "phases as predicted"
        numbers.append(f"overlap agreement {r.agreement[0]:.3f} → {r.agreement[1]:.3f} ({phases})")
    if r.error_history:
        last = r.error_history[-1] if r.trust is None else r.trust.fourier_error
        numbers.append(f"relative Fourier error {r.error_history[0]:.4g} → {last:.4g}")
    judged = [] if r.trust is None else [f"trust: {r.trust.summary}"]
    if r.uncertainty is not None and not r.uncertainty.holds:
        judged.append("the uncertainty does not hold")
    return "\n".join("   ·   ".join(line) for line in (facts, numbers, judged) if line)


def _draw_overview(panels: Iterable[Axes], r: Reconstruction, patterns: Real | None) -> None:
    """Draw scan, mean pattern, probe and error side by side, as far as there are such."""
    axes = iter(panels)
    _draw_scan(next(axes), r)
    if patterns is not None:
        _draw_pattern(next(axes), patterns)
    for name, probe in _shown_probes(r):
        draw_probe(panel := next(axes), probe, r.pixel_m)
        if name:
            panel.set_title(f"{name}: {panel.get_title()}", fontsize=10)
    if r.error_history:
        draw_errors(panel := next(axes), r.error_history, r.counts_from)
        panel.set_box_aspect(1)


def _shown_probes(r: Reconstruction) -> list[tuple[str, Complex]]:
    """The probe of every scan that shares the object, of many of the first ones, with the name of the scan."""
    if not isinstance(r.variation, ScanProbes):
        return [("", r.probe)]
    names = r.metadata.get("scans") or [f"Scan {k + 1}" for k in range(len(r.probes))]
    return list(zip(names, r.probes, strict=False))[:MOST_PROBES]


def _draw_scan(axes: Axes, r: Reconstruction) -> None:
    seen = seen_pixels(r.object, r.coverage)
    image = draw_map(axes, r.coverage, seen, "amplitude", (0.0, float(r.coverage.max()) or 1.0), r.pixel_m)
    few, step = r.xcoords.size <= 5000, -(-r.xcoords.size // drawing.MOST_POINTS)
    scan = r.variation.scan if isinstance(r.variation, ScanProbes) else np.zeros(r.xcoords.size, int)
    for k in np.unique(scan):
        x, y, colour = r.xcoords[scan == k][::step], r.ycoords[scan == k][::step], SCANS[k % len(SCANS)]
        if few:
            axes.plot(x, y, "-", color=colour, linewidth=0.4, alpha=0.6)
        axes.plot(x, y, "." if few else ",", color=colour, markersize=2.0)
    some = f" (1 in {step})" if step > 1 else ""
    axes.set_title(f"Scan positions{some} over the coverage", fontsize=10)
    draw_bar(axes, image, "sum of weights")


def _draw_pattern(axes: Axes, patterns: Real) -> None:
    if patterns.ndim != 3 or len(patterns) == 0:
        raise DataError(f"patterns: expected amplitudes of shape (n, N, N), found {patterns.shape}")
    mean = np.zeros(patterns.shape[1:])
    for start in range(0, len(patterns), 256):  # block by block: no second copy of the data set
        mean += np.sum(np.square(patterns[start : start + 256], dtype=np.float64), axis=0)
    mean /= len(patterns)
    top = float(mean.max()) or 1.0
    floor = 0.999 * max(float(mean[mean > 0].min(initial=top)), 1e-6 * top)
    half = patterns.shape[1] / 2
    extent = (-half - 0.5, half - 0.5, half - 0.5, -half - 0.5)
    image = axes.imshow(np.maximum(mean, floor), norm=LogNorm(floor, top), cmap="magma", extent=extent)
    axes.set(xlabel="detector x (pixels)", ylabel="detector y (pixels)")
    axes.set_title("Mean pattern", fontsize=10)
    draw_bar(axes, image, "intensity")


def _draw_objects(panels: Iterable[Iterable[Axes]], objects: list[tuple[str, Complex]], r: Reconstruction) -> None:
    """Draw amplitude and phase of every object, each on one scale of colours that the later ones set."""
    seen, coverage = [seen_pixels(array, r.coverage) for _, array in objects], r.coverage
    maps = {
        "amplitude": [np.abs(array) for _, array in objects],
        "phase": [centred_phase(array, coverage, m)[0] for (_, array), m in zip(objects, seen, strict=True)],
    }
    for row, (kind, values) in zip(panels, maps.items(), strict=True):
        shown = [value[m] for value, m in zip(values, seen, strict=True)]
        bright = [value[bright_pixels(array, r.coverage)] for value, (_, array) in zip(values, objects, strict=True)]
        limits = colour_range(bright[1:] or bright, kind)
        for panel, (name, _), value, mask in zip(row, objects, values, seen, strict=False):
            image = draw_map(panel, value, mask, kind, limits, r.pixel_m)
            panel.set_title(f"{kind.capitalize()}, {name}", fontsize=10)
        draw_bar(panel, image, UNITS[kind], bar_ends(np.concatenate(shown), limits))


def _in_frame(truth: Complex, frame: ObjectFrame) -> Complex:
    """Cut `truth` out of the scan's pixel grid into `frame`; NaN where it does not reach."""
    if truth.ndim != 2:
        raise DataError(f"truth: expected an object of shape (H, W), found {truth.shape}")
    cut = np.full((frame.height, frame.width), np.nan + 0j, np.complex64)
    top, left = max(frame.y0, 0), max(frame.x0, 0)
    part = truth[top : max(frame.y0 + frame.height, 0), left : max(frame.x0 + frame.width, 0)]
    row, column = top - frame.y0, left - frame.x0
    cut[row : row + part.shape[0], column : column + part.shape[1]] = part
    return cut
