"""What a refinement does to a batch of patterns, in NumPy: the oracle of both backends' kernels, and the doctor's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import scipy.fft
from numpy.typing import DTypeLike, NDArray

from ptycho.core.physics.diffraction import deviance, sum_of_modes
from ptycho.core.physics.poisson import poisson_moments
from ptycho.core.refinement.device.engine import Engine
from ptycho.core.refinement.device.images import NumpyImages
from ptycho.core.refinement.device.kernels import Found, Measured, Share
from ptycho.core.refinement.device.likelihood import ROUNDING, Likelihood
from ptycho.core.refinement.device.memory import USUAL_MEMORY
from ptycho.core.refinement.device.numbers import PlainNumbers
from ptycho.core.refinement.device.packing import SINGLE, unpacked

__all__ = ["ENGINE", "NumpyKernels"]

Array = NDArray[Any]


class _Fields(NamedTuple):
    """Fields `(b, S M, N, N)` and `sum_m |F_m|^2 + e` `(b, N, N)`, which every question about them begins with."""

    waves: Array
    intensity: Array


class NumpyKernels:
    """`ptycho.core.refinement.device.kernels.Kernels` in NumPy; every formula stands there.

    Args:
        likelihood: 'amplitude' or 'poisson'.
        floor: e, added to intensities.
        dtype: real type of the numbers: double precision as the oracle, single where time counts.
    """

    def __init__(self, likelihood: Likelihood, floor: float, *, dtype: DTypeLike = np.float64) -> None:
        self.likelihood, self.floor, self.dtype = likelihood, floor, np.dtype(dtype)
        self._complex = np.result_type(self.dtype, np.complex64)
        self.complex_bytes = self._complex.itemsize

    images, numbers = NumpyImages(), PlainNumbers()
    memory, lanes, batch_pixels = USUAL_MEMORY, 1, 1 << 17
    packs, stream = True, None

    def together(self, work: Callable[[Share], Found], shares: Sequence[Share]) -> list[Found]:
        """What is found of every share, one after the other."""
        return [work(share) for share in shares]

    def close(self) -> None:
        """Nothing is left behind."""

    def summed(self, total: float | None, scalar: float) -> float:
        """A sum with one more."""
        return scalar if total is None else total + scalar

    def total(self, scalars: Sequence[float]) -> float:
        """Their sum."""
        return float(sum(scalars))

    def measured(self, amplitude: Array, valid: Array | None) -> Measured:
        """Patterns in the kernels' precision, packed ones as they are."""
        kept = amplitude.astype(self.dtype) if amplitude.dtype == SINGLE else amplitude
        return Measured(kept, None if valid is None else valid.astype(self.dtype))

    def background(self, values: Array) -> Array:
        """A background in the kernels' precision."""
        return values.astype(self.dtype)

    def blur(self, matrix: Array) -> Array:
        """The matrix of a blur in the kernels' precision."""
        return matrix.astype(self.dtype)

    def image(self, values: Array) -> Array:
        """Object or probe in the kernels' precision."""
        return values.astype(self._complex, copy=False)

    def numpy(self, values: Array) -> Array:
        """The array itself."""
        return values

    def pieces(self, values: Array, counts: Sequence[int]) -> list[Array]:
        """What belongs to patterns, in pieces of so many."""
        return np.split(values, np.cumsum(counts)[:-1])

    def rows(self, shape: tuple[int, ...]) -> Array:
        """Room for what is found of every pattern."""
        return np.zeros(shape)

    def put(self, rows: Array, where: slice, piece: Array) -> None:
        """Write what is found of some."""
        rows[where] = piece

    def corners(self, rows: Array, cols: Array) -> list[tuple[int, int]]:
        """First row and column of every patch."""
        return list(zip(rows.tolist(), cols.tolist(), strict=True))

    def cut(self, image: Array, corners: list[tuple[int, int]], n: int) -> Array:
        """Patches of an object."""
        return np.stack([image[row : row + n, col : col + n] for row, col in corners])

    def add(self, total: Array | None, shape: tuple[int, ...], patches: Array, corners: list[tuple[int, int]]) -> Array:
        """Add patches to a sum of the given shape; the adjoint of `cut`."""
        total = np.zeros(shape, patches.dtype) if total is None else total
        n = patches.shape[-1]
        for (row, col), patch in zip(corners, patches, strict=True):
            total[row : row + n, col : col + n] += patch
        return total

    def ramps(self, dx: Array, dy: Array, factor: Array, n: int) -> Array:
        """Phase ramps `(b, S, 1, N, N)`, those of `fourier_shift` for each remainder times each factor."""
        fy, fx = (np.exp(-2j * np.pi * np.multiply.outer(shift, np.fft.fftfreq(n))) for shift in (dy, dx))
        fy = factor[:, None, None] * fy
        return self.image(fy[:, :, None, :, None]) * self.image(fx[:, :, None, None, :])

    def shifted(self, probe: Array, ramps: Array, mixture: Array | None = None) -> Array:
        """The probe moved by every remainder."""
        return _places_as_modes(scipy.fft.ifft2(_mixed(scipy.fft.fft2(probe), mixture) * ramps, overwrite_x=True))

    def transfer(self, transfer: Array, dx: Array, dy: Array) -> Array:
        """What carries waves to a near detector and moves them back `(b, S, N, N)`."""
        back = self.ramps(-dx, -dy, np.ones(len(dx)), transfer.shape[-1])
        return self.image(transfer) * back[:, :, 0]

    def fields(self, probes: Array, patches: Array, transfer: Array | None = None) -> _Fields:
        """Fields at the detector."""
        return self._with_intensity(_propagated(probes * patches[:, None], transfer))

    def fields_along(
        self,
        probes: Array,
        patches: Array,
        probe_moves: Array | None,
        patch_moves: Array,
        transfer: Array | None = None,
    ) -> Array:
        """The change of the fields."""
        waves = probes * patch_moves[:, None]
        if probe_moves is not None:
            waves += probe_moves * patches[:, None]
        return _propagated(waves, transfer)

    def moved(self, values: Array, moves: Array, length: float) -> Array:
        """Values further on."""
        return values + float(length) * moves

    def advanced(self, fields: _Fields, moves: Array, length: float) -> _Fields:
        """Fields further on."""
        return self._with_intensity(fields.waves + float(length) * moves)

    def error(self, fields: _Fields, measured: Measured) -> float:
        """Sum of the likelihood."""
        if self.likelihood == "amplitude":
            return _sum_of_squares(_masked(np.sqrt(_seen(fields, measured)) - self._amplitude(measured), measured))
        return float(self._deviance(fields, measured).sum(dtype=np.float64)) / 2

    def errors(self, fields: _Fields, measured: Measured) -> Array:
        """The likelihood of each pattern."""
        if self.likelihood == "amplitude":
            excess = _masked(np.sqrt(_seen(fields, measured)) - self._amplitude(measured), measured)
            return np.asarray(np.einsum("bkl,bkl->b", excess, excess))
        return np.asarray(self._deviance(fields, measured).sum(axis=(-2, -1))) / 2

    def pull(
        self, fields: _Fields, measured: Measured, probes: Array, transfer: Array | None = None
    ) -> tuple[float, Array, Array]:
        """Error, residual waves, and the gradient with respect to the patches."""
        if self.likelihood == "amplitude":
            modulus = np.sqrt(_seen(fields, measured))
            excess = _masked(modulus - self._amplitude(measured), measured)
            error, ratio = _sum_of_squares(excess), excess / modulus
        else:
            error = self.error(fields, measured)
            ratio = _masked((1 - self._count(measured) / _seen(fields, measured)) / 2, measured)
        waves = _back_propagated(fields.waves * _blurred(ratio, measured)[:, None], transfer)
        return error, waves, sum_of_modes(waves * probes.conj())

    def back(self, waves: Array, patches: Array, incident: Array, gap: Array) -> tuple[Array, Array]:
        """Residual waves behind the slice before, and the gradient with respect to its patches."""
        waves = _back_propagated(waves * patches[:, None].conj(), gap)
        return waves, sum_of_modes(waves * incident.conj())

    def probe_gradient(self, waves: Array, patches: Array, ramps: Array, mixture: Array | None = None) -> Array:
        """Gradient with respect to the probe."""
        spectra = scipy.fft.fft2(waves * patches[:, None].conj(), overwrite_x=True)
        back = spectra.reshape(*ramps.shape[:2], -1, *spectra.shape[2:]) * ramps.conj()
        if mixture is None:
            return scipy.fft.ifft2(back.reshape(-1, *back.shape[2:]).sum(axis=0))
        first = np.tensordot(mixture.conj().T, back[:, :, 0].sum(axis=1), 1)
        others = back[:, :, 1:].sum(axis=(0, 1))
        return scipy.fft.ifft2(np.concatenate([first[:1], others, first[1:]]))

    def slopes(self, fields: _Fields, moves: Array, measured: Measured) -> float:
        """`sum J^2`."""
        change = _blurred(_product(fields.waves, moves), measured)
        return _sum_of_squares(_masked(change / np.sqrt(_seen(fields, measured)), measured))

    def probe_slopes(self, probe: Array, ramps: Array) -> tuple[Array, Array]:
        """How `shifted` changes with dx and with dy."""
        spectrum = scipy.fft.fft2(probe) * ramps
        turn = self.image(-2j * np.pi * np.fft.fftfreq(probe.shape[-1]))
        x, y = (_places_as_modes(scipy.fft.ifft2(spectrum * ramp)) for ramp in (turn[None, :], turn[:, None]))
        return x, y

    def position_terms(
        self,
        probe: Array,
        patches: Array,
        measured: Measured,
        ramps: Array,
        transfer: Array | None = None,
        mixture: Array | None = None,
    ) -> Array:
        """Gradient and curvature of the likelihood in (dx, dy), by the derivative of the Fourier shift."""
        spectrum = _mixed(scipy.fft.fft2(probe), mixture) * ramps
        fields = self.fields(_places_as_modes(scipy.fft.ifft2(spectrum)), patches, transfer)
        turn = self.image(-2j * np.pi * np.fft.fftfreq(probe.shape[-1]))
        modulus, residual = self._residual(fields, measured)
        slopes = []
        for ramp in (turn[None, :], turn[:, None]):
            moves = self.fields(_places_as_modes(scipy.fft.ifft2(spectrum * ramp)), patches, transfer).waves
            if transfer is not None:  # which moves the field back as far as the probe was moved
                moves = moves - scipy.fft.ifft2(scipy.fft.fft2(fields.waves) * ramp)
            slopes.append(_blurred(_product(fields.waves, moves), measured) / modulus)
        return _terms(slopes, residual, measured)

    def patch_terms(
        self,
        fields: _Fields,
        probes: Array,
        moves: Sequence[Array],
        measured: Measured,
        floor: float,
        transfer: Array | None = None,
    ) -> Array:
        """Gradient and curvature along changes of the patches, by intensities."""
        along = [self.fields_along(probes, each, None, each, transfer) for each in moves]
        return self.move_terms(fields, along, measured, floor)

    def move_terms(
        self, fields: _Fields, moves: Sequence[Array], measured: Measured, floor: float | None = None
    ) -> Array:
        """Gradient and curvature along changes of the fields."""
        if floor is None:
            root, residual = self._residual(fields, measured)
        else:
            seen = _seen(fields, measured)
            root = np.sqrt(seen + floor)
            residual = (seen - self._count(measured)) / (2 * root)
        changes = (_blurred(_product(fields.waves, each), measured) for each in moves)
        return _terms([change / root for change in changes], residual, measured)

    def variation_terms(
        self, fields: _Fields, moves: _Fields, places: int, mixture: Array, measured: Measured
    ) -> Array:
        """Gradient and curvature of the likelihood in the coefficients of a probe that varies."""
        modulus, residual = self._residual(fields, measured)
        first, along = (_by_place(each.waves, places) for each in (fields, moves))
        first, held = first[:, :, 0], mixture[:, 0].real[:, None, None]
        own = held * (first.real**2 + first.imag**2).sum(axis=1)
        weight = mixture[:, 1:, None, None]
        cross = held[:, None] * (first[:, :, None].conj() * along).sum(axis=1)
        changes = np.concatenate([cross.real - weight.real * own[:, None], -cross.imag - weight.imag * own[:, None]], 1)
        return _terms([_blurred(each, measured) / modulus for each in np.moveaxis(changes, 1, 0)], residual, measured)

    def flux_terms(self, fields: _Fields, measured: Measured) -> Array:
        """Gradient and curvature of the likelihood in the logarithm of a factor."""
        modulus, residual = self._residual(fields, measured)
        slope = _masked(_blurred(fields.intensity - self.floor, measured) / modulus, measured)
        return np.stack([(each * slope).sum(axis=(-2, -1)) for each in (residual, slope)], axis=-1)[:, None]

    def background_terms(self, fields: _Fields, measured: Measured) -> Array:
        """Gradient and curvature of the likelihood in the background of each pixel."""
        modulus, residual = self._residual(fields, measured)
        slope = _masked(1 / (2 * modulus), measured)
        return np.stack([(each * slope).sum(axis=0, dtype=np.float64) for each in (residual, slope)])

    def blur_terms(self, fields: _Fields, measured: Measured, blur: Array, slope: Array) -> Array:
        """Gradient and curvature of the likelihood in a number of the blur."""
        modulus, residual = self._residual(fields, measured)
        change = slope @ fields.intensity @ blur + blur @ fields.intensity @ slope
        return _terms([change / (2 * modulus)], residual, measured)

    def compared(self, fields: _Fields, measured: Measured, light: Array, photon_scale: float) -> Array:
        """What patterns say of the fields."""
        seen, amplitude = _seen(fields, measured), self._amplitude(measured)
        brightest = np.maximum(seen.max(axis=(1, 2), keepdims=True), light.max())
        expected = photon_scale * np.maximum(seen, ROUNDING * brightest)
        misfit = np.sqrt(photon_scale) * amplitude
        counts = misfit**2
        valid = True if measured.valid is None else measured.valid != 0
        values = (
            deviance(counts, expected),
            (np.sqrt(expected) - misfit) ** 2,
            counts,
            photon_scale * amplitude * np.sqrt(light),
            np.broadcast_to(photon_scale * light, counts.shape),
        )
        first, *others = (np.sum(each, axis=(1, 2), where=valid) for each in values)
        return np.column_stack([first, poisson_moments(expected, valid), *others])

    def _deviance(self, fields: _Fields, measured: Measured) -> Array:
        """Half that of each pixel: `Y log(Y / L) - Y + L`, written so that it loses nothing where Y is near L."""
        count = self._count(measured)
        change = (_seen(fields, measured) - count) / count
        return _masked(count * (change - np.log1p(change)), measured)

    def _residual(self, fields: _Fields, measured: Measured) -> tuple[Array, Array]:
        """`a` and r."""
        modulus = np.sqrt(_seen(fields, measured))
        if self.likelihood == "poisson":
            return modulus, (_seen(fields, measured) - self._count(measured)) / (2 * modulus)
        return modulus, modulus - self._amplitude(measured)

    def _with_intensity(self, waves: Array) -> _Fields:
        return _Fields(waves, sum_of_modes(waves.real**2 + waves.imag**2) + self.floor)

    def _amplitude(self, measured: Measured) -> Array:
        """Of patterns that may be packed."""
        kept: Array = measured.amplitude
        return kept if kept.dtype == self.dtype else unpacked(kept).astype(self.dtype)

    def _count(self, measured: Measured) -> Array:
        """`Y + e`."""
        return self._amplitude(measured) ** 2 + self.floor


