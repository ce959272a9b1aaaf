"""What is done to a batch of patterns, in PyTorch: `ptycho.core.refinement.device.kernels` in tensors."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ptycho.core.refinement.device.images import Resident
from ptycho.core.refinement.device.kernels import Found, Measured, Share
from ptycho.core.refinement.device.likelihood import ROUNDING, Likelihood
from ptycho.core.refinement.device.memory import USUAL_MEMORY
from ptycho.core.refinement.device.numbers import Number, Numbers, PlainNumbers
from ptycho.core.refinement.device.packing import SINGLE, unpacked
from ptycho_torch.device.cuda import free_memory
from ptycho_torch.device.lanes import Lanes
from ptycho_torch.device.streaming import TorchStream
from ptycho_torch.fields import (
    Fields,
    back_propagated,
    blurred,
    detected,
    masked,
    mixed,
    over_modes,
    product,
    propagated,
    sum_of_squares,
)
from ptycho_torch.images import TorchImages, TorchNumbers, further
from ptycho_torch.patches import add_patches, add_whole_numbers, cut_patches
from ptycho_torch.poisson import Moments
from ptycho_torch.precision import full_float32

__all__ = ["RefinementKernels"]

Array = NDArray[Any]

CACHED_PIXELS = 1 << 17
"""Exit-wave pixels that a thread of a CPU works on at once, 1 MB an array: more do not fit its caches, with fewer the
calls cost as much as what they do."""

IMAGE_PIXELS = 1 << 20
"""Pixels of an image that one thread works on alone: others are waited for longer wherever a program has their core."""

_TINY = 1e-300  # of a logarithm that counts 0 times


class _Corners(NamedTuple):
    """First rows and columns `(b,)` of patches."""

    rows: Tensor
    cols: Tensor


class RefinementKernels:
    """`ptycho.core.refinement.device.kernels.Kernels` in PyTorch.

    Args:
        likelihood: 'amplitude' or 'poisson'.
        floor: e, added to intensities.
        device: of the tensors.
        dtype: their real type.
        deterministic: whether a GPU adds patches as whole numbers, whose sums are the same in every order, so that the
            same run gives the same bits; a CPU adds in one order in any case.
    """

    def __init__(
        self,
        likelihood: Likelihood,
        floor: float,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        deterministic: bool = False,
    ) -> None:
        self.likelihood, self.floor = likelihood, floor
        self.device, self.dtype = torch.device(device), dtype
        self.complex_bytes = 2 * dtype.itemsize
        self.numbers: Numbers = TorchNumbers() if self._stays() else PlainNumbers()
        on_cpu = self.device.type == "cpu"
        self.images = TorchImages(self.image, self.numpy, self._real, self._worked, self.numbers, on_cpu)
        self.whole_numbers = deterministic and not on_cpu
        self.lanes = torch.get_num_threads() if on_cpu else 1
        self.memory = free_memory(self.device) if self.device.type == "cuda" else USUAL_MEMORY
        self.batch_pixels: int | None = CACHED_PIXELS if on_cpu else None
        self.stream = TorchStream(self.device) if self.device.type == "cuda" else None
        self._threads = Lanes(self.lanes)

    packs = True

    def together(self, work: Callable[[Share], Found], shares: Sequence[Share]) -> list[Found]:
        """What is found of every share, each by a thread of its own; blurs and normal equations are matrix products."""
        with full_float32():
            return self._threads.together(work, shares)

    def _worked(self, pixels: int, work: Callable[[], Tensor]) -> Tensor:
        """Work on images, on one thread unless they are large."""
        return work() if self.lanes < 2 or pixels > IMAGE_PIXELS else self._threads.alone(work)

    def close(self) -> None:
        """End the threads."""
        self._threads.close()

    def _stays(self) -> bool:
        """Whether what a search works on is elsewhere than its numbers."""
        return self.device.type != "cpu"

    def summed(self, total: Tensor | None, scalar: Tensor) -> Tensor:
        """A sum with one more, in place."""
        return scalar.to(torch.float64) if total is None else total.add_(scalar)

    def total(self, scalars: Sequence[Tensor]) -> Number:
        """Their sum."""
        return self.numbers.of(sum(scalars[1:], scalars[0]))

    def measured(self, amplitude: Array, valid: Array | None) -> Measured:
        """Patterns on the device, packed ones as they are."""
        kept = self._real(amplitude) if amplitude.dtype == SINGLE else torch.as_tensor(amplitude, device=self.device)
        return Measured(kept, None if valid is None else self._real(valid))

    def background(self, values: Array) -> Tensor:
        """A background on the device."""
        return self._real(values)

    def blur(self, matrix: Array) -> Tensor:
        """The matrix of a blur on the device."""
        return self._real(matrix)

    def image(self, values: Array | Resident | Tensor) -> Tensor:
        """Object or probe on the device."""
        if isinstance(values, Resident):
            values = values.value
        return torch.as_tensor(values, dtype=self.dtype.to_complex(), device=self.device)

    def numpy(self, values: Tensor) -> Array:
        """Back to NumPy."""
        return values.cpu().numpy()

    def pieces(self, values: Array, counts: Sequence[int]) -> list[Tensor]:
        """What belongs to patterns on the device, in pieces of so many."""
        return list(torch.as_tensor(values, device=self.device).split(list(counts)))

    def rows(self, shape: tuple[int, ...]) -> Tensor:
        """Room for what is found of every pattern."""
        return torch.zeros(shape, dtype=torch.float64, device=self.device)

    def put(self, rows: Tensor, where: slice, piece: Array | Tensor) -> None:
        """Write what is found of some."""
        rows[where].copy_(torch.as_tensor(piece))

    def corners(self, rows: Array | Tensor, cols: Array | Tensor) -> _Corners:
        """First row and column of every patch on the device."""
        return _Corners(*(torch.as_tensor(each, device=self.device) for each in (rows, cols)))

    def cut(self, image: Tensor, corners: _Corners, n: int) -> Tensor:
        """Patches of an object."""
        return cut_patches(image, *corners, n)

    def add(self, total: Tensor | None, shape: tuple[int, ...], patches: Tensor, corners: _Corners) -> Tensor:
        """Add patches to a sum of the given shape."""
        if total is None:
            total = torch.zeros(shape, dtype=patches.dtype, device=self.device)
        add = add_whole_numbers if self.whole_numbers else add_patches
        add(total, patches, *corners)
        return total

    def ramps(self, dx: Array | Tensor, dy: Array | Tensor, factor: Array | Tensor, n: int) -> Tensor:
        """Phase ramps `(b, S, 1, N, N)` that move an image by each remainder, times the factor."""
        turn = -2j * math.pi * torch.fft.fftfreq(n, dtype=torch.float64, device=self.device)
        shifts = (torch.as_tensor(shift, dtype=torch.float64, device=self.device) for shift in (dy, dx))
        along = [self.image(torch.exp(turn * shift[..., None])) for shift in shifts]
        rows = self._real(factor)[:, None, None] * along[0]
        return rows[:, :, None, :, None] * along[1][:, :, None, None, :]

    def shifted(self, probe: Tensor, ramps: Tensor, mixture: Tensor | None = None) -> Tensor:
        """The probe moved by every remainder."""
        return torch.fft.ifft2(mixed(torch.fft.fft2(probe), mixture) * ramps).flatten(1, 2)

    def transfer(self, transfer: Tensor, dx: Array | Tensor, dy: Array | Tensor) -> Tensor:
        """What carries waves to a near detector and moves them back `(b, S, N, N)`."""
        back = self.ramps(-dx, -dy, torch.ones(len(dx), device=self.device), transfer.shape[-1])
        return transfer * back[:, :, 0]

    def fields(self, probes: Tensor, patches: Tensor, transfer: Tensor | None = None) -> Fields:
        """Fields at the detector."""
        return self._with_intensity(propagated(probes * patches[:, None], transfer))

    def fields_along(
        self,
        probes: Tensor,
        patches: Tensor,
        probe_moves: Tensor | None,
        patch_moves: Tensor,
        transfer: Tensor | None = None,
    ) -> Tensor:
        """The change of the fields."""
        waves = probes * patch_moves[:, None]
        if probe_moves is not None:
            waves.addcmul_(probe_moves, patches[:, None])
        return propagated(waves, transfer)

    def moved(self, values: Tensor, moves: Tensor, length: Number) -> Tensor:
        """Values further on, in place."""
        return further(values, moves, length)

    def advanced(self, fields: Fields, moves: Tensor, length: Number) -> Fields:
        """Fields further on, in place."""
        return self._with_intensity(further(fields.waves, moves, length))

    def error(self, fields: Fields, measured: Measured) -> Tensor:
        """Sum of the likelihood."""
        return self._error(detected(fields, measured), measured)

    def errors(self, fields: Fields, measured: Measured) -> Array:
        """The likelihood of each pattern."""
        seen = detected(fields, measured)
        if self.likelihood == "amplitude":
            return self.numpy(masked(seen.sqrt() - self._amplitude(measured), measured).square().sum(dim=(-2, -1)))
        return self.numpy(self._deviance(seen, measured).sum(dim=(-2, -1))) / 2

    def pull(
        self, fields: Fields, measured: Measured, probes: Tensor, transfer: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Error, residual waves, and the gradient with respect to the patches."""
        seen = detected(fields, measured)
        if self.likelihood == "amplitude":
            modulus = seen.sqrt()
            excess = masked(modulus - self._amplitude(measured), measured)
            error, ratio = sum_of_squares(excess), excess.div_(modulus)
        else:
            error = self._error(seen, measured)
            ratio = 0.5 - (self._amplitude(measured).square() + self.floor).div_(seen).mul_(0.5)
            ratio = masked(ratio, measured)
        waves = back_propagated(fields.waves * blurred(ratio, measured)[:, None], transfer)
        return error, waves, over_modes(waves * probes.conj())

    def back(self, waves: Tensor, patches: Tensor, incident: Tensor, gap: Tensor) -> tuple[Tensor, Tensor]:
        """Residual waves behind the slice before, and the gradient with respect to its patches."""
        waves = back_propagated(waves * patches.conj()[:, None], gap)
        return waves, over_modes(waves * incident.conj())

    def probe_gradient(self, waves: Tensor, patches: Tensor, ramps: Tensor, mixture: Tensor | None = None) -> Tensor:
        """Gradient with respect to the probe."""
        spectra = torch.fft.fft2(waves * patches.conj()[:, None])
        back = spectra.unflatten(1, (ramps.shape[1], -1)) * ramps.conj()
        if mixture is None:
            return torch.fft.ifft2(back.flatten(0, 1).sum(dim=0))
        first = torch.tensordot(mixture.mH, back[:, :, 0].sum(dim=1), 1)
        others = back[:, :, 1:].sum(dim=(0, 1))
        return torch.fft.ifft2(torch.cat([first[:1], others, first[1:]]))

    def slopes(self, fields: Fields, moves: Tensor, measured: Measured) -> Tensor:
        """`sum J^2`."""
        weighted = blurred(product(fields.waves, moves), measured).square_().div_(detected(fields, measured))
        return masked(weighted, measured).sum()

    def probe_slopes(self, probe: Tensor, ramps: Tensor) -> tuple[Tensor, Tensor]:
        """How `shifted` changes with dx and with dy."""
        spectrum = torch.fft.fft2(probe) * ramps
        turn = -2j * math.pi * torch.fft.fftfreq(probe.shape[-1], dtype=self.dtype, device=self.device)
        x, y = (torch.fft.ifft2(spectrum * ramp).flatten(1, 2) for ramp in (turn[None, :], turn[:, None]))
        return x, y

    def position_terms(
        self,
        probe: Tensor,
        patches: Tensor,
        measured: Measured,
        ramps: Tensor,
        transfer: Tensor | None = None,
        mixture: Tensor | None = None,
    ) -> Tensor:
        """Gradient and curvature of the likelihood in (dx, dy)."""
        spectrum = mixed(torch.fft.fft2(probe), mixture) * ramps
        fields = self.fields(torch.fft.ifft2(spectrum).flatten(1, 2), patches, transfer)
        modulus, residual = self._residual(fields, measured)
        frequency = torch.fft.fftfreq(probe.shape[-1], dtype=self.dtype, device=self.device)
        slopes = []
        for ramp in (frequency[None, :], frequency[:, None]):
            turn = -2j * math.pi * ramp
            moves = self.fields(torch.fft.ifft2(spectrum * turn).flatten(1, 2), patches, transfer).waves
            if transfer is not None:  # which moves the field back as far as the probe was moved
                moves = moves - torch.fft.ifft2(torch.fft.fft2(fields.waves) * turn)
            slopes.append(blurred(product(fields.waves, moves), measured) / modulus)
        return self._terms(slopes, residual, measured)

    def patch_terms(
        self,
        fields: Fields,
        probes: Tensor,
        moves: Sequence[Tensor],
        measured: Measured,
        floor: float,
        transfer: Tensor | None = None,
    ) -> Tensor:
        """Gradient and curvature along changes of the patches, by intensities."""
        along = [self.fields_along(probes, each, None, each, transfer) for each in moves]
        return self.move_terms(fields, along, measured, floor)

    def move_terms(
        self, fields: Fields, moves: Sequence[Tensor], measured: Measured, floor: float | None = None
    ) -> Tensor:
        """Gradient and curvature along changes of the fields."""
        if floor is None:
            root, residual = self._residual(fields, measured)
        else:
            seen = detected(fields, measured)
            root = (seen + floor).sqrt()
            residual = masked((seen - self._amplitude(measured).square() - self.floor) / (2 * root), measured)
        changes = (blurred(product(fields.waves, each), measured) for each in moves)
        return self._terms([change / root for change in changes], residual, measured)

    def _terms(self, slopes: list[Tensor], residual: Tensor, measured: Measured) -> Tensor:
        """Normal equations of K slopes, from a residual that is 0 where not valid."""
        columns = torch.stack([residual, *slopes], dim=1)
        rows = columns[:, 1:]
        if measured.valid is not None:
            rows = rows * measured.valid.expand_as(residual)[:, None]
        return rows.flatten(2) @ columns.flatten(2).mT

    def variation_terms(
        self, fields: Fields, moves: Fields, places: int, mixture: Tensor, measured: Measured
    ) -> Tensor:
        """Gradient and curvature of the likelihood in the coefficients of a probe that varies."""
        modulus, residual = self._residual(fields, measured)
        first, along = (each.waves.unflatten(1, (places, -1)) for each in (fields, moves))
        first, held = first[:, :, 0], mixture[:, 0].real[:, None, None]
        own = held * (first.real.square() + first.imag.square()).sum(dim=1)
        weight = mixture[:, 1:, None, None]
        cross = held[:, None] * (first[:, :, None].conj() * along).sum(dim=1)
        real, imaginary = cross.real - weight.real * own[:, None], -cross.imag - weight.imag * own[:, None]
        changes = (*real.unbind(1), *imaginary.unbind(1))
        return self._terms([blurred(each, measured) / modulus for each in changes], residual, measured)

    def flux_terms(self, fields: Fields, measured: Measured) -> Tensor:
        """Gradient and curvature of the likelihood in the logarithm of a factor."""
        modulus, residual = self._residual(fields, measured)
        slope = masked(blurred(fields.intensity - self.floor, measured) / modulus, measured)
        sums = (residual * slope, slope.square())
        return torch.stack([each.sum(dim=(-2, -1), dtype=torch.float64) for each in sums], dim=-1)[:, None]

    def background_terms(self, fields: Fields, measured: Measured) -> Tensor:
        """Gradient and curvature of the likelihood in the background of each pixel."""
        modulus, residual = self._residual(fields, measured)
        slope = masked(0.5 / modulus, measured)
        sums = (residual * slope, slope.square())
        return torch.stack([each.sum(dim=0, dtype=torch.float64) for each in sums])

    def blur_terms(self, fields: Fields, measured: Measured, blur: Tensor, slope: Tensor) -> Tensor:
        """Gradient and curvature of the likelihood in a number of the blur."""
        modulus, residual = self._residual(fields, measured)
        change = slope @ fields.intensity @ blur + blur @ fields.intensity @ slope
        return self._terms([change / (2 * modulus)], residual, measured)

    def compared(self, fields: Fields, measured: Measured, light: Tensor, photon_scale: float) -> Tensor:
        """What patterns say of the fields."""
        seen, amplitude = detected(fields, measured), self._amplitude(measured)
        brightest = torch.maximum(seen.amax(dim=(1, 2), keepdim=True), light.max())
        expected = torch.maximum(seen, ROUNDING * brightest).mul_(photon_scale)
        counts = amplitude.square().mul_(photon_scale)

        def total(values: Tensor) -> Tensor:
            return masked(values, measured).sum(dim=(1, 2), dtype=torch.float64)[:, None]

        logarithm = (counts / expected).clamp_(min=_TINY).log_()
        sums = (
            total(logarithm.mul_(counts).sub_(counts).add_(expected).mul_(2)),
            self._moments(expected.to(torch.float64), measured.valid),
            total(expected.sqrt_().sub_(amplitude, alpha=math.sqrt(photon_scale)).square_()),
            total(counts),
            total(amplitude * light.sqrt()) * photon_scale,
            total(light.expand_as(counts)) * photon_scale,
        )
        return torch.cat(sums, dim=1)

    @cached_property
    def _moments(self) -> Moments:
        return Moments(self.device)

    def _residual(self, fields: Fields, measured: Measured) -> tuple[Tensor, Tensor]:
        """`a` and r, 0 where not valid."""
        seen = detected(fields, measured)
        modulus = seen.sqrt()
        residual = modulus - self._amplitude(measured)
        if self.likelihood == "poisson":
            residual = (seen - self._amplitude(measured).square() - self.floor) / (2 * modulus)
        return modulus, masked(residual, measured)

    def _amplitude(self, measured: Measured) -> Tensor:
        """Of patterns that may be packed."""
        kept: Tensor = measured.amplitude
        if kept.is_floating_point():
            return kept.to(self.dtype)
        return self._roots[kept.to(torch.int32)]

    @cached_property
    def _roots(self) -> Tensor:
        """Of all counts that are packed, rounded correctly, as those of PyTorch on a CPU are not."""
        return self._real(unpacked(np.arange(1 << 16, dtype=np.uint16)))

    def _real(self, values: Array | Tensor) -> Tensor:
        return torch.as_tensor(values, dtype=self.dtype, device=self.device)

    def _with_intensity(self, waves: Tensor) -> Fields:
        return Fields(waves, _squared_modulus(waves).add_(self.floor))

    def _error(self, intensity: Tensor, measured: Measured) -> Tensor:
        if self.likelihood == "amplitude":
            return sum_of_squares(masked(intensity.sqrt() - self._amplitude(measured), measured))
        return self._deviance(intensity, measured).sum(dtype=torch.float64) / 2

    def _deviance(self, intensity: Tensor, measured: Measured) -> Tensor:
        """Half that of each pixel: `Y log(Y / L) - Y + L`, written so that it loses nothing where Y is near L."""
        count = self._amplitude(measured).square() + self.floor
        change = (intensity - count) / count
        return masked(count * (change - change.log1p()), measured)


def _squared_modulus(waves: Tensor) -> Tensor:
    """`sum_m |a_m|^2` `(b, N, N)`."""
    if waves.device.type != "cpu":
        return product(waves, waves)
    values = waves.numpy()
    square = np.square(values.real)
    square += np.square(values.imag)
    return over_modes(torch.from_numpy(square))
