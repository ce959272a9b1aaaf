"""The arithmetic by which two images are compared: what a device may do, and NumPy does where none is asked.

Images and spectra are arrays of NumPy, or of a device; slices, sums, products and `conj()` of them are written as
NumPy's, which PyTorch's tensors share. What they do not share is here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.fft import fft, fft2, ifft2

from ptycho.core.quality.metrics import wide

__all__ = ["IN_NUMPY", "Arithmetic", "NumpyArithmetic", "Pixels"]

Pixels = Any
"""An array where it is worked on: NumPy's, or that of a device."""
Array = NDArray[Any]


class Arithmetic(Protocol):
    """What is done where the images are."""

    pixels: int
    """Of images whose products are best worked on at once."""

    def held(self, values: Pixels) -> Pixels:
        """An array where it is worked on, NumPy's or one that is there, in double precision, real or complex."""

    def numpy(self, values: Pixels) -> Array:
        """Back to NumPy, which waits for it."""

    def fft2(self, image: Pixels, shape: tuple[int, int] | None = None, spent: bool = False) -> Pixels:
        """`sum_r f(r) exp(-2 pi i k.r)` of an image `(H, W)`, with zeros behind it up to a shape.

        The memory of an image that is spent may hold the result.
        """

    def ifft2(self, spectrum: Pixels, spent: bool = False) -> Pixels:
        """The inverse of `fft2`."""

    def row_products(self, first: Sequence[Pixels], second: Sequence[Pixels]) -> Pixels:
        """`sum_x a_i(y, x) b_j(y, x)`, `(H, I, J)`, of complex images `(H, W)`."""

    def ring_sums(self, images: Sequence[Pixels], ring: Pixels, count: int) -> Pixels:
        """How many pixels each of the first rings has, and the sums of real images over it, `(1 + I, count)`.

        `ring` `(H, W)` has its number at each pixel, in floating point. The same images give the same bits.
        """


class NumpyArithmetic:
    """`Arithmetic` in the memory of the host, on one thread."""

    pixels = 1 << 14  # a larger working set leaves the cache

    def held(self, values: Array) -> Array:
        """The array in double precision."""
        return wide(values)

    def numpy(self, values: Pixels) -> Array:
        """The array itself."""
        return np.asarray(values)

    def fft2(self, image: Array, shape: tuple[int, int] | None = None, spent: bool = False) -> Array:
        """The transform, in the precision of the image."""
        if shape is None:
            return np.asarray(fft2(image, overwrite_x=spent))
        lines = fft(image, shape[1], axis=1, overwrite_x=spent)  # so rows of zeros are spared
        return np.asarray(fft(lines, shape[0], axis=0, overwrite_x=True))

    def ifft2(self, spectrum: Array, spent: bool = False) -> Array:
        """Its inverse."""
        return np.asarray(ifft2(spectrum, overwrite_x=spent))

    def row_products(self, first: Sequence[Array], second: Sequence[Array]) -> Array:
        """A product of matrices for each row, none of them so large that BLAS divides it among threads."""
        return np.stack(first, axis=1) @ np.stack(second, axis=1).transpose(0, 2, 1)

    def ring_sums(self, images: Sequence[Array], ring: Array, count: int) -> Array:
        """Counted ring by ring."""
        numbers = ring.astype(np.intp).ravel()
        sums = [np.bincount(numbers, each) for each in (None, *(image.ravel() for image in images))]
        return np.stack([each[:count] for each in sums]).astype(np.float64)


IN_NUMPY = NumpyArithmetic()
"""NumPy: where no backend is at hand."""
