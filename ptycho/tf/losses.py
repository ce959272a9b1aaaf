"""The losses of a prediction: Poisson deviance or absolute error where the detector is valid, and real space.

Detector losses are divided by a property of the data set, never of the batch, so that learning rate, clipping and
floors mean the same at every dose.
"""

from __future__ import annotations

import tensorflow as tf

from ptycho.core.physics.losses import FLATNESS_VARIANCE, INTENSITY_FLOOR
from ptycho.tf.physics import safe_sqrt, squared_modulus, to_complex

__all__ = [
    "amplitude_flatness",
    "mae_loss",
    "mean_deviation",
    "modulus",
    "phasors",
    "poisson_loss",
    "probe_distance",
    "realspace_mae",
    "total_variation",
]


def _valid_counts(counts: tf.Tensor, mask: tf.Tensor | None) -> tf.Tensor:
    """Counts with 0 for whatever an invalid pixel holds: NaN and 2^32 - 1 would spoil gradients that are not used."""
    return counts if mask is None else tf.where(mask, counts, tf.zeros_like(counts))


def _mean_valid(values: tf.Tensor, mask: tf.Tensor | None) -> tf.Tensor:
    if mask is None:
        return tf.reduce_mean(values)
    valid = tf.broadcast_to(mask, tf.shape(values))
    count = tf.reduce_sum(tf.cast(valid, values.dtype))
    return tf.reduce_sum(tf.where(valid, values, tf.zeros_like(values))) / tf.maximum(count, 1.0)


def poisson_loss(expected: tf.Tensor, counts: tf.Tensor, mean_count: float, mask: tf.Tensor | None = None) -> tf.Tensor:
    """Half the Poisson deviance per valid pixel, divided by the mean count: `mean(L - Y + Y log(Y / L)) / mean_count`.

    `expected` L and `counts` Y are photon counts of one shape; `mask` broadcasts to them, True where valid. Written
    as `Y (t - log(1 + t))`, `t = (L - Y) / Y`, which keeps its digits at 1e8 counts a pixel. L is raised by
    `INTENSITY_FLOOR mean_count`, so that a pixel predicted dark has a finite gradient.
    """
    counts = _valid_counts(counts, mask)
    raised = expected + INTENSITY_FLOOR * mean_count
    bright = counts > 0
    divisor = tf.where(bright, counts, tf.ones_like(counts))
    relative = (raised - counts) / divisor
    # log1p for what is nearly right; of a pixel predicted nearly black, 1 + t has no digits left
    close = relative > -0.5
    nearly = tf.math.log1p(tf.where(close, relative, tf.zeros_like(relative)))
    logarithm = tf.where(close, nearly, tf.math.log(raised / divisor))
    return _mean_valid(tf.where(bright, counts * (relative - logarithm), raised), mask) / mean_count


def mae_loss(expected: tf.Tensor, counts: tf.Tensor, mean_count: float, mask: tf.Tensor | None = None) -> tf.Tensor:
    """Mean absolute error of the amplitude per valid pixel, `mean |sqrt(L) - sqrt(Y)| / sqrt(mean_count)`."""
    difference = safe_sqrt(expected) - tf.sqrt(_valid_counts(counts, mask))
    return _mean_valid(tf.abs(difference), mask) / mean_count**0.5


def _power(values: tf.Tensor) -> tf.Tensor:
    """`|O|^2` of complex or real values."""
    return squared_modulus(values) if values.dtype.is_complex else tf.square(values)


def modulus(patches: tf.Tensor) -> tf.Tensor:
    """`|O|` of complex values, with no gradient where it is 0."""
    return safe_sqrt(squared_modulus(patches))


def phasors(patches: tf.Tensor) -> tf.Tensor:
    """Phases as complex numbers of length 1, `O / |O|`, 1 where O is 0: a phase that wraps makes no step in them."""
    length = modulus(patches)
    present = length > 0
    divisor = to_complex(tf.where(present, length, tf.ones_like(length)))
    return tf.where(present, patches / divisor, tf.ones_like(patches))


