"""Which patterns the short reconstructions are made from, and how they are read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.core.doctor.evidence import Evidence
from ptycho.core.doctor.trial import Sample, neighbourhood
from ptycho.core.physics.diffraction import as_modes
from ptycho.core.scaling import to_amplitude
from ptycho.core.scan.stream import ScanStream

__all__ = ["Sampler"]

Array = NDArray[Any]

_PIXELS = 60 * 64 * 64 * 2
"""Detector pixels in the sample from the middle, which has 30 to 60 patterns: bounds the time."""
_MODES = 3


@dataclass(frozen=True)
class Sampler:
    """Reads patterns of a scan centred, in amplitude, without bad pixels."""

    stream: ScanStream
    evidence: Evidence
    """Of the scan, for its units."""
    shift: tuple[int, int]
    """(dy, dx) in pixels that brings the zero frequency to [N/2, N/2]."""
    bad: NDArray[np.bool_]
    """(N, N), True for pixels that are not to be used."""

    @property
    def positions(self) -> tuple[Array, Array]:
        """The whole scan's xcoords and ycoords, as the file has them."""
        return self.stream.fields.xcoords, self.stream.fields.ycoords

    def middle(self, frame_shift: int = 0) -> Sample:
        """Neighbouring places in the middle of the scan; place p with the pattern p - frame_shift."""
        x, y = self.positions
        count = int(np.clip(_PIXELS / self.stream.frames.shape[-1] ** 2, 30, 60))
        usable = np.arange(max(0, frame_shift), len(x) + min(0, frame_shift))
        places = usable[neighbourhood(x[usable], y[usable], count)]
        return self.read(places, places - frame_shift)

    def read(self, places: NDArray[np.intp], frames: NDArray[np.intp]) -> Sample:
        """The patterns `frames` (n,), in any order, as if recorded at the positions of the points `places` (n,)."""
        fields = self.stream.fields
        values = self.stream.frames.read(frames)
        valid = np.isfinite(values) & ~self.bad
        if fields.mask is not None:
            valid &= fields.mask[frames] if fields.mask.ndim == 3 else fields.mask
        amplitude = to_amplitude(np.where(valid, np.maximum(values, 0), 0), self.evidence.units)
        half = values.shape[-1] // 2
        to_corner = (self.shift[0] - half, self.shift[1] - half)
        modes = as_modes(fields.probeGuess)
        strongest = np.argsort(-np.sum(np.abs(modes) ** 2, axis=(1, 2)), kind="stable")[:_MODES]
        return Sample(
            amplitude=np.roll(amplitude, to_corner, (-2, -1)),
            valid=np.roll(valid, to_corner, (-2, -1)),
            xcoords=fields.xcoords[places],
            ycoords=fields.ycoords[places],
            probe=modes[strongest].astype(np.complex64),
            counts_per_intensity=self.evidence.counts_per_intensity,
        )
