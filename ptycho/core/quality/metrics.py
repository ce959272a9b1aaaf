"""How good an image is: errors and similarity. The correlation by spatial frequency is in `ring_correlation`.

Images are `(H, W)`, the reference comes second. Nothing is aligned, scaled or unwrapped here (`score.score`
does that, and says what it removes). A signal-to-noise ratio or a similarity always states its data range.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, uniform_filter

from ptycho.errors import DataError

__all__ = [
    "MS_SSIM_SMALLEST",
    "check_same_shape",
    "mae",
    "ms_ssim",
    "mse",
    "nrmse",
    "psnr",
    "relative_fourier_error",
    "ssim",
    "wide",
]

Image = NDArray[Any]
Real = NDArray[np.float64]

_K1, _K2 = 0.01, 0.03
_UNIFORM_WINDOW = 7
_GAUSSIAN_SIGMA, _GAUSSIAN_RADIUS = 1.5, 5
_MS_SSIM_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
MS_SSIM_SMALLEST = (2 * _GAUSSIAN_RADIUS + 1) * 2 ** (len(_MS_SSIM_WEIGHTS) - 1)
"""Least side of an image for `ms_ssim`, pixels: on the smallest scale the window still fits."""


def mae(a: Image, b: Image) -> float:
    """Mean of `|a - b|`; complex images give the mean modulus of the difference."""
    check_same_shape(a, b)
    return float(np.mean(np.abs(wide(a) - wide(b))))


def mse(a: Image, b: Image) -> float:
    """Mean of `|a - b|^2`."""
    check_same_shape(a, b)
    return float(np.mean(np.abs(wide(a) - wide(b)) ** 2))


def nrmse(a: Image, b: Image) -> float:
    """Relative error `||a - b|| / ||b||` of real or complex images; b must not be zero everywhere."""
    check_same_shape(a, b)
    norm = np.linalg.norm(wide(b))
    if not norm > 0:
        raise DataError(
            "nrmse: expected a reference that is not zero everywhere, found zeros; is it the second argument?"
        )
    return float(np.linalg.norm(wide(a) - wide(b)) / norm)


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
    check_same_shape(a, b)
    if min(a.shape) < MS_SSIM_SMALLEST:
        found = f"expected at least {MS_SSIM_SMALLEST} pixels each way, found {a.shape}"
        raise DataError(f"ms_ssim: {found}; use ssim for less")
    result = 1.0
    for scale, weight in enumerate(_MS_SSIM_WEIGHTS):
        if scale:
            a, b = _halve(a), _halve(b)
        luminance, structure = _ssim_maps(a, b, data_range, "gaussian")
        last = scale == len(_MS_SSIM_WEIGHTS) - 1
        result *= max(0.0, float(np.mean(luminance * structure if last else structure))) ** weight
    return result


def relative_fourier_error(predicted: Image, measured: Image, mask: Image | None = None) -> float:
    """Misfit of diffraction amplitudes, `sum (|F| - A)^2 / sum A^2`.

    `predicted` |F| and `measured` A are amplitudes of one shape `(..., N, N)` and one unit. `mask` is bool,
    True where valid, and broadcasts against them.
    """
    check_same_shape(predicted, measured)
    valid = np.ones(1, bool) if mask is None else mask
    energy = np.sum(wide(measured) ** 2, where=valid)
    if not energy > 0:
        raise DataError(
            "relative_fourier_error: expected measured light, found none where the mask is True; check both"
        )
    return float(np.sum((wide(predicted) - wide(measured)) ** 2, where=valid) / energy)


def _ssim_maps(a: Image, b: Image, data_range: float, window: Literal["uniform", "gaussian"]) -> tuple[Real, Real]:
    """Luminance and contrast-structure terms where the window lies inside the image."""
    check_same_shape(a, b)
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

    first, second = wide(a), wide(b)
    mean_a, mean_b = mean(first), mean(second)
    spread = correction * (mean(first**2) - mean_a**2 + mean(second**2) - mean_b**2)
    covariance = correction * (mean(first * second) - mean_a * mean_b)
    c1, c2 = (_K1 * data_range) ** 2, (_K2 * data_range) ** 2
    luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    return luminance, (2 * covariance + c2) / (spread + c2)


def _halve(image: Image) -> Real:
    """Means of 2 x 2 pixels; an odd last row or column is dropped."""
    height, width = (n // 2 for n in image.shape)
    return wide(image)[: 2 * height, : 2 * width].reshape(height, 2, width, 2).mean(axis=(1, 3))


def wide(image: Image) -> NDArray[Any]:
    """The image in double precision, real or complex."""
    return image.astype(np.complex128 if np.iscomplexobj(image) else np.float64, copy=False)


def check_same_shape(a: Image, b: Image) -> None:
    """Raise DataError unless two images have one shape."""
    if a.shape != b.shape:
        raise DataError(f"images: expected one shape, found {a.shape} and {b.shape}; cut them to the same region")


def _check_range(data_range: float) -> None:
    if not data_range > 0:
        raise DataError(
            f"data_range: expected a positive number, found {data_range}; max - min of the reference is usual"
        )
