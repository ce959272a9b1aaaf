"""The sections that hold an object against single patterns, and against another object; and where positions went."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
from matplotlib.colors import LogNorm, Normalize

from ptycho.core.physics.stage import stage_of
from ptycho.core.quality.residuals import Residual
from ptycho.figures.comparison import comparison_maps
from ptycho.figures.curves import draw_correlation
from ptycho.figures.drawing import colours_of
from ptycho.figures.positions import draw_displacements, enlargement
from ptycho.figures.reconstruction import UNITS
from ptycho.report.content import Compared, Content
from ptycho.report.elements import Markup, table, tag
from ptycho.report.viewer import Map, curve, viewer

__all__ = ["comparison_section", "pattern_viewer", "position_section", "residual_section"]

_DARKEST = 1e-6
"""Intensities below this part of the largest are drawn as dark."""
_STEADY = 4.0
"""Standard deviations of photon noise that the colours of a difference span at least."""


def pattern_viewer(
    title: str, intensity: Any, valid: Any, group: str, limits: tuple[float, float] | None = None
) -> Markup:
    """A pattern on a logarithmic scale, pixels counted from the zero frequency."""
    low, high = limits or _log_limits(intensity[valid])
    colours = LogNorm(low, high)
    return viewer(Map(title, np.maximum(intensity, low), valid, "magma", colours, "intensity", centred=True), group)


def background_viewer(background: Any, photon_scale: float | None) -> Markup:
    """What every pattern has beside the object's light, in counts where the dose is known, from 0."""
    scale, unit = (1.0, "squared amplitude") if photon_scale is None else (photon_scale, "counts per pixel")
    values, everywhere = scale * background, np.ones(background.shape, bool)
    colours = Normalize(0, float(values.max()))
    title = "Background of every pattern"
    return viewer(Map(title, values, everywhere, "viridis", colours, unit, centred=True), "background")


def _log_limits(values: Any) -> tuple[float, float]:
    top = float(values.max(initial=0.0)) or 1.0
    least = float(values[values > 0].min(initial=top))
    return max(min(least, top / 100), _DARKEST * top), top


def position_section(content: Content) -> tuple[str, Markup] | None:
    """Where positions went that were refined: what the stage did, and each by itself."""
    if content.home is None:
        return None
    r, (x, y) = content.reconstruction, content.home
    shift = np.stack([r.xcoords - x, r.ycoords - y], axis=1)
    stage = stage_of(x, y, shift)
    alike = stage.displacement(x, y)
    own, factor = np.hypot(*(shift - alike).T), enlargement(x, y, shift)
    words = (
        f"The stage: {stage}. Each by itself: {np.sqrt(np.mean(own**2)):.2g} pixels rms, {own.max():.2g} at most. "
        "Arrows go from where the scan has a position to where it was found"
        + (f", {factor} times as long as the way." if factor > 1 else ".")
    )
    drawn = curve(partial(draw_displacements, x=x, y=y, shift=shift, alike=alike), words, (4.6, 4.6))
    return "Positions", tag("div", tag("figure", drawn), tag("p", words), class_="beside")


def residual_section(content: Content) -> tuple[str, Markup] | None:
    """The worst and the median pattern, measured and predicted."""
    trust = content.reconstruction.trust
    if not content.residuals or trust is None:
        return None
    scale = content.photon_scale
    unit = "σ of photon noise" if scale is not None else "amplitude"
    rows = []
    for number, one in enumerate(content.residuals):
        word = "median" if number == len(content.residuals) - 1 else "worst" if number == 0 else "next worst"
        title = f"Pattern {one.index} ({word}), {trust.ratio[one.index]:.3g} times the deviance of noise"
        rows.append(tag("h3", title))
        rows.append(tag("div", *_residual(one, scale, unit), class_="grid three"))
    words = "Measured and predicted intensity on one logarithmic scale, and the difference of their amplitudes."
    return "Residual patterns", tag("div", tag("p", words), *rows)


def _residual(one: Residual, scale: float | None, unit: str) -> Iterator[Markup]:
    """Measured, predicted, and their difference; in units of noise where the dose is known.

    The root of a count has a standard deviation of 1/2.
    """
    group = f"pattern-{one.index}"
    limits = _log_limits(np.square(one.measured[one.valid]))
    yield pattern_viewer("Measured", np.square(one.measured), one.valid, group, limits)
    yield pattern_viewer("Predicted", np.square(one.predicted), one.valid, group, limits)
    factor = 1.0 if scale is None else 2 * np.sqrt(scale)
    gap = factor * (one.measured - one.predicted)
    reach = float(np.percentile(np.abs(gap[one.valid]), 99.5)) if one.valid.any() else 1.0
    reach = max(reach, _STEADY if scale is not None else 1e-12)
    yield viewer(
        Map("Measured − predicted", gap, one.valid, "RdBu_r", Normalize(-reach, reach), unit, centred=True), group
    )


def comparison_section(content: Content) -> tuple[str, Markup] | None:
    """What the object was compared with: the truth of a simulation, or an earlier result."""
    parts = [part for number, one in enumerate(content.compared) for part in _compared(one, number, content)]
    return ("Comparison", tag("div", *parts)) if parts else None


def _compared(one: Compared, number: int, content: Content) -> Iterator[Markup]:
    """Both objects, their difference, the correlation and the figures."""
    yield tag("h3", f"With {one.name}")
    if one.found is None:
        yield tag("p", f"Could not be compared: {one.why}")
        return
    pictures = []
    for shown in comparison_maps(one.found):
        every = np.isfinite(shown.theirs)
        limits, kind = shown.limits, shown.kind
        for values, title in ((shown.ours, "this result"), (shown.theirs, one.name)):
            named = f"{kind.capitalize()}, {title}"
            look = Map(named, values, every, colours_of(kind, limits), Normalize(*limits), UNITS[kind])
            pictures.append(viewer(_scaled(look, content), f"compared-{number}"))
        gap = Map(f"{kind.capitalize()}, difference", shown.gap, every, "RdBu_r", Normalize(*shown.reach), UNITS[kind])
        pictures.append(viewer(_scaled(gap, content), f"compared-{number}"))
    yield tag("div", *pictures, class_="grid three")
    found, s = one.found, one.found.score
    drawn = curve(
        lambda axes: draw_correlation(axes, found.curve, found.threshold, found.cutoff),
        f"Fourier ring correlation with {one.name}, up to {found.cutoff:.3f} cycles per pixel",
    )
    rows = [
        ("PSNR (dB)", f"{s.amplitude_psnr:.2f}", f"{s.phase_psnr:.2f}"),
        ("SSIM", f"{s.amplitude_ssim:.3f}", f"{s.phase_ssim:.3f}"),
        ("Mean absolute error", f"{s.amplitude_mae:.3g}", f"{s.phase_mae:.3g} rad"),
        ("FRC 1/2 (cycles/pixel)", f"{s.frc50_amplitude:.3f}", f"{s.frc50_phase:.3f}"),
        ("Complex error (NRMSE)", f"{s.complex_nrmse:.4g}", ""),
        ("Scale taken out", f"{s.scale:.4g}", ""),
    ]
    figures = table(rows, ("", "amplitude", "phase"))
    yield tag("div", tag("figure", drawn), figures, class_="beside")


def _scaled(shown: Map, content: Content) -> Map:
    """The map with the pixel of the object."""
    return Map(
        shown.title, shown.values, shown.seen, shown.colours, shown.norm, shown.unit, content.reconstruction.pixel_m
    )
