"""The images of a refinement on a device of PyTorch: `ptycho.core.refinement.images.Images` in tensors."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ptycho.core.refinement.images import Filter, Image, Resident

__all__ = ["TorchImages"]

Array = NDArray[Any]


class _Form(NamedTuple):
    """A filter on the device."""

    inverse: Tensor
    lit: Tensor
    phase: Tensor
    amplitude: Tensor


class TorchImages:
    """Images that stay on the device; one number leaves it.

    Args:
        upload: brings an array to the device; what is there already stays.
        fetch: brings a tensor to NumPy.
        real: brings a real array to the device.
        worked: does a piece of work on so many pixels, on as many threads as suit them.
    """

    def __init__(
        self,
        upload: Callable[[Image], Tensor],
        fetch: Callable[[Tensor], Array],
        real: Callable[[Array], Tensor],
        worked: Callable[[int, Callable[[], Tensor]], Tensor],
    ) -> None:
        self._upload, self._fetch, self._real, self._worked = upload, fetch, real, worked
        # those of an object and of a probe, or of the probes of some scans
        self._forms: deque[tuple[Filter, _Form]] = deque(maxlen=8)

    def of(self, values: Tensor) -> Resident:
        """A tensor as an array of the search."""
        dtype = np.complex64 if values.dtype == torch.complex64 else np.complex128
        return Resident(values, dtype, self._fetch)

    def dot(self, pairs: Sequence[tuple[Image, Image]]) -> float:
        """`Re sum conj(a) b` of all pairs."""
        real = [[torch.view_as_real(self._upload(each)) for each in pair] for pair in pairs]

        def work() -> Tensor:
            sums = [torch.mul(one, other).sum(dtype=torch.float64) for one, other in real]
            return sum(sums[1:], sums[0])

        return float(self._worked(real[0][0].numel() // 2, work))

    def blend(self, first: float, one: Image, second: float, other: Image) -> Resident:
        """`first a + second b`."""
        here, there = self._upload(one), self._upload(other)
        return self.of(self._worked(here.numel(), lambda: torch.mul(here, first).add_(there, alpha=second)))

    def filtered(self, form: Filter, gradient: Image, image: Image) -> Resident:
        """As `ptycho.core.refinement.preconditioner` has it in NumPy."""
        held, slope, at = self._held(form), self._upload(gradient), self._upload(image)
        return self.of(self._worked(at.numel(), lambda: _preconditioned(held, form.padded, slope, at)))

    def _held(self, form: Filter) -> _Form:
        """The filter on the device, brought there once."""
        for known, held in self._forms:
            if known is form:
                return held
        held = _Form(*(self._real(each) for each in (form.inverse, form.lit, form.phase, form.amplitude)))
        self._forms.append((form, held))
        return held


def _preconditioned(held: _Form, padded: tuple[int, int], gradient: Tensor, image: Tensor) -> Tensor:
    """The step of a gradient."""
    modulus = image.abs()
    dark = modulus <= 1e-6 * modulus.max()
    turn = torch.where(dark, 1, image / torch.where(dark, 1, modulus))
    relative = gradient * turn.conj()
    weighted = relative * held.lit
    amplitude = _filtered(weighted.real, held.amplitude, padded)
    phase = _filtered(weighted.imag, held.phase, padded)
    return turn * (torch.complex(amplitude, phase) * held.lit + relative * held.inverse)


def _filtered(values: Tensor, factor: Tensor, padded: tuple[int, int]) -> Tensor:
    spectrum = torch.fft.rfft2(values, s=padded)
    spectrum *= factor
    return torch.fft.irfft2(spectrum, s=padded)[..., : values.shape[-2], : values.shape[-1]]
