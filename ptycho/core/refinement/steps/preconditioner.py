"""The preconditioner of a refinement: how stiff the data hold each pixel, and each slow modulation, of an image.

A pixel is held by its illumination. A *slow phase* is hardly held at all: one pattern does not see the phase of its
patch, and sees a phase that varies over more than a probe's width only by its small change within the probe. Plain
gradients therefore find details in a few steps and slow phases in hundreds. Modulate the exit wave `psi` by
`1 + i e cos(q r + b)` (phase) or `1 + e cos(q r + b)` (amplitude); with `u = F / |F|`, and `a`, `b` the far fields of
`psi exp(+iqr)` and `psi exp(-iqr)` times `conj(u)`, the curvature of the amplitude likelihood is, averaged over the
phase b and relative to that of unrelated pixels,

    phase(q) = sum_k |a - conj b|^2 / (2 sum |psi|^2),   amplitude(q) = sum_k |a + conj b|^2 / (2 sum |psi|^2)

0 and 2 at q = 0, 1 and 1 for a q beyond the probe's structure. Dividing the spectrum of the relative gradient's
imaginary and real part by these makes all modulations equally stiff. On the reference scans that takes a sixth of the
iterations.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import scipy.fft
from numpy.typing import DTypeLike, NDArray

from ptycho.core.physics.diffraction import as_modes, sum_of_modes
from ptycho.core.refinement.device.images import Images, NumpyImages, real_dot
from ptycho.core.refinement.device.numbers import Number
from ptycho.core.refinement.sums.object_share import WHOLE, ObjectShare

__all__ = ["Preconditioner", "illumination", "modulation_curvature", "transmission"]

Array = NDArray[Any]

ILLUMINATION_FLOOR = 0.02
"""Added to the illumination, relative to its maximum."""
PHASE_FLOOR = 0.01
"""Least curvature of a phase: what it is at about a tenth of a wave per probe's width."""
LIT = 0.05
"""Illumination, relative to the maximum, from where on modulations count as slow: in the dark they mean nothing."""
AMPLITUDE_FLOOR = 0.3
"""Least curvature of an amplitude: near resonances of the probe it falls below the mean."""
LEAST_SHARE = 1e-3
"""Least share of a mode of variation in the light that it is preconditioned by."""
_FREQUENCIES = np.concatenate([[0.0], np.geomspace(1 / 1024, 0.71, 28)])
_ANGLES = np.arange(4)[:, None] * np.pi / 4


