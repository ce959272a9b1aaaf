"""Images and numbers of a refinement that stay on a device of PyTorch: `ptycho.core.refinement.device.images.Images`
and `ptycho.core.refinement.device.numbers.Numbers` in tensors.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ptycho.core.refinement.device.images import Filter, Image, Resident
from ptycho.core.refinement.device.numbers import Number, Numbers, PlainNumbers

__all__ = ["TorchImages", "TorchNumbers", "further"]

Array = NDArray[Any]


class _Form(NamedTuple):
    """A filter on the device."""

    inverse: Tensor
    lit: Tensor
    slow: Tensor
    """`(2, ...)` what it adds to 1, of amplitudes and of phases."""


class TorchImages:
    """Images that stay on the device.

    Args:
        upload: brings an array to the device; what is there already stays.
        fetch: brings a tensor to NumPy.
        real: brings a real array to the device.
        worked: does a piece of work on so many pixels, on as many threads as suit them.
        numbers: what a scalar becomes.
        on_host: whether the device is the host.
    """

    def __init__(
        self,
        upload: Callable[[Image], Tensor],
        fetch: Callable[[Tensor], Array],
        real: Callable[[Array], Tensor],
        worked: Callable[[int, Callable[[], Tensor]], Tensor],
        numbers: Numbers,
        on_host: bool,
    ) -> None:
        self.on_host = on_host
        self._upload, self._fetch, self._real, self._worked = upload, fetch, real, worked
        self._numbers = numbers
        # those of an object and of a probe, or of the probes of some scans
        self._forms: deque[tuple[Filter, _Form]] = deque(maxlen=8)

    def of(self, values: Tensor) -> Resident:
        """A tensor as an array of the search."""
        dtype = np.complex64 if values.dtype == torch.complex64 else np.complex128
        return Resident(values, dtype, self._fetch)

    def array(self, image: Image) -> Tensor:
        """The tensor of an image; NumPy's is brought to the device."""
        return self._upload(image)

    def zeros(self, shape: Sequence[int], like: Tensor) -> Tensor:
        """Zeros beside another tensor, of its type."""
        return like.new_zeros(tuple(shape))

    def dot(self, pairs: Sequence[tuple[Image, Image]]) -> Number:
        """`Re sum conj(a) b` of all pairs."""
        real = [[torch.view_as_real(self._upload(each)) for each in pair] for pair in pairs]

        def work() -> Tensor:
            sums = [torch.mul(one, other).sum(dtype=torch.float64) for one, other in real]
            return sum(sums[1:], sums[0])

        return self._numbers.of(self._worked(real[0][0].numel() // 2, work))

    def blend(self, first: float, one: Image, second: Number, other: Image) -> Resident:
        """`first a + second b`."""
        here, there = self._upload(one), self._upload(other)
        return self.of(self._worked(here.numel(), lambda: further(torch.mul(here, first), there, second)))

    def filtered(self, form: Filter, gradient: Image, image: Image) -> Resident:
        """As `ptycho.core.refinement.steps.preconditioner` has it in NumPy."""
        held, slope, at = self._held(form), self._upload(gradient), self._upload(image)
        return self.of(self._worked(at.numel(), lambda: self._preconditioned(form, held, slope, at)))

    def _preconditioned(self, form: Filter, held: _Form, gradient: Tensor, image: Tensor) -> Tensor:
        """The step of a gradient."""
        turn = _phases(form, image)
        relative = gradient * turn.conj()
        parts = torch.view_as_real(relative * held.lit).movedim(-1, -3)
        slow = torch.complex(*form.smoothed(self, parts, held.slow).unbind(-3))
        return slow.mul_(held.lit).addcmul_(relative, held.inverse).mul_(turn)

    def smoothed(self, values: Tensor, factor: Tensor, padded: tuple[int, int]) -> Tensor:
        """By transforms over both axes."""
        spectra = torch.fft.rfft2(values, s=padded).mul_(factor)
        return torch.fft.irfft2(spectra, s=padded)[..., : values.shape[-2], : values.shape[-1]]

    def row_spectra(self, values: Tensor, length: int) -> Tensor:
        """By transforms along the rows."""
        if not values.numel():  # oneMKL refuses to transform nothing
            return values.new_zeros((*values.shape[:-1], length // 2 + 1), dtype=values.dtype.to_complex())
        return torch.fft.rfft(values, n=length)

    def smoothed_columns(self, values: Tensor, factor: Tensor) -> Tensor:
        """By transforms along the columns."""
        if not values.numel():
            return values
        each = zip(values, factor, strict=True) if values.ndim > 2 else [(values, factor)]
        for part, own in each:  # one after the other: it takes twice their room
            part.copy_(torch.fft.ifft(torch.fft.fft(part, dim=-2).mul_(own), dim=-2))
        return values

    def rows_of(self, spectra: Tensor, length: int) -> Tensor:
        """By transforms along the rows."""
        return torch.fft.irfft(spectra, n=length)

    def _held(self, form: Filter) -> _Form:
        """The filter on the device, brought there once."""
        for known, held in self._forms:
            if known is form:
                return held
        slow = np.stack([form.amplitude, form.phase])
        held = _Form(*(self._real(each) for each in (form.inverse, form.lit, slow)))
        self._forms.append((form, held))
        return held


def _phases(form: Filter, image: Tensor) -> Tensor:
    """`image / |image|`, 1 where it is dark."""
    modulus = image.abs()
    return image.sgn().masked_fill_(modulus <= 1e-6 * form.largest(modulus.max()), 1)


class TorchNumbers:
    """`ptycho.core.refinement.device.numbers.Numbers` that are tensors without an axis, in double precision."""

    def of(self, scalar: Tensor) -> Tensor:
        """The scalar as it is; its device is not waited for."""
        return scalar

    def ratio(self, above: Number, below: Number) -> Number:
        """`above / below`, 0 where `below` is not positive; of several processes the numbers may be Python's."""
        if not isinstance(above, Tensor) and not isinstance(below, Tensor):
            return PlainNumbers().ratio(above, below)
        above, below = _alike(above, below)
        return torch.where(below > 0, above / below, 0.0)

    def choose(self, condition: bool | Tensor, one: Number, other: Number) -> Number:
        """`one` where a comparison holds, else `other`."""
        if isinstance(condition, bool):
            return one if condition else other
        return torch.where(condition, one, other)


def _alike(one: Number, other: Number) -> tuple[Tensor, Tensor]:
    """Both on the device of the one that is there: a search that goes on from a file has Python's numbers at first."""
    device = one.device if isinstance(one, Tensor) else other.device
    first, second = (torch.as_tensor(each, dtype=torch.float64, device=device) for each in (one, other))
    return first, second


def further(values: Tensor, moves: Tensor, length: Number) -> Tensor:
    """`values + length moves` in place, in one pass; a length on the device stays there."""
    if isinstance(length, Tensor):
        return values.addcmul_(moves, length)
    return values.add_(moves, alpha=length)
