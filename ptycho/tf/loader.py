"""Grouped data for the TensorFlow backend: tensors made on access, batches read from the scan."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from ptycho.core.groups.batches import epoch_orders, split_batches
from ptycho.core.groups.container import GroupContainer, Indices

__all__ = ["PtychoDataContainer"]

Arrays = tuple[NDArray[Any], ...]


class PtychoDataContainer(GroupContainer):
    """`ptycho.core.groups.container.GroupContainer` with TensorFlow tensors; channel-last throughout."""

    def tensor(self, array: NDArray[Any]) -> tf.Tensor:
        """An array as a tensor."""
        return tf.convert_to_tensor(array)

    def batch(self, indices: Indices, truth: bool = False, part: slice = slice(None)) -> tuple[tf.Tensor, ...]:
        """Groups of one step: `X_norm (b, N, N, C)`, positions `(b, 1, 2, C)`, mask `(b or 1, N, N, C or 1)`.

        With `truth` a fourth tensor, `Y (b, N, N, C)`; DataError where the scan has none.
        Where the scan knows them, flux `(b, 1, 1, C)` and background `(1, N, N, 1)` come at the end, then the matrix of
        the blur `(1, N, N, 1)`. `part`: of these groups those that a process works on.
        """
        return tuple(self.tensor(array) for array in self.arrays(indices, truth, part))

    def as_tf_dataset(self, batch_size: int, shuffle_seed: int | None = None) -> tf.data.Dataset:
        """Batches as of `batch`, read from the scan one by one, the last one smaller.

        Args:
            batch_size: groups per batch.
            shuffle_seed: the order of training with this seed, another one in every pass; None: as grouped.
        """
        count, orders = len(self), None if shuffle_seed is None else epoch_orders(len(self), shuffle_seed)

        def read() -> Iterator[Arrays]:
            order = np.arange(count) if orders is None else next(orders)
            return map(self.arrays, split_batches(order, batch_size))

        signature = [
            tf.TensorSpec((None, *array.shape[1:]), array.dtype) for array in self.arrays(slice(0, min(1, count)))
        ]
        return tf.data.Dataset.from_generator(read, output_signature=tuple(signature)).prefetch(2)
