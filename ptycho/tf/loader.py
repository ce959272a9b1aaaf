"""Grouped data for the TensorFlow backend: tensors made on access, batches read from the scan."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from ptycho import params
from ptycho.core.groups.batches import epoch_orders, split_batches
from ptycho.core.groups.container import GroupContainer, Indices
from ptycho.errors import ConfigError, DataError

__all__ = ["PtychoDataContainer", "load"]

Arrays = tuple[NDArray[Any], ...]

PER_SCAN = ("objectGuess", "sample_indices")
"""Keys of the grouped dict that are of the scan, not of a group."""


class PtychoDataContainer(GroupContainer):
    """`ptycho.core.groups.container.GroupContainer` with TensorFlow tensors; channel-last throughout."""

    def tensor(self, array: NDArray[Any]) -> tf.Tensor:
        """An array as a tensor."""
        return tf.convert_to_tensor(array)

    def batch(self, indices: Indices, truth: bool = False) -> tuple[tf.Tensor, ...]:
        """Groups of one step: `X_norm (b, N, N, C)`, positions `(b, 1, 2, C)`, mask `(b or 1, N, N, C or 1)`.

        With `truth` a fourth tensor, `Y (b, N, N, C)`; DataError where the scan has none.
        """
        return tuple(self.tensor(array) for array in self.arrays(indices, truth))

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


def load(
    cb: Callable[[], Any],
    probeGuess: NDArray[Any],
    which: Literal["train", "test"] | None = None,
    create_split: bool = False,
) -> PtychoDataContainer:
    """Container of the grouped data that a callback returns.

    Args:
        cb: returns the grouped dict; with `create_split` the pair `(grouped dict, fraction for training)`.
        probeGuess: complex `(N, N)` or `(M, N, N)`.
        which: with `create_split`, the part to take: the first groups ('train') or the others ('test').
        create_split: whether to take a part; otherwise `which` is a name without effect.

    Raises:
        ConfigError: `create_split` with an unknown part or fraction.
        DataError: the part is empty.
    """
    grouped = cb()
    if create_split:
        grouped, fraction = grouped
        grouped = _part(grouped, which, float(fraction))
    return PtychoDataContainer(grouped, probeGuess, norm_Y_I=params.cfg.get("intensity_scale"))


def _part(grouped: Mapping[str, Any], which: str | None, fraction: float) -> dict[str, Any]:
    """The groups of the training or of the test part."""
    if which not in ("train", "test") or not 0 < fraction < 1:
        raise ConfigError(
            f"create_split expects which='train' or 'test' and a fraction between 0 and 1, found which={which!r} and "
            f"{fraction}: correct them, or use create_split=False"
        )
    count = len(grouped["nn_indices"])
    border = round(count * fraction)
    part = slice(0, border) if which == "train" else slice(border, count)
    if not 0 < border < count:
        raise DataError(
            f"a fraction of {fraction} of {count} groups leaves one part empty: group more, or do not split"
        )
    return {key: value if key in PER_SCAN or value is None else value[part] for key, value in grouped.items()}
