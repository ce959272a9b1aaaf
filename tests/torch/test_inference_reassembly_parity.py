"""Inference and reassembly: the object is the same whichever backend predicted its patches, from the same weights."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from ptycho import params
from ptycho.config.config import InferenceConfig, PyTorchExecutionConfig, TrainingConfig
from ptycho.raw_data import RawData
from ptycho.tf_helper import reassemble_position
from ptycho.workflows.backend_selector import load_inference_bundle_with_backend, reconstruct_with_backend
from ptycho_torch.data_container_bridge import PtychoDataContainerTorch
from ptycho_torch.pinn import PtychoPINN
from ptycho_torch.workflows.components import save_torch_bundle


@pytest.mark.slow
@pytest.mark.parametrize("gridsize", [1, 2])
def test_both_backends_make_one_object(
    gridsize: int, scan: RawData, training: TrainingConfig, execution: PyTorchExecutionConfig
) -> None:
    archive = lively_model(scan, replace(training, model=replace(training.model, gridsize=gridsize)))
    found = {}
    for backend in ("pytorch", "tensorflow"):
        options = {"execution_config": execution} if backend == "pytorch" else {}
        config = InferenceConfig(model_path=archive, backend=backend, neighbor_count=6)
        found[backend] = reconstruct_with_backend(scan, config, **options)
    ours, theirs = found["pytorch"], found["tensorflow"]
    seen = theirs.coverage > 0.1
    assert np.abs(theirs.object[seen]).std() > 1e-3  # not two flat objects
    assert np.linalg.norm(ours.object - theirs.object) < 1e-4 * np.linalg.norm(theirs.object)
    np.testing.assert_allclose(ours.coverage, theirs.coverage, rtol=1e-5, atol=1e-7)
    assert ours.frame == theirs.frame


def test_reassemble_position_does_not_see_the_backend(
    scan: RawData, training: TrainingConfig, execution: PyTorchExecutionConfig
) -> None:
    archive = lively_model(scan, training)
    ours, _ = load_inference_bundle_with_backend(
        archive, InferenceConfig(backend="pytorch"), execution_config=execution
    )
    theirs, _ = load_inference_bundle_with_backend(archive, InferenceConfig(backend="tensorflow"))
    data = scan.generate_grouped_data(64, nsamples=len(scan), gridsize=1, sequential_sampling=True)
    container = PtychoDataContainerTorch(data, scan.probeGuess)
    with torch.no_grad():
        normalised, positions, mask = container.batch(slice(None))
        members = ours.predict_members(normalised, positions, container.canvas_size, mask)
    amplitudes = np.float32(theirs.model.intensity_scale) * data["X_full"]
    groups = theirs.predict([amplitudes, data["coords_relative"]])
    params.cfg["probe"] = scan.probeGuess
    here = reassemble_position(members.numpy()[:, 0], data["coords_offsets"])
    there = reassemble_position(groups, data["coords_offsets"])
    assert here.shape == scan.objectGuess.shape
    assert np.linalg.norm(here - there) < 1e-4 * np.linalg.norm(there)


def lively_model(scan: RawData, config: TrainingConfig):
    """The archive of a network whose heads, which start flat, are moved, so that its patches show what it sees."""
    torch.manual_seed(3)
    model = PtychoPINN(config.model, scan.probeGuess, scan.input_scale(), 10.0)
    with torch.no_grad():
        for parameter in model.network.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    return save_torch_bundle(config.output_dir, model.eval(), config)