def modulation_curvature(
    probe: Array, transfer: Array | None = None, lowest: float = 0.0
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Curvature of slow modulations under a probe: (frequencies, phase, amplitude), averaged over directions.

    Args:
        probe: `(M, N, N)` or `(N, N)`, in any unit; the waves behind a structured object give the same curve.
        transfer: `(N, N)` function that carries waves to a near detector; None: it is far away.
        lowest: frequency from which on the curves are needed, cycles per pixel; 0 beside it always.

    Returns:
        Frequencies in cycles per pixel, from 0 to the corner of the spectrum, and both curvatures there.
    """
    modes = as_modes(probe).astype(np.complex64)
    carried = b"" if transfer is None else transfer.astype(np.complex64).tobytes()
    first = max(1, int(np.searchsorted(_FREQUENCIES, lowest, side="right")) - 1)
    return _curvature_of(modes.tobytes(), modes.shape, carried, first)


# some 230 transforms: as much as several iterations on few patterns, and many short refinements begin with one probe
@lru_cache(maxsize=4)
def _curvature_of(
    values: bytes, shape: tuple[int, ...], transfer: bytes, first: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """`modulation_curvature` of complex64 modes and transfer function, by their bytes, at 0 and from the frequency
    number `first` on.
    """
    modes, n = np.frombuffer(values, np.complex64).reshape(shape), shape[-1]

    def detected(waves: Array) -> Array:
        fields = scipy.fft.fft2(waves, norm="ortho")
        if not transfer:
            return fields
        return scipy.fft.ifft2(fields * np.frombuffer(transfer, np.complex64).reshape(n, n), norm="ortho")

    field = detected(modes)
    modulus = np.sqrt((abs(field) ** 2).sum(axis=0))
    # of modulus 1 in the dark too: light that a modulation brings there is seen in full
    unit = np.where(modulus > 0, field.conj() / np.where(modulus > 0, modulus, 1), 1 / np.sqrt(len(modes)))
    scale = 1 / (2 * len(_ANGLES) * float((abs(modes) ** 2).sum()))
    r = np.arange(n) - n // 2
    frequencies = np.concatenate([[0.0], _FREQUENCIES[first:]])
    phase, amplitude = np.zeros(len(frequencies)), np.full(len(frequencies), 2.0)
    for k, frequency in enumerate(frequencies[1:], start=1):
        rows, cols = (np.exp(2j * np.pi * frequency * part * r) for part in (np.sin(_ANGLES), np.cos(_ANGLES)))
        turns = rows.astype(np.complex64)[:, None, :, None] * cols.astype(np.complex64)[:, None, None, :]
        moved = (detected(modes * turn) for turn in (turns, turns.conj()))
        plus, minus = (sum_of_modes(fields * unit) for fields in moved)
        # |a - conj b|^2 and |a + conj b|^2 are |a|^2 + |b|^2 less and more 2 Re a b
        squares = real_dot(plus, plus) + real_dot(minus, minus)
        product = 2 * real_dot(plus, minus.conj())
        phase[k], amplitude[k] = scale * (squares - product), scale * (squares + product)
    return frequencies, phase, amplitude


def illumination(light: Array, rows: NDArray[np.int64], cols: NDArray[np.int64], shape: tuple[int, ...]) -> Array:
    """Light that every pixel of an object of `shape` gets from a scan: `light (N, N)` added at each first pixel."""
    n, total = light.shape[-1], np.zeros(shape, light.dtype)
    for row, col in zip(rows.tolist(), cols.tolist(), strict=True):
        total[row : row + n, col : col + n] += light
    return total


def transmission(
    image: Array, rows: NDArray[np.int64], cols: NDArray[np.int64], n: int, dtype: DTypeLike | None = None
) -> Array:
    """Light that every pixel of a probe lets through to the patterns of a scan, `sum_j |O_j|^2` `(N, N)`.

    `dtype` is that of the sum; None: that of the image.
    """
    power = image.real**2 + image.imag**2
    total = np.zeros((n, n), power.dtype if dtype is None else dtype)
    for row, col in zip(rows.tolist(), cols.tolist(), strict=True):
        total += power[row : row + n, col : col + n]
    return total


class _Filter(NamedTuple):
    """How one image is preconditioned; see `_Filter.apply`."""

    inverse: Array
    """Inverse of the floored weight of each pixel."""
    lit: Array
    """Its root where there is light, going to 0 in the dark."""
    phase: Array
    amplitude: Array
    """What the filters add to 1, on the half spectrum of the padded image."""
    padded: tuple[int, int]
    share: ObjectShare = WHOLE
    """What this process has of the image."""

    @classmethod
    def make(
        cls, weight: Array, light: Array, curves: tuple[Array, Array, Array], share: ObjectShare = WHOLE
    ) -> _Filter:
        """From the weight of each pixel, the light on it, and the curvature of modulations."""
        inverse = 1 / (weight + ILLUMINATION_FLOOR * share.largest(weight.max()))
        # the root, because the filter is applied between two of them: so the map stays symmetric
        lit = light / (light + LIT * share.largest(light.max())) * np.sqrt(inverse)
        padded = _padded(share.shape(weight))
        radius = np.hypot(*share.frequencies(padded))
        phase, amplitude = (np.interp(radius, curves[0], curve) for curve in curves[1:])
        # slow phases are only made faster, slow amplitudes, which are held twice, only slower
        return cls(
            inverse,
            lit,
            np.maximum(1 / (phase + PHASE_FLOOR) - 1, 0).astype(weight.dtype),
            np.minimum(1 / np.maximum(amplitude, AMPLITUDE_FLOOR) - 1, 0).astype(weight.dtype),
            padded,
            share,
        )

    def largest(self, value: Number) -> Number:
        """The largest of the values of all processes, of what they hold."""
        return self.share.largest(value)

    def smoothed(self, images: Images, values: Any, factor: Any) -> Any:
        """Real values on what this process has, their half spectrum in the padded shape times a factor."""
        return self.share.filtered(images, values, factor, self.padded)

    def apply(self, gradient: Array, image: Array) -> Array:
        """Map a gradient with respect to `image` (both of the last two axes): symmetric and positive definite."""
        modulus = abs(image)
        dark = modulus <= 1e-6 * self.largest(modulus.max())
        # relative to the image a real gradient changes its amplitude and an imaginary one its phase
        turn = np.where(dark, 1, image / np.where(dark, 1, modulus))
        relative = gradient * turn.conj()
        weighted = relative * self.lit
        real, imaginary = (
            self.smoothed(NumpyImages(), part, factor)
            for part, factor in ((weighted.real, self.amplitude), (weighted.imag, self.phase))
        )
        slow = np.empty_like(weighted)
        slow.real, slow.imag = real, imaginary
        return turn * (slow * self.lit + relative * self.inverse)


def _padded(shape: tuple[int, ...]) -> tuple[int, int]:
    """The shape in which an image is filtered."""
    height, width = (scipy.fft.next_fast_len(size, real=True) for size in shape)
    return height, width


class Preconditioner:
    """Maps gradients to steps of about the right size, for the object and the probe at one point of the search.

    Object pixels weigh `sum_j sum_m |P_m|^2` (at rounded positions), probe pixels `sum_j |O_j|^2`; slow modulations of
    either are divided by `modulation_curvature`. Built in `O(n N^2)`.

    Pixels of an object that several scans share, each with its own probe, weigh the light of all, modulations are as
    stiff as the mean over that light makes them, and the probe of a scan goes by its own patterns.

    Args:
        image: object `(H, W)`.
        probe: `(M, N, N)`, or of several scans `(S, M, N, N)`.
        rows, cols: first pixel of each patch, integers `(n,)`.
        with_probe: whether the probe moves too.
        transfer: `(N, N)` function that carries waves to a near detector; None: it is far away.
        images: the arithmetic on gradients.
        share: what this process has of the object: then `image` is that, `rows` are counted from its first, and the
            patches are those of `ObjectShare.patterns`.
        scans: `(n,)` which scan each pattern is of; None: there is one.
    """

    def __init__(
        self,
        image: Array,
        probe: Array,
        rows: NDArray[np.int64],
        cols: NDArray[np.int64],
        with_probe: bool,
        transfer: Array | None = None,
        images: Images | None = None,
        share: ObjectShare = WHOLE,
        scans: NDArray[np.int64] | None = None,
    ) -> None:
        self._images = NumpyImages() if images is None else images
        probes, lowest = probe.reshape(-1, *probe.shape[-3:]), 1 / max(_padded(share.shape(image)))
        lights = (probes.real**2 + probes.imag**2).sum(axis=1)
        curves = [modulation_curvature(each, transfer, lowest) for each in probes]
        own = [np.ones(len(rows), bool)] if scans is None else [scans == k for k in range(len(probes))]
        counts = np.ones(1) if scans is None else share.added(np.array([float(np.count_nonzero(mine)) for mine in own]))
        weight = np.zeros(image.shape, lights.dtype)
        for light, mine in zip(lights, own, strict=True):
            weight += illumination(light, rows[mine], cols[mine], image.shape)
        self.light = weight = share.lit(weight)
        """(H, W) on each pixel of the object."""
        amounts = lights.sum(axis=(1, 2), dtype=np.float64) * counts
        self._object = _Filter.make(weight, weight, _mean_curve(curves, amounts), share)
        self._probes: list[_Filter] = []
        """One for each scan, where they move."""
        if not with_probe:
            return
        seen = share.added(np.stack([transmission(image, rows[mine], cols[mine], probe.shape[-1]) for mine in own]))
        for light, power, count, curve in zip(lights, seen, counts, curves, strict=True):
            # a scan without a pattern, in a part, moves its probe nowhere
            held = power.astype(light.dtype) if count else np.ones_like(light)
            self._probes.append(_Filter.make(held, light, curve))

    def object_step(self, gradient: Array, image: Array) -> Array:
        """Map the gradient `(H, W)` with respect to the object."""
        return self._images.filtered(self._object, gradient, image)

    def probe_step(self, gradient: Array, probe: Array) -> Array:
        """Map the gradient `(M, N, N)` with respect to the probe, of several scans `(S M, N, N)`."""
        if len(self._moving) == 1:
            return self._images.filtered(self._moving[0], gradient, probe)
        parts = (np.split(values, len(self._probes)) for values in (gradient, probe))
        return np.concatenate([each.apply(slope, own) for each, slope, own in zip(self._probes, *parts, strict=True)])

    def variation_step(self, gradient: Array, shares: Array) -> Array:
        """Map the gradient `(K, N, N)` with respect to modes of variation that have these shares (K,) of the light."""
        (probe,) = self._moving
        stiffness = np.maximum(shares, LEAST_SHARE)[:, None, None]
        return np.asarray(gradient * probe.inverse / stiffness, gradient.dtype)

    @property
    def _moving(self) -> list[_Filter]:
        if not self._probes:
            raise ValueError("expected a preconditioner with a probe, found one for the object alone")
        return self._probes


def _mean_curve(curves: list[tuple[Array, Array, Array]], amounts: Array) -> tuple[Array, Array, Array]:
    """The curvature of modulations under the light of several probes, by how much each has of it."""
    if len(curves) == 1:
        return curves[0]
    phase, amplitude = (np.average([curve[k] for curve in curves], axis=0, weights=amounts) for k in (1, 2))
    return curves[0][0], phase, amplitude
