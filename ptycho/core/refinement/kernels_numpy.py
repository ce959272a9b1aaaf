"""What a refinement does to a batch of patterns, in NumPy: the oracle of both backends' kernels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.core.physics.diffraction import fourier_shift
from ptycho.core.refinement.passes import Likelihood, Measured

__all__ = ["NumpyKernels"]

Array = NDArray[Any]


class NumpyKernels:
    """`ptycho.core.refinement.passes.Kernels` in double precision; every formula stands there.

    Args:
        likelihood: 'amplitude' or 'poisson'.
        floor: e, added to intensities.
    """

    complex_bytes = 16

    def __init__(self, likelihood: Likelihood, floor: float) -> None:
        self.likelihood, self.floor = likelihood, floor

    def measured(self, amplitude: Array, valid: Array | None) -> Measured:
        """Patterns in double precision."""
        return Measured(amplitude.astype(np.float64), 1.0 if valid is None else valid)

    def image(self, values: Array) -> Array:
        """Object or probe in double precision."""
        return values.astype(np.complex128)

    def numpy(self, values: Array) -> Array:
        """The array itself."""
        return values

    def cut(self, image: Array, rows: Array, cols: Array, n: int) -> Array:
        """Patches of an object."""
        return np.stack([image[row : row + n, col : col + n] for row, col in zip(rows, cols, strict=True)])

    def add(self, total: Array | None, shape: tuple[int, ...], patches: Array, rows: Array, cols: Array) -> Array:
        """Add patches to a sum of the given shape; the adjoint of `cut`."""
        total = np.zeros(shape, patches.dtype) if total is None else total
        n = patches.shape[-1]
        for row, col, patch in zip(rows, cols, patches, strict=True):
            total[row : row + n, col : col + n] += patch
        return total

    def ramps(self, dx: Array, dy: Array, n: int) -> tuple[Array, Array]:
        """The remainders themselves."""
        return dx[:, None], dy[:, None]

    def shifted(self, probe: Array, ramps: tuple[Array, Array]) -> Array:
        """The probe moved by every remainder."""
        return fourier_shift(probe[None], *ramps)

    def fields(self, probes: Array, patches: Array) -> Array:
        """Far fields."""
        return np.fft.fft2(probes * patches[:, None], norm="ortho")

    def fields_along(self, probes: Array, patches: Array, probe_moves: Array | None, patch_moves: Array) -> Array:
        """The change of the far fields."""
        waves = probes * patch_moves[:, None]
        return np.fft.fft2(waves if probe_moves is None else waves + probe_moves * patches[:, None], norm="ortho")

    def advanced(self, fields: Array, moves: Array, length: float) -> Array:
        """Fields further on."""
        return fields + length * moves

    def _modulus(self, fields: Array) -> Array:
        return np.sqrt((abs(fields) ** 2).sum(axis=1) + self.floor)

    def _residual(self, modulus: Array, amplitude: Array) -> Array:
        if self.likelihood == "amplitude":
            return modulus - amplitude
        return (modulus**2 - amplitude**2 - self.floor) / (2 * modulus)

    def error(self, fields: Array, measured: Measured) -> Any:
        """Sum of the likelihood."""
        modulus = self._modulus(fields)
        if self.likelihood == "amplitude":
            return ((modulus - measured.amplitude) ** 2 * measured.valid).sum()
        count = measured.amplitude**2 + self.floor
        return ((count * np.log(count / modulus**2) - count + modulus**2) * measured.valid).sum() / 2

    def pull(self, fields: Array, measured: Measured, probes: Array) -> tuple[Any, Array, Array]:
        """Error, residual waves, and the gradient with respect to the patches."""
        modulus = self._modulus(fields)
        ratio = self._residual(modulus, measured.amplitude) / modulus * measured.valid
        waves = np.fft.ifft2(fields * ratio[:, None], norm="ortho")
        return self.error(fields, measured), waves, (waves * probes.conj()).sum(axis=1)

    def probe_gradient(self, waves: Array, patches: Array, ramps: tuple[Array, Array]) -> Array:
        """Gradient with respect to the probe."""
        return fourier_shift(waves * patches[:, None].conj(), -ramps[0], -ramps[1]).sum(axis=0)

    def _jacobian(self, fields: Array, moves: Array) -> Array:
        return (fields.conj() * moves).real.sum(axis=1) / self._modulus(fields)

    def slopes(self, fields: Array, moves: Array, measured: Measured) -> Any:
        """`sum J^2`."""
        return (self._jacobian(fields, moves) ** 2 * measured.valid).sum()

    def position_terms(
        self, probe: Array, patches: Array, measured: Measured, ramps: tuple[Array, Array]
    ) -> tuple[Array, Array]:
        """Gradient and curvature of the likelihood in (dx, dy), by the derivative of the Fourier shift."""
        probes = self.shifted(probe, ramps)
        fields = self.fields(probes, patches)
        modulus = self._modulus(fields)
        residual = self._residual(modulus, measured.amplitude) * measured.valid
        frequency = np.fft.fftfreq(probe.shape[-1])
        slopes = []
        for ramp in (frequency[None, :], frequency[:, None]):
            moved = np.fft.ifft2(-2j * np.pi * ramp * np.fft.fft2(probes))
            slopes.append(self._jacobian(fields, self.fields(moved, patches)))
        jacobian = np.stack(slopes, axis=1)
        gradient = (jacobian * residual[:, None]).sum(axis=(-2, -1))
        return gradient, np.einsum("bikl,bjkl,bkl->bij", jacobian, jacobian, measured.valid * np.ones_like(modulus))
