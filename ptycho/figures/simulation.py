"""A picture of a simulated scan: the true object, where the probe goes, the probe, and what the detector sees."""

from __future__ import annotations

from pathlib import Path

import matplotlib.style
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from ptycho.core.physics.diffraction import as_modes
from ptycho.core.physics.multislice import projected
from ptycho.core.simulation.exposure import ScanPlan
from ptycho.figures.drawing import bar_ends, colour_range, draw_bar, draw_map, save_figure

__all__ = ["save_plan_png"]

Real = npt.NDArray[np.floating]

SHEET = (9.0, 7.5)
"""Width and height, inches."""


def save_plan_png(plan: ScanPlan, patterns: Real, path: Path) -> Path:
    """Write the picture of a scan with a known object and return its path.

    Args:
        plan: the scan.
        patterns: (n, N, N) some of its patterns, in its units; their mean is shown.
        path: PNG file to write, atomically.

    Raises:
        OutputError: the file cannot be written.
    """
    with matplotlib.style.context("default"):
        figure = Figure(figsize=SHEET, layout="constrained")
        (amplitude, phase), (probe, pattern) = figure.subplots(2, 2)
        _draw(amplitude, np.abs(projected(plan.object)), "amplitude", "amplitude")
        amplitude.plot(plan.xcoords, plan.ycoords, ".", markersize=2, color="tab:red")
        amplitude.set_title(f"object and {len(plan.xcoords)} positions")
        _draw(phase, np.angle(projected(plan.object)), "phase", "phase (rad)")
        modes = as_modes(plan.probe)
        _draw(probe, np.sqrt(np.sum(np.abs(modes) ** 2, axis=0)), "amplitude", "amplitude, any unit")
        probe.set_title(f"probe, {len(modes)} mode{'s' if len(modes) > 1 else ''}")
        _draw_pattern(pattern, plan, patterns)
        return save_figure(figure, path)


def _draw(axes: Axes, values: Real, kind: str, label: str) -> None:
    limits = colour_range([values], kind)
    draw_bar(axes, draw_map(axes, values, np.ones(values.shape, bool), kind, limits), label, bar_ends(values, limits))


def _draw_pattern(axes: Axes, plan: ScanPlan, patterns: Real) -> None:
    counts = np.mean(patterns.astype(np.float64) ** (1 if plan.units == "counts" else 2), axis=0)
    seen = counts > 0 if plan.mask is None else (counts > 0) & plan.mask
    most = float(counts.max())
    image = axes.imshow(
        np.ma.masked_array(counts, ~seen), cmap="magma", norm=LogNorm(min(most / 10, max(most * 1e-6, 0.01)), most)
    )
    axes.patch.set(facecolor="#d5d9e0", hatch="////", edgecolor="#bfc5cf", linewidth=0.0)
    axes.set(title=f"mean of {len(patterns)} patterns", xlabel="x (pixels)", ylabel="y (pixels)")
    draw_bar(axes, image, "photons")
