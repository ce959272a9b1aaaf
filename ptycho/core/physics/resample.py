"""A probe on other pixels: the same beam in a window of another pixel size and side."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.errors import DataError

__all__ = ["fitted_probe", "resampled_probe"]

Array = NDArray[Any]

_SAME = 1e-6
"""Relative difference of pixels that are the same."""


def fitted_probe(probe: Array, N: int, own_pixel_m: float | None, pixel_m: float | None) -> tuple[Array, str]:
    """A probe on the N x N pixels of other patterns, and what was done, for people.

    Args:
        probe: (M, M) or (modes, M, M), its middle at index M/2.
        N: side of the patterns.
        own_pixel_m: its pixel, None where it is not known.
        pixel_m: the object pixel of the patterns. Where one of both is not known, the window is taken to be the same,
            as of a detector that was cropped or widened.

    Returns:
        (..., N, N), the probe itself where nothing changes, and text such as '128 to 64 pixels a side, ...'.
    """
    M = probe.shape[-1]
    if own_pixel_m is None or pixel_m is None:
        ratio, change = M / N, "pixel sizes not known: taken for the same window"
    else:
        ratio = pixel_m / own_pixel_m
        ratio = 1.0 if abs(ratio - 1) < _SAME else ratio
        change = f"pixels of {1e9 * own_pixel_m:.4g} nm to {1e9 * pixel_m:.4g} nm"
        change = "of the same pixels" if ratio == 1 else change
    return resampled_probe(probe, ratio, N), f"{M} to {N} pixels a side, {change}"


def resampled_probe(probe: Array, pixels: float, N: int) -> Array:
    """A probe on N x N pixels, each `pixels` of its own wide, around the same middle.

    Fourier interpolation: `Q(x) = sum_k F_k exp(2 pi i k x / M)` over the frequencies of the M x M probe that the new
    pixels can hold, 0 outside of the window that the probe was known in. Amplitudes stay what they are, so that the
    energy is to be set by the caller.

    Args:
        probe: (M, M) or (modes, M, M), its middle at index M/2.
        pixels: new pixel over old pixel, above 0.
        N: new side.

    Returns:
        complex (..., N, N), its middle at index N/2; the probe itself where nothing changes.

    Raises:
        DataError: a ratio that is not positive and finite.
    """
    if not (np.isfinite(pixels) and pixels > 0):
        raise DataError(f"probe: expected a ratio of pixels above 0, found {pixels}; correct the pixel sizes")
    M = probe.shape[-1]
    if M == N and pixels == 1:
        return probe
    place = (np.arange(N) - N // 2) * pixels
    frequency = np.fft.fftfreq(M)
    # half of the rounding of a ratio such as 2/3 must not decide about the last frequency
    held = np.abs(frequency) * pixels <= 0.5 + 1e-9
    known = (place >= -(M // 2)) & (place < M - M // 2)
    matrix = np.exp(2j * np.pi * np.outer(place + M // 2, frequency)) * held * known[:, None] / M
    spectrum = np.fft.fft2(probe.astype(np.complex128))
    made = matrix @ spectrum @ matrix.T
    return made.astype(np.result_type(probe.dtype, np.complex64))
