"""Fields at the detector, and what is made of them pixel by pixel: in PyTorch."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ptycho.core.refinement.device.kernels import Measured

__all__ = [
    "Fields",
    "back_propagated",
    "blurred",
    "detected",
    "masked",
    "mixed",
    "over_modes",
    "product",
    "propagated",
    "sum_of_squares",
]


class Fields(NamedTuple):
    """Fields `(b, S M, N, N)` and `sum_m |F_m|^2 + e` `(b, N, N)`, which every question about them begins with."""

    waves: Tensor
    intensity: Tensor


def detected(fields: Fields, measured: Measured) -> Tensor:
    """`a^2` `(b, N, N)`, as the detector blurs it and with what it adds."""
    intensity = blurred(fields.intensity, measured)
    return intensity if measured.background is None else intensity + measured.background


def blurred(values: Tensor, measured: Measured) -> Tensor:
    """Intensities or their changes as the detector sees them."""
    return values if measured.blur is None else measured.blur @ values @ measured.blur


def mixed(spectra: Tensor, mixture: Tensor | None) -> Tensor:
    """The first mode of a probe that varies as it is in each pattern, with the others `(b, 1, M, N, N)`."""
    if mixture is None:
        return spectra
    count = len(spectra) - mixture.shape[1] + 1
    first = torch.tensordot(mixture, torch.cat([spectra[:1], spectra[count:]]), 1)[:, None]
    others = spectra[1:count].expand(len(mixture), -1, -1, -1)
    return torch.cat([first, others], dim=1)[:, None]


def propagated(waves: Tensor, transfer: Tensor | None) -> Tensor:
    """Exit waves at the detector, which is far away without a transfer function."""
    if transfer is None:
        return torch.fft.fft2(waves, norm="ortho")
    return torch.fft.ifft2(_carried(torch.fft.fft2(waves), transfer))


def back_propagated(fields: Tensor, transfer: Tensor | None) -> Tensor:
    """The adjoint of `propagated`."""
    if transfer is None:
        return torch.fft.ifft2(fields, norm="ortho")
    return torch.fft.ifft2(_carried(torch.fft.fft2(fields), transfer.conj()))


def _carried(spectra: Tensor, transfer: Tensor) -> Tensor:
    """Spectra `(b, S M, N, N)` times a transfer function, that of each place `(b, S, N, N)` for all its modes."""
    if transfer.ndim == 2 or transfer.shape[1] == 1:
        return spectra.mul_(transfer)
    return spectra.unflatten(1, (transfer.shape[1], -1)).mul_(transfer[:, :, None]).flatten(1, 2)


def over_modes(values: Tensor) -> Tensor:
    """Sum over places and modes `(b, S M, N, N)`; a single one is not copied."""
    return values[:, 0] if values.shape[1] == 1 else values.sum(dim=1)


def product(some: Tensor, others: Tensor) -> Tensor:
    """`Re sum_m conj(a_m) b_m` `(b, N, N)`. On a CPU NumPy reads every other number twice as fast."""
    if some.device.type != "cpu":
        return over_modes((some.real * others.real).addcmul_(some.imag, others.imag))
    one, other = some.numpy(), others.numpy()
    product = one.real * other.real
    product += one.imag * other.imag
    return over_modes(torch.from_numpy(product))


def masked(values: Tensor, measured: Measured) -> Tensor:
    """Values, 0 where patterns are not valid."""
    return values if measured.valid is None else values * measured.valid


def sum_of_squares(values: Tensor) -> Tensor:
    """In double precision from batch to batch; within one the pairwise sum of a dot product is good enough."""
    flat = values.reshape(-1)
    return torch.dot(flat, flat)
