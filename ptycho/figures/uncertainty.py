"""How sure a reconstruction is: a map of the standard deviation of the amplitude, and one of that of the phase."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes

from ptycho.core.quality.uncertainty import Uncertainty
from ptycho.figures.drawing import bar_ends, draw_bar, draw_map

__all__ = ["COLOURS", "deviation_maps", "draw_uncertainty"]

COLOURS = "magma"
"""Of a standard deviation, dark where it is small."""
BRIGHTEST = 95.0
"""Percentile of what is known that the colours end at: in the dim rim it goes up steeply."""

Real = npt.NDArray[np.floating]


def deviation_maps(known: Uncertainty) -> Iterator[tuple[str, Real, str, tuple[float, float]]]:
    """Both maps: the name, (H, W) with NaN where nothing is known, the unit, and the ends of the colours."""
    each = "standard deviation" if known.of == "solution" else "68 % within"
    for name, values, unit in (("amplitude", known.amplitude, each), ("phase", known.phase, f"{each} (rad)")):
        shown = values[known.known]
        yield name, values, unit, (0.0, float(np.percentile(shown, BRIGHTEST)) if shown.size else 1.0)


def draw_uncertainty(panels: Iterable[Axes], known: Uncertainty, pixel_m: float | None = None) -> None:
    """Draw both maps, each on axes of its own; what is said of bars that do not hold stands in their titles.

    Args:
        panels: two axes.
        known: what was measured.
        pixel_m: side of a pixel, metres; None labels the axes in pixels.
    """
    for axes, (name, values, unit, limits) in zip(panels, deviation_maps(known), strict=True):
        image = draw_map(axes, values, known.known, "amplitude", limits, pixel_m)
        image.set_cmap(COLOURS)
        axes.set_title(f"Uncertainty of the {name}{'' if known.holds else ' (does not hold)'}", fontsize=10)
        draw_bar(axes, image, unit, bar_ends(values[known.known], limits))
