"""Bringing a reconstruction onto its truth: global phase, phase plane, shift and scale in one joint fit.

`registration` has the steps that the fit starts from, and says why they are free. Pairs are ordered (y, x).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.fft import next_fast_len

from ptycho.core.quality.arithmetic import IN_NUMPY, Arithmetic, Pixels
from ptycho.core.quality.registration import (
    Region,
    checked_region,
    find_offset,
    plane_of,
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
_PLANES, _SHIFTS = 100, 10
"""Points between two of the grid, in which plane and shift are looked for to start from."""
_ALIKE = 1e-7
"""Correlation that is lost by a step where no further one gains: its direction is good to that, not to rounding."""
_NEAR = 0.25
"""So near to where another start has led, the same units, a start leads there as well."""


@dataclass(frozen=True, eq=False)
class Alignment(ByValue):
    """A reconstruction brought onto its truth inside a region, and what had to be taken out for that.

    `image = factor * shift(reconstruction * exp(-2 pi i plane.r))`, cut to the region: the least-squares fit.
    Images are NumPy's, or where the `arithmetic` of `align` has them.
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
    arithmetic: Arithmetic = IN_NUMPY,
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
        arithmetic: where both are worked on, and stay; sums of each step come from there, no image.

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
    fit = _Fit.around(reconstruction, truth, cut, offset, arithmetic)
    tried: list[_Place] = []
    for start in fit.starts():
        tried.append(_climb(fit, start, tried))
    best = max(tried, key=lambda place: place.correlation)
    dy, dx, ky, kx = (float(value) for value in best.parameters)
    image, seen = best.factor * best.region, fit.truth
    return Alignment(image, seen, cut, offset, (dy, dx), (ky, kx), best.factor, best.correlation)


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
class _Margined:
    """A region and its margin, faded out; zeros follow, up to a size whose transform is fast."""

    image: Pixels
    inner: tuple[slice, slice]
    """Where the region lies in `image`."""
    fades: tuple[Pixels, Pixels]
    """Along y and x: 1 in the region, falling to 0 through the margin."""
    arithmetic: Arithmetic

    @classmethod
    def of(cls, whole: Image, cut: Region, offset: tuple[int, int], arithmetic: Arithmetic) -> _Margined:
        outer, inner, fades, beyond = [], [], [], []
        for low, high, start, size in zip(cut[::2], cut[1::2], offset, whole.shape, strict=True):
            first, last = max(0, low - start - _MARGIN), min(size, high - start + _MARGIN)
            outer.append(slice(first, last))
            inner.append(slice(low - start - first, high - start - first))
            beyond.append((0, next_fast_len(last - first) - (last - first)))
            fades.append(np.pad(_fade(last - first, inner[-1]), beyond[-1]))
        image = np.pad(whole[outer[0], outer[1]].astype(np.result_type(whole, np.complex64), copy=False), beyond)
        if not image[inner[0], inner[1]].any():
            raise DataError(f"align: expected an object in region {cut}, found only zeros; move it")
        held = [arithmetic.held(each) for each in (image, fades[0][:, None], fades[1])]
        return cls(held[0], (inner[0], inner[1]), (held[1], held[2]), arithmetic)

    @property
    def region(self) -> Pixels:
        """The region as it is."""
        return self.image[self.inner]

    @cached_property
    def frequencies(self) -> tuple[Pixels, Pixels]:
        """Along y and x, cycles per pixel."""
        fy, fx = (np.fft.fftfreq(n) for n in self.image.shape)
        return self.arithmetic.held(fy[:, None]), self.arithmetic.held(fx)

    def levelled(self, ky: float, kx: float) -> Pixels:
        """The image without a plane about the middle of the region."""
        down, right = (
            self.arithmetic.held(np.exp(-2j * np.pi * slope * (np.arange(n) - (part.start + part.stop) / 2)))
            for slope, n, part in zip((ky, kx), self.image.shape, self.inner, strict=True)
        )
        level = self.image * down[:, None]
        level *= right
        return level

    def moved(self, parameters: Real) -> _Moved:
        """The region after plane and shift."""
        dy, dx, ky, kx = parameters
        level = self.levelled(ky, kx)
        mean = level[self.inner].mean()  # with it, the fade would be the strongest edge
        level -= mean
        for fade in self.fades:
            level *= fade
        spectrum = self.arithmetic.fft2(level, spent=True)
        down, right = (
            self.arithmetic.held(np.exp(-2j * np.pi * step * np.fft.fftfreq(n)))
            for step, n in zip((dy, dx), spectrum.shape, strict=True)
        )
        spectrum *= down[:, None]
        spectrum *= right
        return _Moved(self.arithmetic.ifft2(spectrum)[self.inner] + mean, spectrum)

    def parts(self, moved: _Moved) -> list[Pixels]:
        """The moved region, and over `-2 pi i` how it changes with dy and with dx."""
        spectra = (moved.spectrum * frequency for frequency in self.frequencies)
        return [moved.region, *(self.arithmetic.ifft2(each, spent=True)[self.inner] for each in spectra)]


