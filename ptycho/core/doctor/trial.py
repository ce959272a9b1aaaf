"""A short reconstruction of a few dozen neighbouring patterns: what decides whether a scan can be explained at all.

Full-batch gradient on the amplitudes for object and probe, preconditioned by the illumination (object) and by the
object (probe), Nesterov momentum, restart when the error rises. Seconds on one core.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft
from scipy.spatial import KDTree
from scipy.special import gammaln, xlogy

from ptycho.core.physics.diffraction import as_modes

__all__ = ["Problem", "Sample", "Trial", "descend", "neighbourhood", "reconstruct", "root_variance"]

Array = NDArray[Any]

_BLOCK = 16
"""Patterns worked on at once: their fields stay in the processor's cache."""
_STEP = 0.7
"""Of the full preconditioned step: full steps overshoot when object and probe move together."""
_TABLE = (1e-3, 20.0, 400)
"""Lowest and highest mean count, and number of entries, for which the variance of the root is tabulated."""
_FLOOR = 0.02
"""Added to the preconditioners, relative to their maximum."""


@dataclass(frozen=True)
class Sample:
    """Patterns of neighbouring scan points, in float32 amplitude, with the zero frequency at [0, 0]."""

    amplitude: Array
    """(n, N, N) float32, 0 where not valid."""
    valid: Array
    """(n, N, N) or (1, N, N) bool."""
    xcoords: Array
    """(n,) pixels."""
    ycoords: Array
    probe: Array
    """(M, N, N) complex64, its middle at index N/2."""
    counts_per_intensity: float | None = None
    """Photons in one unit of intensity, where it is known."""


@dataclass(frozen=True)
class Trial:
    """What a short reconstruction came to."""

    errors: tuple[float, ...]
    """Relative Fourier error, `sum (|F| - A)^2 / sum A^2`, before each iteration."""
    probe: Array
    """(M, N, N) after the last iteration."""
    object: Array
    """(H, W) complex64; its first pixel is at the object-grid coordinate (x0, y0)."""
    x0: int
    y0: int
    floor: float
    """The error that photon noise alone leaves, `sum E[(sqrt(Y) - sqrt(L))^2] / sum A^2`; 0 when doses are unknown."""

    @property
    def error(self) -> float:
        """The smallest relative Fourier error seen."""
        return min(self.errors)


def neighbourhood(xcoords: Array, ycoords: Array, count: int) -> NDArray[np.intp]:
    """Indices of the `count` scan points nearest to the one in the middle of the scan, in scan order."""
    points = np.column_stack([xcoords, ycoords])
    tree = KDTree(points)
    _, middle = tree.query(np.median(points, axis=0))
    _, near = tree.query(points[middle], k=min(count, len(points)))
    return np.sort(np.atleast_1d(near))


def reconstruct(sample: Sample, iterations: int, probe_from: int | None = 3) -> Trial:
    """Reconstruct object and probe from a flat object and the probe given.

    Args:
        sample: patterns, positions, probe.
        iterations: number of full-batch steps.
        probe_from: iteration at which the probe begins to move; None keeps it.
    """
    return descend(Problem.of(sample), iterations, probe_from, sample.counts_per_intensity)


def descend(problem: Problem, iterations: int, probe_from: int | None, counts_per_intensity: float | None) -> Trial:
    """`reconstruct` for a sample that was made ready; `floor` needs the photons in a unit of intensity."""
    best = (problem.flat_object(), problem.probe)
    ahead, momentum, last = best, 1.0, np.inf
    errors: list[float] = []
    while len(errors) < iterations:
        moves = probe_from is not None and len(errors) >= probe_from
        error, found = problem.step(*ahead, probe_moves=moves)
        if error > last:  # the momentum overshot: start again from the best point, at rest
            ahead, momentum, last = best, 1.0, np.inf
            errors.append(errors[-1])
            continue
        errors.append(error)
        last, after = error, (1 + np.sqrt(1 + 4 * momentum**2)) / 2
        push = np.float32((momentum - 1) / after)
        ahead = (found[0] + push * (found[0] - best[0]), found[1] + push * (found[1] - best[1]))
        best, momentum = found, after
    floor = 0.0
    if counts_per_intensity is not None:
        floor = problem.noise(*best, counts_per_intensity)
    return Trial(tuple(errors), best[1], best[0], problem.x0, problem.y0, floor)


