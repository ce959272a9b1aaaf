"""Images of a search, and the arithmetic on them: NumPy's arrays, or arrays that stay on the device of an engine.

A search knows its object, its probe, gradients and directions as arrays. Those of an engine with a device of its own
are `Resident`: the steps of the descent work on them there (`Images`), and whoever else asks, for positions, a state
file or the result, finds NumPy's array in them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import scipy.fft
from numpy.lib.mixins import NDArrayOperatorsMixin
from numpy.typing import DTypeLike, NDArray

from ptycho.core.refinement.device.numbers import Number

__all__ = ["Filter", "Image", "Images", "NumpyImages", "Resident", "real_dot"]

Array = NDArray[Any]
Image = Any
"""NumPy's array, or `Resident`."""


class Filter(Protocol):
    """How one image is preconditioned (`ptycho.core.refinement.steps.preconditioner`)."""

    @property
    def inverse(self) -> Array:
        """(H, W) inverse of the floored weight of each pixel."""

    @property
    def lit(self) -> Array:
        """(H, W) its root where there is light, going to 0 in the dark."""

    @property
    def phase(self) -> Array:
        """What the filter of phases adds to 1, on the half spectrum of the padded image."""

    @property
    def amplitude(self) -> Array:
        """The same of amplitudes."""

    def largest(self, value: Number) -> Number:
        """The largest of the values of all processes that have a part of the image."""

    def smoothed(self, images: Images, values: Any, factor: Any) -> Any:
        """Real values `(..., H, W)` of the device, their half spectrum in the padded shape times a factor."""

    def apply(self, gradient: Array, image: Array) -> Array:
        """Map a gradient with respect to `image`, in NumPy."""


class Images(Protocol):
    """The arithmetic of a search on complex images `(..., H, W)`, and what is done to arrays of the device where
    several processes have a part of an image (`ptycho.core.refinement.sums.object_strips`).
    """

    @property
    def on_host(self) -> bool:
        """Whether the arrays are in the memory of the host, where NumPy reads them as they are."""

    def of(self, values: Any) -> Image:
        """An array of the device as one of the search."""

    def array(self, image: Image) -> Any:
        """The array of the device that an image is."""

    def zeros(self, shape: Sequence[int], like: Any) -> Any:
        """An array of the device that is 0, its numbers of the type of those of another one."""

    def dot(self, pairs: Sequence[tuple[Image, Image]]) -> Number:
        """`Re sum conj(a) b` of all pairs, in double precision."""

    def blend(self, first: float, one: Image, second: Number, other: Image) -> Image:
        """`first a + second b`, in the precision of both."""

    def filtered(self, form: Filter, gradient: Image, image: Image) -> Image:
        """`form.apply(gradient, image)`."""

    def smoothed(self, values: Any, factor: Any, padded: tuple[int, int]) -> Any:
        """Real values `(..., H, W)`, their half spectrum in the shape `padded` times a factor."""

    def row_spectra(self, values: Any, length: int) -> Any:
        """Half spectra of real rows `(..., h, W)` that are continued by 0 to a length."""

    def smoothed_columns(self, values: Any, factor: Any) -> Any:
        """Complex columns `(..., P, q)`, their spectra times a factor of this shape; the values may be overwritten."""

    def rows_of(self, spectra: Any, length: int) -> Any:
        """Real rows of this length from their half spectra, which may be overwritten."""


class Resident(NDArrayOperatorsMixin):
    """An image on a device, which is fetched when NumPy asks for it, and never changed.

    Args:
        value: the array of the device.
        dtype: NumPy's type of its numbers.
        fetch: brings it to NumPy.
    """

    def __init__(self, value: Any, dtype: DTypeLike, fetch: Callable[[Any], Array]) -> None:
        self.value, self.dtype, self._fetch = value, np.dtype(dtype), fetch
        self._array: Array | None = None

    def like(self, value: Any) -> Resident:
        """Another array of the same device as an image; the numbers are of the same type."""
        return Resident(value, self.dtype, self._fetch)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the array."""
        return tuple(self.value.shape)

    @property
    def ndim(self) -> int:
        """Of the array."""
        return len(self.value.shape)

    @property
    def nbytes(self) -> int:
        """Of the array."""
        return int(np.prod(self.shape)) * self.dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def __iter__(self) -> Iterator[Any]:
        return iter(self.__array__())

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> Array:
        if self._array is None:
            self._array = self._fetch(self.value)
        return np.array(self._array, dtype) if copy else np.asarray(self._array, dtype)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **named: Any) -> Any:
        known = (each.__array__() if isinstance(each, Resident) else each for each in inputs)
        return getattr(ufunc, method)(*known, **named)

    def __getitem__(self, key: Any) -> Any:
        return self.__array__()[key]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self.__array__(), name)


class NumpyImages:
    """Images that are NumPy's arrays, and stay on one thread.

    A product by BLAS is divided among all cores, which for images of this size takes longer than the product wherever
    another program has one of them.
    """

    on_host = True

    def of(self, values: Any) -> Array:
        """The array itself."""
        return np.asarray(values)

    def array(self, image: Image) -> Array:
        """The image in NumPy."""
        return np.asarray(image)

    def zeros(self, shape: Sequence[int], like: Array) -> Array:
        """Zeros of the type of another array."""
        return np.zeros(shape, like.dtype)

    def dot(self, pairs: Sequence[tuple[Array, Array]]) -> float:
        """`Re sum conj(a) b` of all pairs."""
        return sum(real_dot(one, other) for one, other in pairs)

    def blend(self, first: float, one: Array, second: float, other: Array) -> Array:
        """`first a + second b`."""
        return first * one + second * other

    def filtered(self, form: Filter, gradient: Array, image: Array) -> Array:
        """`form.apply(gradient, image)`."""
        return form.apply(gradient, image)

    def smoothed(self, values: Array, factor: Array, padded: tuple[int, int]) -> Array:
        """By transforms over both axes."""
        spectrum = scipy.fft.rfft2(values, s=padded)
        spectrum *= factor
        return scipy.fft.irfft2(spectrum, s=padded)[..., : values.shape[-2], : values.shape[-1]]

    def row_spectra(self, values: Array, length: int) -> Array:
        """By transforms along the rows."""
        return scipy.fft.rfft(values, n=length)

    def smoothed_columns(self, values: Array, factor: Array) -> Array:
        """By transforms along the columns."""
        spectrum = scipy.fft.fft(values, axis=-2, overwrite_x=True)
        spectrum *= factor
        return scipy.fft.ifft(spectrum, axis=-2, overwrite_x=True)

    def rows_of(self, spectra: Array, length: int) -> Array:
        """By transforms along the rows."""
        return scipy.fft.irfft(spectra, n=length, overwrite_x=True)


def real_dot(one: Array, other: Array) -> float:
    """`Re sum conj(a) b` of complex arrays of one shape, summed in double precision."""
    product = one.real * other.real
    product += one.imag * other.imag
    return float(product.sum(dtype=np.float64))
