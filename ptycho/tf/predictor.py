"""Object patches of whole scans, and a trained model as callers know it: `predict([amplitudes, positions])`."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike, NDArray

from ptycho.config.config import INFERENCE_BATCH
from ptycho.core.geometry import canvas_size
from ptycho.core.stitching.patch_store import gathered
from ptycho.errors import DataError
from ptycho.tf.graphs import graph_of
from ptycho.tf.loader import PtychoDataContainer
from ptycho.tf.pinn import PtychoPINN
from ptycho.tf.precision import full_float32

__all__ = ["Autoencoder", "DiffractionToObject", "compiled", "predict_batches", "predict_scan"]

Predict = Callable[..., tf.Tensor]


def compiled(function: Predict, size: int, use_xla: bool = False) -> Predict:
    """`predict_members` or `predict_group` of a model for canvases of one size, as a graph.

    It keeps the scales that the model has at its first call, so make one for every scan.
    """

    def predict(*batch: tf.Tensor) -> tf.Tensor:
        normalised, positions, *further = batch
        return function(normalised, positions, size, *further)

    graph = graph_of(predict, use_xla)

    @full_float32()
    def run(*batch: tf.Tensor) -> tf.Tensor:
        return graph(*batch)

    return run


def predict_scan(
    model: PtychoPINN, container: PtychoDataContainer, batch_size: int = INFERENCE_BATCH, use_xla: bool = False
) -> NDArray[np.complex64]:
    """Object patches of every member of every group as the probe meets them, `(B, C, N, N)` in the file's units."""
    n = model.config.N
    shape = (len(container), model.config.gridsize**2, n, n)
    return gathered(predict_batches(model, container, batch_size, use_xla), shape)


def predict_batches(
    model: PtychoPINN, container: PtychoDataContainer, batch_size: int = INFERENCE_BATCH, use_xla: bool = False
) -> Generator[NDArray[np.complex64], None, None]:
    """What `predict_scan` returns, batch by batch; of a training container also the members held out."""
    predict = compiled(model.predict_on_grid, container.canvas_size, use_xla)
    for start in range(0, len(container), batch_size):
        yield np.moveaxis(predict(*container.batch(slice(start, start + batch_size))).numpy(), -1, 1)


class DiffractionToObject:
    """`diffraction_to_obj`: one object patch per group, from amplitudes in photon units.

    Args:
        model: a trained model.
        use_xla: compile the graph with XLA.
    """

    def __init__(self, model: PtychoPINN, use_xla: bool = False) -> None:
        self.model = model
        self.use_xla = use_xla

    def predict(self, inputs: Sequence[ArrayLike], batch_size: int = 32) -> NDArray[np.complex64]:
        """The central N x N of every group's canvas, complex64 `(B, N, N, 1)`, in the unit of the file.

        Args:
            inputs: amplitudes `(B, N, N, C)`, s times `X_norm` with the s that the model was saved with
                (`params.cfg["intensity_scale"]`), and positions `(B, 1, 2, C)`, the container's `local_offsets`.
            batch_size: groups per step; any number, B groups in give B patches out.

        Raises:
            DataError: shapes that do not fit together, or no groups at all; the line names both shapes.
        """
        return np.concatenate([part[0] for part in self._parts([self.model.predict_group], inputs, batch_size)])

    def _parts(
        self, functions: Sequence[Callable[..., tf.Tensor]], inputs: Sequence[ArrayLike], batch_size: int
    ) -> Iterator[list[NDArray[Any]]]:
        """What functions of (X_norm, positions, size) give, batch by batch."""
        amplitudes, positions = (np.asarray(array, np.float32) for array in inputs)
        n, members = self.model.config.N, self.model.config.gridsize**2
        count = len(amplitudes) if amplitudes.ndim else 0
        if count == 0 or amplitudes.shape[1:] != (n, n, members) or positions.shape != (count, 1, 2, members):
            raise DataError(
                f"expected amplitudes (B, {n}, {n}, {members}) and positions (B, 1, 2, {members}) with B >= 1, found "
                f"{amplitudes.shape} and {positions.shape}: group the scan with the gridsize of the model"
            )
        if batch_size < 1:
            raise DataError(f"batch_size must be at least 1, found {batch_size}")
        normalised = amplitudes / np.float32(self.model.intensity_scale)
        compiled_ones = [compiled(function, canvas_size(n, positions), self.use_xla) for function in functions]
        for part in _slices(count, batch_size):
            yield [function(normalised[part], positions[part]).numpy() for function in compiled_ones]


class Autoencoder(DiffractionToObject):
    """`autoencoder`: the object and what it would give on the detector."""

    def predict(  # type: ignore[override]
        self, inputs: Sequence[ArrayLike], batch_size: int = 32
    ) -> tuple[NDArray[np.complex64], NDArray[np.float32], NDArray[np.float32]]:
        """Object `(B, N, N, 1)` as `DiffractionToObject`, predicted amplitude and intensity `(B, N, N, C)`.

        Amplitude and intensity are in photon units, as the amplitudes that go in: intensity = expected counts.
        Arguments and errors as in `DiffractionToObject.predict`.
        """
        parts = zip(*self._parts([self.model.predict_group, self.model], inputs, batch_size), strict=True)
        found, intensity = (np.concatenate(list(part)) for part in parts)
        return found, np.sqrt(intensity), intensity


def _slices(count: int, batch_size: int) -> Iterator[slice]:
    for start in range(0, count, batch_size):
        yield slice(start, start + batch_size)