class _Moved(NamedTuple):
    """A region after plane and shift, and the spectrum of it and its margin without the mean."""

    region: Pixels
    spectrum: Pixels


# The real and the imaginary part of a factor, dy, dx, ky and kx change a region by the product of a number, of a power
# of y, and of one of its `_Margined.parts` or x times the first: planes in cycles over the region, up to multiples of
# the second.
_NUMBER = np.array([1, 1j, *4 * [-2j * np.pi]])
_POWER = np.array([0, 0, 0, 0, 1, 0])
_PART = np.array([0, 0, 1, 2, 0, 3])


class _Place(NamedTuple):
    """What is known of one place of the search, with f the region there and T the truth."""

    parameters: Real
    """(dy, dx, ky, kx), pixels and cycles per pixel."""
    region: Pixels
    """f."""
    moments: Complex
    """`_moments` of T and f; where the search goes no further, with f alone."""
    correlation: float
    """`|<T, f>| / (|T| |f|)`."""

    @property
    def factor(self) -> complex:
        """The complex factor of least squares, `<f, T> / |f|^2`."""
        return complex(np.conj(self.moments[0, 0, 0]) / self.moments[0, 4, 0].real)

    def normal(self) -> tuple[Real, Real]:
        """Curvature (6, 6) and pull (6,) on a factor and the four parameters.

        The curvature is that of changes of the image along those of the truth. Noise that the two do not share is no
        part of it; by changes of the image alone it is, and steps become as much shorter.
        """
        factor = self.factor
        curvature = (factor * _products(self.moments)).real
        with_truth, with_itself = (_NUMBER * self.moments[_POWER, row, _PART] for row in (0, 4))
        return (curvature + curvature.T) / 2, (factor * with_truth - abs(factor) ** 2 * with_itself).real


def _products(moments: Complex) -> Complex:
    """`<a, b>` (6, 6) of all changes a of one region with all changes b of another."""
    return np.conj(_NUMBER)[:, None] * _NUMBER * moments[_POWER[:, None] + _POWER, _PART[:, None], _PART]


