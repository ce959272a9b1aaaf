"""Two objects side by side, wherever they come from: alignment, every figure of merit, the correlation by frequency."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ptycho.core.quality.alignment import Alignment, align
from ptycho.core.quality.arithmetic import IN_NUMPY, Arithmetic
from ptycho.core.quality.orientation import ORIENTATIONS, Orientation, rank_orientations
from ptycho.core.quality.registration import Region
from ptycho.core.quality.ring_correlation import FrcCurve, frc
from ptycho.core.quality.score import Score, score_aligned
from ptycho.core.result import ByValue, Pictured
from ptycho.errors import DataError

__all__ = ["Comparison", "PlacedObject", "Threshold", "compare", "correlate", "scanned_region"]

Threshold = Literal["one-bit", "half-bit"]

_MARGIN = 2
"""Pixels by which the box around the scan positions is shrunk: inside, every method has data."""


@dataclass(frozen=True, eq=False)
class PlacedObject(ByValue):
    """An object and, as far as they are known, where it lies and where light fell on it."""

    name: str
    object: NDArray[Any]
    """(H, W) complex."""
    origin: tuple[float, float] | None = None
    """(row, column) of its first pixel on the pixel grid of the scan; None where that is unknown."""
    xcoords: NDArray[np.float64] | None = None
    """(n,) scan positions, pixels of `object`."""
    ycoords: NDArray[np.float64] | None = None
    probe: NDArray[Any] | None = None
    """(M, N, N) complex."""


@dataclass(frozen=True, eq=False, repr=False)
class Comparison(ByValue, Pictured):
    """How like two objects are."""

    score: Score
    alignment: Alignment
    """Both in the common region, the first brought onto the second."""
    curve: FrcCurve
    """Fourier ring correlation of the two."""
    threshold: Threshold
    orientation: Orientation
    """How the first was turned before it was compared."""
    conjugated: bool

    @property
    def cutoff(self) -> float:
        """Where the curve falls below the information threshold, cycles per pixel."""
        return self.score.frc_one_bit_complex if self.threshold == "one-bit" else self.score.frc_half_bit_complex

    def __repr__(self) -> str:
        s = self.score
        y0, y1, x0, x1 = s.region
        kinds = (("amplitude", s.amplitude_psnr, s.amplitude_ssim), ("phase", s.phase_psnr, s.phase_ssim))
        figures = "; ".join(f"{kind} PSNR {psnr:.4g} dB, SSIM {ssim:.3g}" for kind, psnr, ssim in kinds)
        shared = f"complex NRMSE {s.complex_nrmse:.3g}, FRC {self.threshold} {_frequency(self.cutoff)}"
        return f"Comparison({figures};\n  {shared}; region rows {y0}-{y1}, columns {x0}-{x1} of B)"

    def __str__(self) -> str:
        return self.table()

    def table(self, first: str = "A", second: str = "B") -> str:
        """All figures as lines of text, amplitude and phase side by side; `first` and `second` name the objects."""
        s = self.score
        y0, y1, x0, x1 = s.region
        pairs = [
            ("PSNR (dB)", s.amplitude_psnr, s.phase_psnr),
            ("  its range", s.amplitude_range, s.phase_range),
            ("SSIM", s.amplitude_ssim, s.phase_ssim),
            ("MS-SSIM", s.amplitude_ms_ssim, s.phase_ms_ssim),
            ("MAE", s.amplitude_mae, s.phase_mae),
            ("FRC 1/2 (1/pixel)", s.frc50_amplitude, s.frc50_phase),
        ]
        lines = [f"A       {first}", f"B       {second}", f"region  rows {y0}-{y1}, columns {x0}-{x1} of B", ""]
        lines.append(f"{'':20}{'amplitude':>12}{'phase (rad)':>14}")
        lines += [f"{name:20}{_number(a):>12}{_number(p):>14}" for name, a, p in pairs]
        lines.append("")
        lines += [f"{name:20}{text}" for name, text in self._singles()]
        return "\n".join(lines) + "\n"

    def _singles(self) -> list[tuple[str, str]]:
        """Figures of the complex object, and what was taken out for them."""
        s = self.score
        (row, col), (dy, dx) = self.alignment.offset, self.alignment.shift
        return [
            ("NRMSE, complex", _number(s.complex_nrmse)),
            ("  scale left in", _number(s.complex_nrmse_unscaled)),
            ("correlation", _number(s.correlation)),
            ("FRC 1/2", _frequency(s.frc50_complex)),
            ("  from 0.05 on", _frequency(s.frc50_mid)),
            (f"FRC {self.threshold}", _frequency(self.cutoff)),
            ("scale taken out", _number(s.scale)),
            ("offset of A in B", f"{row}, {col} pixels (y, x)"),
            ("shift taken out", f"{dy:+.3f}, {dx:+.3f} pixels (y, x)"),
            ("plane taken out", f"{1e3 * s.plane[0]:+.3f}, {1e3 * s.plane[1]:+.3f} mcycles/pixel (y, x)"),
            ("orientation of A", self.orientation.name + (", conjugated" if self.conjugated else "")),
        ]


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.4g}"


def _frequency(cutoff: float) -> str:
    if cutoff >= 0.5:
        return "0.5 cycles/pixel (never below)"
    return f"{cutoff:.4f} cycles/pixel ({1 / cutoff:.2f} pixels)" if cutoff > 0 else "0"


def compare(
    first: PlacedObject,
    second: PlacedObject,
    region: Region | None = None,
    halves: bool = False,
    search: bool = False,
    turn: bool = False,
) -> Comparison:
    """Compare an object with another, the truth or another reconstruction.

    Args:
        first: what is compared with the second; global phase, phase plane, shift and scale are taken out of it.
        second: what it is compared with.
        region: (y0, y1, x0, x1) of the second, half open; None is the box around the scan positions of either, or
            everything where none are known.
        halves: whether both were reconstructed from half the data each: the half-bit threshold then holds for all of
            it; else the one-bit threshold.
        search: look for the place of the first in the second, even where both say where they lie.
        turn: also try all orientations and conjugates of the first.

    Raises:
        DataError: objects that cannot be aligned.
    """
    aligned, orientation, conjugated = _aligned(first, second, region, search, turn)
    return Comparison(
        score=score_aligned(aligned),
        alignment=aligned,
        curve=frc(aligned.image, aligned.truth),
        threshold="half-bit" if halves else "one-bit",
        orientation=orientation,
        conjugated=conjugated,
    )


def correlate(first: PlacedObject, second: PlacedObject, arithmetic: Arithmetic = IN_NUMPY) -> FrcCurve:
    """The correlation by frequency that `compare` finds, without its other figures.

    Args:
        first, second: as of `compare`.
        arithmetic: where both are worked on.

    Raises:
        DataError: objects that cannot be aligned.
    """
    aligned = align(first.object, second.object, scanned_region(first, second), _offset(first, second), arithmetic)
    return frc(aligned.image, aligned.truth, arithmetic)


def _aligned(
    first: PlacedObject, second: PlacedObject, region: Region | None, search: bool, turn: bool
) -> tuple[Alignment, Orientation, bool]:
    """The first on the second, and how it was turned."""
    cut = region if region is not None else scanned_region(first, second)
    image, orientation, conjugated = first.object, ORIENTATIONS[0], False
    offset = None if search or turn else _offset(first, second)
    if turn:
        best = rank_orientations(first.object, second.object, cut)[0]
        orientation, conjugated = best.orientation, best.conjugate
        image = orientation.image(image)
        image = np.conj(image) if conjugated else image
    return align(image, second.object, cut, offset), orientation, conjugated


def scanned_region(first: PlacedObject, second: PlacedObject) -> Region | None:
    """The box around the scan positions in pixels of the second, 2 pixels inside; None where none are known.

    Positions of the second count; those of the first only where both places are known.
    """
    source, row, col = second, 0.0, 0.0
    if second.xcoords is None and first.xcoords is not None and first.origin is not None and second.origin is not None:
        source, row, col = first, first.origin[0] - second.origin[0], first.origin[1] - second.origin[1]
    if source.xcoords is None or source.ycoords is None or source.xcoords.size == 0:
        return None
    y, x = source.ycoords + row, source.xcoords + col
    height, width = second.object.shape
    y0, x0 = (max(0, int(np.ceil(values.min())) + _MARGIN) for values in (y, x))
    y1, x1 = min(height, int(y.max()) - _MARGIN), min(width, int(x.max()) - _MARGIN)
    return (y0, y1, x0, x1) if y1 - y0 >= 2 * _MARGIN and x1 - x0 >= 2 * _MARGIN else None


def _offset(first: PlacedObject, second: PlacedObject) -> tuple[int, int] | None:
    """Where the first begins in the second, whole pixels; None where that has to be searched for."""
    for placed in (first, second):
        if placed.object.ndim != 2:
            raise DataError(
                f"{placed.name}: expected an object (H, W), found shape {placed.object.shape}; take a layer"
            )
    if first.origin is not None and second.origin is not None:
        row, col = (a - b for a, b in zip(first.origin, second.origin, strict=True))
        return round(row), round(col)
    return (0, 0) if first.object.shape == second.object.shape else None
