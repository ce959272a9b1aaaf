"""Bringing a reconstruction onto its truth: global phase, phase plane, shift and scale in one joint fit.

`registration` has the steps that the fit starts from, and says why they are free. Pairs are ordered (y, x).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.fft import fft2, ifft2, next_fast_len

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
"""Of a step, pixels and cycles over the region: a shorter one is not taken."""
_LAST = 3e-4
"""The same: after such a step one more would be shorter ten times and more."""
_BLOCK = 1 << 14
"""Pixels whose changes are held at once: a larger working set leaves the cache."""
_ALIKE = 1e-7
"""Correlation that is lost by a step where no further one gains: its direction is good to that, not to rounding."""
_NEAR = 0.25
"""So near to where another start has led, the same units, a start leads there as well."""


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

    The plane starts at the peak of its correlation, the shift at that of the cross-correlation and at 0; damped Newton
    steps refine both with the complex factor c projected out, and the best correlation wins. What surrounds the region
    is faded out before it is shifted, so that image edges do not wrap into it.

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
    tried: list[_Found] = []
    for start in fit.starts():
        tried.append(_climb(fit, start, tried))
    parameters, correlation, image = max(tried, key=lambda found: found.correlation)
    factor = fit.factor(image)
    dy, dx, ky, kx = (float(value) for value in parameters)
    return Alignment(factor * image, fit.truth[0], cut, offset, (dy, dx), (ky, kx), factor, correlation)


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


class _Found(NamedTuple):
    """Where a climb ends: (dy, dx, ky, kx), the correlation there, and the region."""

    parameters: Real
    correlation: float
    image: Complex


@dataclass(frozen=True)
class _Margined:
    """A region and its margin, faded out; zeros follow, up to a size whose transform is fast."""

    image: Complex
    inner: tuple[slice, slice]
    """Where the region lies in `image`."""
    fades: tuple[Real, Real]
    """Along y and x: 1 in the region, falling to 0 through the margin."""

    @classmethod
    def of(cls, whole: Complex, cut: Region, offset: tuple[int, int]) -> _Margined:
        outer, inner, fades, beyond = [], [], [], []
        for low, high, start, size in zip(cut[::2], cut[1::2], offset, whole.shape, strict=True):
            first, last = max(0, low - start - _MARGIN), min(size, high - start + _MARGIN)
            outer.append(slice(first, last))
            inner.append(slice(low - start - first, high - start - first))
            beyond.append((0, next_fast_len(last - first) - (last - first)))
            fades.append(np.pad(_fade(last - first, inner[-1]), beyond[-1]))
        image = np.pad(whole[outer[0], outer[1]], beyond)
        return cls(image, (inner[0], inner[1]), (fades[0][:, None], fades[1]))

    def by_shift(self) -> tuple[Image, Image]:
        """What the spectrum is multiplied with for its derivatives by dy and dx, broadcasting."""
        fy, fx = (np.fft.fftfreq(n) for n in self.image.shape)
        return -2j * np.pi * fy[:, None], -2j * np.pi * fx

    def levelled(self, ky: float, kx: float) -> Complex:
        """The image without a plane about the middle of the region."""
        along = (
            np.exp(-2j * np.pi * slope * (np.arange(n) - (part.start + part.stop) / 2))
            for slope, n, part in zip((ky, kx), self.image.shape, self.inner, strict=True)
        )
        level = self.image * next(along)[:, None]
        level *= next(along)
        return level

    def moved(self, parameters: Real) -> _Moved:
        """The region after plane and shift."""
        dy, dx, ky, kx = parameters
        level, (by_y, by_x) = self.levelled(ky, kx), self.by_shift()
        mean = complex(level[self.inner].mean())  # with it, the fade would be the strongest edge
        level -= mean
        for fade in self.fades:
            level *= fade
        spectrum = np.asarray(fft2(level, overwrite_x=True))
        spectrum *= np.exp(by_y * dy)
        spectrum *= np.exp(by_x * dx)
        return _Moved(np.asarray(ifft2(spectrum))[self.inner] + mean, spectrum)

    def with_slopes(self, moved: _Moved) -> _Slopes:
        """The moved region and its derivatives by dy and dx."""
        y, x = (np.asarray(ifft2(moved.spectrum * turn, overwrite_x=True))[self.inner] for turn in self.by_shift())
        return moved.region, y, x


_Slopes = tuple[Complex, Complex, Complex]


@dataclass(frozen=True)
class _Moved:
    """A region after plane and shift, and the spectrum of it and its margin without the mean."""

    region: Complex
    spectrum: Complex


@dataclass(frozen=True)
class _Fit:
    """The least-squares problem of `align`, in (dy, dx, ky, kx): pixels and cycles per pixel."""

    source: _Margined
    """The reconstruction."""
    truth: _Slopes
    """The region of the truth, and its own derivatives by a shift."""

    @classmethod
    def around(cls, reconstruction: Complex, truth: Complex, cut: Region, offset: tuple[int, int]) -> _Fit:
        source, target = _Margined.of(reconstruction, cut, offset), _Margined.of(truth, cut, (0, 0))
        found = target.with_slopes(target.moved(np.zeros(4)))
        if not target.image[target.inner].any() or not source.image[source.inner].any():
            raise DataError(f"align: expected an object in region {cut}, found only zeros; move it")
        seen = np.ascontiguousarray(target.image[target.inner])
        return cls(source, (seen, *found[1:]))

    @property
    def unit(self) -> Real:
        """Pixels, and cycles over the region: the units in which steps of all four are of one size."""
        return np.array([1.0, 1.0, *(1.0 / (n - 1) for n in self.truth[0].shape)])

    def apply(self, parameters: Real) -> Complex:
        """The region of the image after plane and shift."""
        return self.source.moved(parameters).region

    def normal(self, moved: _Moved) -> tuple[Real, Real, Real]:
        """Curvature (6, 6), its diagonal by Gauss and Newton, and the pull (6,) on a factor and the four parameters.

        The curvature is that of changes of the image along those of the truth. Noise that the two do not share is no
        part of it; by changes of the image alone it is, and steps become as much shorter.
        """
        found, factor = self.source.with_slopes(moved), self.factor(moved.region)
        height, width = moved.region.shape
        normal, diagonal, pull = np.zeros((6, 6)), np.zeros(6), np.zeros(6)
        size = max(1, _BLOCK // width)
        for rows in (slice(start, start + size) for start in range(0, height, size)):
            complex_changes = factor * self._changes(found, rows)
            residual = (self.truth[0][rows] - complex_changes[0]).ravel().view(np.float64)
            changes, own = (
                each.reshape(6, -1).view(np.float64) for each in (complex_changes, self._changes(self.truth, rows))
            )
            # not as products of matrices: BLAS divides blocks among threads, which wait longer than they work
            normal += np.einsum("ik,jk->ij", changes, own)
            diagonal += np.einsum("ik,ik->i", changes, changes)
            pull += np.einsum("ik,k->i", changes, residual)
        return (normal + normal.T) / 2, diagonal, pull

    def _changes(self, parts: _Slopes, rows: slice) -> Complex:
        """How some rows change (6, h, W), in units.

        With the real and the imaginary part of a factor, and with the four parameters up to multiples of the second.
        """
        region = parts[0][rows]
        found = np.empty((6, *region.shape), np.complex128)
        found[0], found[1], found[2], found[3] = region, 1j * region, parts[1][rows], parts[2][rows]
        y, x = (-2j * np.pi * np.linspace(-0.5, 0.5, n) for n in parts[0].shape)
        found[4], found[5] = y[rows, None] * region, x * region
        return found

    def factor(self, moved: Complex) -> complex:
        """The complex factor of least squares."""
        return complex(np.vdot(moved, self.truth[0]) / np.vdot(moved, moved).real)

    def correlation(self, moved: Complex) -> float:
        truth = self.truth[0]
        return float(np.abs(np.vdot(truth, moved)) / (np.linalg.norm(truth) * np.linalg.norm(moved)))

    def starts(self) -> Iterator[Real]:
        """The best plane at the shift of the cross-correlation and unshifted, and no plane at all."""
        truth = self.truth[0]
        _, ky, kx = fit_plane(self.source.image[self.source.inner], truth)
        level = self.source.levelled(ky, kx)[self.source.inner]
        dy, dx = register_subpixel(level - level.mean(), truth - truth.mean(), upsample=10)
        if max(abs(dy), abs(dx)) <= _MARGIN / 4:  # further away it is a matter for `find_offset`
            yield np.array([dy, dx, ky, kx])
        yield np.array([0.0, 0.0, ky, kx])
        yield np.zeros(4)


def _climb(fit: _Fit, start: Real, known: Sequence[_Found]) -> _Found:
    """Damped Newton steps from a start, or what is known already where they come near it."""
    parameters, damping, unit = start, 1e-3, fit.unit

    def apart(candidate: Real, others: Real) -> float:
        return float(np.max(np.abs((candidate - others) / unit)))

    def near(candidate: Real) -> _Found | None:
        return next((found for found in known if apart(candidate, found.parameters) < _NEAR), None)

    there = near(start)
    if there is not None:
        return there
    moved = fit.source.moved(start)
    best = fit.correlation(moved.region)
    for _ in range(_ITERATIONS):
        normal, diagonal, pull = fit.normal(moved)
        held = np.diag(diagonal) + 1e-12 * diagonal.max() * np.eye(6)
        while damping < 1e6:
            step = np.clip(np.linalg.solve(normal + damping * held, pull)[2:], -0.75, 0.75)
            candidate = parameters + step * unit
            candidate[:2] = np.clip(candidate[:2], start[:2] - _REACH, start[:2] + _REACH)
            size = apart(candidate, parameters)
            if size < _TOLERANCE:
                return _Found(parameters, best, moved.region)
            there = near(candidate)
            if there is not None:
                return there
            further = fit.source.moved(candidate)
            reached = fit.correlation(further.region)
            if reached >= best:
                break
            if best - reached < _ALIKE:
                return _Found(parameters, best, moved.region)
            damping *= 5
        else:
            break
        if size < _LAST:
            return _Found(candidate, reached, further.region)
        parameters, moved, best, damping = candidate, further, reached, max(damping / 5, 1e-9)
    return _Found(parameters, best, moved.region)


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
