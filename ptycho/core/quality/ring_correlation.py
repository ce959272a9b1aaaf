"""Fourier ring correlation: up to which spatial frequency two images say the same."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ptycho.core.quality.arithmetic import IN_NUMPY, Arithmetic, Pixels
from ptycho.core.quality.metrics import check_same_shape
from ptycho.core.result import ByValue

__all__ = ["FrcCurve", "frc"]

Real = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class FrcCurve(ByValue):
    """Fourier ring correlation: how well two images agree, by spatial frequency."""

    frequency: Real
    """(rings,) cycles per pixel, from 0 to 0.5 (Nyquist)."""
    correlation: Real
    """(rings,) in [-1, 1]; 0 where a ring holds no energy."""
    n: NDArray[np.intp]
    """(rings,) number of Fourier pixels in the ring."""

    def one_bit(self) -> Real:
        """One-bit information threshold of each ring, `(0.5 + 2.4142/sqrt(n)) / (1.5 + 1.4142/sqrt(n))`.

        For a reconstruction of all data, beside its truth. Source: see `half_bit`.
        """
        return self._information(0.5)

    def half_bit(self) -> Real:
        """Half-bit information threshold, `(0.2071 + 1.9102/sqrt(n)) / (1.2071 + 0.9102/sqrt(n))`.

        For two reconstructions of half the data each: where they cross it, all data together carry about half a bit
        of information per Fourier pixel.

        Source: M. van Heel and M. Schatz, J. Struct. Biol. 151, 250 (2005).
        """
        return self._information((math.sqrt(2) - 1) / 2)

    def _information(self, snr: float) -> Real:
        """Expected correlation of two halves, each of signal-to-noise ratio `snr`, with its scatter in n pixels."""
        scatter = 2 * math.sqrt(snr) / np.sqrt(self.n)
        return (snr + scatter + 1 / np.sqrt(self.n)) / (snr + scatter + 1)

    def smoothed(self, rings: int) -> FrcCurve:
        """The curve averaged over so many neighbouring rings, an odd number, weighted by their Fourier pixels.

        A single ring in which an object has no energy falls below any threshold. The zero frequency stays as it is and
        counts for no other.
        """
        reach = rings // 2
        weight, product = (np.pad(values[1:], reach) for values in (self.n.astype(float), self.n * self.correlation))
        total, energy = (np.convolve(values, np.ones(rings), "valid") for values in (weight, product))
        return FrcCurve(self.frequency, np.concatenate([self.correlation[:1], energy / total]), self.n)

    def cutoff(self, threshold: float | Real = 0.5, above: float = 0.0) -> float:
        """Spatial frequency, in cycles per pixel, at which the correlation first falls below a threshold.

        Linear between rings; the last ring's frequency when it never falls. The zero frequency and the rings
        below `above` (cycles per pixel) are passed over. `threshold` is a number or one per ring
        (`one_bit()`).
        """
        excess = self.correlation - threshold
        first = max(1, int(np.searchsorted(self.frequency, above - 1e-12)))
        below = np.flatnonzero(excess[first:] < 0)
        if below.size == 0:
            return float(self.frequency[-1])
        ring = first + int(below[0])
        if ring == first:
            return float(self.frequency[ring])
        return float(np.interp(0.0, [excess[ring], excess[ring - 1]], [self.frequency[ring], self.frequency[ring - 1]]))


def frc(a: Pixels, b: Pixels, arithmetic: Arithmetic = IN_NUMPY) -> FrcCurve:
    """Fourier ring correlation, `Re sum F_a conj(F_b) / sqrt(sum |F_a|^2 sum |F_b|^2)` ring by ring.

    Real or complex images of one shape, rings one Fourier pixel wide. The mean is removed and a Hann window
    taken first, against the edges. Two independent reconstructions give their common resolution
    (`half_bit`), a reconstruction and its truth that of the reconstruction (`one_bit`, made for two noisy halves,
    is on the safe side there).

    Args:
        a, b: (H, W), of NumPy or where `arithmetic` works on them.
        arithmetic: what transforms and sums.

    Raises:
        DataError: unequal shapes.
    """
    check_same_shape(a, b)
    side = min(a.shape)
    tapers, frequencies = (
        [arithmetic.held(line) for line in (down[:, None], right)]
        for down, right in (map(function, a.shape) for function in (np.hanning, np.fft.fftfreq))
    )
    one, other = (_spectrum(arithmetic.held(image), tapers, arithmetic) for image in (a, b))
    ring = (((frequencies[0] ** 2 + frequencies[1] ** 2) ** 0.5) * side).round()
    images = one.real**2 + one.imag**2, other.real**2 + other.imag**2, one.real * other.real + one.imag * other.imag
    n, first, second, common = arithmetic.numpy(arithmetic.ring_sums(images, ring, side // 2 + 1))
    energy = first * second
    correlation = np.divide(common, np.sqrt(energy), out=np.zeros(len(n)), where=energy > 0)
    return FrcCurve(np.arange(len(n)) / side, correlation, n.astype(np.intp))


def _spectrum(image: Pixels, tapers: Sequence[Pixels], arithmetic: Arithmetic) -> Pixels:
    """Of an image without its mean, faded out towards its edges."""
    level = image - image.mean()
    for taper in tapers:
        level *= taper
    return arithmetic.fft2(level, spent=True)
