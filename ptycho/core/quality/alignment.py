"""Bringing a reconstruction onto its truth: global phase, phase plane, shift and scale in one joint fit.

`registration` has the steps that the fit starts from, and says why they are free. Pairs are ordered (y, x).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.core.quality.registration import (
    Region,
    checked_region,
    find_offset,
    fit_plane,
    register_subpixel,
    remove_plane,
)
from ptycho.core.result import ByValue
from ptycho.errors import DataError

__all__ = ["Alignment", "align", "rough_correlation"]

Image = NDArray[Any]
Complex = NDArray[np.complex128]
Real = NDArray[np.float64]

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


@dataclass(frozen=True, eq=False)
class Alignment(ByValue):
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
    cut = _common_region(reconstruction.shape, checked_region(region, truth.shape), offset)
    fit = _Fit.around(reconstruction.astype(np.complex128), truth.astype(np.complex128), cut, offset)
    parameters, correlation = max((_climb(fit, start) for start in fit.starts()), key=lambda found: found[1])
    image = fit.apply(parameters)
    factor = complex(np.vdot(image, fit.truth) / np.vdot(image, image).real)
    dy, dx, ky, kx = (float(value) for value in parameters)
    return Alignment(factor * image, fit.truth, cut, offset, (dy, dx), (ky, kx), factor, correlation)


def rough_correlation(reconstruction: Image, truth: Image, region: Region | None = None) -> float:
    """Likeness |<T, R>| / (|T| |R|) after a search for the place in whole pixels and a phase plane: quick, for ranking.

    Arguments and errors are those of `align`; no sub-pixel shift is fitted.
    """
    offset = find_offset(reconstruction, truth, region)
    y0, y1, x0, x1 = _common_region(reconstruction.shape, checked_region(region, truth.shape), offset)
    row, col = offset
    image = reconstruction[y0 - row : y1 - row, x0 - col : x1 - col].astype(np.complex128)
    seen = truth[y0:y1, x0:x1].astype(np.complex128)
    level = remove_plane(image, seen)
    norms = np.linalg.norm(seen) * np.linalg.norm(image)
    return float(np.abs(np.vdot(seen, level)) / norms) if norms > 0 else 0.0


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
            candidate = parameters + step * unit
            candidate[:2] = np.clip(candidate[:2], start[:2] - _REACH, start[:2] + _REACH)
            reached = fit.correlation(fit.apply(candidate))
            if reached >= best:
                break
            damping *= 5
        else:
            break
        moved_by = np.max(np.abs((candidate - parameters) / unit))
        parameters, best, damping = candidate, reached, max(damping / 5, 1e-9)
        if moved_by < _TOLERANCE:
            break
    return parameters, best


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
