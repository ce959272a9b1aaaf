"""Which patterns the short reconstructions are made from, and how they are read."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import KDTree

from ptycho.core.doctor.statistics import ScanStatistics
from ptycho.core.physics.diffraction import as_modes
from ptycho.core.scaling import to_amplitude
from ptycho.core.scan.stream import ScanStream

__all__ = ["Sample", "Sampler", "neighbourhood"]

Array = NDArray[Any]

_PIXELS = 60 * 64 * 64 * 2
"""Detector pixels in the sample from the middle, which has 30 to 60 patterns: bounds the time."""
_MODES = 3


@dataclass(frozen=True)
class Sample:
    """Patterns of neighbouring scan points, as a refinement reads them (`ptycho.core.refinement.kernels.ScanData`)."""

    patterns: NDArray[np.float32]
    """(n, N, N) amplitude, 0 where not valid, the zero frequency at [N/2, N/2]."""
    mask: NDArray[np.bool_]
    """(n, N, N) True where valid."""
    xcoords: NDArray[np.float64]
    """(n,) pixels."""
    ycoords: NDArray[np.float64]
    probeGuess: NDArray[np.complex64]
    """(M, N, N), its middle at index N/2."""
    counts_per_intensity: float | None = None
    """Photons in one unit of intensity, where it is known."""

    def __len__(self) -> int:
        return len(self.patterns)

    def amplitude(self, indices: ArrayLike | None = None) -> NDArray[np.float32]:
        """Amplitudes (b, N, N) of these patterns, zero frequency in the middle."""
        return self.patterns if indices is None else self.patterns[np.asarray(indices)]

    @property
    def energy(self) -> float:
        """`sum A^2`."""
        return float(np.sum(self.patterns.astype(np.float64) ** 2))

    def only(self, chosen: NDArray[Any]) -> Sample:
        """Some of the points, by a mask (n,) or by their indices."""
        return replace(
            self,
            patterns=self.patterns[chosen],
            mask=self.mask[chosen],
            xcoords=self.xcoords[chosen],
            ycoords=self.ycoords[chosen],
        )


def neighbourhood(xcoords: Array, ycoords: Array, count: int) -> NDArray[np.intp]:
    """Indices of the `count` scan points nearest to the one in the middle of the scan, in scan order."""
    points = np.column_stack([xcoords, ycoords])
    tree = KDTree(points)
    _, middle = tree.query(np.median(points, axis=0))
    _, near = tree.query(points[middle], k=min(count, len(points)))
    return np.sort(np.atleast_1d(near))


@dataclass(frozen=True)
class Sampler:
    """Reads patterns of a scan centred, in amplitude, without bad pixels."""

    stream: ScanStream
    statistics: ScanStatistics
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
        amplitude = to_amplitude(np.where(valid, np.maximum(values, 0), 0), self.statistics.units)
        modes = as_modes(fields.probe)
        strongest = np.argsort(-np.sum(np.abs(modes) ** 2, axis=(1, 2)), kind="stable")[:_MODES]
        return Sample(
            patterns=np.roll(amplitude, self.shift, (-2, -1)),
            mask=np.roll(valid, self.shift, (-2, -1)),
            xcoords=fields.xcoords[places],
            ycoords=fields.ycoords[places],
            probeGuess=modes[strongest].astype(np.complex64),
            counts_per_intensity=self.statistics.counts_per_intensity,
        )