def _places_as_modes(values: Array) -> Array:
    """`(b, S, M, N, N)` as `(b, S M, N, N)`."""
    return values.reshape(len(values), -1, *values.shape[3:])


def _by_place(waves: Array, places: int) -> Array:
    """`(b, S M, N, N)` as `(b, S, M, N, N)`."""
    return waves.reshape(len(waves), places, -1, *waves.shape[2:])


def _mixed(spectra: Array, mixture: Array | None) -> Array:
    """The first mode of a probe that varies as it is in each pattern, with the others `(b, 1, M, N, N)`."""
    if mixture is None:
        return spectra
    count = len(spectra) - mixture.shape[1] + 1
    first = np.tensordot(mixture, np.concatenate([spectra[:1], spectra[count:]]), 1)[:, None]
    others = np.broadcast_to(spectra[1:count], (len(mixture), count - 1, *spectra.shape[1:]))
    return np.concatenate([first, others], axis=1)[:, None]


def _propagated(waves: Array, transfer: Array | None) -> Array:
    """Exit waves at the detector, which is far away without a transfer function."""
    if transfer is None:
        return scipy.fft.fft2(waves, norm="ortho", overwrite_x=True)
    return scipy.fft.ifft2(_carried(scipy.fft.fft2(waves, overwrite_x=True), transfer), overwrite_x=True)


