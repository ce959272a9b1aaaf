"""Taking out what diffraction cannot know, one at a time: global phase, phase plane, shift.

An object times `exp(i (phi + 2 pi k.r))`, or moved by any d, explains the data as well when the probe moves
along. These freedoms are removed before an object is compared with a truth (all at once: `alignment.align`).
Pairs are ordered (y, x).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.fft import next_fast_len

from ptycho.core.physics.diffraction import fourier_shift
from ptycho.core.quality.arithmetic import IN_NUMPY, Arithmetic, Pixels
from ptycho.errors import ConfigError, DataError

__all__ = [
    "Region",
    "align_global_phase",
    "checked_region",
    "find_offset",
    "fit_plane",
    "plane_of",
    "register_subpixel",
    "remove_plane",
    "shift_subpixel",
]

Image = NDArray[Any]
Complex = NDArray[np.complex128]
Region = tuple[int, int, int, int]


def align_global_phase(reconstruction: Image, truth: Image, weight: Image | None = None) -> Image:
    """Return `R exp(-i phi)` with `phi = arg sum w R conj(T)`, the constant phase of least squares.

    Args:
        reconstruction: complex (H, W).
        truth: complex (H, W).
        weight: real (H, W), at least 0; None weighs all pixels alike.

    Raises:
        DataError: unequal shapes.
    """
    phase = np.angle(_product(reconstruction, truth, weight).sum())
    return reconstruction * np.exp(-1j * phase).astype(reconstruction.dtype)


def fit_plane(reconstruction: Image, truth: Image, weight: Image | None = None) -> tuple[float, float, float]:
    """Fit the phase plane between two objects, jointly with the global phase and without unwrapping.

    Maximises `|sum w R conj(T) exp(-2 pi i (ky y + kx x))|` over all planes, first on the Fourier grid of the
    doubled image and then between its points. y and x count from the first pixel. Arguments as in
    `align_global_phase`.

    Returns:
        (phase, ky, kx): radians at the first pixel, and the slopes in cycles per pixel.
    """
    product = _product(reconstruction, truth, weight)
    ky, kx = plane_of(product, upsample=100_000)
    y, x = (np.arange(n) for n in product.shape)
    total = np.exp(-2j * np.pi * ky * y) @ product @ np.exp(-2j * np.pi * kx * x)
    return float(np.angle(total)), ky, kx


def plane_of(product: Pixels, upsample: int, arithmetic: Arithmetic = IN_NUMPY) -> tuple[float, float]:
    """The slopes (ky, kx) of `fit_plane`, cycles per pixel.

    Args:
        product: `w R conj(T)`, complex (H, W).
        upsample: points in which they are sought between two of the Fourier grid of the doubled image.
        arithmetic: where the product is worked on.
    """
    y, x = (np.arange(n) for n in product.shape)
    height, width = (next_fast_len(2 * n) for n in product.shape)
    start = _signed_peak(abs(arithmetic.fft2(product, (height, width))), (height // 2, width // 2), arithmetic)
    row, col = _refine_peak(product, -y / height, -x / width, start, upsample, arithmetic)
    return row / height, col / width


def remove_plane(reconstruction: Image, truth: Image, weight: Image | None = None) -> Image:
    """Return the reconstruction without the phase plane and the global phase of `fit_plane`."""
    phase, ky, kx = fit_plane(reconstruction, truth, weight)
    y, x = (np.arange(n) for n in reconstruction.shape)
    plane = phase + 2 * np.pi * (ky * y[:, None] + kx * x[None, :])
    return reconstruction * np.exp(-1j * plane).astype(reconstruction.dtype)


def register_subpixel(
    image: Pixels, reference: Pixels, upsample: int = 100, arithmetic: Arithmetic = IN_NUMPY
) -> tuple[float, float]:
    """Find the shift that brings `image` onto `reference`, to 1/`upsample` pixel.

    The peak of the circular cross-correlation `|sum_k conj(F_image) F_reference exp(2 pi i k.s)|` is found on
    whole pixels by an FFT and then refined by matrix products that evaluate it on a finer grid around the
    peak only.

    Args:
        image: real or complex (H, W).
        reference: real or complex (H, W); a constant complex factor between the two does not matter.
        upsample: grid points per pixel at the end; 1 stops at whole pixels.
        arithmetic: where both are worked on.

    Returns:
        (dy, dx) in pixels: `shift_subpixel(image, dy, dx)` lies on `reference`.

    Raises:
        DataError: unequal shapes.
        ConfigError: `upsample` below 1.

    Source: M. Guizar-Sicairos, S. T. Thurman and J. R. Fienup, Opt. Lett. 33, 156 (2008).
    """
    if upsample < 1:
        raise ConfigError(f"upsample: expected at least 1 point per pixel, found {upsample}; 100 is usual")
    _check_same_shape(image, reference)
    cross = arithmetic.fft2(reference) * arithmetic.fft2(image).conj()
    height, width = cross.shape
    start = _signed_peak(abs(arithmetic.ifft2(cross)), (height // 2, width // 2), arithmetic)
    return _refine_peak(cross, np.fft.fftfreq(height), np.fft.fftfreq(width), start, upsample, arithmetic)


def shift_subpixel(image: Image, dy: float, dx: float) -> Image:
    """Move the content of an image by `(+dy, +dx)` pixels, periodic and band limited; real stays real."""
    moved = fourier_shift(image, dx, dy)
    return moved if np.iscomplexobj(image) else moved.real


def find_offset(reconstruction: Image, truth: Image, region: Region | None = None) -> tuple[int, int]:
    """Find where in `truth` the first pixel of `reconstruction` belongs, in whole pixels.

    What the truth shows in the region is looked for in the reconstruction, by normalised correlation of the
    products of neighbours `f(r) conj f(r + 1)` along y and along x: a phase plane only multiplies these by a
    constant. The norm is that of the reconstruction under the region, so that its wild borders, where no
    light fell, do not attract.

    Args:
        reconstruction: complex (h, w).
        truth: complex (H, W).
        region: (y0, y1, x0, x1) of the truth, half open; None is all of it.

    Returns:
        (row, column) of the truth, negative where the reconstruction begins before it; (0, 0) when it is flat.

    Raises:
        DataError: a region that is not inside the truth.
    """
    y0, y1, x0, x1 = checked_region(region, truth.shape)
    sought = truth[y0:y1, x0:x1]
    padded = tuple(next_fast_len(a + b) for a, b in zip(reconstruction.shape, sought.shape, strict=True))
    score = np.zeros(padded)
    for axis in (0, 1):
        ours, theirs = _neighbour_products(reconstruction, axis), _neighbour_products(sought, axis)
        ours -= np.median(ours.real) + 1j * np.median(ours.imag)
        theirs -= theirs.mean()
        template, footprint = (np.conj(np.fft.fft2(f, padded)) for f in (theirs, np.ones(theirs.shape)))
        energy = np.fft.ifft2(np.fft.fft2(np.abs(ours) ** 2, padded) * footprint).real
        energy = np.maximum(energy, 1e-9 * energy.max())  # less is rounding
        if energy.max() > 0:
            score += np.abs(np.fft.ifft2(np.fft.fft2(ours, padded) * template)) / np.sqrt(energy)
    if not score.any():
        return 0, 0
    row, col = _signed_peak(score, (sought.shape[0] - 1, sought.shape[1] - 1), IN_NUMPY)
    return y0 - row, x0 - col


def checked_region(region: Region | None, shape: tuple[int, ...]) -> Region:
    """The region (y0, y1, x0, x1), or all of an image of this shape for None; DataError unless it lies inside."""
    y0, y1, x0, x1 = region if region is not None else (0, shape[0], 0, shape[1])
    if not (0 <= y0 < y1 <= shape[0] and 0 <= x0 < x1 <= shape[1]):
        raise DataError(f"region: expected (y0, y1, x0, x1) inside {shape}, found {region}; correct it")
    return y0, y1, x0, x1


def _neighbour_products(image: Image, axis: int) -> Complex:
    lines = np.moveaxis(image, axis, 0)
    return np.moveaxis((lines[:-1] * np.conj(lines[1:])).astype(np.complex128), 0, axis)


def _signed_peak(values: Pixels, negative: tuple[int, int], arithmetic: Arithmetic) -> tuple[int, int]:
    """Index of the largest value of a periodic array; the last `negative` rows and columns lie below 0."""
    height, width = values.shape
    row, col = divmod(int(arithmetic.numpy(values.argmax())), width)
    return row - height * (row >= height - negative[0]), col - width * (col >= width - negative[1])


def _refine_peak(
    samples: Pixels, row_rates: Image, col_rates: Image, start: tuple[int, int], upsample: int, arithmetic: Arithmetic
) -> tuple[float, float]:
    """Maximise `|sum samples exp(2 pi i (row_rate s + col_rate t))|` over (s, t) near `start`.

    Round by round, each looking at most ten times closer, until the grid has `upsample` points per unit: two
    matrix products give the sum on 1.5 old spacings around the peak.
    """
    rounds = math.ceil(math.log10(upsample))
    s, t = float(start[0]), float(start[1])
    for spacing in (upsample ** (-k / rounds) for k in range(1, rounds + 1)):
        reach = math.ceil(1.5 * upsample ** (1 / rounds))
        grid = spacing * np.arange(-reach, reach + 1)
        left = arithmetic.held(np.exp(2j * np.pi * np.outer(s + grid, row_rates)))
        right = arithmetic.held(np.exp(2j * np.pi * np.outer(col_rates, t + grid)))
        values = arithmetic.numpy(abs(left @ samples @ right))
        if values.max() > values[reach, reach]:  # a flat image has no peak to move to
            row, col = np.unravel_index(int(np.argmax(values)), values.shape)
            s, t = s + float(grid[row]), t + float(grid[col])
    return s, t


def _check_same_shape(first: Pixels, second: Pixels) -> None:
    if first.shape != second.shape or first.ndim != 2:
        found = f"{first.shape} and {second.shape}"
        raise DataError(f"images: expected one shape (H, W), found {found}; cut them to the same region")


def _product(reconstruction: Image, truth: Image, weight: Image | None) -> Complex:
    _check_same_shape(reconstruction, truth)
    product = reconstruction.astype(np.complex128) * np.conj(truth)
    if weight is None:
        return product
    _check_same_shape(weight, truth)
    return product * weight
