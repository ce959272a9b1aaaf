"""Attention: features times numbers in (0, 2) that start at 1; formulas and sources in `ptycho.networks.parts`."""

from __future__ import annotations

import math
from typing import Any

import keras
import tensorflow as tf

from ptycho.networks.parts import ChannelGate, EfficientGate, Gate, SpatialGate
from ptycho.tf.direct_layer import DirectLayer

__all__ = ["ChannelAttention", "EfficientChannelAttention", "SpatialAttention", "attention"]


class EfficientChannelAttention(DirectLayer):
    """A short kernel along the channels of the mean over the pixels (ECA)."""

    def __init__(self, spec: EfficientGate, dtype: str = "float32", seed: Any = None) -> None:
        super().__init__(dtype=dtype)
        self.spec = spec
        self.kernel = self.add_weight(shape=(spec.kernel,), initializer="zeros", name="kernel")
        self.built = True

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """`(B, n, n, C)` -> the same."""
        means = tf.reduce_mean(x, axis=(1, 2))[..., None]
        score = tf.nn.conv1d(means, self.kernel.value[:, None, None], stride=1, padding="SAME")[..., 0]
        return x * (2 * tf.sigmoid(score))[:, None, None]

    def named_parameters(self) -> dict[str, keras.Variable]:
        """Trained variables by canonical name."""
        return {f"{self.spec.name}/kernel": self.kernel}


class ChannelAttention(DirectLayer):
    """One hidden layer on the mean and on the maximum over the pixels (the channel half of CBAM)."""

    def __init__(self, spec: ChannelGate, dtype: str = "float32", seed: Any = None) -> None:
        super().__init__(dtype=dtype)
        self.spec = spec
        start = keras.initializers.RandomNormal(stddev=math.sqrt(2 / spec.channels), seed=seed)
        self.inner = self.add_weight(shape=(spec.channels, spec.hidden), initializer=start, name="inner")
        self.outer = self.add_weight(shape=(spec.hidden, spec.channels), initializer="zeros", name="outer")
        self.built = True

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """`(B, n, n, C)` -> the same."""
        score = self._score(tf.reduce_mean(x, axis=(1, 2))) + self._score(tf.reduce_max(x, axis=(1, 2)))
        return x * (2 * tf.sigmoid(score))[:, None, None]

    def _score(self, channels: tf.Tensor) -> tf.Tensor:
        return tf.matmul(tf.nn.relu(tf.matmul(channels, self.inner.value)), self.outer.value)

    def named_parameters(self) -> dict[str, keras.Variable]:
        """Trained variables by canonical name."""
        return {f"{self.spec.name}/inner": self.inner, f"{self.spec.name}/outer": self.outer}


class SpatialAttention(DirectLayer):
    """A convolution of the mean and the maximum over the channels (the spatial half of CBAM, or alone)."""

    def __init__(self, spec: SpatialGate, dtype: str = "float32", seed: Any = None) -> None:
        super().__init__(dtype=dtype)
        self.spec = spec
        self.kernel = self.add_weight(shape=(spec.kernel, spec.kernel, 2, 1), initializer="zeros", name="kernel")
        self.built = True

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """`(B, n, n, C)` -> the same."""
        seen = tf.stack([tf.reduce_mean(x, axis=-1), tf.reduce_max(x, axis=-1)], axis=-1)
        return x * (2 * tf.sigmoid(tf.nn.conv2d(seen, self.kernel.value, 1, "SAME")))

    def named_parameters(self) -> dict[str, keras.Variable]:
        """Trained variables by canonical name."""
        return {f"{self.spec.name}/kernel": self.kernel}


def attention(spec: Gate, dtype: str = "float32", seed: Any = None) -> DirectLayer:
    """The layer of a gate."""
    kinds = {EfficientGate: EfficientChannelAttention, ChannelGate: ChannelAttention, SpatialGate: SpatialAttention}
    return kinds[type(spec)](spec, dtype, seed)
