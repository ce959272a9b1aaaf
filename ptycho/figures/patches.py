"""A picture of patches side by side."""

from __future__ import annotations

import math
from pathlib import Path

import matplotlib.style
import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from ptycho.figures.drawing import bar_ends, colour_range, draw_bar, draw_map, save_figure

__all__ = ["mosaic", "normalised_patches", "save_patch_grid"]

_GAP = 2  # pixels between patches
_WIDTH = 7.0

Real = npt.NDArray[np.floating]


def save_patch_grid(amplitudes: Real, path: Path, title: str, normalised: bool) -> Path:
    """Write the amplitudes of patches as one picture and return its path.

    Args:
        amplitudes: (k, N, N), k >= 1; from left to right, then from top to bottom.
        path: PNG file to write, atomically.
        title: line above the picture.
        normalised: span each patch by its own least and largest amplitude, which shows what there is in a patch that
            is nearly flat; else all share one scale, which shows how the patches differ.
    """
    image = mosaic(normalised_patches(amplitudes) if normalised else amplitudes)
    seen = np.isfinite(image)
    limits = (0.0, 1.0) if normalised else colour_range([image[seen]], "amplitude")
    height, width = image.shape
    with matplotlib.style.context("default"):
        figure = Figure(figsize=(_WIDTH, _WIDTH * height / width + 0.4))
        axes = figure.subplots()
        drawn = draw_map(axes, image, seen, "amplitude", limits)
        axes.set(xlabel="", ylabel="", xticks=[], yticks=[])
        label = "amplitude, least to largest of each patch" if normalised else "amplitude"
        draw_bar(axes, drawn, label, "neither" if normalised else bar_ends(image[seen], limits))
        axes.set_title(title, fontsize=10)
        return save_figure(figure, path)


def normalised_patches(amplitudes: Real) -> Real:
    """Patches (k, N, N), each from 0 to 1; a flat one is 0.5 throughout."""
    low, high = (reduce(axis=(1, 2), keepdims=True) for reduce in (amplitudes.min, amplitudes.max))
    with np.errstate(invalid="ignore"):  # of a patch with infinities nothing is drawn
        span = high - low
        return np.where(span > 0, (amplitudes - low) / np.where(span > 0, span, 1), 0.5 + 0 * amplitudes)


def mosaic(patches: Real) -> Real:
    """Patches (k, N, N) in a square of places, row by row, NaN between them and in the places left over."""
    k, n, _ = patches.shape
    columns = math.ceil(math.sqrt(k))
    rows = math.ceil(k / columns)
    places = np.full((rows * columns, n + _GAP, n + _GAP), np.nan)
    places[:k, :n, :n] = patches
    whole = places.reshape(rows, columns, n + _GAP, n + _GAP).swapaxes(1, 2)
    return whole.reshape(rows * (n + _GAP), columns * (n + _GAP))[:-_GAP, :-_GAP]
