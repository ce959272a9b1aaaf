"""Where positions went: an arrow for each, from where the scan has it to where it was found."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes

from ptycho.figures.curves import ACCENT, INK

__all__ = ["draw_displacements", "enlargement"]

_ARROWS = 1500
"""Drawn at most, evenly spaced in the order of the scan."""
_LONGEST = 0.1
"""Length that arrows are enlarged to, all but the longest 5 %, relative to the longer side of the scan."""

Real = npt.NDArray[np.floating]


def draw_displacements(axes: Axes, x: Real, y: Real, shift: Real, alike: Real) -> None:
    """Draw what the stage did to all positions alike, and where each went.

    Args:
        axes: where to; y goes down, as in pictures of the object.
        x, y: (n,) where the scan has the positions, pixels.
        shift: (n, 2) how far they went, pixels, ordered (x, y).
        alike: (n, 2) the part of it that the stage explains.
    """
    factor, step = enlargement(x, y, shift), -(-len(x) // _ARROWS)
    for arrows, colour, label, width in ((shift, INK, "found", 0.003), (alike, ACCENT, "of the stage", 0.002)):
        if not np.any(arrows):
            continue
        style: dict[str, Any] = {"color": colour, "width": width, "headlength": 3.5, "headaxislength": 3}
        places = x[::step], y[::step], *(factor * arrows[::step]).T
        axes.quiver(*places, angles="xy", scale_units="xy", scale=1, label=label, **style)
    axes.plot(x[::step], y[::step], ".", color="#777777", markersize=1.5)
    margin = 0.08 * max(float(np.ptp(x)), float(np.ptp(y)), 1.0)
    axes.set(xlim=(x.min() - margin, x.max() + margin), ylim=(y.max() + margin, y.min() - margin), aspect="equal")
    axes.set(xlabel="x (pixels)", ylabel="y (pixels)")
    axes.legend(fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, frameon=False)


def enlargement(x: Real, y: Real, shift: Real) -> int:
    """How many times longer than they are arrows (n, 2) are drawn: 1, 2, 5, 10, 20, ... so that they can be seen."""
    longest = float(np.percentile(np.hypot(*shift.T), 95))
    room = _LONGEST * max(float(np.ptp(x)), float(np.ptp(y)), 1.0)
    fits = [factor * 10**power for power in range(4) for factor in (1, 2, 5) if factor * 10**power * longest <= room]
    return fits[-1] if fits and longest > 0 else 1
