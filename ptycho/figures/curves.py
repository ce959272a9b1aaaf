"""Curves: errors by iteration, deviance by pattern, correlation by spatial frequency."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from ptycho.core.quality.ring_correlation import FrcCurve
from ptycho.core.quality.trust import NOISE, Trust
from ptycho.figures.drawing import name_point

__all__ = ["ACCENT", "INK", "draw_correlation", "draw_errors", "draw_ratios", "plain_ticks", "ratio_limits"]

INK, ACCENT = "#2a5f9e", "#c4501b"
_FEW = 30
"""Errors that are drawn as points too."""
_POINTS = 5000
"""Patterns that are drawn as points of some size, and that a band is drawn through: one through a million cannot be."""
_NAMED = 12
"""Patterns that stand out and are labelled, at most."""

Real = npt.NDArray[np.floating]


def draw_errors(axes: Axes, errors: Sequence[float], counts_from: int | None = None) -> None:
    """Draw the relative error after every iteration, each stretch under the name of what it is an error of.

    Args:
        axes: where to.
        errors: at the start and after every iteration.
        counts_from: the entry from which on they are of counts, a quarter of the deviance over `sum A^2`; before it,
            and all of them for None, they are of amplitudes, `sum (|F| - A)^2 / sum A^2`.
    """
    cut = len(errors) if counts_from is None else counts_from
    told = []
    for name, start, stop, colour in (("amplitudes", 0, cut, INK), ("counts", cut, len(errors), ACCENT)):
        part = errors[start:stop]
        if part:
            marks, text = "-o" if len(part) <= _FEW else "-", f"{part[0]:.3g} to {part[-1]:.3g}"
            axes.plot(range(start, stop), part, marks, color=colour, markersize=3)
            told.append(f"of {name}: {text}")
    axes.set(xlabel="iteration", ylabel="relative error")
    if min(errors) > 0:
        axes.set_yscale("log")
        plain_ticks(axes)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    axes.grid(True, which="both", color="#88888844", linewidth=0.5)
    axes.set_title("Error " + ",\nthen ".join(told), fontsize=10)


def draw_correlation(axes: Axes, curve: FrcCurve, threshold: str, cutoff: float) -> None:
    """Draw a Fourier ring correlation, its information threshold and where it falls below it.

    Args:
        axes: where to.
        curve: the correlation.
        threshold: 'one-bit' or 'half-bit'.
        cutoff: cycles per pixel; 0.5 where it never falls.
    """
    limit = curve.one_bit() if threshold == "one-bit" else curve.half_bit()
    level, name = (1 / 7, "1/7") if threshold == "half-bit" else (0.5, "1/2")
    axes.plot(curve.frequency[1:], curve.correlation[1:], color=INK, linewidth=1.5, label="correlation")
    axes.plot(curve.frequency[1:], limit[1:], color=ACCENT, linewidth=1.0, label=f"{threshold} threshold")
    axes.axhline(level, color="#777777", linewidth=0.8, linestyle=":", label=name)
    if cutoff < 0.5:
        axes.axvline(cutoff, color=ACCENT, linewidth=0.8, linestyle="--")
    low = min(0.0, float(curve.correlation[1:].min()))
    axes.set(xlim=(0, 0.5), ylim=(low - 0.05, 1.05), xlabel="spatial frequency (cycles/pixel)", ylabel="correlation")
    axes.grid(True, color="#88888844", linewidth=0.5)
    axes.legend(fontsize=8, loc="lower left")
    text = f"up to {cutoff:.3f}" if cutoff < 0.5 else "never below the threshold"
    axes.set_title(f"Fourier ring correlation: {text}", fontsize=10)


def draw_ratios(axes: Axes, trust: Trust) -> None:
    """Draw the deviance over that of noise in the order of the scan, what noise would give, and what stands out."""
    ratio, order = trust.ratio, np.arange(len(trust.ratio))
    noise = np.divide(trust.deviation, trust.expected, out=np.zeros_like(ratio), where=trust.expected > 0)
    some = slice(None, None, -(-len(ratio) // _POINTS))
    low, high = np.maximum(1 - 3 * noise[some], 0.01), 1 + 3 * noise[some]
    axes.fill_between(order[some], low, high, color="#6f9fd8", alpha=0.6, linewidth=0)
    marker = "." if len(ratio) <= _POINTS else ","
    axes.plot(order, ratio, marker, color="#333333", markersize=4, label="measured")
    axes.axhline(NOISE, color="#2e7d4f", linewidth=1, label=f"to the noise (up to {NOISE:g})")
    axes.axhline(float(np.median(ratio)), color="#333333", linewidth=1, linestyle="--", label="median")
    axes.fill_between([], [], color="#6f9fd8", alpha=0.6, label="noise alone, 3 σ")
    for j in trust.outliers[:_NAMED]:
        axes.plot(j, ratio[j], "o", markersize=8, markerfacecolor="none", markeredgecolor="#b3261e")
    limits = ratio_limits(ratio)
    least, most = min(limits[0], float(ratio.min())), max(limits[1], float(ratio.max()))
    axes.set(yscale="log", ylim=(max(0.8 * least, 1e-3), 1.3 * most), xlim=(-0.5, len(ratio) - 0.5))
    for j in trust.outliers[:_NAMED]:
        name_point(axes, str(j), (j, ratio[j]), 6, -3, color="#b3261e")
    plain_ticks(axes)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="pattern, in the order of the scan", ylabel="deviance / that of noise")
    axes.grid(True, axis="y", color="#88888844", linewidth=0.5)


def ratio_limits(ratio: Real) -> tuple[float, float]:
    """Limits of the ratio: they hold 1 and most patterns, on a logarithmic scale."""
    low, high = (float(value) for value in np.percentile(ratio, (1, 99)))
    return max(min(low, 0.8), 1e-3), max(high, 2.0)


def plain_ticks(axes: Axes) -> None:
    """1, 2, 5, 10 and so on along a logarithmic y axis."""
    low, high = axes.get_ylim()
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high < 1e3 * low else (1.0,)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
