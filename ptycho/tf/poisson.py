"""What photon noise alone does to the misfit of a pixel: `ptycho.core.physics.poisson` in TensorFlow."""

from __future__ import annotations

import tensorflow as tf

from ptycho.core.physics.poisson import SERIES, moment_table

__all__ = ["Moments"]


class Moments:
    """The moments of patterns, in double precision, from tables that stay on the device."""

    def __init__(self) -> None:
        self._start, self._step, table = moment_table()
        nodes = tf.constant(table)
        lines = tf.concat([nodes[:-1], nodes[1:] - nodes[:-1]], axis=1)
        self._lines = tf.pad(lines, [(1, 1), (0, 0)])
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
        last = self._lines.shape[0] - 1
        place = (tf.math.log(photons) - (self._start - self._step)) / self._step
        place = tf.clip_by_value(place, 0.0, last)
        return self._series_of(photons, place == last) + self._tabulated(place)

    def _tabulated(self, place: tf.Tensor) -> tf.Tensor:
        """Sums over the pixels up to BRIGHT: the value at the node below, and the slope to the next; 0 of others."""
        node = tf.floor(place)
        lines = tf.gather(self._lines, tf.cast(node, tf.int32))
        slopes = tf.expand_dims(place - node, 1) @ lines[..., 3:]
        return tf.reduce_sum(lines[..., :3], axis=1) + slopes[:, 0]

    def _series_of(self, photons: tf.Tensor, bright: tf.Tensor) -> tf.Tensor:
        """Sums over the pixels above BRIGHT."""
        u = tf.where(bright, 1 / photons, tf.zeros_like(photons))
        powers = (tf.cast(bright, photons.dtype), u, u * u, u * u * u)
        sums = tf.stack([tf.reduce_sum(each, axis=1) for each in powers], axis=1)
        return tf.matmul(sums, self._series, transpose_b=True)