@dataclass(frozen=True)
class _Fit:
    """The least-squares problem of `align`, in (dy, dx, ky, kx): pixels and cycles per pixel."""

    source: _Margined
    """The reconstruction."""
    truth: Pixels
    """The region of the truth."""
    conjugates: list[Pixels]
    """Of its `_Margined.parts`."""
    own: Complex
    """(6, 6) products of the changes of the truth."""

    @classmethod
    def around(
        cls, reconstruction: Image, truth: Image, cut: Region, offset: tuple[int, int], arithmetic: Arithmetic
    ) -> _Fit:
        source = _Margined.of(reconstruction, cut, offset, arithmetic)
        target = _Margined.of(truth, cut, (0, 0), arithmetic)
        parts = target.parts(target.moved(np.zeros(4))._replace(region=target.region))
        conjugates = [part.conj() for part in parts]
        return cls(source, target.region, conjugates, _products(_moments(conjugates, parts, arithmetic)))

    @property
    def unit(self) -> Real:
        """Pixels, and cycles over the region: the units in which steps of all four are of one size."""
        return np.array([1.0, 1.0, *(1.0 / (n - 1) for n in self.truth.shape)])

    def at(self, parameters: Real, further: bool = True) -> _Place:
        """What is known of a place, and if the search goes further, how its region changes."""
        moved = self.source.moved(parameters)
        parts = self.source.parts(moved) if further else [moved.region]
        moments = _moments(self.conjugates, parts, self.source.arithmetic)
        energy = self.own[0, 0].real * moments[0, 4, 0].real
        return _Place(parameters, moved.region, moments, float(np.abs(moments[0, 0, 0]) / np.sqrt(energy)))

    def starts(self) -> Iterator[Real]:
        """The best plane at the shift of the cross-correlation and unshifted, and no plane at all."""
        source, truth = self.source, self.truth
        ky, kx = plane_of(source.region * self.conjugates[0], _PLANES, source.arithmetic)
        level = source.levelled(ky, kx)[source.inner]
        dy, dx = register_subpixel(level - level.mean(), truth - truth.mean(), _SHIFTS, source.arithmetic)
        if max(abs(dy), abs(dx)) <= _MARGIN / 4:  # further away it is a matter for `find_offset`
            yield np.array([dy, dx, ky, kx])
        yield np.array([0.0, 0.0, ky, kx])
        yield np.zeros(4)


def _moments(conjugates: Sequence[Pixels], parts: Sequence[Pixels], arithmetic: Arithmetic) -> Complex:
    """Sums `y^k conj(a) b` over a region, (3, 5, J) for k = 0, 1, 2, with y and x from -1/2 to 1/2: in one transfer.

    Args:
        conjugates: of the parts of the truth; x times the first is a fourth a, the first of `parts` a fifth.
        parts: of the region, b, with x times the first a fourth; or the first alone.
        arithmetic: where they are worked on.
    """
    height, width = parts[0].shape
    powers = arithmetic.held(np.linspace(-0.5, 0.5, height) ** np.arange(3)[:, None] + 0j)
    x = arithmetic.held(np.linspace(-0.5, 0.5, width))
    step, sums = max(1, arithmetic.pixels // width), 0
    for rows in (slice(start, start + step) for start in range(0, height, step)):
        truth, found = ([each[rows] for each in images] for images in (conjugates, parts))
        first = [*truth, x * truth[0], found[0].conj()]
        second = [*found, x * found[0]] if len(found) > 1 else found
        products = arithmetic.row_products(first, second)
        sums = sums + powers[:, rows] @ products.reshape(len(products), -1)
    return arithmetic.numpy(sums).reshape(3, len(first), len(second))


def _climb(fit: _Fit, start: Real, known: Sequence[_Place]) -> _Place:
    """Damped Newton steps from a start, or what is known already where they come near it."""
    damping, unit = 1e-3, fit.unit
    scale = np.diag(fit.own).real
    held = np.diag(scale) + 1e-12 * scale.max() * np.eye(6)

    def apart(candidate: Real, others: Real) -> float:
        return float(np.max(np.abs((candidate - others) / unit)))

    def near(candidate: Real) -> _Place | None:
        return next((place for place in known if apart(candidate, place.parameters) < _NEAR), None)

    there = near(start)
    if there is not None:
        return there
    here = fit.at(start)
    for _ in range(_ITERATIONS):
        normal, pull = here.normal()
        while damping < 1e6:
            step = np.clip(np.linalg.solve(normal + damping * held, pull)[2:], -0.75, 0.75)
            candidate = here.parameters + step * unit
            candidate[:2] = np.clip(candidate[:2], start[:2] - _REACH, start[:2] + _REACH)
            size = apart(candidate, here.parameters)
            if size < _TOLERANCE:
                return here
            there = near(candidate)
            if there is not None:
                return there
            there = fit.at(candidate, further=size >= _LAST)
            if there.correlation >= here.correlation:
                break
            if here.correlation - there.correlation < _ALIKE:
                return here
            damping *= 5
        else:
            break
        if size < _LAST:
            return there
        here, damping = there, max(damping / 5, 1e-9)
    return here


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