def _back_propagated(fields: Array, transfer: Array | None) -> Array:
    """The adjoint of `_propagated`."""
    if transfer is None:
        return scipy.fft.ifft2(fields, norm="ortho", overwrite_x=True)
    return scipy.fft.ifft2(_carried(scipy.fft.fft2(fields, overwrite_x=True), transfer.conj()), overwrite_x=True)


def _carried(spectra: Array, transfer: Array) -> Array:
    """Spectra `(b, S M, N, N)` times a transfer function, that of each place `(b, S, N, N)` for all its modes."""
    if transfer.ndim == 2 or transfer.shape[1] == 1:
        return spectra * transfer
    return _places_as_modes(_by_place(spectra, transfer.shape[1]) * transfer[:, :, None])


def _seen(fields: _Fields, measured: Measured) -> Array:
    """`a^2` `(b, N, N)`, as the detector blurs it and with what it adds."""
    intensity = _blurred(fields.intensity, measured)
    return intensity if measured.background is None else intensity + measured.background


def _blurred(values: Array, measured: Measured) -> Array:
    """Intensities or their changes as the detector sees them."""
    return values if measured.blur is None else measured.blur @ values @ measured.blur


def _product(some: Array, others: Array) -> Array:
    """`Re sum_m conj(a_m) b_m` `(b, N, N)`."""
    return np.asarray(sum_of_modes(some.real * others.real + some.imag * others.imag))


def _terms(slopes: list[Array], residual: Array, measured: Measured) -> Array:
    """Normal equations of K slopes."""
    jacobian, residual = np.stack(slopes, axis=1), _masked(residual, measured)
    valid = _masked(np.ones_like(residual), measured)
    curvature = np.einsum("bikl,bjkl,bkl->bij", jacobian, jacobian, valid)
    gradient = (jacobian * residual[:, None]).sum(axis=(-2, -1))
    return np.concatenate([gradient[..., None], curvature], axis=-1)


def _masked(values: Array, measured: Measured) -> Array:
    return values if measured.valid is None else values * measured.valid


def _sum_of_squares(values: Array) -> float:
    return float(np.vdot(values, values))


ENGINE = Engine("numpy", NumpyKernels, ("dtype",))
"""The entry of this engine (`ptycho.core.refinement.device.engine`)."""
