"""The resolution of a scan: how far two reconstructions of half of it each say the same."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from ptycho.core.files.damage import readable
from ptycho.core.quality.ring_correlation import FrcCurve
from ptycho.core.result import ByValue, Pictured
from ptycho.errors import MissingFileError

__all__ = ["ONE_SEVENTH", "HalvesOf", "Resolution", "read_resolution", "resolution_csv", "resolution_json"]

ONE_SEVENTH = 1 / 7
"""Correlation of two halves at which the whole correlates with the truth to 1/2: P. B. Rosenthal and R. Henderson,
J. Mol. Biol. 333, 721 (2003)."""
HalvesOf = Literal["patterns", "photons"]
"""What was halved: every second pattern of the scan, or the photons of every pattern."""
_NYQUIST = 0.5
_RINGS = 5
"""Over which the curve is averaged before its cut-off is looked for."""


@dataclass(frozen=True, eq=False)
class Resolution(ByValue, Pictured):
    """The Fourier ring correlation of two reconstructions, each of one half of a scan."""

    curve: FrcCurve
    patterns: tuple[int, int]
    """In each half."""
    pixel_m: float | None = None
    """Side of an object pixel, metres; None where the scan does not tell."""
    scan: str | None = None
    """sha256 of the content of the scan (`ptycho.core.scan.identity`)."""
    halves_of: HalvesOf = "patterns"
    """Halves of the photons share all that is wrong with probe and positions, and so tell of noise alone."""

    @property
    def smoothed(self) -> FrcCurve:
        """The curve averaged over five rings, so that one ring without energy is no end of it."""
        return self.curve.smoothed(_RINGS)

    @property
    def cutoff(self) -> float:
        """Cycles per pixel at which the smoothed correlation first falls below the half-bit threshold.

        0.5 where it never does. The threshold is `FrcCurve.half_bit`. Slow changes that the halves do not share, which
        few photons tell last, are no end of it (`slowest`).
        """
        return min(self.smoothed.cutoff(self.curve.half_bit(), above=self.slowest), _NYQUIST)

    @property
    def cutoff_one_seventh(self) -> float:
        """The same for the fixed threshold of 1/7 (`ONE_SEVENTH`)."""
        return min(self.smoothed.cutoff(ONE_SEVENTH), _NYQUIST)

    @property
    def slowest(self) -> float:
        """Cycles per pixel of the first ring whose smoothed correlation is above the half-bit threshold.

        It is one of the lowest five, else the first of all.
        """
        first = slice(1, 1 + _RINGS)
        common = np.flatnonzero(self.smoothed.correlation[first] >= self.curve.half_bit()[first])
        return float(self.curve.frequency[1 + common[0] if common.size else 1])

    @property
    def summary(self) -> str:
        """One line in plain words."""
        half_bit, one_seventh = self._told(self.cutoff), self._told(self.cutoff_one_seventh)
        noise = ", by halves of the photons: as far as noise lets" if self.halves_of == "photons" else ""
        both = " and 1/7" if half_bit == one_seventh else f"; {one_seventh} by 1/7"
        slow = ""
        if self.slowest > self.curve.frequency[1]:
            slow = f", but for changes over more than {1 / self.slowest:.3g} pixels, which differ"
        return f"{half_bit} (half-bit{both}){slow}{noise}"

    def _told(self, cutoff: float) -> str:
        """A cut-off as the period of the finest lines, in nm and pixels."""
        if cutoff <= 0:
            return "no detail in common"
        period = 1 / cutoff
        length = "" if self.pixel_m is None else f"{1e9 * self.pixel_m * period:.3g} nm, "
        finest = ", as fine as pixels show" if cutoff >= _NYQUIST else ""
        return f"a period of {length}{period:.3g} pixels{finest}"


def resolution_json(found: Resolution) -> str:
    """What `read_resolution` reads back, with the cut-offs (cycles per pixel, and metres of a period) beside it."""
    c = found.curve
    return json.dumps(
        {
            "patterns": list(found.patterns),
            "object_pixel_m": found.pixel_m,
            "scan_sha256": found.scan,
            "halves_of": found.halves_of,
            "cutoff_half_bit": found.cutoff,
            "cutoff_one_seventh": found.cutoff_one_seventh,
            "period_half_bit_m": _period_m(found, found.cutoff),
            "period_one_seventh_m": _period_m(found, found.cutoff_one_seventh),
            "frequency": c.frequency.tolist(),
            "correlation": c.correlation.tolist(),
            "n": c.n.tolist(),
        },
        indent=1,
        allow_nan=False,
    )


def resolution_csv(found: Resolution) -> str:
    """A table with a row per ring: frequency, correlation, half-bit threshold, Fourier pixels in the ring."""
    c, text = found.curve, io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    known = found.pixel_m is not None
    per_nm = c.frequency / (1e9 * found.pixel_m) if found.pixel_m is not None else c.frequency
    table.writerow(["cycles_per_pixel", *(["cycles_per_nm"] if known else []), "correlation", "half_bit", "pixels"])
    for f, nm, correlation, threshold, n in zip(c.frequency, per_nm, c.correlation, c.half_bit(), c.n, strict=True):
        numbers = [f, *([nm] if known else []), correlation, threshold]
        table.writerow([*(f"{value:.6g}" for value in numbers), int(n)])
    return text.getvalue()


def read_resolution(path: Path) -> Resolution:
    """Read what `resolution_json` made.

    Raises:
        MissingFileError, DataError: no such file, or none of these.
    """
    if not path.is_file():
        raise MissingFileError(f"{path}: expected a resolution (frc.json), found no such file; run ptycho frc SCAN")
    with readable(path, "a resolution (frc.json)", advice="run ptycho frc again"):
        stored: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        frequency, correlation = (np.asarray(stored[key], np.float64) for key in ("frequency", "correlation"))
        n = np.asarray(stored["n"], np.intp)
        first, second = (int(count) for count in stored["patterns"])
        pixel, scan = stored["object_pixel_m"], stored["scan_sha256"]
        halves_of = stored.get("halves_of", "patterns")  # files of earlier versions know no others
        if halves_of not in get_args(HalvesOf):
            raise ValueError(f"halves of {halves_of!r}")
        if not frequency.shape == correlation.shape == n.shape or frequency.ndim != 1 or frequency.size < 2:
            raise ValueError(f"rings of shapes {frequency.shape}, {correlation.shape} and {n.shape}")
        return Resolution(
            FrcCurve(frequency, correlation, n),
            (first, second),
            None if pixel is None else float(pixel),
            None if scan is None else str(scan),
            halves_of,
        )


def _period_m(found: Resolution, cutoff: float) -> float | None:
    return None if found.pixel_m is None or cutoff <= 0 else found.pixel_m / cutoff
