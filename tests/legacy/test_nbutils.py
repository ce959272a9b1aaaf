"""`reconstruct_image`, as notebooks call it."""

import numpy as np
import pytest

from ptycho import params
from ptycho.config.config import ModelConfig, TrainingConfig
from ptycho.errors import ConfigError
from ptycho.nbutils import reconstruct_image
from ptycho.raw_data import RawData
from ptycho.tf import model_manager
from ptycho.tf.loader import PtychoDataContainer
from ptycho.tf.pinn import PtychoPINN
from ptycho.tf.predictor import DiffractionToObject


def test_patches_and_where_they_lie(scan: RawData, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(params, "cfg", dict(params.cfg))
    training = TrainingConfig(model=ModelConfig(N=64, gridsize=1, n_filters_scale=1))
    monkeypatch.setattr(model_manager, "_trained", [])
    model = PtychoPINN(training.model, scan.probeGuess, scan.input_scale(), 10.0)
    grouped = scan.generate_grouped_data(64, nsamples=5, gridsize=1, sequential_sampling=True)
    container = PtychoDataContainer(grouped, scan.probeGuess)
    with pytest.raises(ConfigError, match="no model was trained in this process"):
        reconstruct_image(container)
    model_manager.remember([model], training)
    patches, offsets = reconstruct_image(container)
    assert (patches.shape, patches.dtype) == ((5, 64, 64, 1), np.complex64)
    np.testing.assert_allclose(patches, float(model.object_scale), rtol=1e-5)  # untrained: vacuum in the file's unit
    np.testing.assert_array_equal(offsets, grouped["coords_offsets"])
    assert offsets.object_shape == scan.objectGuess.shape
    np.testing.assert_array_equal(reconstruct_image(container, DiffractionToObject(model))[0], patches)
