"""Object patches of whole scans, twin of `ptycho.tf.predictor`."""

from __future__ import annotations

from collections.abc import Generator

import numpy as np
import torch
from numpy.typing import NDArray

from ptycho.config.config import INFERENCE_BATCH
from ptycho.core.stitching.patch_store import gathered
from ptycho_torch.loader import PtychoDataContainerTorch
from ptycho_torch.pinn import PtychoPINN
from ptycho_torch.precision import full_float32, usual_defaults

__all__ = ["predict_batches", "predict_scan"]


def predict_scan(
    model: PtychoPINN,
    container: PtychoDataContainerTorch,
    batch_size: int = INFERENCE_BATCH,
    device: torch.device | str = "cpu",
) -> NDArray[np.complex64]:
    """Object patches of every member of every group as the probe meets them, `(B, C, N, N)` in the file's units."""
    n = model.config.N
    shape = (len(container), model.config.gridsize**2, n, n)
    return gathered(predict_batches(model, container, batch_size, device), shape)


def predict_batches(
    model: PtychoPINN,
    container: PtychoDataContainerTorch,
    batch_size: int = INFERENCE_BATCH,
    device: torch.device | str = "cpu",
) -> Generator[NDArray[np.complex64], None, None]:
    """What `predict_scan` returns, batch by batch; of a training container also the members held out.

    A model that is being trained is back in its training mode at the end.
    """
    trains = model.training
    model = model.to(device).eval()
    try:
        for start in range(0, len(container), batch_size):
            with torch.inference_mode(), full_float32(), usual_defaults():
                batch = container.batch(slice(start, start + batch_size))
                normalised, positions, *further = (tensor.to(device) for tensor in batch)
                members = model.predict_on_grid(normalised, positions, container.canvas_size, *further).cpu().numpy()
            yield members
    finally:
        model.train(trains)
