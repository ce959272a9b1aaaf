"""One step of the optimiser by several processes, each of which has a part of the batch."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Protocol

import numpy as np
import tensorflow as tf

from ptycho.tf.distributed.crew import Crew
from ptycho.tf.graphs import graph_of
from ptycho.tf.pinn import PtychoPINN

__all__ = ["SharedStep"]

Batch = Sequence[tf.Tensor]


class Learning(Protocol):
    """What a step needs of `ptycho.tf.fit.TrainingModule`."""

    models: list[PtychoPINN]
    model: PtychoPINN
    variables: list[tf.Variable]

    def gradients(self, *batch: tf.Tensor, experiment_id: int = 0) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """The loss of a batch, and its gradients with respect to `variables`."""

    def apply(self, gradients: Sequence[tf.Tensor]) -> None:
        """Take one step of the optimiser with these gradients."""


class SharedStep:
    """The step of `TrainingModule.training_step` for a batch that several processes share.

    The loss of a batch is the mean over its groups, so that loss and gradients of the whole are those of the parts, by
    their shares of the groups, added up. All processes add the same numbers in one operation, whatever the size of
    their parts, and one without a group adds nothing. Then each takes the same step. What a normalisation has noted of
    its part is averaged likewise.

    Args:
        module: model, loss and optimiser; every process has the same.
        team: the processes.
        use_xla: compile loss and gradients.
    """

    def __init__(self, module: Learning, team: Crew, use_xla: bool = False) -> None:
        self.module, self.team = module, team
        self._gradients = [
            graph_of(partial(module.gradients, experiment_id=number), use_xla) for number in range(len(module.models))
        ]
        self._update = graph_of(self._together)

    def __call__(self, experiment_id: int, own: Batch, groups: int) -> tf.Tensor:
        """Take a step; return the loss of the whole batch before it.

        Args:
            experiment_id: that the batch is of.
            own: the part of this process, which may have no group.
            groups: of the whole batch.
        """
        dtype, count = self.module.model.dtype, int(own[0].shape[0])
        if count:
            value, gradients = self._gradients[experiment_id](*own)
        else:
            value, gradients = tf.zeros((), dtype), [tf.zeros_like(variable) for variable in self.module.variables]
        self.team.sum(np.zeros(1))  # all are there: one that is not is named here, where TensorFlow would only wait
        with self.team.watched():
            return self._update(tf.constant(count / groups, dtype), value, *gradients)

    def _together(self, share: tf.Tensor, value: tf.Tensor, *gradients: tf.Tensor) -> tf.Tensor:
        """Add what the processes have, and take the step; the loss of all."""
        noted = self.module.model.running_statistics
        parts = [value, *gradients, *noted]
        flat = share * tf.concat([tf.reshape(part, [-1]) for part in parts], axis=0)
        pieces = tf.split(self.team.added(flat), [part.shape.num_elements() for part in parts])
        loss, *sums = (tf.reshape(piece, part.shape) for piece, part in zip(pieces, parts, strict=True))
        for statistic, mean in zip(noted, sums[len(gradients) :], strict=True):
            statistic.assign(mean)
        self.module.apply(sums[: len(gradients)])
        return loss