def total_variation(patches: tf.Tensor) -> tf.Tensor:
    """Isotropic total variation per pixel, `mean sqrt(|O(r, c+1) - O(r, c)|^2 + |O(r+1, c) - O(r, c)|^2)`.

    `patches` O complex or real `(..., N, N)`; a difference that would leave the patch is 0. Flat places have no
    gradient.
    """
    unchanged = [(0, 0)] * (patches.shape.rank - 2)
    along_x = tf.pad(_power(patches[..., :, 1:] - patches[..., :, :-1]), [*unchanged, (0, 0), (0, 1)])
    along_y = tf.pad(_power(patches[..., 1:, :] - patches[..., :-1, :]), [*unchanged, (0, 1), (0, 0)])
    return tf.reduce_mean(safe_sqrt(along_x + along_y))


def mean_deviation(patches: tf.Tensor) -> tf.Tensor:
    """Mean absolute deviation from the mean of each patch, `mean |O - mean_p O|`.

    `patches` O real or complex `(..., N, N)`, `mean_p` over the last two axes. Flat patches have no gradient.
    """
    return tf.reduce_mean(safe_sqrt(_power(_deviations(patches))))


def _deviations(patches: tf.Tensor) -> tf.Tensor:
    """What is left of each patch without its mean."""
    return patches - tf.reduce_mean(patches, axis=(-2, -1), keepdims=True)


def amplitude_flatness(patches: tf.Tensor) -> tf.Tensor:
    """How flat the amplitude is, from 1 (constant in every patch) down to 0: `exp(-v / v_0)`, `v = mean_p var_p |O|`.

    `patches` O complex `(..., N, N)` relative to the nominal object, `v_0 = FLATNESS_VARIANCE`.
    """
    return tf.exp(-tf.reduce_mean(tf.square(_deviations(modulus(patches)))) / FLATNESS_VARIANCE)


def probe_distance(probe: tf.Tensor, reference: tf.Tensor) -> tf.Tensor:
    """Squared distance of a probe from a reference, `sum_m ||u_m P_m - R_m||^2 / sum_m ||R_m||^2`.

    `probe` P and `reference` R are complex `(M, N, N)` of one unit; `u_m = e^(i arg <P_m, R_m>)` takes the free phase
    of a mode out. It is the best one, so that nothing is lost where no gradient goes through it.
    """
    products = tf.math.conj(tf.stop_gradient(probe)) * reference
    turns = phasors(tf.reduce_sum(products, axis=(-2, -1), keepdims=True))
    energy = tf.reduce_sum(squared_modulus(reference))
    return tf.reduce_sum(squared_modulus(turns * probe - reference)) / energy


def realspace_mae(
    patches: tf.Tensor, truth: tf.Tensor, phase_free: bool = True, weight: tf.Tensor | None = None
) -> tf.Tensor:
    """Mean absolute error of the object, `mean |u_g O - Y|`, after one phase per group: `u_g = e^(i arg <O_g, Y_g>)`.

    `patches` O and `truth` Y are complex `(B, ...)` of one shape and one unit, groups first; the gradient goes through
    `u_g` too. Without `phase_free` it is 1: the phase of the truth counts. A `weight` (N, N) counts in the mean and in
    `<O_g, Y_g>`; the patches then end with the axes of the image.
    """
    turned = patches
    if phase_free:
        members = list(range(1, patches.shape.rank))
        products = tf.math.conj(patches) * truth
        products = products if weight is None else to_complex(weight) * products
        products = tf.reduce_sum(products, axis=members, keepdims=True)
        length = safe_sqrt(squared_modulus(products))
        divisor = to_complex(tf.where(length > 0, length, tf.ones_like(length)))
        turned = tf.where(length > 0, products / divisor, tf.ones_like(products)) * patches
    errors = safe_sqrt(squared_modulus(turned - truth))
    return tf.reduce_mean(errors) if weight is None else tf.reduce_mean(weight * errors) / tf.reduce_mean(weight)
