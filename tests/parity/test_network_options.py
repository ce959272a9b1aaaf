"""Options of the `cnn` network with the same weights in both frameworks: values, gradients, statistics, archives."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import tensorflow as tf
import torch

from ptycho import params
from ptycho.config.config import ModelConfig, TrainingConfig
from ptycho.core.archive import load_archive
from ptycho.networks.options import NetworkOptions
from ptycho.tf import fit, model_manager
from ptycho.tf.model_manager import load_tf_bundle, save_tf_bundle
from ptycho.tf.pinn import PtychoPINN
from ptycho_torch import model_manager as torch_manager
from ptycho_torch.model_manager import load_torch_bundle, save_torch_bundle

SIZE = 80
MASK = np.random.default_rng(3).random((64, 64))
ALONE = {
    "batch_norm": {"batch_norm": True},
    "eca_encoder": {"eca_encoder": True},
    "eca_decoder": {"eca_decoder": True},
    "cbam_encoder": {"cbam_encoder": True},
    "cbam_bottleneck": {"cbam_bottleneck": True},
    "cbam_decoder": {"cbam_decoder": True},
    "spatial_decoder": {"spatial_decoder": True, "decoder_spatial_kernel": 5},
    "use_shared_decoder": {"use_shared_decoder": True},
    "outer_fraction": {"outer_fraction": 0.3},
    "edge_pad": {"edge_pad": 10},
    "amplitude_channels": {"amplitude_channels": 1},
    "mask_array": {"mask_array": MASK},
    "mask_diameter": {"mask_diameter": 25.0, "mask_sigma": 2.0},
}
ALL = {name: value for change in list(ALONE.values())[:-1] for name, value in change.items()}
OPTIONS = ALONE | {"all": ALL}


@pytest.fixture
def optional_twins(make_twins, dtype):
    """`optional_twins(name)`: twins with these options, attention away from its start."""

    def make(name: str):
        settings = {"gridsize": 2, "probe_mask": "mask" in name or name == "all"}
        twins = make_twins(dtype, batch=2, settings=settings, options=NetworkOptions(**OPTIONS[name]))
        weights, numbers = model_manager.canonical_weights(twins.tensorflow.network), np.random.default_rng(4)
        for key in sorted(weights):
            if any(part in key for part in ("/eca/", "/cbam_", "/spatial/")):
                weights[key] = weights[key] + 0.3 * numbers.standard_normal(weights[key].shape)
        model_manager.set_canonical_weights(twins.tensorflow.network, weights, "test")
        torch_manager.set_canonical_weights(twins.torch.network, weights, "test")
        return twins

    return make


def channel_last(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().numpy().transpose(0, 2, 3, 1)


@pytest.mark.parametrize("name", OPTIONS)
def test_predictions(optional_twins, agree, name) -> None:
    twins = optional_twins(name)
    with torch.no_grad():
        members = twins.torch.predict_members(*twins.torch_batch(), SIZE)
    found = twins.tensorflow.predict_members(*twins.tensorflow_batch(), SIZE)
    agree("network", f"predict_members, {name}", found, channel_last(members))


@pytest.mark.parametrize("name", ["batch_norm", "all"])
def test_names_shapes_and_flat_starts(name) -> None:
    spec = fresh(name).network.spec
    found = {key: array.shape for key, array in model_manager.canonical_weights(fresh(name).network).items()}
    assert found == spec.parameters() | spec.statistics()
    assert len(fresh(name).network.trainable_variables) == len(spec.parameters())
    positions = np.random.default_rng(1).uniform(-3, 3, (2, 1, 2, 4)).astype(np.float32)
    amplitudes = np.random.default_rng(0).random((2, 64, 64, 4)).astype(np.float32)
    flat = fresh(name).object_patches(amplitudes, positions=positions)
    np.testing.assert_allclose(flat, np.ones((2, 64, 64, 4)), atol=1e-6)


def fresh(name: str):

    config = ModelConfig(N=64, gridsize=2, n_filters_scale=1, probe_mask=True)
    return PtychoPINN(config, np.ones((64, 64)), 0.5, 30.0, seed=0, options=NetworkOptions(**OPTIONS[name]))


@pytest.mark.parametrize("dtype", ["float64"])
def test_gradients_and_statistics_of_a_training_batch(optional_twins, agree, rng) -> None:
    """Normalised by the batch, with everything on: what is trained gets the same gradients, and the same is noted."""
    twins = optional_twins("all")
    ours, theirs = twins.tensorflow, twins.torch.train()
    weight = rng.random(twins.amplitudes.shape)
    named = ours.network.named_parameters()
    start = model_manager.canonical_weights(ours.network)
    with ours.training_mode(), tf.GradientTape() as tape:
        found = tf.reduce_sum(weight * ours(*twins.tensorflow_batch(), SIZE))
    gradients = tape.gradient(found, named)
    expected = (torch.as_tensor(weight.transpose(0, 3, 1, 2).copy()) * theirs(*twins.torch_batch(), SIZE)).sum()
    expected.backward()
    agree("network", "weighted counts of a training batch", found, expected.detach())
    largest = max(float(parameter.grad.norm()) for parameter in theirs.network.parameters())
    for name, parameter in theirs.network.named_parameters():
        key, gradient = torch_manager.canonical_name(name), parameter.grad.numpy()
        if "/conv" in key and key.endswith("bias"):  # the normalisation takes it out again
            assert max(np.abs(gradient).max(), np.abs(gradients[key]).max()) < 1e-10 * largest
            continue
        gradient = gradient.transpose(2, 3, 1, 0) if gradient.ndim == 4 else gradient
        assert np.linalg.norm(gradient) > 0, key
        agree("network gradient", "training batch, all options", gradients[key], gradient)
    ours_after, theirs_after = (
        manager.canonical_weights(model.network) for manager, model in ((model_manager, ours), (torch_manager, theirs))
    )
    for key in ours.network.spec.statistics():
        agree("network", "running statistics", ours_after[key], theirs_after[key])
        assert not np.array_equal(ours_after[key], start[key])
    assert not any(norm.of_batch for norm in ours.network.normalisations())


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32"])
def test_a_step_notes_statistics_and_a_look_does_not(optional_twins) -> None:
    """Training and validation steps are traced apart; a checkpoint holds what both need."""
    twins = optional_twins("batch_norm")
    model, batch = twins.tensorflow, (*twins.tensorflow_batch(), tf.ones((1, 64, 64, 1), bool))
    module = fit.TrainingModule(model, TrainingConfig(model=model.config, optimizer="sgd"), SIZE)
    look, step = (tf.function(f, autograph=False) for f in (module.validation_step, module.training_step))
    states = [statistics(model)]
    for function in (look, step, look):
        function(*batch)
        states.append(statistics(model))
    assert [not np.array_equal(one, other) for one, other in pairwise(states)] == [False, True, False]
    kept = {id(part) for part in fit._state(module)}
    assert {id(part) for part in model.running_statistics} <= kept


def statistics(model: PtychoPINN) -> np.ndarray:
    """All running statistics in one line."""
    return np.concatenate([part.numpy() for part in model.running_statistics])


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float64"])
def test_xla_takes_every_option(optional_twins, agree) -> None:
    """Normalised by the batch, with everything on: the same patches and the same statistics."""
    twins = optional_twins("all")
    model, start, found = twins.tensorflow, model_manager.canonical_weights(twins.tensorflow.network), []

    def run(*batch: tf.Tensor) -> tf.Tensor:
        with model.training_mode():
            return model.predict_members(*batch, SIZE)

    for function in (run, tf.function(run, autograph=False, jit_compile=True)):
        model_manager.set_canonical_weights(model.network, start, "test")
        found.append((function(*twins.tensorflow_batch()).numpy(), statistics(model)))
    for what, one, other in zip(("predict_members", "statistics"), *found, strict=True):
        agree("XLA", f"{what}, all options", other, one)


@pytest.mark.parametrize("dtype", ["float32"])
@pytest.mark.parametrize("saved_by", ["pytorch", "tensorflow"])
def test_an_archive_brings_its_options_to_both_backends(optional_twins, agree, saved_by, tmp_path) -> None:
    twins = optional_twins("all")
    config = TrainingConfig(model=twins.tensorflow.config, output_dir=tmp_path)
    save, model = (save_torch_bundle, twins.torch) if saved_by == "pytorch" else (save_tf_bundle, twins.tensorflow)
    path = save(tmp_path, model, config)
    params.cfg.clear()
    theirs, ours = load_torch_bundle(path)[0], load_tf_bundle(path)[0]
    assert theirs.options == ours.options == NetworkOptions(**ALL)
    assert load_archive(path).configs["network"]["edge_pad"] == 10
    with torch.no_grad():
        expected = channel_last(twins.torch.predict_members(*twins.torch_batch(), SIZE))
        found = channel_last(theirs.predict_members(*twins.torch_batch(), SIZE))
    agree("archive", f"all options, {saved_by} -> pytorch", found, expected)
    found = ours.predict_members(*twins.tensorflow_batch(), SIZE)
    agree("archive", f"all options, {saved_by} -> tensorflow", found, expected)
