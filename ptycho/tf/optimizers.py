"""Optimisers with the update rules of PyTorch, so that one step is the same step in both backends.

Keras adds epsilon before it corrects the bias of the second moment, lets `weight_decay` of Adam act on the weights
instead of the gradient, and puts the learning rate into the momentum: each is another step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import tensorflow as tf

from ptycho.config.config import TrainingConfig
from ptycho.core.training.clipping import WEIGHT_FLOOR, Unit, clip_unit

__all__ = ["Optimizer", "adaptive_clip", "clip_adaptively", "clip_gradients", "optimizer_of"]

Rule = Callable[..., tf.Tensor]
"""What a step takes from a variable per unit of the rate: `rule(gradient, *moments)`, which also moves the moments."""

EPSILON = 1e-8
NORM_FLOOR = 1e-6
"""Added to the norm of the gradient before it is divided by, as PyTorch does."""


class Optimizer:
    """`adam`, `adamw` or `sgd` of a configuration for a list of variables of one type.

    `rate` is the learning rate, a variable; `state` are the variables that a checkpoint has to keep: the number of
    steps taken, then the moments.
    """

    def __init__(self, config: TrainingConfig, variables: Sequence[tf.Variable], rate: float) -> None:
        self.config = config
        self.variables = list(variables)
        self.rate = tf.Variable(rate, trainable=False, dtype=tf.float64)
        self.steps = tf.Variable(0, trainable=False, dtype=tf.int64)
        moments = 1 if config.optimizer == "sgd" else 2
        self.moments = [
            [tf.Variable(tf.zeros(v.shape, v.dtype), trainable=False) for v in self.variables] for _ in range(moments)
        ]

    @property
    def state(self) -> list[tf.Variable]:
        """Everything that a step changes beside the weights."""
        return [self.steps, *(moment for moments in self.moments for moment in moments)]

    def apply(self, gradients: Sequence[tf.Tensor]) -> None:
        """Take one step."""
        self.steps.assign_add(1)
        kind, decay = self.variables[0].dtype, self.config.weight_decay
        rate = tf.cast(self.rate, kind)
        change = self._momentum(kind) if self.config.optimizer == "sgd" else self._adam(kind)
        amount, kept = tf.constant(decay, kind), 1 - rate * decay
        for variable, gradient, *moments in zip(self.variables, gradients, *self.moments, strict=True):
            if decay and self.config.optimizer == "adamw":
                variable.assign(variable * kept, read_value=False)
            elif decay:
                gradient += amount * variable
            variable.assign_sub(rate * change(gradient, *moments), read_value=False)

    def _momentum(self, kind: tf.DType) -> Rule:
        momentum = tf.constant(self.config.momentum, kind)

        def change(gradient: tf.Tensor, velocity: tf.Variable) -> tf.Tensor:
            return _kept(velocity, momentum * velocity + gradient)

        return change

    def _adam(self, kind: tf.DType) -> Rule:
        """The rule with its numbers, made once for all variables: a graph takes its time for every one."""
        beta1, beta2 = self.config.adam_beta1, self.config.adam_beta2
        taken = tf.cast(self.steps, tf.float64)
        correction = tf.cast(1 / (1 - tf.constant(beta1, tf.float64) ** taken), kind)
        root = tf.cast(tf.sqrt(1 - tf.constant(beta2, tf.float64) ** taken), kind)
        numbers = (beta1, 1 - beta1, beta2, 1 - beta2, EPSILON)
        old1, new1, old2, new2, floor = (tf.constant(number, kind) for number in numbers)

        def change(gradient: tf.Tensor, first: tf.Variable, second: tf.Variable) -> tf.Tensor:
            mean = _kept(first, old1 * first + new1 * gradient)
            power = _kept(second, old2 * second + new2 * tf.square(gradient))
            return correction * mean / (tf.sqrt(power) / root + floor)

        return change


def _kept(variable: tf.Variable, value: tf.Tensor) -> tf.Tensor:
    """The value, which the variable has from now on."""
    variable.assign(value, read_value=False)
    return value


def optimizer_of(config: TrainingConfig, variables: Sequence[tf.Variable], rate: float) -> Optimizer:
    """`adam`, `adamw` or `sgd` of a configuration for variables, with a learning rate."""
    return Optimizer(config, variables, rate)


def clip_gradients(gradients: Sequence[tf.Tensor], limit: float | None, algorithm: str) -> list[tf.Tensor]:
    """Limit the norm of all gradients together (`norm`) or each of their values (`value`); None: as they are."""
    if limit is None:
        return list(gradients)
    if algorithm == "value":
        return [tf.clip_by_value(gradient, -limit, limit) for gradient in gradients]
    norm = tf.sqrt(tf.add_n([tf.reduce_sum(tf.square(gradient)) for gradient in gradients]))
    factor = tf.minimum(limit / (norm + NORM_FLOOR), 1.0)
    return [factor * gradient for gradient in gradients]


def adaptive_clip(gradient: tf.Tensor, weights: tf.Tensor, ratio: float, unit: Unit) -> tf.Tensor:
    """`G min(1, ratio max(|W|, floor) / |G|)`, as the oracle (`ptycho.core.training.clipping`)."""
    axes = list(range(gradient.shape.rank - 1)) if unit == "output" else None
    limit = ratio * tf.maximum(_norm(weights, axes), WEIGHT_FLOOR)
    norm = _norm(gradient, axes)
    return gradient * tf.where(norm > limit, limit / tf.where(norm > 0, norm, 1.0), 1.0)


def _norm(values: tf.Tensor, axes: list[int] | None) -> tf.Tensor:
    return tf.sqrt(tf.reduce_sum(tf.square(values), axis=axes, keepdims=True))


def clip_adaptively(
    gradients: Sequence[tf.Tensor], variables: Sequence[tf.Variable], names: Sequence[str | None], ratio: float
) -> list[tf.Tensor]:
    """Clip the gradients of a network's variables, all but those of its heads, by their canonical names.

    Without a name a gradient stays as it is: the probe and the scale are no part of the network.
    """
    clipped = []
    for gradient, variable, name in zip(gradients, variables, names, strict=True):
        unit = None if name is None else clip_unit(name, variable.shape.rank)
        clipped.append(gradient if unit is None else adaptive_clip(gradient, variable, ratio, unit))
    return clipped