@dataclass(frozen=True)
class Problem:
    """A sample made ready: corners of the patches on their own canvas, and the sub-pixel ramps of the probe."""

    amplitude: Array
    valid: Array
    probe: Array
    rows: list[int]
    cols: list[int]
    ramps: Array
    """(n, 1, N, N) Fourier factors that move the probe by the remainder of each position."""
    shape: tuple[int, int]
    x0: int
    y0: int
    energy: float

    @classmethod
    def of(cls, sample: Sample) -> Problem:
        """Make a sample ready, on a canvas that its patches just fill."""
        N = sample.amplitude.shape[-1]
        x, y = np.rint(sample.xcoords).astype(int), np.rint(sample.ycoords).astype(int)
        x0, y0 = int(x.min()) - N // 2, int(y.min()) - N // 2
        along = (
            np.exp(-2j * np.pi * np.multiply.outer(coords - whole, np.fft.fftfreq(N)))
            for coords, whole in ((sample.ycoords, y), (sample.xcoords, x))
        )
        fy, fx = along
        ramps = (fy[:, None, :, None] * fx[:, None, None, :]).astype(np.complex64)
        return cls(
            amplitude=sample.amplitude,
            valid=np.broadcast_to(sample.valid, sample.amplitude.shape),
            probe=as_modes(sample.probe).astype(np.complex64),
            rows=[int(value) for value in y - N // 2 - y0],
            cols=[int(value) for value in x - N // 2 - x0],
            ramps=ramps,
            shape=(int(y.max() - y.min()) + N, int(x.max() - x.min()) + N),
            x0=x0,
            y0=y0,
            energy=float(np.sum(sample.amplitude.astype(np.float64) ** 2)),
        )

    def only(self, chosen: NDArray[np.bool_]) -> Problem:
        """The problem of some of the patterns, `chosen` (n,), on the same canvas."""
        indices = np.flatnonzero(chosen).tolist()
        return replace(
            self,
            amplitude=self.amplitude[chosen],
            valid=self.valid[chosen],
            rows=[self.rows[index] for index in indices],
            cols=[self.cols[index] for index in indices],
            ramps=self.ramps[chosen],
            energy=float(np.sum(self.amplitude[chosen].astype(np.float64) ** 2)),
        )

    def flat_object(self) -> Array:
        """An object without contrast whose exit waves have the energy of the patterns."""
        lit = float(np.sum(np.abs(self.probe) ** 2, dtype=np.float64)) * len(self.amplitude)
        return np.full(self.shape, np.sqrt(self.energy / lit), np.complex64)

    def step(self, obj: Array, probe: Array, probe_moves: bool) -> tuple[float, tuple[Array, Array]]:
        """The relative Fourier error of a point, and the point one preconditioned gradient step further."""
        spectrum = fft.fft2(probe)
        by_object, light = np.zeros(self.shape, np.complex64), np.zeros(self.shape, np.float32)
        by_probe, seen = np.zeros_like(probe), np.zeros(probe.shape[-2:], np.float32)
        misfit = 0.0
        for cut, windows, probes, patches in self._blocks(obj, spectrum):
            fields = fft.fft2(probes * patches, norm="ortho")
            modulus = np.sqrt(np.sum(_power(fields), axis=1))
            gap = np.where(self.valid[cut], modulus - self.amplitude[cut], np.float32(0))
            misfit += float(np.vdot(gap, gap))
            excess = fft.ifft2(fields * (gap / (modulus + np.float32(1e-9)))[:, None], norm="ortho")
            power = _power(probes).sum(axis=1)
            back = np.sum(excess * np.conj(probes), axis=1)
            for window, change, weight in zip(windows, back, power, strict=True):
                by_object[window] += change
                light[window] += weight
            if probe_moves:
                by_probe += np.sum(fft.fft2(excess * np.conj(patches)) * np.conj(self.ramps[cut]), axis=0)
                seen += _power(patches).sum(axis=(0, 1))
        step = np.float32(_STEP if probe_moves else 1.0)
        moved = obj - step * by_object / (light + np.float32(_FLOOR) * light.max())
        if probe_moves:
            probe = probe - step * fft.ifft2(by_probe) / (seen + np.float32(_FLOOR) * seen.max())
        return misfit / self.energy, (moved, probe)

    def noise(self, obj: Array, probe: Array, counts_per_intensity: float) -> float:
        """The relative Fourier error that photon noise would leave if this object and probe were the truth."""
        variance = root_variance(self.intensities(obj, probe) * np.float32(counts_per_intensity))
        total = float(np.sum(variance, where=self.valid, dtype=np.float64))
        return total / counts_per_intensity / self.energy

    def intensities(self, obj: Array, probe: Array) -> Array:
        """(n, N, N) expected by this object and probe, zero frequency at [0, 0]."""
        blocks = self._blocks(obj, fft.fft2(probe))
        return np.concatenate([_power(fft.fft2(p * o, norm="ortho")).sum(axis=1) for _, _, p, o in blocks])

    def _blocks(self, obj: Array, spectrum: Array) -> Iterator[tuple[slice, list[tuple[slice, slice]], Array, Array]]:
        """By blocks: the slice of the patterns, windows on the object, probes (b, M, N, N), patches (b, 1, N, N)."""
        N = spectrum.shape[-1]
        for start in range(0, len(self.amplitude), _BLOCK):
            cut = slice(start, min(start + _BLOCK, len(self.amplitude)))
            corners = zip(self.rows[cut], self.cols[cut], strict=True)
            windows = [(slice(row, row + N), slice(col, col + N)) for row, col in corners]
            patches = np.stack([obj[window] for window in windows])[:, None]
            yield cut, windows, fft.ifft2(spectrum * self.ramps[cut]), patches


def root_variance(expected: Array) -> Array:
    """`E[(sqrt(Y) - sqrt(L))^2]` of Poisson counts Y of mean L: 1/4 where it is bright, L where it is dark."""
    level = np.concatenate([[0.0], np.geomspace(*_TABLE)])
    counts = np.arange(60)
    weights = np.exp(xlogy(counts[:, None], level[None, :]) - level[None, :] - gammaln(counts + 1)[:, None])
    table = np.sum(weights * (np.sqrt(counts)[:, None] - np.sqrt(level)[None, :]) ** 2, axis=0)
    return np.interp(expected, level, table)  # beyond the table it is 1/4 to 3 %


def _power(field: Array) -> Array:
    return field.real**2 + field.imag**2
