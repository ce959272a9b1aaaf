"""How good an image is: errors, similarity and Fourier ring correlation.

Images are `(H, W)`, the reference comes second. Nothing is aligned, scaled or unwrapped here (`score.score`
does that, and says what it removes). A signal-to-noise ratio or a similarity always states its data range.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, uniform_filter

from ptycho.errors import DataError

__all__ = [
    "FrcCurve",
    "frc",
    "mae",
    "ms_ssim",
    "mse",
    "nrmse",
    "psnr",
    "relative_fourier_error",
    "ssim",
]

Image = NDArray[Any]
Real = NDArray[np.float64]

_K1, _K2 = 0.01, 0.03
_UNIFORM_WINDOW = 7
_GAUSSIAN_SIGMA, _GAUSSIAN_RADIUS = 1.5, 5
_MS_SSIM_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)


def mae(a: Image, b: Image) -> float:
    """Mean of `|a - b|`; complex images give the mean modulus of the difference."""
    _check_same_shape(a, b)
    return float(np.mean(np.abs(_wide(a) - _wide(b))))


def mse(a: Image, b: Image) -> float:
    """Mean of `|a - b|^2`."""
    _check_same_shape(a, b)
    return float(np.mean(np.abs(_wide(a) - _wide(b)) ** 2))


def nrmse(a: Image, b: Image) -> float:
    """Relative error `||a - b|| / ||b||` of real or complex images; b must not be zero everywhere."""
    _check_same_shape(a, b)
    norm = np.linalg.norm(_wide(b))
    if not norm > 0:
        raise DataError(
            "nrmse: expected a reference that is not zero everywhere, found zeros; is it the second argument?"
        )
    return float(np.linalg.norm(_wide(a) - _wide(b)) / norm)


def psnr(a: Image, b: Image, data_range: float) -> float:
    """Peak signal-to-noise ratio `10 log10(data_range^2 / mse)` in dB; infinite for equal images.

    `data_range` is in the unit of the images, usually `max(b) - min(b)`; there is no default because a wrong
    one moves the result by any amount.
    """
    _check_range(data_range)
    error = mse(a, b)
    return math.inf if error == 0 else 10 * math.log10(data_range**2 / error)


def ssim(a: Image, b: Image, data_range: float, window: Literal["uniform", "gaussian"] = "uniform") -> float:
    """Mean structural similarity of two real images.

    `(2 m_a m_b + C1)(2 s_ab + C2) / ((m_a^2 + m_b^2 + C1)(s_a^2 + s_b^2 + C2))` with C1 = (0.01 R)^2,
    C2 = (0.03 R)^2, R the data range; the mean over the pixels whose window lies inside the image.

    Args:
        a: real (H, W), at least 7 (uniform) or 11 (gaussian) pixels a side.
        b: the same shape.
        data_range: R, in the unit of the images.
        window: 'uniform', 7 x 7 pixels and sample covariance (n - 1); or 'gaussian', sigma 1.5 pixels within
            11 x 11 and population covariance, as in the paper.

    Raises:
        DataError: unequal, complex or too small images, or a range that is not positive.

    Source: Z. Wang, A. C. Bovik, H. R. Sheikh, E. P. Simoncelli, IEEE Trans. Image Process. 13, 600 (2004).
    """
    luminance, structure = _ssim_maps(a, b, data_range, window)
    return float(np.mean(luminance * structure))


def ms_ssim(a: Image, b: Image, data_range: float) -> float:
    """Multi-scale structural similarity: five scales, each the means of 2 x 2 pixels of the one before.

    `prod_j mean(structure_j)^w_j`, the last scale with its luminance, Gaussian window as in `ssim`, w =
    0.0448, 0.2856, 0.3001, 0.2363, 0.1333; a negative mean counts as 0. Images are real, at least 176 pixels
    a side.

    Source: Z. Wang, E. P. Simoncelli and A. C. Bovik, Asilomar Conf. Signals Syst. Comput. 2, 1398 (2003).
    """
    _check_same_shape(a, b)
    smallest = (2 * _GAUSSIAN_RADIUS + 1) * 2 ** (len(_MS_SSIM_WEIGHTS) - 1)
    if min(a.shape) < smallest:
        raise DataError(f"ms_ssim: expected at least {smallest} pixels each way, found {a.shape}; use ssim for less")
    result = 1.0
    for scale, weight in enumerate(_MS_SSIM_WEIGHTS):
        if scale:
            a, b = _halve(a), _halve(b)
        luminance, structure = _ssim_maps(a, b, data_range, "gaussian")
        last = scale == len(_MS_SSIM_WEIGHTS) - 1
        result *= max(0.0, float(np.mean(luminance * structure if last else structure))) ** weight
    return result


@dataclass(frozen=True)
class FrcCurve:
    """Fourier ring correlation: how well two images agree, by spatial frequency."""

    frequency: Real
    """(rings,) cycles per pixel, from 0 to 0.5 (Nyquist)."""
    correlation: Real
    """(rings,) in [-1, 1]; 0 where a ring holds no energy."""
    n: NDArray[np.intp]
    """(rings,) number of Fourier pixels in the ring."""

    def one_bit(self) -> Real:
        """One-bit information threshold of each ring, `(0.5 + 2.4142/sqrt(n)) / (1.5 + 1.4142/sqrt(n))`.

        Source: M. van Heel and M. Schatz, J. Struct. Biol. 151, 250 (2005).
        """
        root = np.sqrt(self.n)
        return (0.5 + (1 + math.sqrt(2)) / root) / (1.5 + math.sqrt(2) / root)

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


def frc(a: Image, b: Image) -> FrcCurve:
    """Fourier ring correlation, `Re sum F_a conj(F_b) / sqrt(sum |F_a|^2 sum |F_b|^2)` ring by ring.

    Real or complex images of one shape, rings one Fourier pixel wide. The mean is removed and a Hann window
    taken first, against the edges. Two independent reconstructions give their common resolution, a
    reconstruction and its truth that of the reconstruction (there the one-bit threshold, made for two noisy
    halves, is on the safe side).
    """
    _check_same_shape(a, b)
    window = np.hanning(a.shape[0])[:, None] * np.hanning(a.shape[1])[None, :]
    spectrum_a, spectrum_b = (np.fft.fft2((_wide(image) - np.mean(image)) * window) for image in (a, b))
    side = min(a.shape)
    radius = np.hypot(np.fft.fftfreq(a.shape[0])[:, None], np.fft.fftfreq(a.shape[1])[None, :])
    ring, rings = np.rint(radius * side).astype(np.intp).ravel(), side // 2 + 1

    def summed(values: Image) -> Real:
        return np.bincount(ring, values.ravel())[:rings].astype(np.float64)

    energy = summed(np.abs(spectrum_a) ** 2) * summed(np.abs(spectrum_b) ** 2)
    common = summed((spectrum_a * np.conj(spectrum_b)).real)
    correlation = np.divide(common, np.sqrt(energy), out=np.zeros(rings), where=energy > 0)
    return FrcCurve(np.arange(rings) / side, correlation, np.bincount(ring)[:rings])


def relative_fourier_error(predicted: Image, measured: Image, mask: Image | None = None) -> float:
    """Misfit of diffraction amplitudes, `sum (|F| - A)^2 / sum A^2`.

    `predicted` |F| and `measured` A are amplitudes of one shape `(..., N, N)` and one unit. `mask` is bool,
    True where valid, and broadcasts against them.
    """
    _check_same_shape(predicted, measured)
    valid = np.ones(1, bool) if mask is None else mask
    energy = np.sum(_wide(measured) ** 2, where=valid)
    if not energy > 0:
        raise DataError(
            "relative_fourier_error: expected measured light, found none where the mask is True; check both"
        )
    return float(np.sum((_wide(predicted) - _wide(measured)) ** 2, where=valid) / energy)


def _ssim_maps(a: Image, b: Image, data_range: float, window: Literal["uniform", "gaussian"]) -> tuple[Real, Real]:
    """Luminance and contrast-structure terms where the window lies inside the image."""
    _check_same_shape(a, b)
    _check_range(data_range)
    if window == "uniform":
        radius, correction = _UNIFORM_WINDOW // 2, _UNIFORM_WINDOW**2 / (_UNIFORM_WINDOW**2 - 1)
    else:
        radius, correction = _GAUSSIAN_RADIUS, 1.0
    if min(a.shape) < 2 * radius + 1 or np.iscomplexobj(a) or np.iscomplexobj(b):
        found = f"{a.dtype} and {b.dtype}, {a.shape}"
        raise DataError(f"ssim: expected real images, {2 * radius + 1} pixels a side or more, found {found}")

    def mean(image: Real) -> Real:
        if window == "uniform":
            blurred = uniform_filter(image, _UNIFORM_WINDOW)
        else:
            blurred = gaussian_filter(image, _GAUSSIAN_SIGMA, radius=_GAUSSIAN_RADIUS)
        return blurred[radius:-radius, radius:-radius]

    first, second = _wide(a), _wide(b)
    mean_a, mean_b = mean(first), mean(second)
    spread = correction * (mean(first**2) - mean_a**2 + mean(second**2) - mean_b**2)
    covariance = correction * (mean(first * second) - mean_a * mean_b)
    c1, c2 = (_K1 * data_range) ** 2, (_K2 * data_range) ** 2
    luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    return luminance, (2 * covariance + c2) / (spread + c2)


def _halve(image: Image) -> Real:
    """Means of 2 x 2 pixels; an odd last row or column is dropped."""
    height, width = (n // 2 for n in image.shape)
    return _wide(image)[: 2 * height, : 2 * width].reshape(height, 2, width, 2).mean(axis=(1, 3))


def _wide(image: Image) -> NDArray[Any]:
    """The image in double precision, real or complex."""
    return image.astype(np.complex128 if np.iscomplexobj(image) else np.float64, copy=False)


def _check_same_shape(a: Image, b: Image) -> None:
    if a.shape != b.shape:
        raise DataError(f"images: expected one shape, found {a.shape} and {b.shape}; cut them to the same region")


def _check_range(data_range: float) -> None:
    if not data_range > 0:
        raise DataError(
            f"data_range: expected a positive number, found {data_range}; max - min of the reference is usual"
        )
