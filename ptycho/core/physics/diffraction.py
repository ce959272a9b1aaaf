"""The forward model, step by step: illuminate, propagate, measure, count photons.

Arrays end in the two image axes `[y, x]`; the modes of a probe are the axis before them. Everything keeps the
precision of its input (complex128 in, float64 out), so that these functions are the oracle of both backends.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import xlogy

from ptycho.core.physics.detector_blur import blurred
from ptycho.core.physics.near_field import carried
from ptycho.core.physics.recording import PLAIN, Recording

__all__ = [
    "as_modes",
    "cleared",
    "deviance",
    "diffract",
    "far_field",
    "fourier_shift",
    "illuminate",
    "intensity",
    "poisson_amplitude",
    "propagate_back",
    "smooth",
    "smoothing_matrix",
    "sum_of_modes",
]

Array = NDArray[Any]


def as_modes(probe: Array) -> Array:
    """Return a probe as `(M, N, N)`, mode first; a single mode `(N, N)` gains an axis of length 1."""
    return probe[None] if probe.ndim == 2 else probe


def sum_of_modes(values: Array) -> Array:
    """Sum `(..., M, N, N)` over its modes to `(..., N, N)`; of a single mode, a view of the array itself."""
    return values[..., 0, :, :] if values.shape[-3] == 1 else values.sum(axis=-3)


def far_field(exit_waves: Array) -> Array:
    """Propagate exit waves to the detector: `F = fftshift(fft2(psi)) / N`.

    The division makes the transform unitary (energy in = energy out, Parseval); the zero frequency lies at
    `[N/2, N/2]`. `exit_waves` is complex `(..., N, N)` in the unit of the measured amplitude, and so is the result.
    """
    return np.fft.fftshift(np.fft.fft2(exit_waves, norm="ortho"), axes=(-2, -1))


def propagate_back(far_fields: Array) -> Array:
    """Inverse and adjoint of `far_field`: complex `(..., N, N)` at the detector -> exit waves of the same shape."""
    return np.fft.ifft2(np.fft.ifftshift(far_fields, axes=(-2, -1)), norm="ortho")


def fourier_shift(images: Array, dx: Array | float, dy: Array | float) -> Array:
    """Move the content of `images (..., N, N)` by `(+dx, +dy)` pixels, periodic and band limited.

    `dx`, `dy` are scalars or arrays that broadcast against the leading axes. A whole number of pixels equals
    `np.roll`. The operation is unitary; its adjoint is the shift by `(-dx, -dy)`.
    """
    rows, cols = (
        np.exp(-2j * np.pi * np.fft.fftfreq(n) * np.asarray(shift, float)[..., None])
        for n, shift in zip(images.shape[-2:], (dy, dx), strict=True)
    )
    ramp = (rows[..., :, None] * cols[..., None, :]).astype(np.result_type(images, np.complex64), copy=False)
    return np.fft.ifft2(np.fft.fft2(images) * ramp)


def illuminate(probe: Array, patches: Array) -> Array:
    """Exit waves `psi_m = P_m O_j` of one probe for many patches, or of one probe per patch.

    `probe` is `(N, N)`, `(M, N, N)` or, a shifted probe for each patch, `(..., M, N, N)`; `patches` is `(..., N, N)`.
    Returns complex `(..., M, N, N)`.
    """
    return as_modes(probe) * patches[..., None, :, :]


def intensity(exit_waves: Array) -> Array:
    """Expected detector intensity `I = sum_m |F_m|^2` of exit waves `(..., M, N, N)` -> real `(..., N, N)`."""
    return _brightness(far_field(exit_waves))


def _brightness(fields: Array) -> Array:
    return np.sum(fields.real**2 + fields.imag**2, axis=-3)


def diffract(
    probe: Array,
    patches: Array,
    dx: Array | float = 0.0,
    dy: Array | float = 0.0,
    recording: Recording = PLAIN,
) -> Array:
    """Expected intensity of patches cut at *rounded* scan positions: the `fourier` sub-pixel rule.

    A scan position is `x = round(x) + dx`. The far field does not see a common translation of probe and object, so
    instead of shifting the object patch by `-dx` the compact, smooth probe is moved by `+dx` (likewise `dy`); that
    is exact as long as the probe fits its window. `patches` is `(n, N, N)`, `dx`, `dy` are `(n,)` pixels.
    `recording` is of these patterns: their flux multiplies the intensity, that of several places is their mean,
    the detector blurs it, the background comes to it; a probe that varies is that of each. A near detector sees the
    translation: there, waves are moved back. Patches of a thick object are `(n, K, N, N)`, those of K slices with
    `recording.gap` between two of them: behind each but the last, waves go on by its transfer function,
    `psi_(k+1) = ifft2(H fft2(psi_k O_k))`.
    Returns real `(n, N, N)`, in the square of the probe's unit.
    """
    flux, path, background = recording.flux, recording.fly_path, recording.background
    if path is not None:
        still = replace(recording, fly_path=None)
        each = (diffract(probe, patches, dx + x, dy + y, still) for x, y in np.moveaxis(path, 0, -1))
        return np.asarray(sum(each) / path.shape[1])
    modes = as_modes(probe)
    if recording.variation is not None:
        modes = recording.variation.probes(modes)
    shift_x, shift_y = np.asarray(dx, float), np.asarray(dy, float)
    if np.any(shift_x) or np.any(shift_y):
        modes = fourier_shift(modes, shift_x[..., None], shift_y[..., None])
    near_field = recording.near_field
    if recording.gap is not None:
        for layer in np.moveaxis(patches[:, :-1], 1, 0):
            modes = carried(illuminate(modes, layer), recording.gap)
        patches = patches[:, -1]
    waves = illuminate(modes, patches)
    if near_field is None:
        expected = intensity(waves)
    else:
        expected = _brightness(carried(waves, near_field, -shift_x[..., None], -shift_y[..., None]))
    expected = blurred(expected if flux is None else expected * flux[:, None, None], recording.blur)
    return expected if background is None else expected + background


def cleared(amplitudes: Array, flux: Array | None = None, background: Array | None = None) -> Array:
    """What the object alone gives under the beam of the probe, `sqrt(max(A^2 - b, 0) / f)`; 0 where b is brighter.

    `amplitudes` A are real `(..., N, N)`, `flux` f and `background` b as of `Recording`, broadcast to them: b in the
    unit of A^2. What a network is given to look at; its losses hold what it predicts against A itself.
    """
    if background is not None:
        amplitudes = np.sqrt(np.maximum(amplitudes**2 - background, 0))
    return amplitudes if flux is None else amplitudes / np.sqrt(flux)


def poisson_amplitude(amplitude: Array, rng: np.random.Generator) -> Array:
    """Photon noise: `sqrt(Poisson(A^2))` for an amplitude whose square is an expected photon count."""
    return np.sqrt(rng.poisson(amplitude.astype(np.float64) ** 2)).astype(amplitude.dtype)


def deviance(counts: Array, expected: Array, mask: Array | None = None) -> Array:
    """Poisson deviance `D = 2 [Y log(Y / L) - Y + L]` of every pixel, 0 where `mask` is False.

    `counts` Y and `expected` L are photon counts of the same shape `(..., N, N)`, Y >= 0 and L > 0. Half of it is the
    negative log-likelihood up to a constant; its gradient with respect to L is `2 (1 - Y / L)`.
    """
    result = 2 * (xlogy(counts, counts / expected) - counts + expected)
    return result if mask is None else np.where(mask, result, 0.0)


def smoothing_matrix(n: int, sigma_px: float) -> NDArray[np.float64]:
    """Gaussian smoothing of a line of `n` pixels as an `(n, n)` matrix, zero outside, unit gain in the middle."""
    distance = np.arange(n)[:, None] - np.arange(n)[None, :]
    kernel = np.exp(-(np.arange(-n, n + 1) ** 2) / (2 * sigma_px**2))
    return np.exp(-(distance**2) / (2 * sigma_px**2)) / kernel.sum()


def smooth(exit_waves: Array, sigma_px: float) -> Array:
    """Smooth exit waves `(..., N, N)` by a Gaussian of `sigma_px` pixels (complex; off when `sigma_px` is 0)."""
    if not sigma_px:
        return exit_waves
    matrix = smoothing_matrix(exit_waves.shape[-1], sigma_px)
    return matrix @ exit_waves @ matrix.T
