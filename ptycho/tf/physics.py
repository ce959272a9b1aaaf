"""The forward model in TensorFlow: `diffraction` and `projection` of `ptycho.core.physics`, differentiable.

Images are the last two axes, of static shape; the modes of a probe are the axis before them.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from ptycho.core.physics.diffraction import smoothing_matrix
from ptycho.core.physics.projection import FIELD_FLOOR, PROBE_FLOOR

__all__ = [
    "ProjectionConstants",
    "blurred",
    "cleared",
    "far_field",
    "fourier_shift",
    "illuminate",
    "intensity",
    "project_from_vacuum",
    "projection_constants",
    "propagate_back",
    "safe_sqrt",
    "smooth",
    "squared_modulus",
    "to_complex",
]


def squared_modulus(field: tf.Tensor) -> tf.Tensor:
    """`|F|^2` without a root on the way, so that its gradient at 0 is 0 and not undefined."""
    return tf.square(tf.math.real(field)) + tf.square(tf.math.imag(field))


def safe_sqrt(values: tf.Tensor) -> tf.Tensor:
    """Square root of values >= 0 whose gradient at 0 is 0."""
    positive = values > 0
    return tf.where(positive, tf.sqrt(tf.where(positive, values, tf.ones_like(values))), tf.zeros_like(values))


def to_complex(values: tf.Tensor) -> tf.Tensor:
    """Real values as complex ones of the same precision; `tf.cast` does it too, but warns in every gradient."""
    return tf.complex(values, tf.zeros_like(values))


def _side(images: tf.Tensor) -> float:
    """Root of the number of pixels: what makes a Fourier transform unitary."""
    return math.sqrt(images.shape[-2] * images.shape[-1])


def far_field(exit_waves: tf.Tensor) -> tf.Tensor:
    """Propagate to the detector, `fftshift(fft2(psi)) / N`, complex `(..., N, N)`; unitary."""
    return tf.signal.fftshift(tf.signal.fft2d(exit_waves), axes=(-2, -1)) / _side(exit_waves)


def propagate_back(far_fields: tf.Tensor) -> tf.Tensor:
    """Inverse and adjoint of `far_field`."""
    return tf.signal.ifft2d(tf.signal.ifftshift(far_fields, axes=(-2, -1))) * _side(far_fields)


def fourier_shift(images: tf.Tensor, dx: tf.Tensor, dy: tf.Tensor) -> tf.Tensor:
    """Move the content of complex `images (..., N, N)` by `(+dx, +dy)` pixels, periodic and band limited."""
    real = images.dtype.real_dtype
    fy = tf.constant(np.fft.fftfreq(images.shape[-2])[:, None], real)
    fx = tf.constant(np.fft.fftfreq(images.shape[-1])[None, :], real)
    angle = -2 * math.pi * (fy * tf.cast(dy, real)[..., None, None] + fx * tf.cast(dx, real)[..., None, None])
    return tf.signal.ifft2d(tf.signal.fft2d(images) * tf.complex(tf.cos(angle), tf.sin(angle)))


def illuminate(probe: tf.Tensor, patches: tf.Tensor) -> tf.Tensor:
    """Exit waves `psi_m = P_m O_j` `(..., M, N, N)`: probe `(M, N, N)` or one per patch, patches `(..., N, N)`."""
    return probe * tf.expand_dims(patches, -3)


def smooth(exit_waves: tf.Tensor, sigma_px: float) -> tf.Tensor:
    """Smooth exit waves `(..., N, N)` by a Gaussian of `sigma_px` pixels; off when it is 0."""
    if not sigma_px:
        return exit_waves
    matrix = tf.constant(smoothing_matrix(exit_waves.shape[-1], sigma_px), exit_waves.dtype.real_dtype)
    real, imaginary = (matrix @ part @ matrix for part in (tf.math.real(exit_waves), tf.math.imag(exit_waves)))
    return tf.complex(real, imaginary)


def intensity(exit_waves: tf.Tensor) -> tf.Tensor:
    """Expected detector intensity `sum_m |F_m|^2` of exit waves `(..., M, N, N)` -> `(..., N, N)`."""
    return tf.reduce_sum(squared_modulus(far_field(exit_waves)), axis=-3)


def blurred(values: tf.Tensor, blur: tf.Tensor | None = None) -> tf.Tensor:
    """Intensities `(..., N, N)` as the detector sees them, `K I K`; its own adjoint.

    `blur` K `(..., N, N)`, one matrix (`ptycho.core.physics.detector_blur.blur_matrix`); None: as they are.
    """
    if blur is None:
        return values
    # one axis of images: oneDNN makes garbage of `(B, 1, N, N) @ (1, 1, N, N)` (TensorFlow 2.21)
    matrix = tf.reshape(tf.cast(blur, values.dtype), blur.shape[-2:])
    images = tf.reshape(values, (-1, *blur.shape[-2:]))
    return tf.reshape(matrix @ images @ matrix, tf.shape(values))


def cleared(amplitudes: tf.Tensor, flux: tf.Tensor | None = None, background: tf.Tensor | None = None) -> tf.Tensor:
    """What the object alone gives under the beam of the probe, `sqrt(max(A^2 - b, 0) / f)`.

    Flux f and background b, in the unit of A^2, broadcast to the amplitudes A; without them these stay as they are.
    """
    if background is not None:
        amplitudes = tf.sqrt(tf.maximum(tf.square(amplitudes) - background, 0))
    return amplitudes if flux is None else amplitudes * tf.math.rsqrt(flux)


class ProjectionConstants(NamedTuple):
    """What the projection needs of a probe; the fields of `ptycho.core.physics.projection.ProjectionConstants`."""

    phases: tf.Tensor
    vacuum_amplitude: tf.Tensor
    weights: tf.Tensor
    vacuum: tf.Tensor


def projection_constants(probe: tf.Tensor) -> ProjectionConstants:
    """Prepare the projection for a probe `(M, N, N)`, in the unit of the amplitudes that it will see."""
    fields = far_field(probe)
    amplitude = safe_sqrt(tf.reduce_sum(squared_modulus(fields), axis=0))
    power = tf.reduce_sum(squared_modulus(probe), axis=0)
    power_floored = power + PROBE_FLOOR * tf.reduce_max(power)
    return ProjectionConstants(
        phases=fields / to_complex(amplitude + FIELD_FLOOR * tf.reduce_max(amplitude)),
        vacuum_amplitude=amplitude,
        weights=tf.math.conj(probe) / to_complex(power_floored),
        vacuum=power / power_floored,
    )


def project_from_vacuum(
    amplitudes: tf.Tensor, constants: ProjectionConstants, mask: tf.Tensor | None = None
) -> tf.Tensor:
    """Carry amplitudes `(..., N, N)` to the sample plane; complex `(..., N, N)`, 0 for an empty sample."""
    if mask is not None:
        amplitudes = tf.where(mask, amplitudes, constants.vacuum_amplitude)
    waves = propagate_back(to_complex(tf.expand_dims(amplitudes, -3)) * constants.phases)
    return tf.reduce_sum(constants.weights * waves, axis=-3) - to_complex(constants.vacuum)
