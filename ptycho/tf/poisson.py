"""What photon noise alone does to the misfit of a pixel: `ptycho.core.physics.poisson` in TensorFlow."""

from __future__ import annotations

import tensorflow as tf

from ptycho.core.physics.poisson import BRIGHT, DIM, SERIES, moment_table

__all__ = ["Moments"]


class Moments:
    """The moments of patterns, in double precision, from tables that stay on the device."""

    def __init__(self) -> None:
        self._start, self._step, table = moment_table()
        nodes = tf.constant(table)
        self._lines = tf.concat([nodes[:-1], nodes[1:] - nodes[:-1]], axis=1)
        self._series = tf.constant(SERIES, tf.float64)

    def __call__(self, expected: tf.Tensor, valid: tf.Tensor | None = None) -> tf.Tensor:
        """Mean deviance, variance of the deviance and mean squared misfit of amplitudes, summed over each pattern.

        Args:
            expected: (n, N, N) float64 photons L >= 0.
            valid: (N, N) or (n, N, N), 1 where a pixel counts, else 0; None: all count.

        Returns:
            (n, 3).
        """
        photons = expected if valid is None else expected * valid
        photons = tf.reshape(photons, (photons.shape[0], -1))
        return self._tabulated(photons) + self._bright(photons)

    def _tabulated(self, photons: tf.Tensor) -> tf.Tensor:
        """Sums over the pixels up to BRIGHT: the value at the node below, and the slope to the next one."""
        place = (tf.math.log(tf.clip_by_value(photons, DIM, BRIGHT)) - self._start) / self._step
        node = tf.minimum(tf.floor(place), self._lines.shape[0] - 1)
        lit = tf.cast((photons > DIM) & (photons <= BRIGHT), photons.dtype)
        weights = tf.stack([lit, (place - node) * lit], axis=1)
        sums = weights @ tf.gather(self._lines, tf.cast(node, tf.int32))
        return sums[:, 0, :3] + sums[:, 1, 3:]

    def _bright(self, photons: tf.Tensor) -> tf.Tensor:
        """Sums over the pixels above BRIGHT."""
        bright = photons > BRIGHT
        u = tf.where(bright, 1 / tf.maximum(photons, BRIGHT), tf.zeros_like(photons))
        powers = (tf.cast(bright, photons.dtype), u, u * u, u * u * u)
        sums = tf.stack([tf.reduce_sum(each, axis=1) for each in powers], axis=1)
        return tf.matmul(sums, self._series, transpose_b=True)
