"""The picture of a comparison: both objects, their difference, and the correlation by spatial frequency."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import matplotlib.style
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ptycho.core.quality.comparison import Comparison
from ptycho.figures.curves import draw_correlation
from ptycho.figures.drawing import bar_ends, colour_range, draw_bar, draw_map, save_figure

__all__ = ["ComparedMaps", "comparison_figure", "comparison_maps", "save_comparison_png"]

_WIDTH = 14.0

Real = npt.NDArray[np.floating]


@dataclass(frozen=True, eq=False)
class ComparedMaps:
    """One quantity of two objects in their common region."""

    kind: str
    """'amplitude' or 'phase'."""
    ours: Real
    theirs: Real
    gap: Real
    """Their difference."""
    unit: str

    @property
    def limits(self) -> tuple[float, float]:
        """Of the colours of both: those of the second."""
        return colour_range([self.theirs], self.kind)

    @property
    def reach(self) -> tuple[float, float]:
        """Of the colours of the difference, about 0."""
        reach = float(np.percentile(np.abs(self.gap), 99)) or 1.0
        return -reach, reach


def save_comparison_png(found: Comparison, first: str, second: str, path: Path) -> Path:
    """Write the picture of `comparison_figure` to a PNG file, atomically, and return its path."""
    return save_figure(comparison_figure(found, first, second), path)


def comparison_figure(found: Comparison, first: str = "A", second: str = "B") -> Figure:
    """The picture of a comparison.

    Two rows, amplitude and phase: the first object aligned to the second, the second, their difference on its own
    scale of colours centred on 0; to the right the Fourier ring correlation with its thresholds, and the figures.

    Args:
        found: the comparison.
        first, second: names of the two objects.
    """
    aligned, rows = found.alignment, comparison_maps(found)
    y0, _, x0, _ = aligned.region
    height, width = aligned.image.shape
    side = (_WIDTH - 1.5) / 4 - 0.9
    with matplotlib.style.context("default"):
        figure = Figure(figsize=(_WIDTH, 2 * (side * min(height / width, 2.0) + 0.75) + 0.5), layout="constrained")
        panels = figure.subplots(2, 4, width_ratios=(1, 1, 1, 1.15))
        extent = (x0 - 0.5, x0 + width - 0.5, y0 + height - 0.5, y0 - 0.5)
        for line, shown in zip(panels, rows, strict=True):
            kind, word, unit = shown.kind, shown.kind.capitalize(), shown.unit
            for axes, values, name in ((line[0], shown.ours, first), (line[1], shown.theirs, second)):
                image = draw_map(axes, values, np.isfinite(values), kind, shown.limits, origin=(x0, y0))
                axes.set_title(f"{word}: {_short(name)}", fontsize=10)
            both = np.stack([shown.ours, shown.theirs])
            draw_bar(line[1], image, f"{kind}{unit}", bar_ends(both, shown.limits))
            _draw_difference(line[2], shown, extent)
            line[2].set_title(f"{word}: A − B, rms {np.sqrt(np.mean(shown.gap**2)):.3g}", fontsize=10)
        draw_correlation(panels[0, 3], found.curve, found.threshold, found.cutoff)
        _write_figures(panels[1, 3], found)
        figure.suptitle(f"A: {first}   ·   B: {second}", fontsize=11)
    return figure


def comparison_maps(found: Comparison) -> tuple[ComparedMaps, ComparedMaps]:
    """Amplitude, its scale taken out, and phase of both objects, and their differences."""
    aligned = found.alignment
    ours, theirs = np.abs(aligned.image) / abs(aligned.factor) * found.score.scale, np.abs(aligned.truth)
    difference, phase = np.angle(aligned.image * np.conj(aligned.truth)), _level(aligned.truth)
    return (
        ComparedMaps("amplitude", ours, theirs, ours - theirs, ""),
        ComparedMaps("phase", phase + difference, phase, difference, " (rad)"),
    )


def _draw_difference(axes: Axes, shown: ComparedMaps, extent: tuple[float, float, float, float]) -> None:
    low, high = shown.reach
    image = axes.imshow(shown.gap, cmap="RdBu_r", vmin=low, vmax=high, extent=extent)
    axes.set(xlabel="x (pixels)", ylabel="y (pixels)")
    axes.locator_params(nbins=6)
    draw_bar(axes, image, f"difference{shown.unit}", bar_ends(shown.gap, shown.reach))


def _write_figures(axes: Axes, found: Comparison) -> None:
    s, (dy, dx) = found.score, found.alignment.shift
    lines = [
        ("", "amplitude", "phase"),
        ("PSNR (dB)", f"{s.amplitude_psnr:.2f}", f"{s.phase_psnr:.2f}"),
        ("  range", f"{s.amplitude_range:.3g}", f"{s.phase_range:.3g} rad"),
        ("SSIM", f"{s.amplitude_ssim:.3f}", f"{s.phase_ssim:.3f}"),
        ("MS-SSIM", f"{s.amplitude_ms_ssim:.3f}", f"{s.phase_ms_ssim:.3f}"),
        ("MAE", f"{s.amplitude_mae:.3g}", f"{s.phase_mae:.3g} rad"),
        ("", "", ""),
        ("NRMSE", f"{s.complex_nrmse:.4g}", ""),
        ("scale", f"{s.scale:.4g}", ""),
        ("shift (y, x)", f"{dy:+.3f}", f"{dx:+.3f} px"),
        ("FRC 1/2", f"{s.frc50_complex:.3f}", "1/px"),
        ("  from 0.05", f"{s.frc50_mid:.3f}", "1/px"),
    ]
    axes.axis("off")
    text = "\n".join(f"{name:13}{a:>11}{b:>13}" for name, a, b in lines).replace("nan", "  –")
    axes.text(0.0, 0.95, text, family="monospace", fontsize=9, va="top", transform=axes.transAxes)


def _level(truth: npt.NDArray[np.complexfloating]) -> Real:
    """The unwrapped phase of the second object about its mean, radians."""
    turned = truth * np.exp(-1j * np.angle(truth.sum()))
    return np.asarray(np.unwrap(np.unwrap(np.angle(turned), axis=0), axis=1))


def _short(name: str) -> str:
    return name if len(name) <= 26 else f"{name[:12]}…{name[-12:]}"
