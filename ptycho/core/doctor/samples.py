"""Which patterns the short reconstructions are made from, and how they are read."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import KDTree

from ptycho.core.doctor.statistics import ScanStatistics
from ptycho.core.physics.diffraction import as_modes, far_field
from ptycho.core.physics.near_field import NearField
from ptycho.core.physics.probe_estimates import light_side
from ptycho.core.physics.scan_probes import ScanProbes
from ptycho.core.scaling import to_amplitude
from ptycho.core.scan.scan import is_fast_side
from ptycho.core.scan.stream import ScanStream
from ptycho.core.scan_edit.detector import probe_on_sides

__all__ = ["Sample", "Sampler", "neighbourhood"]

Array = NDArray[Any]

_PIXELS = 60 * 64 * 64 * 2
"""Detector pixels in the sample from the middle, which has 30 to 60 patterns: bounds the time."""
_MODES = 3
_SIDE, _LIGHT, _CONE = 128, 0.9, 0.98
"""Side of a pattern that is small enough, and the share of the light, and of the bare beam, that a cut has to keep."""
_DIVISOR = 32
"""Of sides cut to the light, so that they can be halved."""
_OUTSIDE, _ALIASED = 0.001, 0.05
"""Energy of the probe beyond a narrower window, and autocorrelation of the patterns at its edge, that do no harm."""


@dataclass(frozen=True)
class Sample:
    """Patterns of neighbouring scan points, as a refinement reads them
    (`ptycho.core.refinement.device.kernels.ScanData`).
    """

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
    near_field: NearField | None = None
    scan_probes: ScanProbes | None = None
    """How waves go to a near detector; None where it is far away."""
    flux: NDArray[np.float64] | None = None
    """Of the beam at each pattern; nothing is known of it."""
    background: NDArray[np.float64] | None = None
    """(N, N) in the squares of the amplitudes beside the object's light; None: nothing."""
    blur: float | None = None
    """Of the detector; nothing is known of it."""

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

    @cached_property
    def window(self) -> tuple[int, int]:
        """(side, step): of the square around the zero frequency each step-th pixel of each line is looked at.

        A detector of more than 128 pixels a side is cut to the light: object pixels grow, nothing else changes. Where
        light reaches further, pixels are left out as long as probe and patterns have room in the narrower window: the
        pixels that stay see what they saw.
        """
        N = self.stream.frames.shape[-1]
        if NearField.of(self.stream.fields.metadata) is not None:
            return N, 1  # object pixels are those of the detector
        mean = np.where(self.statistics.valid & ~self.bad, np.maximum(self.statistics.mean, 0), 0)
        mean = np.roll(mean, self.shift, (0, 1))
        side = max(_SIDE, light_side(np.sqrt(mean), _LIGHT), self._cone()) if N > _SIDE else N
        while side < N and (side % _DIVISOR or not is_fast_side(side)):
            side += 1
        side, step = min(side, N), 1
        while side % (4 * step) == 0 and side // (2 * step) >= _SIDE and self._roomy(mean, side, 2 * step):
            step *= 2
        return side, step

    def _cone(self) -> int:
        """Side of the square of the detector that the bare beam lights."""
        power = np.sum(np.abs(far_field(as_modes(self.stream.fields.probe))) ** 2, axis=0)
        return light_side(np.sqrt(power), _CONE)

    def _roomy(self, mean: Array, side: int, step: int) -> bool:
        """Whether probe and exit waves fit in a window narrower by `step`."""
        power = np.sum(np.abs(self._on_window(side, 1)) ** 2, axis=0)
        outside = 1 - float(_middle(power, side // step).sum() / power.sum())
        lags = np.abs(np.fft.ifft2(_middle(mean, side)))
        edge = side // (2 * step)
        return outside < _OUTSIDE and max(lags[0, edge], lags[edge, 0]) < _ALIASED * lags[0, 0]

    def _on_window(self, side: int, step: int) -> Array:
        """The strongest modes of the probe (M, side / step, side / step) as the pixels looked at see them."""
        modes = as_modes(self.stream.fields.probe)
        strongest = np.argsort(-np.sum(np.abs(modes) ** 2, axis=(1, 2)), kind="stable")[:_MODES]
        seen = probe_on_sides(modes[strongest], side)
        # with unitary transforms a pixel holds step^2 as much light of a window narrower by step
        return _middle(seen, side // step) / np.float32(step)

    @cached_property
    def probe(self) -> NDArray[np.complex64]:
        """(M, side, side) of the pixels that are looked at."""
        return self._on_window(*self.window).astype(np.complex64)

    @property
    def positions(self) -> tuple[Array, Array]:
        """The whole scan's xcoords and ycoords, in the object pixels of the samples."""
        fields, scale = self.stream.fields, self.window[0] / self.stream.frames.shape[-1]
        return fields.xcoords * scale, fields.ycoords * scale

    def middle(self, frame_shift: int = 0) -> Sample:
        """Neighbouring places in the middle of the scan; place p with the pattern p - frame_shift."""
        x, y = self.positions
        count = int(np.clip(_PIXELS / self.probe.shape[-1] ** 2, 30, 60))
        usable = np.arange(max(0, frame_shift), len(x) + min(0, frame_shift))
        places = usable[neighbourhood(x[usable], y[usable], count)]
        return self.read(places, places - frame_shift)

    def read(self, places: NDArray[np.intp], frames: NDArray[np.intp]) -> Sample:
        """The patterns `frames` (n,), in any order, as if recorded at the positions of the points `places` (n,)."""
        fields = self.stream.fields
        (x, y), (side, step) = self.positions, self.window
        values = self.stream.frames.read(frames)
        valid = np.isfinite(values) & ~self.bad
        if fields.mask is not None:
            valid &= fields.mask[frames] if fields.mask.ndim == 3 else fields.mask
        amplitude = to_amplitude(np.where(valid, np.maximum(values, 0), 0), self.statistics.units)
        return Sample(
            patterns=_middle(np.roll(amplitude, self.shift, (-2, -1)), side, step),
            mask=_middle(np.roll(valid, self.shift, (-2, -1)), side, step),
            xcoords=x[places],
            ycoords=y[places],
            probeGuess=self.probe,
            counts_per_intensity=self.statistics.counts_per_intensity,
            near_field=NearField.of(fields.metadata),
        )


def _middle(images: Array, side: int, step: int = 1) -> Array:
    """Each step-th pixel of the central square of images (..., N, N), the middle among them."""
    low = images.shape[-1] // 2 - side // 2
    return np.ascontiguousarray(images[..., low : low + side : step, low : low + side : step])
