"""A probe on other pixels: the same beam in a window of another pixel size and side."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.errors import DataError

__all__ = ["resampled_probe"]

Array = NDArray[Any]


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
