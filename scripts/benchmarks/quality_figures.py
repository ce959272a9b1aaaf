"""Pictures of the quality benchmark: error over seconds, and objects side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter
from numpy.typing import NDArray
from quality_cases import Case, case_scan, scored_region
from quality_methods import METHODS, Places, file_name, start_of

from ptycho.core.quality.alignment import align
from ptycho.core.quality.registration import remove_plane
from ptycho.figures.drawing import bar_ends, colour_range, draw_bar, draw_map, save_figure

__all__ = ["save_curves", "save_objects"]

Row = dict[str, Any]
Table = dict[tuple[str, str], list[Row]]
Complex = NDArray[np.complexfloating[Any, Any]]

COLOURS = {
    "flat": "#999999",
    "cnn": "#8a5fb0",
    "unrolled": "#2f8f5b",
    "unrolled-1": "#86b93c",
    "universal": "#1fa3a3",
    "refine": "#2a5f9e",
    "refine-pass": "#c4501b",
    "refine-pass-noise": "#e3a21a",
    "reconstruct": "#c2378f",
    "reconstruct-prior": "#e58fc4",
    "pty-chi": "#222222",
    "pty-chi-bh": "#777777",
}
MARKERS = {
    "cnn": "s",
    "unrolled": "D",
    "unrolled-1": "^",
    "universal": "v",
    "reconstruct": "*",
    "reconstruct-prior": "P",
}
PANEL = 3.4
"""Side of a panel, inches."""
COLUMNS = 4


def save_curves(cases: Sequence[Case], table: Table, path: Path) -> Path:
    """Error over seconds, a panel per case: lines are iterations (first run), points are what has one result."""
    columns = min(COLUMNS, len(cases))
    lines = -(-len(cases) // columns)
    with matplotlib.style.context("default"):
        figure = Figure(figsize=(PANEL * columns, 0.9 * PANEL * lines + 0.6), layout="constrained")
        panels = figure.subplots(lines, columns, squeeze=False).ravel()
        for axes, case in zip(panels, cases, strict=False):
            _draw_curves(axes, case, table)
        for axes in panels[len(cases) :]:
            axes.set_axis_off()
        shown = {label: line for axes in panels for line, label in zip(*axes.get_legend_handles_labels(), strict=True)}
        order = [method for method in METHODS if method in shown]
        figure.legend([shown[name] for name in order], order, loc="outside upper center", ncols=len(order), fontsize=9)
        return save_figure(figure, path)


def _draw_curves(axes: Axes, case: Case, table: Table) -> None:
    for method in METHODS:
        rows = table.get((case.name, method))
        if not rows:
            continue
        _, seconds, error = np.array(rows[0]["curve"], float).T
        colour = COLOURS[method]
        if method == "flat":
            axes.axhline(error[0], color=colour, linestyle=":", linewidth=1, label=method)
        elif method in MARKERS:
            axes.plot(seconds, error, MARKERS[method], color=colour, markersize=6, label=method)
        else:
            axes.plot(seconds, error, "-o", color=colour, markersize=2.5, linewidth=1.3, label=method)
    axes.set(xscale="log", yscale="log", xlabel="seconds")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_ylabel("relative Fourier error" if case.real else "NRMSE of the object")
    axes.set_title(case.name, fontsize=10)
    axes.grid(True, which="major", color="#dddddd", linewidth=0.5)


def save_objects(case: Case, table: Table, folder: Path) -> list[Path]:
    """Amplitude and phase of a case's objects side by side, the truth first, aligned as they were scored."""
    wanted = ("cnn", start_of(case), "refine", "refine-pass", "refine-pass-noise", "pty-chi")
    there = [method for method in wanted if any(row["figures"] for row in table.get((case.name, method), [])[:1])]
    shown: Mapping[str, Complex]
    images = {method: _saved(folder, case, method) for method in there}
    if not there:
        return []
    titles = {method: f"{method}\n{_error(table[case.name, method][0], case):.4f}" for method in there}
    if case.real:
        # no truth: all are levelled to the last, which only takes out phase planes and the global phase; the scale is
        # free as well where the probe is refined
        reference = images[there[-1]]
        shown = {titles[method]: remove_plane(images[method], reference) for method in there}
        margin = _probe_side(folder, case, there[-1]) // 2
        shown = {title: _unit_amplitude(image[margin:-margin, margin:-margin]) for title, image in shown.items()}
    else:
        data = case_scan(case, None)
        truth = np.asarray(data.objectGuess)
        aligned = {method: align(images[method], truth, scored_region(data)) for method in there}
        shown = {"truth\n": aligned[there[0]].truth} | {titles[method]: aligned[method].image for method in there}
    return [_save_pictures(case, shown, folder / f"objects-{file_name(case.name)}.png")]


def _unit_amplitude(image: Complex) -> Complex:
    return image / np.median(np.abs(image))


def _saved(folder: Path, case: Case, method: str) -> Complex:
    with np.load(Places(folder, None, None, None).result(case.name, method, 0), allow_pickle=False) as file:
        return np.asarray(file["object"])


def _probe_side(folder: Path, case: Case, method: str) -> int:
    with np.load(Places(folder, None, None, None).result(case.name, method, 0), allow_pickle=False) as file:
        return int(file["probe"].shape[-1])


def _error(row: Row, case: Case) -> float:
    return float(row["figures"]["fourier_error" if case.real else "complex_nrmse"])


def _save_pictures(case: Case, shown: Mapping[str, Complex], path: Path) -> Path:
    """Two rows, amplitude and phase; the colours of a simulated case are those of its truth."""
    images = list(shown.values())
    height, width = images[0].shape
    values = {"amplitude": [np.abs(image) for image in images], "phase": _phases(images, case.real)}
    with matplotlib.style.context("default"):
        size = (PANEL * 0.8 * len(images) + 1.2, 2 * PANEL * 0.8 * height / width + 1.2)
        figure = Figure(figsize=size, layout="constrained")
        for panels, (kind, maps) in zip(figure.subplots(2, len(images), squeeze=False), values.items(), strict=True):
            limits = colour_range(maps if case.real else maps[:1], kind)
            for axes, title, one in zip(panels, shown, maps, strict=True):
                picture = draw_map(axes, one, np.isfinite(one), kind, limits)
                axes.set_title(title if kind == "amplitude" else "", fontsize=9)
                axes.set(xlabel="", ylabel="", xticks=[], yticks=[])
            label = kind if kind == "amplitude" else "phase (rad)"
            draw_bar(panels[-1], picture, label, bar_ends(np.stack(maps), limits))
        what = "relative Fourier error below the names, median amplitude 1" if case.real else "NRMSE below the names"
        figure.suptitle(f"{case.name}: {what}", fontsize=11)
        return save_figure(figure, path)


def _phases(images: Sequence[Complex], real: bool) -> list[NDArray[np.floating[Any]]]:
    """Phases about their mean; with a truth it comes first and is unwrapped, the others are it and their difference."""
    if real:
        return [np.angle(image * np.exp(-1j * np.angle(image.sum()))) for image in images]
    first = images[0]
    level = np.angle(first * np.exp(-1j * np.angle(first.sum())))
    phase = np.unwrap(np.unwrap(level, axis=0), axis=1)
    return [phase + np.angle(image * np.conj(first)) for image in images]
