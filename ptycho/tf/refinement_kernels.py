"""What is done to a batch of patterns, in TensorFlow: `ptycho.core.refinement.device.kernels` in tensors.

Operations run one by one unless XLA is asked for: a refinement is often over before a graph of it is compiled.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from ptycho.core.refinement.device.images import NumpyImages
from ptycho.core.refinement.device.kernels import Found, Measured, Share
from ptycho.core.refinement.device.likelihood import ROUNDING, Likelihood
from ptycho.core.refinement.device.memory import USUAL_MEMORY
from ptycho.core.refinement.device.numbers import PlainNumbers
from ptycho.tf.fields import (
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
from ptycho.tf.graphs import graph_of
from ptycho.tf.patches import add_patches, cut_patches
from ptycho.tf.physics import squared_modulus
from ptycho.tf.poisson import Moments
from ptycho.tf.precision import full_float32

__all__ = ["RefinementKernels"]

Array = NDArray[Any]

_COMPILED = ("shifted", "fields", "fields_along", "pull", "probe_gradient", "slopes", "_advanced")


class RefinementKernels:
    """`ptycho.core.refinement.device.kernels.Kernels` in TensorFlow.

    Fields are kept as `fft2` gives them, N times the unitary ones, and so are the amplitudes they are compared with: a
    pass over complex numbers saved at each transform. What leaves a kernel is in the unit of the scan.

    Args:
        likelihood: 'amplitude' or 'poisson'.
        floor: e, added to intensities.
        dtype: real type of the tensors.
        use_xla: compile them, which takes seconds and then saves about a tenth of each iteration.
    """

    def __init__(
        self, likelihood: Likelihood, floor: float, *, dtype: tf.DType = tf.float32, use_xla: bool = False
    ) -> None:
        self.likelihood, self.floor, self.dtype = likelihood, floor, dtype
        self.complex_bytes = 2 * dtype.size
        self._complex = tf.complex128 if dtype == tf.float64 else tf.complex64
        # TensorFlow has no squared difference of complex numbers for GPUs
        self._squared_modulus = squared_modulus if tf.config.list_physical_devices("GPU") else _squared_modulus_on_cpu
        for name in _COMPILED if use_xla else ():
            setattr(self, name, graph_of(getattr(self, name), use_xla=True))

    images, numbers = NumpyImages(), PlainNumbers()
    memory, lanes, batch_pixels = USUAL_MEMORY, 1, 1 << 20
    packs, stream = False, None

    def together(self, work: Callable[[Share], Found], shares: Sequence[Share]) -> list[Found]:
        """What is found of every share, one after the other: operations share the threads of TensorFlow.

        Blurs and normal equations are matrix products, whose factors TensorFlow rounds on a GPU unless it is told.
        """
        with full_float32():
            return [work(share) for share in shares]

    def close(self) -> None:
        """Nothing is left behind."""

    def summed(self, total: tf.Tensor | None, scalar: tf.Tensor) -> tf.Tensor:
        """A sum with one more."""
        more = tf.cast(scalar, tf.float64)
        return more if total is None else total + more

    def total(self, scalars: Sequence[tf.Tensor]) -> float:
        """Their sum."""
        return float(tf.reduce_sum(tf.cast(tf.stack(scalars), tf.float64)))

    def measured(self, amplitude: Array, valid: Array | None) -> Measured:
        """Patterns on the device."""
        scaled = np.multiply(amplitude, amplitude.shape[-1], dtype=self.dtype.as_numpy_dtype)
        return Measured(tf.constant(scaled), None if valid is None else tf.constant(valid, self.dtype))

    def background(self, values: Array) -> tf.Tensor:
        """A background on the device, N^2 times."""
        return tf.constant(values * values.shape[-1] ** 2, self.dtype)

    def blur(self, matrix: Array) -> tf.Tensor:
        """The matrix of a blur on the device."""
        return tf.constant(matrix, self.dtype)

    def image(self, values: Array) -> Array:
        """Object or probe, for cutting and shifting: NumPy's own array, which a CPU reads faster by slices."""
        return np.asarray(values, self._complex.as_numpy_dtype)

    def numpy(self, values: Array | tf.Tensor) -> Array:
        """Back to NumPy."""
        return np.asarray(values)

    def pieces(self, values: Array, counts: Sequence[int]) -> list[Array]:
        """What belongs to patterns, in pieces of so many: NumPy's own, which a CPU reads faster by slices."""
        return np.split(values, np.cumsum(counts)[:-1])

    def rows(self, shape: tuple[int, ...]) -> Array:
        """Room for what is found of every pattern, NumPy's: a tensor cannot be written to."""
        return np.zeros(shape)

    def put(self, rows: Array, where: slice, piece: Array | tf.Tensor) -> None:
        """Write what is found of some."""
        rows[where] = np.asarray(piece)

    def corners(self, rows: Array, cols: Array) -> tuple[Array, Array]:
        """First row and column of every patch."""
        return rows, cols

    def cut(self, image: Array, corners: tuple[Array, Array], n: int) -> tf.Tensor:
        """Patches of an object."""
        return cut_patches(image, *corners, n)

    def add(
        self, total: Array | None, shape: tuple[int, ...], patches: tf.Tensor, corners: tuple[Array, Array]
    ) -> Array:
        """Add patches to a sum of the given shape."""
        if total is None:
            total = np.zeros(shape, self._complex.as_numpy_dtype)
        add_patches(total, patches, *corners)
        return total

    def ramps(self, dx: Array, dy: Array, factor: Array, n: int) -> tf.Tensor:
        """Phase ramps `(b, S, 1, N, N)` that move an image by each remainder, times the factor."""
        frequency = np.fft.fftfreq(n)
        along = [
            self.image(np.exp(-2j * np.pi * frequency * np.asarray(shift, np.float64)[..., None])) for shift in (dy, dx)
        ]
        along[0] *= np.asarray(factor, self.dtype.as_numpy_dtype)[:, None, None]
        return tf.constant(along[0][:, :, None, :, None] * along[1][:, :, None, None, :])

    def shifted(self, probe: Array, ramps: tf.Tensor, mixture: Array | None = None) -> tf.Tensor:
        """The probe moved by every remainder."""
        spectrum = mixed(tf.signal.fft2d(tf.convert_to_tensor(probe)), mixture)
        return _places_as_modes(tf.signal.ifft2d(spectrum * ramps))

    def transfer(self, transfer: Array, dx: Array, dy: Array) -> tf.Tensor:
        """What carries waves to a near detector and moves them back `(b, S, N, N)`, N times."""
        n = transfer.shape[-1]
        back = self.ramps(-dx, -dy, np.ones(len(dx)), n)
        return transfer * self.dtype.as_numpy_dtype(n) * back[:, :, 0]

    def fields(self, probes: tf.Tensor, patches: tf.Tensor, transfer: tf.Tensor | None = None) -> Fields:
        """Fields at the detector."""
        return self._with_intensity(propagated(probes * tf.expand_dims(patches, 1), transfer))

    def fields_along(
        self,
        probes: tf.Tensor,
        patches: tf.Tensor,
        probe_moves: tf.Tensor | None,
        patch_moves: tf.Tensor,
        transfer: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """The change of the fields."""
        waves = probes * tf.expand_dims(patch_moves, 1)
        if probe_moves is not None:
            waves += probe_moves * tf.expand_dims(patches, 1)
        return propagated(waves, transfer)

    def moved(self, values: tf.Tensor, moves: tf.Tensor, length: float) -> tf.Tensor:
        """Values further on."""
        return values + moves * tf.constant(length, self._complex)

    def advanced(self, fields: Fields, moves: tf.Tensor, length: float) -> Fields:
        """Fields further on."""
        return self._advanced(fields.waves, moves, tf.constant(length, self._complex))

    def _advanced(self, waves: tf.Tensor, moves: tf.Tensor, length: tf.Tensor) -> Fields:
        return self._with_intensity(waves + moves * length)

    def error(self, fields: Fields, measured: Measured) -> tf.Tensor:
        """Sum of the likelihood."""
        return self._error(detected(fields, measured), measured)

    def errors(self, fields: Fields, measured: Measured) -> Array:
        """The likelihood of each pattern."""
        seen = detected(fields, measured)
        if self.likelihood == "amplitude":
            each = tf.square(masked(tf.sqrt(seen) - measured.amplitude, measured))
        else:
            each = self._deviance(seen, measured) / 2
        return self.numpy(tf.reduce_sum(each, axis=(-2, -1))) / seen.shape[-1] ** 2

    def pull(
        self, fields: Fields, measured: Measured, probes: tf.Tensor, transfer: tf.Tensor | None = None
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Error, residual waves, and the gradient with respect to the patches."""
        seen = detected(fields, measured)
        if self.likelihood == "amplitude":
            modulus = tf.sqrt(seen)
            excess = masked(modulus - measured.amplitude, measured)
            error, ratio = sum_of_squares(excess), excess / modulus
        else:
            error = self._error(seen, measured)
            ratio = masked(0.5 - 0.5 * self._count(measured) / seen, measured)
        ratio = tf.cast(blurred(ratio, measured), self._complex)
        waves = back_propagated(fields.waves * tf.expand_dims(ratio, 1), transfer)
        return error, waves, over_modes(waves * tf.math.conj(probes))

    def back(
        self, waves: tf.Tensor, patches: tf.Tensor, incident: tf.Tensor, gap: Array
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Residual waves behind the slice before, and the gradient with respect to its patches."""
        waves = tf.signal.ifft2d(tf.signal.fft2d(waves * tf.expand_dims(tf.math.conj(patches), 1)) * gap.conj())
        return waves, over_modes(waves * tf.math.conj(incident))

    def probe_gradient(
        self, waves: tf.Tensor, patches: tf.Tensor, ramps: tf.Tensor, mixture: Array | None = None
    ) -> tf.Tensor:
        """Gradient with respect to the probe."""
        spectra = tf.signal.fft2d(waves * tf.expand_dims(tf.math.conj(patches), 1))
        places, n = ramps.shape[1], spectra.shape[-1]
        modes = spectra.shape[1] // places
        back = tf.reshape(spectra, (-1, places, modes, n, n)) * tf.math.conj(ramps)
        if mixture is None:
            return tf.signal.ifft2d(tf.reduce_sum(tf.reshape(back, (-1, modes, n, n)), axis=0))
        first = tf.tensordot(tf.linalg.adjoint(tf.convert_to_tensor(mixture)), tf.reduce_sum(back[:, :, 0], axis=1), 1)
        others = tf.reduce_sum(back[:, :, 1:], axis=(0, 1))
        return tf.signal.ifft2d(tf.concat([first[:1], others, first[1:]], axis=0))

    def slopes(self, fields: Fields, moves: tf.Tensor, measured: Measured) -> tf.Tensor:
        """`sum J^2`."""
        change = blurred(product(fields.waves, moves), measured)
        return sum_of_squares(masked(change, measured) / tf.sqrt(detected(fields, measured)))

    def probe_slopes(self, probe: Array, ramps: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """How `shifted` changes with dx and with dy."""
        spectrum = tf.signal.fft2d(tf.convert_to_tensor(probe)) * ramps
        turn = self.image(-2j * math.pi * np.fft.fftfreq(probe.shape[-1]))
        x, y = (_places_as_modes(tf.signal.ifft2d(spectrum * ramp)) for ramp in (turn[None, :], turn[:, None]))
        return x, y

    def position_terms(
        self,
        probe: Array,
        patches: tf.Tensor,
        measured: Measured,
        ramps: tf.Tensor,
        transfer: tf.Tensor | None = None,
        mixture: Array | None = None,
    ) -> tf.Tensor:
        """Gradient and curvature of the likelihood in (dx, dy)."""
        spectrum = mixed(tf.signal.fft2d(tf.convert_to_tensor(probe)), mixture) * ramps
        fields = self.fields(_places_as_modes(tf.signal.ifft2d(spectrum)), patches, transfer)
        modulus, residual = self._residual(fields, measured)
        turn = self.image(-2j * math.pi * np.fft.fftfreq(probe.shape[-1]))
        slopes = []
        for ramp in (turn[None, :], turn[:, None]):
            moves = self.fields(_places_as_modes(tf.signal.ifft2d(spectrum * ramp)), patches, transfer).waves
            if transfer is not None:  # which moves the field back as far as the probe was moved
                moves = moves - tf.signal.ifft2d(tf.signal.fft2d(fields.waves) * ramp)
            slopes.append(blurred(product(fields.waves, moves), measured) / modulus)
        return self._terms(slopes, residual, measured)

    def patch_terms(
        self,
        fields: Fields,
        probes: tf.Tensor,
        moves: Sequence[tf.Tensor],
        measured: Measured,
        floor: float,
        transfer: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """Gradient and curvature along changes of the patches, by intensities."""
        along = [self.fields_along(probes, each, None, each, transfer) for each in moves]
        return self.move_terms(fields, along, measured, floor)

    def move_terms(
        self, fields: Fields, moves: Sequence[tf.Tensor], measured: Measured, floor: float | None = None
    ) -> tf.Tensor:
        """Gradient and curvature along changes of the fields."""
        if floor is None:
            root, residual = self._residual(fields, measured)
        else:
            seen = detected(fields, measured)
            root = tf.sqrt(seen + floor * measured.amplitude.shape[-1] ** 2)
            residual = masked((seen - self._count(measured)) / (2 * root), measured)
        changes = (blurred(product(fields.waves, each), measured) for each in moves)
        return self._terms([change / root for change in changes], residual, measured)

    def _terms(self, slopes: list[tf.Tensor], residual: tf.Tensor, measured: Measured) -> tf.Tensor:
        """Normal equations of K slopes, from a residual that is 0 where not valid."""
        pixels = residual.shape[-1] ** 2
        jacobian = tf.reshape(tf.stack(slopes, axis=1), (-1, len(slopes), pixels))
        gradient = tf.linalg.matvec(jacobian, tf.reshape(residual, (-1, pixels)))
        valid = tf.reshape(masked(tf.ones_like(residual), measured), (-1, 1, pixels))
        curvature = tf.matmul(jacobian * valid, jacobian, transpose_b=True)
        return tf.concat([tf.expand_dims(gradient, -1), curvature], axis=-1) / pixels

    def variation_terms(
        self, fields: Fields, moves: Fields, places: int, mixture: Array, measured: Measured
    ) -> tf.Tensor:
        """Gradient and curvature of the likelihood in the coefficients of a probe that varies."""
        modulus, residual = self._residual(fields, measured)
        n = modulus.shape[-1]
        first, along = (tf.reshape(each.waves, (len(mixture), places, -1, n, n)) for each in (fields, moves))
        first, held = first[:, :, 0], mixture[:, 0].real[:, None, None]
        own = held * tf.reduce_sum(self._squared_modulus(first), axis=1)
        slopes = []
        for k in range(1, mixture.shape[1]):
            cross = tf.reduce_sum(tf.math.conj(first) * along[:, :, k - 1], axis=1)
            weight = mixture[:, k, None, None]
            changes = held * tf.math.real(cross) - weight.real * own, -held * tf.math.imag(cross) - weight.imag * own
            slopes += [blurred(each, measured) / modulus for each in changes]
        return self._terms(slopes[::2] + slopes[1::2], residual, measured)

    def flux_terms(self, fields: Fields, measured: Measured) -> tf.Tensor:
        """Gradient and curvature of the likelihood in the logarithm of a factor."""
        modulus, residual = self._residual(fields, measured)
        square = modulus.shape[-1] ** 2
        slope = masked(blurred(fields.intensity - self.floor * square, measured) / modulus, measured)
        sums = (residual * slope, tf.square(slope))
        return tf.stack([tf.reduce_sum(each, axis=(-2, -1)) for each in sums], axis=-1)[:, tf.newaxis] / square

    def background_terms(self, fields: Fields, measured: Measured) -> tf.Tensor:
        """Gradient and curvature of the likelihood in the background of each pixel."""
        modulus, residual = self._residual(fields, measured)
        square = modulus.shape[-1] ** 2
        slope = masked(0.5 / modulus, measured)
        sums = (tf.reduce_sum(tf.cast(each, tf.float64), axis=0) for each in (residual * slope, square * slope**2))
        return tf.stack(list(sums))

    def blur_terms(self, fields: Fields, measured: Measured, blur: tf.Tensor, slope: tf.Tensor) -> tf.Tensor:
        """Gradient and curvature of the likelihood in a number of the blur."""
        modulus, residual = self._residual(fields, measured)
        change = slope @ fields.intensity @ blur + blur @ fields.intensity @ slope
        return self._terms([change / (2 * modulus)], residual, measured)

    def compared(self, fields: Fields, measured: Measured, light: tf.Tensor, photon_scale: float) -> tf.Tensor:
        """What patterns say of the fields."""
        seen, scale = detected(fields, measured), photon_scale / light.shape[-1] ** 2
        brightest = tf.maximum(tf.reduce_max(seen, axis=(1, 2), keepdims=True), tf.reduce_max(light))
        expected = scale * tf.maximum(seen, ROUNDING * brightest)
        counts = scale * tf.square(measured.amplitude)
        values = (
            2 * (tf.math.xlogy(counts, counts / expected) - counts + expected),
            tf.square(tf.sqrt(expected) - math.sqrt(scale) * measured.amplitude),
            counts,
            scale * measured.amplitude * tf.sqrt(light),
            tf.broadcast_to(scale * light, counts.shape),
        )
        sums = (tf.reduce_sum(tf.cast(masked(each, measured), tf.float64), axis=(1, 2)) for each in values)
        first, *others = (each[:, tf.newaxis] for each in sums)
        valid = None if measured.valid is None else tf.cast(measured.valid, tf.float64)
        return tf.concat([first, self._moments(tf.cast(expected, tf.float64), valid), *others], axis=1)

    @cached_property
    def _moments(self) -> Moments:
        return Moments()

    def _residual(self, fields: Fields, measured: Measured) -> tuple[tf.Tensor, tf.Tensor]:
        """`a` and r, 0 where not valid."""
        seen = detected(fields, measured)
        modulus = tf.sqrt(seen)
        residual = modulus - measured.amplitude
        if self.likelihood == "poisson":
            residual = (seen - self._count(measured)) / (2 * modulus)
        return modulus, masked(residual, measured)

    def _with_intensity(self, waves: tf.Tensor) -> Fields:
        """Both N^2 times the unitary ones' squares."""
        floor = tf.constant(self.floor * waves.shape[-1] ** 2, self.dtype)
        return Fields(waves, over_modes(self._squared_modulus(waves)) + floor)

    def _count(self, measured: Measured) -> tf.Tensor:
        """`Y + e`, N^2 times."""
        return tf.square(measured.amplitude) + self.floor * measured.amplitude.shape[-1] ** 2

    def _error(self, intensity: tf.Tensor, measured: Measured) -> tf.Tensor:
        if self.likelihood == "amplitude":
            return sum_of_squares(masked(tf.sqrt(intensity) - measured.amplitude, measured))
        return tf.reduce_sum(self._deviance(intensity, measured)) / (2 * intensity.shape[-1] ** 2)

    def _deviance(self, intensity: tf.Tensor, measured: Measured) -> tf.Tensor:
        """Half that of each pixel: `Y log(Y / L) - Y + L`, written so that it loses nothing where Y is near L."""
        count = self._count(measured)
        change = (intensity - count) / count
        return masked(count * (change - tf.math.log1p(change)), measured)


def _places_as_modes(values: tf.Tensor) -> tf.Tensor:
    """`(b, S, M, N, N)` as `(b, S M, N, N)`."""
    _, places, modes, height, width = values.shape
    return tf.reshape(values, (-1, places * modes, height, width))


def _squared_modulus_on_cpu(field: tf.Tensor) -> tf.Tensor:
    """`squared_modulus` in half the time: a squared difference reads complex numbers once."""
    return tf.math.real(tf.math.squared_difference(field, tf.constant(0, field.dtype)))
