"""Fields at the detector, and what is made of them pixel by pixel: in TensorFlow."""

from __future__ import annotations

from typing import Any, NamedTuple

import tensorflow as tf
from numpy.typing import NDArray

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

Array = NDArray[Any]


class Fields(NamedTuple):
    """Fields `(b, S M, N, N)` and `sum_m |F_m|^2 + e` `(b, N, N)`, which every question about them begins with."""

    waves: tf.Tensor
    intensity: tf.Tensor


def detected(fields: Fields, measured: Measured) -> tf.Tensor:
    """`a^2` `(b, N, N)`, as the detector blurs it and with what it adds."""
    intensity = blurred(fields.intensity, measured)
    return intensity if measured.background is None else intensity + measured.background


def blurred(values: tf.Tensor, measured: Measured) -> tf.Tensor:
    """Intensities or their changes as the detector sees them."""
    return values if measured.blur is None else measured.blur @ values @ measured.blur


def mixed(spectra: tf.Tensor, mixture: Array | None) -> tf.Tensor:
    """The first mode of a probe that varies as it is in each pattern, with the others `(b, 1, M, N, N)`."""
    if mixture is None:
        return spectra
    patterns, kinds = mixture.shape
    count, *side = spectra.shape
    count += 1 - kinds
    first = tf.tensordot(tf.convert_to_tensor(mixture), tf.concat([spectra[:1], spectra[count:]], axis=0), 1)
    others = tf.broadcast_to(spectra[1:count], (patterns, count - 1, *side))
    return tf.expand_dims(tf.concat([tf.expand_dims(first, 1), others], axis=1), 1)


def propagated(waves: tf.Tensor, transfer: tf.Tensor | None) -> tf.Tensor:
    """N times the exit waves at the detector, which is far away without a transfer function (times N)."""
    spectra = tf.signal.fft2d(waves)
    return spectra if transfer is None else tf.signal.ifft2d(_carried(spectra, transfer))


def back_propagated(fields: tf.Tensor, transfer: tf.Tensor | None) -> tf.Tensor:
    """The adjoint of the propagation, of fields that are N times the unitary ones."""
    if transfer is None:
        return tf.signal.ifft2d(fields)
    scale = tf.constant(1 / fields.shape[-1] ** 2, fields.dtype)
    return tf.signal.ifft2d(_carried(tf.signal.fft2d(fields), tf.math.conj(transfer)) * scale)


def _carried(spectra: tf.Tensor, transfer: tf.Tensor) -> tf.Tensor:
    """Spectra `(b, S M, N, N)` times a transfer function, that of each place `(b, S, N, N)` for all its modes."""
    if len(transfer.shape) == 2 or transfer.shape[1] == 1:
        return spectra * transfer
    places, side = transfer.shape[1], spectra.shape[-1]
    by_place = tf.reshape(spectra, (len(spectra), places, spectra.shape[1] // places, side, side))
    return tf.reshape(by_place * tf.expand_dims(transfer, 2), spectra.shape)


def over_modes(values: tf.Tensor) -> tf.Tensor:
    """Sum over places and modes `(b, S M, N, N)`; a single one is not copied."""
    return tf.squeeze(values, axis=1) if values.shape[1] == 1 else tf.reduce_sum(values, axis=1)


def product(some: tf.Tensor, others: tf.Tensor) -> tf.Tensor:
    """`Re sum_m conj(a_m) b_m` `(b, N, N)`."""
    return over_modes(tf.math.real(some * tf.math.conj(others)))


def masked(values: tf.Tensor, measured: Measured) -> tf.Tensor:
    """Values, 0 where patterns are not valid."""
    return values if measured.valid is None else values * measured.valid


def sum_of_squares(values: tf.Tensor) -> tf.Tensor:
    """Of values that are N times the unitary ones."""
    return tf.nn.l2_loss(values) * tf.constant(2 / values.shape[-1] ** 2, values.dtype)
