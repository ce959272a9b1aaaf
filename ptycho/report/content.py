"""What a report tells of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ptycho.core.quality.comparison import Comparison
from ptycho.core.quality.residuals import Residual
from ptycho.core.quality.resolution import Resolution
from ptycho.core.reconstruction import Reconstruction
from ptycho.core.result import plural
from ptycho.figures.drawing import length_unit, seen_box, seen_pixels

__all__ = [
    "Compared",
    "Content",
    "LinkedFile",
    "bytes_in_words",
    "key_numbers",
    "length",
    "name_of",
    "photons",
    "scan_names",
]


@dataclass(frozen=True)
class Compared:
    """What the object was compared with."""

    name: str
    found: Comparison | None
    """None where the two cannot be compared."""
    why: str = ""
    """Then the reason."""


@dataclass(frozen=True)
class LinkedFile:
    """A file beside the report."""

    name: str
    size: int
    """Bytes."""
    meaning: str


@dataclass(frozen=True, eq=False)
class Content:
    """Everything that a report may show; what is None or empty is left out, or the report says how to get it."""

    reconstruction: Reconstruction
    told: Sequence[str] = ()
    """What was found and decided, line by line."""
    home: tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]] | None = None
    """x and y (n,) where the scan has the positions, pixels of the object; None where they did not move, or no scan is
    there."""
    mean_pattern: npt.NDArray[np.float64] | None = None
    """(N, N) mean intensity of the patterns."""
    residuals: Sequence[Residual] = ()
    photon_scale: float | None = None
    """Photons per unit of squared amplitude; None where the dose is not known."""
    resolution: Resolution | None = None
    compared: Sequence[Compared] = ()
    files: Sequence[LinkedFile] = ()
    sample: Reconstruction | None = None
    """What is shown as the object, where `reconstruction` is its spectrum (`ptycho.core.fourier_result`)."""

    @property
    def shown(self) -> Reconstruction:
        """The result whose object is shown."""
        return self.reconstruction if self.sample is None else self.sample


def name_of(r: Reconstruction) -> str:
    """The name of the scan."""
    return str(r.metadata.get("name") or "Reconstruction")


def scan_names(r: Reconstruction) -> list[str]:
    """The names of several scans that share the object; '' for one."""
    count = len(r.probes)
    known = [str(name) for name in r.metadata.get("scans") or ()]
    return known if len(known) == count > 1 else [f"Scan {k}" for k in range(1, count + 1)] if count > 1 else [""]


def key_numbers(content: Content) -> list[tuple[str, str]]:
    """What one wants to know first, name and value."""
    r, (modes, N, _) = content.shown, content.reconstruction.probe.shape
    y0, y1, x0, x1 = seen_box(seen_pixels(r.object, r.coverage))
    numbers = [("Patterns", f"{r.xcoords.size} of {N} × {N}")]
    if r.pixel_m is not None:
        numbers.append(("Field of view", f"{length(r.pixel_m, x1 - x0)} × {length(r.pixel_m, y1 - y0)}"))
        numbers.append(("Object pixel", f"{1e9 * r.pixel_m:.4g} nm"))
    else:
        numbers.append(("Field of view", f"{x1 - x0} × {y1 - y0} px"))
    numbers.append(("Probe", plural(modes, "mode")))
    if content.resolution is not None:
        pixel, cutoff = content.resolution.pixel_m, content.resolution.cutoff
        numbers.append(("Resolution (half-bit)", length(pixel, 1 / cutoff) if cutoff > 0 else "none"))
    if r.trust is not None:
        unit = "" if r.trust.dose != "nominal" else " (assumed)"
        numbers.append(("Photons per pattern", f"{photons(float(np.mean(r.trust.counts)))}{unit}"))
        numbers.append(("Error of amplitudes", f"{r.trust.fourier_error:.3g}"))
    return numbers


def length(pixel_m: float | None, pixels: float) -> str:
    """So many pixels as a length in words.

    >>> length(2e-8, 300), length(2e-8, 3000), length(None, 2.5)
    ('6000 nm', '60 µm', '2.5 pixels')
    """
    factor, unit = length_unit(pixel_m, pixels)
    return f"{factor * pixels:.4g} {unit}"


def photons(count: float) -> str:
    """A number of photons in words.

    >>> photons(812.4), photons(1e5), photons(2.5e8)
    ('812', '100\u202f000', '2.5 × 10⁸')
    """
    if count < 1e6:
        return f"{count:,.0f}".replace(",", "\u202f")
    factor, power = f"{count:.2e}".split("e+")
    raised = str(int(power)).translate(str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"{float(factor):g} × 10{raised}"


def bytes_in_words(size: int) -> str:
    """A size in words.

    >>> bytes_in_words(1982), bytes_in_words(1234567)
    ('2 kB', '1.2 MB')
    """
    return f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{max(1, round(size / 1e3))} kB"
