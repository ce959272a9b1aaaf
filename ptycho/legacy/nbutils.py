"""Prediction in notebooks: `reconstruct_image` of `ptycho.nbutils`."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.core.groups.container import GroupContainer

__all__ = ["reconstruct_image"]


def reconstruct_image(
    test_data: GroupContainer, diffraction_to_obj: Any = None
) -> tuple[NDArray[np.complex64], NDArray[np.float64]]:
    """Object patches of a container of the TensorFlow backend and where they lie; `reassemble_position` takes both.

    Args:
        test_data: the groups, from `ptycho.loader.load`.
        diffraction_to_obj: the model, as `load_inference_bundle` returns it; None: the one that this process trained
            last.

    Returns:
        Patches (B, N, N, 1) complex64 in the unit of the file, one per group, and the container's `global_offsets`
        (B, 1, 2, 1): centres (x, y), pixels of the object grid.

    Raises:
        ConfigError: no model was given, and none was trained in this process.
    """
    if diffraction_to_obj is None:
        from ptycho.tf.model_manager import last_trained
        from ptycho.tf.predictor import DiffractionToObject

        diffraction_to_obj = DiffractionToObject(last_trained()[0][0])
    scale = np.float32(diffraction_to_obj.model.intensity_scale)
    inputs = [scale * np.asarray(test_data.X), np.asarray(test_data.local_offsets)]
    return diffraction_to_obj.predict(inputs), test_data.global_offsets
