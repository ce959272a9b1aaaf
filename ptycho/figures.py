"""Pictures of a reconstruction, drawn on a canvas of their own: no window, no pyplot, no global backend."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import matplotlib.style
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LogNorm, hsv_to_rgb
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import MaxNLocator

from ptycho.core.atomic import atomic_path
from ptycho.core.geometry import ObjectFrame
from ptycho.core.products import Reconstruction
from ptycho.core.registration import fit_plane
from ptycho.errors import DataError

__all__ = ["save_amplitude_png", "save_phase_png", "save_summary_png"]

DPI = 150
SHEET = 13.0
"""Width of the summary sheet, inches."""
SEEN = 1e-3
"""A pixel counts as seen where its coverage is above this fraction of the largest coverage."""
ROBUST = (1.0, 99.0)
"""Percentiles of the seen pixels that the colours span."""

UNITS = {"amplitude": "amplitude", "phase": "phase (rad)"}

Complex = npt.NDArray[np.complexfloating]
Real = npt.NDArray[np.floating]
Mask = npt.NDArray[np.bool_]


def save_amplitude_png(object: Complex, coverage: Real, path: Path) -> Path:
    """Write a grey-scale picture of |object| and return its path.

    Args:
        object: (H, W) complex transmission.
        coverage: (H, W) sum of stitching weights; pixels below 1/1000 of its maximum are hatched out.
        path: PNG file to write, atomically.

    Raises:
        DataError: `object` and `coverage` are not two arrays of one shape (H, W).
        OutputError: the file cannot be written.
    """
    seen = _seen(object, coverage)
    amplitude = np.abs(object)
    return _save_map(amplitude, seen, "amplitude", _amplitude_title(amplitude, seen), path)


def save_phase_png(object: Complex, coverage: Real, path: Path) -> Path:
    """Write a picture of the phase of `object` in radians and return its path.

    What no measurement fixes is removed first: the phase plane of `registration.fit_plane` (a detector or a probe
    that is off centre tilts it), then the global phase: the mean of the object weighted by `coverage` is turned
    onto the positive real axis, so that the picture does not wrap without need.
    Arguments and errors are those of `save_amplitude_png`.
    """
    seen = _seen(object, coverage)
    phase, plane = _centred_phase(object, coverage, seen)
    return _save_map(phase, seen, "phase", _phase_title(phase, seen, plane), path)


def save_summary_png(
    reconstruction: Reconstruction,
    path: Path,
    truth: Complex | None = None,
    patterns: Real | None = None,
) -> Path:
    """Write one sheet that shows how the reconstruction came about, and return its path.

    It has the scan path over the coverage, the mean pattern, the probe, the error per refinement iteration,
    and amplitude and phase of the object: network, refined and true, as far as there are such, on one scale
    of colours.

    Args:
        reconstruction: what to show.
        path: PNG file to write, atomically.
        truth: true object, complex (H', W') on the scan's own pixel grid (as `objectGuess` in a scan file),
            or None.
        patterns: measured amplitudes (n, N, N), or None.

    Raises:
        DataError: `truth` or `patterns` has another number of axes.
        OutputError: the file cannot be written.
    """
    r = reconstruction
    objects: list[tuple[str, Complex]] = []
    if r.network_object is not None:
        objects.append(("network", r.network_object))
    objects.append(("refined" if r.network_object is not None else "network", r.object))
    if truth is not None:
        objects.append(("truth", _in_frame(truth, r.frame)))
    rows, columns = (1, 2) if len(objects) == 1 else (2, len(objects))
    panels = 2 + (patterns is not None) + bool(r.error_history)
    heights = (
        min(SHEET / panels - 1.0, 2.7) + 0.8,
        rows * (min((SHEET / columns - 1.1) * r.frame.height / r.frame.width, 7.0) + 0.8),
    )
    with matplotlib.style.context("default"):
        figure = Figure(figsize=(SHEET, sum(heights) + 0.6), layout="constrained")
        grid = figure.add_gridspec(2, 1, height_ratios=heights)
        above = figure.add_subfigure(grid[0]).subplots(1, panels)
        below = figure.add_subfigure(grid[1]).subplots(rows, columns, squeeze=False)
        figure.suptitle(_summary_title(r), fontsize=11)
        _draw_overview(above, r, patterns)
        _draw_objects(below.reshape(2, -1), objects, r.coverage)
        return _save(figure, path)


def _seen(object: Complex, coverage: Real) -> Mask:
    """Return where there is something to show: covered and finite."""
    if object.ndim != 2 or object.shape != coverage.shape:
        raise DataError(f"object and coverage: expected one shape (H, W), found {object.shape} and {coverage.shape}")
    return (coverage > SEEN * coverage.max(initial=0.0)) & np.isfinite(object)


def _centred_phase(object: Complex, coverage: Real, seen: Mask) -> tuple[Real, tuple[float, float]]:
    """Return the phase (rad) less its plane and weighted circular mean, and the plane (kx, ky), cycles per pixel."""
    shown = np.where(seen, object, 0)
    _, ky, kx = fit_plane(shown, np.ones_like(shown), coverage) if seen.any() else (0.0, 0.0, 0.0)
    y, x = (np.arange(n) for n in shown.shape)
    level = shown * np.exp(-2j * np.pi * (ky * y[:, None] + kx * x))
    return np.angle(level * np.exp(-1j * np.angle(np.sum(level * coverage)))), (kx, ky)


def _range(values: Iterable[Real], kind: str) -> tuple[float, float]:
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


def _draw_map(axes: Axes, values: Real, seen: Mask, kind: str, limits: tuple[float, float]) -> AxesImage:
    """Draw a map of the object plane; pixels not seen show the hatched background."""
    cyclic = limits == (-np.pi, np.pi)
    cmap = "gray" if kind == "amplitude" else "twilight_shifted" if cyclic else "viridis"
    axes.patch.set(facecolor="#d5d9e0", hatch="////", edgecolor="#bfc5cf", linewidth=0.0)
    axes.set(xlabel="x (pixels)", ylabel="y (pixels)")
    axes.locator_params(nbins=6)
    return axes.imshow(np.ma.masked_array(values, ~seen), cmap=cmap, vmin=limits[0], vmax=limits[1])


def _draw_bar(axes: Axes, image: AxesImage, label: str, extend: str = "neither") -> None:
    """Put a colour bar beside `axes`, exactly as high as they are."""
    height, width = image.get_size()
    thickness = 0.045 * max(1.0, height / width)
    bar = axes.inset_axes((1.0 + 0.6 * thickness, 0.0, thickness, 1.0))
    bar.figure.colorbar(image, cax=bar, label=label, extend=extend)


def _extend(values: Real, limits: tuple[float, float]) -> str:
    """Return which ends of the colour bar need an arrow because values lie beyond them."""
    below, above = bool(np.any(values < limits[0])), bool(np.any(values > limits[1]))
    return ("both" if above else "min") if below else ("max" if above else "neither")


def _save_map(values: Real, seen: Mask, kind: str, title: str, path: Path) -> Path:
    """Draw one map with its colour bar, at least one screen pixel per object pixel, and save it."""
    height, width = values.shape
    limits = _range([values[seen]], kind)
    side = max(5.0, max(height, width) / DPI)
    with matplotlib.style.context("default"):
        figure = Figure(figsize=_figure_size(height, width, side), layout="constrained")
        axes = figure.add_subplot()
        image = _draw_map(axes, values, seen, kind, limits)
        axes.set_title(title, fontsize=10)
        _draw_bar(axes, image, UNITS[kind], _extend(values[seen], limits))
        return _save(figure, path)


def _figure_size(height: int, width: int, side: float) -> tuple[float, float]:
    """Inches for a map whose longer side is `side`, with room for title, axes and colour bar."""
    longer = max(height, width)
    return max(side * width / longer, 3.6) + 1.6, max(side * height / longer, 2.2) + 0.9


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
        f"{r.method}, {r.backend}",
        f"{r.xcoords.size} positions",
        f"{modes} probe mode{'s' * (modes > 1)} of {size} × {size}",
        f"object {r.frame.width} × {r.frame.height} pixels",
        f"sub-pixel shifts {r.subpixel}",
    ]
    numbers = [
        f"overlap agreement {r.agreement[0]:.3f} → {r.agreement[1]:.3f}"
        f" ({'phases synchronised' if r.synchronised else 'phases as predicted'})"
    ]
    if r.error_history:
        numbers.append(f"relative Fourier error {r.error_history[0]:.4g} → {r.error_history[-1]:.4g}")
    timings = [f"{stage} {seconds:.2f} s" for stage, seconds in r.timings.items()]
    return "\n".join("   ·   ".join(line) for line in (facts, numbers, timings) if line)


def _draw_overview(panels: Iterable[Axes], r: Reconstruction, patterns: Real | None) -> None:
    """Draw scan, mean pattern, probe and error side by side, as far as there are such."""
    axes = iter(panels)
    _draw_scan(next(axes), r)
    if patterns is not None:
        _draw_pattern(next(axes), patterns)
    _draw_probe(next(axes), r.probe)
    if r.error_history:
        _draw_errors(next(axes), r.error_history)


def _draw_scan(axes: Axes, r: Reconstruction) -> None:
    covered = r.coverage > SEEN * r.coverage.max(initial=0.0)
    image = _draw_map(axes, r.coverage, covered, "amplitude", (0.0, float(r.coverage.max()) or 1.0))
    few = r.xcoords.size <= 5000
    axes.plot(r.xcoords, r.ycoords, "-" if few else "", color="#e0803c", linewidth=0.4, alpha=0.6)
    axes.plot(r.xcoords, r.ycoords, "." if few else ",", color="#e0803c", markersize=2.0)
    axes.set_title("Scan positions over the coverage", fontsize=10)
    _draw_bar(axes, image, "sum of weights")


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
    _draw_bar(axes, image, "intensity")


def _draw_probe(axes: Axes, probe: Complex) -> None:
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


def _draw_errors(axes: Axes, errors: tuple[float, ...]) -> None:
    axes.plot(range(len(errors)), errors, "-o" if len(errors) <= 30 else "-", color="#2a5f9e", markersize=3)
    axes.set(xlabel="iteration", ylabel="relative Fourier error")
    if min(errors) > 0:
        axes.set_yscale("log")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(True, which="both", color="#dddddd", linewidth=0.5)
    axes.set_title(f"Refinement: {errors[0]:.3g} to {errors[-1]:.3g}", fontsize=10)
    axes.set_box_aspect(1)


def _draw_objects(panels: Iterable[Iterable[Axes]], objects: list[tuple[str, Complex]], coverage: Real) -> None:
    """Draw amplitude and phase of every object, each on one scale of colours that the later ones set."""
    seen = [_seen(array, coverage) for _, array in objects]
    maps = {
        "amplitude": [np.abs(array) for _, array in objects],
        "phase": [_centred_phase(array, coverage, m)[0] for (_, array), m in zip(objects, seen, strict=True)],
    }
    for row, (kind, values) in zip(panels, maps.items(), strict=True):
        shown = [value[m] for value, m in zip(values, seen, strict=True)]
        limits = _range(shown[1:] or shown, kind)
        for panel, (name, _), value, mask in zip(row, objects, values, seen, strict=True):
            image = _draw_map(panel, value, mask, kind, limits)
            panel.set_title(f"{kind.capitalize()}, {name}", fontsize=10)
        _draw_bar(panel, image, UNITS[kind], _extend(np.concatenate(shown), limits))


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


def _save(figure: Figure, path: Path) -> Path:
    with atomic_path(path) as temporary:
        FigureCanvasAgg(figure).print_figure(
            temporary, format="png", dpi=DPI, bbox_inches="tight", metadata={"Software": None}
        )
    return Path(path)
