"""The blur of a detector: each photon is counted within a Gaussian around the pixel that it meets.

The expected counts are `I = K (sum_m |F_m|^2) K + b`, with the matrix K along each axis of the detector,

    K_ij = sum_k g(i - j + 2 N k) + g(i + j + 1 + 2 N k),  g(d) = t^(d^2) / sum_d' t^(d'^2),  t = exp(-1 / (2 sigma^2))

a Gaussian of the standard deviation sigma, taken at whole pixels. Its sum is 1 and it is reflected at the edges of the
detector: no photon is lost there, and where the edges cut a pattern as much comes in as goes out, from light like that
within; a circular one would bring the light of the opposite edge. K is symmetric, so that it is its own adjoint, and
nowhere negative. t is the share of a pixel's light that its neighbour has, relative to its own, and K is smooth in it
down to 0, where K is the identity.

A source that is not a point blurs the far field alike, by its image on the detector: a transverse coherence length l of
the beam, the standard deviation of a Gaussian degree of coherence, is the blur `sigma = N / (2 pi l)` with l in pixels
of the object (the theorem of van Cittert and Zernike: M. Born & E. Wolf, Principles of Optics, section 10.4).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.errors import DataError

__all__ = ["blur_matrix", "blur_slope", "blurred", "check_blur", "share_of", "sigma_of"]

Array = NDArray[Any]

REACH = 9.0
"""Standard deviations beyond which the Gaussian is 0 in double precision."""


def share_of(sigma_px: float) -> float:
    """T of a Gaussian of this standard deviation, pixels: 0 to below 1."""
    return float(np.exp(-0.5 / sigma_px**2)) if sigma_px > 0 else 0.0


def sigma_of(share: float) -> float:
    """The standard deviation, pixels, whose t this is."""
    return float(np.sqrt(-0.5 / np.log(share))) if share > 0 else 0.0


def blur_matrix(n: int, sigma_px: float) -> NDArray[np.float64]:
    """K `(n, n)`, zero frequency in the middle.

    >>> blur_matrix(3, 1.0).round(3)
    array([[0.641, 0.296, 0.063],
           [0.296, 0.408, 0.296],
           [0.063, 0.296, 0.641]])
    """
    taps, _ = _taps(sigma_px)
    return _along(n, taps)


def blur_slope(n: int, sigma_px: float) -> NDArray[np.float64]:
    """The derivative of K in t, `(n, n)`, symmetric."""
    _, slopes = _taps(sigma_px)
    return _along(n, slopes)


def blurred(intensity: Array, sigma_px: float | None) -> Array:
    """Intensities `(..., N, N)` as the detector sees them; None or 0: as they are."""
    if not sigma_px:
        return intensity
    matrix = blur_matrix(intensity.shape[-1], sigma_px).astype(intensity.dtype, copy=False)
    return matrix @ intensity @ matrix


def check_blur(given: float, n: int) -> float:
    """The standard deviation of a blur of patterns of n pixels.

    Raises:
        DataError: below 0, not finite, or more than an eighth of the pattern.
    """
    if not 0 <= given <= n / 8:
        raise DataError(f"blur: expected 0 to {n / 8:g} pixels of a pattern of {n}, found {given}; correct it")
    return float(given)


def _taps(sigma_px: float) -> tuple[Array, Array]:
    """g(d) for d from 0 on, and its derivative in t."""
    t, square = share_of(sigma_px), np.arange(max(2.0, np.ceil(REACH * sigma_px) + 1)) ** 2
    both = np.where(square > 0, 2, 1)  # a tap to either side
    weights, slopes = t**square, square * t ** np.maximum(square - 1, 0)
    total, taps = both @ weights, weights / (both @ weights)
    return taps, (slopes - taps * (both @ slopes)) / total


def _along(n: int, taps: Array) -> NDArray[np.float64]:
    """Taps for d from 0 on as a matrix `(n, n)`, reflected at the edges."""
    matrix, rows = np.zeros((n, n)), np.arange(n)
    for d in range(1 - len(taps), len(taps)):
        there = (rows + d) % (2 * n)
        np.add.at(matrix, (rows, np.minimum(there, 2 * n - 1 - there)), taps[abs(d)])
    return matrix
