"""Taking out what a diffraction experiment cannot know: global phase, phase plane, shift; and the scale.

An object times `exp(i (phi + 2 pi k.r))`, or moved by any d, explains the data as well when the probe moves
along. These freedoms are removed before an object is compared with a truth. Pairs are ordered (y, x).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.fft import next_fast_len

from ptycho.core.diffraction import fourier_shift
from ptycho.errors import ConfigError, DataError

__all__ = [
    "Alignment",
    "Region",
    "align",
    "align_global_phase",
    "find_offset",
    "fit_plane",
    "register_subpixel",
    "remove_plane",
    "shift_subpixel",
]

Image = NDArray[Any]
Complex = NDArray[np.complex128]
Real = NDArray[np.float64]
Region = tuple[int, int, int, int]

_MARGIN = 24
"""Pixels around the region that a sub-pixel shift may draw on."""
_UNTAPERED = 4
"""The nearest of them, which are not faded out: the kernel of the shift is strongest there."""
_EDGE = 2
"""Pixels at the border of a reconstruction that are never compared."""
_REACH = 2.0
"""Largest shift that the joint fit adds to its start, pixels: further away it fits chance likenesses."""
_ITERATIONS = 40
_TOLERANCE = 1e-5


@dataclass(frozen=True)
class Alignment:
    """A reconstruction brought onto its truth inside a region, and what had to be taken out for that.

    `image = factor * shift(reconstruction * exp(-2 pi i plane.r))`, cut to the region: the least-squares fit.
    """

    image: Complex
    """The region of the reconstruction after plane, shift and complex factor."""
    truth: Complex
    """The same region of the truth."""
    region: Region
    """(y0, y1, x0, x1), half open, in pixels of the truth."""
    offset: tuple[int, int]
    """(row, column) of the truth where the first pixel of the reconstruction was laid."""
    shift: tuple[float, float]
    """(dy, dx) in pixels, applied on top of the offset."""
    plane: tuple[float, float]
    """(ky, kx) of the phase plane taken out, cycles per pixel."""
    factor: complex
    """Complex factor of least squares: its modulus is the scale, its argument minus the global phase."""
    correlation: float
    """|<truth, image>| / (|truth| |image|), 1 for a perfect reconstruction."""


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
    y, x = (np.arange(n) for n in product.shape)
    height, width = (next_fast_len(2 * n) for n in product.shape)
    start = _signed_peak(np.abs(np.fft.fft2(product, (height, width))), (height // 2, width // 2))
    row, col = _refine_peak(product, -y / height, -x / width, start, upsample=100_000)
    ky, kx = row / height, col / width
    total = np.exp(-2j * np.pi * ky * y) @ product @ np.exp(-2j * np.pi * kx * x)
    return float(np.angle(total)), ky, kx


def remove_plane(reconstruction: Image, truth: Image, weight: Image | None = None) -> Image:
    """Return the reconstruction without the phase plane and the global phase of `fit_plane`."""
    phase, ky, kx = fit_plane(reconstruction, truth, weight)
    y, x = (np.arange(n) for n in reconstruction.shape)
    plane = phase + 2 * np.pi * (ky * y[:, None] + kx * x[None, :])
    return reconstruction * np.exp(-1j * plane).astype(reconstruction.dtype)


def register_subpixel(image: Image, reference: Image, upsample: int = 100) -> tuple[float, float]:
    """Find the shift that brings `image` onto `reference`, to 1/`upsample` pixel.

    The peak of the circular cross-correlation `|sum_k conj(F_image) F_reference exp(2 pi i k.s)|` is found on
    whole pixels by an FFT and then refined by matrix products that evaluate it on a finer grid around the
    peak only.

    Args:
        image: real or complex (H, W).
        reference: real or complex (H, W); a constant complex factor between the two does not matter.
        upsample: grid points per pixel at the end; 1 stops at whole pixels.

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
    cross = np.fft.fft2(reference) * np.conj(np.fft.fft2(image))
    height, width = cross.shape
    start = _signed_peak(np.abs(np.fft.ifft2(cross)), (height // 2, width // 2))
    return _refine_peak(cross, np.fft.fftfreq(height), np.fft.fftfreq(width), start, upsample)


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
    y0, y1, x0, x1 = _checked_region(region, truth.shape)
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
    row, col = _signed_peak(score, (sought.shape[0] - 1, sought.shape[1] - 1))
    return y0 - row, x0 - col


def align(
    reconstruction: Image,
    truth: Image,
    region: Region | None = None,
    offset: tuple[int, int] | None = (0, 0),
) -> Alignment:
    """Take out global phase, phase plane, shift and scale jointly: `min ||c S_d[R exp(-2 pi i k.r)] - T||`.

    The plane starts at the peak of its correlation, the shift at that of the cross-correlation and at 0; a
    damped Gauss-Newton iteration refines both with the complex factor c projected out, and the best
    correlation wins. What surrounds the region is faded out before it is shifted, so that image edges do not
    wrap into it.

    Args:
        reconstruction: complex (h, w).
        truth: complex (H, W).
        region: (y0, y1, x0, x1) of the truth, half open, to compare in; None is all of it. It ends 2 pixels
            inside the reconstruction.
        offset: (row, column) of the truth where the first pixel of the reconstruction lies; the sub-pixel
            shift comes on top. None searches for it (`find_offset`).

    Raises:
        DataError: an image that is not 2-D, not finite or zero in the region, or a region that misses one of
            them.
    """
    for name, image in (("reconstruction", reconstruction), ("truth", truth)):
        if image.ndim != 2 or not np.all(np.isfinite(image)):
            found = f"shape {image.shape} with {np.sum(~np.isfinite(image))} others"
            raise DataError(f"{name}: expected finite values of shape (H, W), found {found}; repair it")
    if offset is None:
        offset = find_offset(reconstruction, truth, region)
    cut = _common_region(reconstruction.shape, _checked_region(region, truth.shape), offset)
    fit = _Fit.around(reconstruction.astype(np.complex128), truth.astype(np.complex128), cut, offset)
    parameters, correlation = max((_climb(fit, start) for start in fit.starts()), key=lambda found: found[1])
    image = fit.apply(parameters)
    factor = complex(np.vdot(image, fit.truth) / np.vdot(image, image).real)
    dy, dx, ky, kx = (float(value) for value in parameters)
    return Alignment(factor * image, fit.truth, cut, offset, (dy, dx), (ky, kx), factor, correlation)


@dataclass(frozen=True)
class _Fit:
    """The least-squares problem of `align`, in (dy, dx, ky, kx): pixels and cycles per pixel."""

    image: Complex
    """The reconstruction in the region and its margin."""
    truth: Complex
    inner: tuple[slice, slice]
    """Where the region lies in `image`."""
    window: Real
    """1 in the region, fading to 0 through the margin."""

    @classmethod
    def around(cls, reconstruction: Complex, truth: Complex, cut: Region, offset: tuple[int, int]) -> _Fit:
        outer, inner, fades = [], [], []
        for low, high, start, size in zip(cut[::2], cut[1::2], offset, reconstruction.shape, strict=True):
            first, last = max(0, low - start - _MARGIN), min(size, high - start + _MARGIN)
            outer.append(slice(first, last))
            inner.append(slice(low - start - first, high - start - first))
            fades.append(_fade(last - first, inner[-1]))
        image, seen = reconstruction[outer[0], outer[1]], truth[cut[0] : cut[1], cut[2] : cut[3]]
        if not seen.any() or not image[inner[0], inner[1]].any():
            raise DataError(f"align: expected an object in region {cut}, found only zeros; move it")
        return cls(image, seen, (inner[0], inner[1]), fades[0][:, None] * fades[1][None, :])

    def axes(self) -> tuple[Real, Real]:
        """Pixel coordinates from the middle of `image`, broadcasting."""
        y, x = (np.arange(n) - n / 2 for n in self.image.shape)
        return y[:, None], x[None, :]

    def spectra(self, parameters: Real) -> tuple[Complex, Complex, Complex, complex]:
        """Spectrum of the levelled, shifted image, its derivatives by dy and dx, and the mean left out."""
        dy, dx, ky, kx = parameters
        (y, x), (fy, fx) = self.axes(), (np.fft.fftfreq(n) for n in self.image.shape)
        level = self.image * np.exp(-2j * np.pi * (ky * y + kx * x))
        mean = complex(level[self.inner].mean())  # with it, the fade would be the strongest edge
        by_y, by_x = -2j * np.pi * fy[:, None], -2j * np.pi * fx[None, :]
        spectrum = np.fft.fft2((level - mean) * self.window) * np.exp(by_y * dy + by_x * dx)
        return spectrum, by_y * spectrum, by_x * spectrum, mean

    def apply(self, parameters: Real) -> Complex:
        """The region of the image after plane and shift."""
        spectrum, _, _, mean = self.spectra(parameters)
        return np.fft.ifft2(spectrum)[self.inner] + mean

    def linearise(self, parameters: Real) -> list[Complex]:
        """`apply` and its derivatives by the four parameters, the latter up to multiples of `1j * apply`."""
        spectrum, *by_shift, mean = self.spectra(parameters)
        moved = np.fft.ifft2(spectrum)[self.inner] + mean
        pixel = (np.broadcast_to(axis, self.image.shape)[self.inner] for axis in self.axes())
        return [
            moved,
            *(np.fft.ifft2(s)[self.inner] for s in by_shift),
            *(-2j * np.pi * r * moved for r in pixel),
        ]

    def correlation(self, moved: Complex) -> float:
        norms = np.linalg.norm(self.truth) * np.linalg.norm(moved)
        return float(np.abs(np.vdot(self.truth, moved)) / norms)

    def starts(self) -> list[Real]:
        """The best plane at the shift of the cross-correlation and unshifted, and no plane at all."""
        _, ky, kx = fit_plane(self.image[self.inner], self.truth)
        level = self.apply(np.array([0.0, 0.0, ky, kx]))
        dy, dx = register_subpixel(level - level.mean(), self.truth - self.truth.mean(), upsample=10)
        starts = [np.array([0.0, 0.0, ky, kx]), np.zeros(4)]
        if max(abs(dy), abs(dx)) <= _MARGIN / 4:  # further away it is a matter for `find_offset`
            starts.append(np.array([dy, dx, ky, kx]))
        return starts


def _climb(fit: _Fit, start: Real) -> tuple[Real, float]:
    """Damped Gauss-Newton from a start; returns the parameters and the correlation reached."""
    parameters, best, damping = start, fit.correlation(fit.apply(start)), 1e-3
    # pixels, and cycles over the image: the units in which steps of all four are of one size
    unit = np.array([1.0, 1.0, 1.0 / fit.image.shape[0], 1.0 / fit.image.shape[1]])
    for _ in range(_ITERATIONS):
        moved, *derivatives = fit.linearise(parameters)
        factor = np.vdot(moved, fit.truth) / np.vdot(moved, moved).real
        columns = [moved, 1j * moved, *(factor * d * u for d, u in zip(derivatives, unit, strict=True))]
        matrix = np.stack([column.ravel() for column in columns])
        normal = (matrix.conj() @ matrix.T).real
        right = (matrix.conj() @ (fit.truth - factor * moved).ravel()).real
        diagonal = np.diag(np.diag(normal)) + 1e-12 * normal.max() * np.eye(6)
        while damping < 1e6:
            step = np.clip(np.linalg.solve(normal + damping * diagonal, right)[2:], -0.75, 0.75)
            trial = parameters + step * unit
            trial[:2] = np.clip(trial[:2], start[:2] - _REACH, start[:2] + _REACH)
            reached = fit.correlation(fit.apply(trial))
            if reached >= best:
                break
            damping *= 5
        else:
            break
        moved_by = np.max(np.abs((trial - parameters) / unit))
        parameters, best, damping = trial, reached, max(damping / 5, 1e-9)
        if moved_by < _TOLERANCE:
            break
    return parameters, best


def _checked_region(region: Region | None, shape: tuple[int, ...]) -> Region:
    y0, y1, x0, x1 = region if region is not None else (0, shape[0], 0, shape[1])
    if not (0 <= y0 < y1 <= shape[0] and 0 <= x0 < x1 <= shape[1]):
        raise DataError(f"region: expected (y0, y1, x0, x1) inside {shape}, found {region}; correct it")
    return y0, y1, x0, x1


def _common_region(shape: tuple[int, ...], region: Region, offset: tuple[int, int]) -> Region:
    """The region, less what the reconstruction does not reach."""
    (row, col), (height, width) = offset, shape
    y0, y1 = max(region[0], row + _EDGE), min(region[1], row + height - _EDGE)
    x0, x1 = max(region[2], col + _EDGE), min(region[3], col + width - _EDGE)
    if y1 - y0 < 2 or x1 - x0 < 2:
        found = f"shape {shape} at offset {offset}"
        raise DataError(f"align: expected an overlap with the region, found {found}; correct the offset")
    return y0, y1, x0, x1


def _fade(size: int, inner: slice) -> Real:
    """1 in `inner` and a few pixels beyond, from there a squared sine to 0 at the ends of the line."""
    pixel = np.arange(size) + 0.5
    low, high = max(0, inner.start - _UNTAPERED), min(size, inner.stop + _UNTAPERED)
    rising = pixel / low if low else np.ones(size)
    falling = (size - pixel) / (size - high) if high < size else np.ones(size)
    return np.sin(np.pi / 2 * np.clip(np.minimum(rising, falling), 0, 1)) ** 2


def _neighbour_products(image: Image, axis: int) -> Complex:
    lines = np.moveaxis(image, axis, 0)
    return np.moveaxis((lines[:-1] * np.conj(lines[1:])).astype(np.complex128), 0, axis)


def _signed_peak(values: Image, negative: tuple[int, int]) -> tuple[int, int]:
    """Index of the largest value of a periodic array; the last `negative` rows and columns lie below 0."""
    row, col = (int(i) for i in np.unravel_index(int(np.argmax(values)), values.shape))
    height, width = values.shape
    return row - height * (row >= height - negative[0]), col - width * (col >= width - negative[1])


def _refine_peak(
    samples: Image, row_rates: Image, col_rates: Image, start: tuple[int, int], upsample: int
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
        left = np.exp(2j * np.pi * np.outer(s + grid, row_rates))
        right = np.exp(2j * np.pi * np.outer(col_rates, t + grid))
        values = np.abs(left @ samples @ right)
        if values.max() > values[reach, reach]:  # a flat image has no peak to move to
            row, col = np.unravel_index(int(np.argmax(values)), values.shape)
            s, t = s + float(grid[row]), t + float(grid[col])
    return s, t


def _check_same_shape(first: Image, second: Image) -> None:
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
