"""The whole network with the same weights in both frameworks: values, gradients, one step, any batch, XLA."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import tensorflow as tf
import torch

from ptycho.config.config import PyTorchExecutionConfig, TrainingConfig
from ptycho.errors import BackendError, DataError
from ptycho.tf import fit, model_manager, optimizers
from ptycho.tf.pinn import PtychoPINN
from ptycho_torch import fit as torch_fit
from ptycho_torch import model_manager as torch_manager

SIZE = 80
"""Canvas of a group; its offsets stay below 4 px."""

SETTINGS = {
    "gridsize 1": {"gridsize": 1},
    "gridsize 2": {"gridsize": 2},
    "gridsize 3": {"gridsize": 3},
    "members alone": {"gridsize": 2, "object_big": False},
    "whole decoder": {"pad_object": False, "amp_activation": "swish"},
    "vacuum border": {"probe_big": False, "gridsize": 2},
    "masked, smoothed": {"probe_mask": True, "gaussian_smoothing_sigma": 0.7, "amp_activation": "softplus"},
}


def channel_last(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().numpy().transpose(0, 2, 3, 1)


@pytest.mark.parametrize("name", SETTINGS)
def test_forward_pass_and_predictions(make_twins, agree, dtype, name, rng) -> None:
    mask = rng.random((64, 64)) > 0.1 if name == "masked, smoothed" else None
    twins = make_twins(dtype, settings=SETTINGS[name], mask=mask)
    ours, theirs = twins.tensorflow_batch(), twins.torch_batch()
    with torch.no_grad():
        counts = twins.torch(*theirs, SIZE)
        members = twins.torch.predict_members(*theirs, SIZE)
        group = twins.torch.predict_group(*theirs, SIZE)[:, None]
    agree("network", f"expected counts, {name}", twins.tensorflow(*ours, SIZE), channel_last(counts))
    agree("network", f"predict_members, {name}", twins.tensorflow.predict_members(*ours, SIZE), channel_last(members))
    agree("network", f"predict_group, {name}", twins.tensorflow.predict_group(*ours, SIZE), channel_last(group))


def test_a_mask_for_every_member(make_twins, agree, dtype, rng) -> None:
    twins = make_twins(dtype, settings={"gridsize": 2})
    mask = rng.random(twins.amplitudes.shape) > 0.2
    found = twins.tensorflow(*twins.tensorflow_batch(), SIZE, tf.constant(mask))
    with torch.no_grad():
        expected = twins.torch(*twins.torch_batch(), SIZE, torch.as_tensor(mask.transpose(0, 3, 1, 2).copy()))
    agree("network", "expected counts, a mask per member", found, channel_last(expected))


def test_scales_and_the_group_s_weight(make_twins, agree, dtype) -> None:
    twins = make_twins(dtype, settings={"gridsize": 2})
    with torch.no_grad():
        agree("network", "object_scale", twins.tensorflow.object_scale, twins.torch.object_scale)
        agree("network", "group_weight", twins.tensorflow.group_weight(), twins.torch.group_weight())
        agree("network", "probe", twins.tensorflow.probe(), twins.torch.probe())
    assert twins.tensorflow.intensity_scale == pytest.approx(30, rel=1e-6)
    assert twins.tensorflow.input_scale == twins.torch.input_scale
    assert twins.tensorflow.nominal_intensity_scale == twins.torch.nominal_intensity_scale
    np.testing.assert_allclose(twins.tensorflow.probe.file_units(), twins.torch.probe.file_units(), atol=1e-6)
    for model in (twins.tensorflow, twins.torch):
        model.probe.take_energy_of(7 * twins.torch.probe.file_units())
    np.testing.assert_allclose(twins.tensorflow.probe.file_units(), twins.torch.probe.file_units(), atol=1e-6)


def modules(twins, **settings) -> tuple[fit.TrainingModule, torch_fit.PtychoPINN_Lightning]:
    """The two models with their losses, as training uses them."""
    weights = {"mae_weight": 0.3, "realspace_weight": 0.2, "realspace_mae_weight": 0.1}
    config = TrainingConfig(model=twins.tensorflow.config, **weights, **settings)
    execution = PyTorchExecutionConfig(accelerator="cpu", learning_rate=1e-3)
    return fit.TrainingModule(twins.tensorflow, config, SIZE), torch_fit.PtychoPINN_Lightning(
        twins.torch, config, execution, SIZE
    )


def batches(twins, mask: np.ndarray) -> tuple[tuple, tuple]:
    last, first = mask[None, :, :, None], mask[None, None]
    numbers = np.random.default_rng(7).normal(1, 0.3, (2, *twins.amplitudes.shape))
    truth = (numbers[0] + 1j * numbers[1]).astype(np.result_type(twins.amplitudes.dtype, np.complex64))
    return (*twins.tensorflow_batch(), tf.constant(last), tf.constant(truth)), (
        *twins.torch_batch(),
        torch.as_tensor(first),
        torch.as_tensor(truth.transpose(0, 3, 1, 2).copy()),
    )


def torch_named(model) -> dict[str, torch.Tensor]:
    """What is trained, or its gradient, under names that both frameworks share."""
    rest = {"log_intensity_scale": model.log_intensity_scale, "probe": model.probe.modes}
    return {**{torch_manager.canonical_name(n): p for n, p in model.network.named_parameters()}, **rest}


def torch_array(value: torch.Tensor) -> np.ndarray:
    array = value.detach().numpy()
    return array.transpose(2, 3, 1, 0) if array.ndim == 4 and array.shape[-1] == 3 else array


def tensorflow_named(model: PtychoPINN) -> dict:
    return {
        **model.network.named_parameters(),
        "log_intensity_scale": model.log_intensity_scale,
        "probe": (model.probe.real_part, model.probe.imaginary_part),
    }


def assert_same_gradients(agree, twins, kind: str, our_value, their_value) -> None:
    """Of a number that both models give, for everything that is trained."""
    named = tensorflow_named(twins.tensorflow)
    with tf.GradientTape() as tape:
        found = our_value()
    gradients = tape.gradient(found, named)
    expected = their_value()
    expected.backward()
    agree("network", kind, found, expected.detach())
    for name, parameter in torch_named(twins.torch).items():
        gradient = gradients[name]
        if name == "probe":
            gradient = np.stack([part.numpy() for part in gradient], axis=-1)
        agree("network gradient", f"{kind}, by {name.split('/')[0]}", gradient, torch_array(parameter.grad))


@pytest.mark.parametrize("gridsize", [1, 2])
def test_gradients_of_the_counts(make_twins, agree, dtype, gridsize, rng) -> None:
    twins = make_twins(dtype, settings={"gridsize": gridsize, "probe_mask": True}, probe_trainable=True)
    weight = rng.random(twins.amplitudes.shape).astype(dtype)
    first = torch.as_tensor(weight.transpose(0, 3, 1, 2).copy())
    assert_same_gradients(
        agree,
        twins,
        "weighted counts",
        lambda: tf.reduce_sum(weight * twins.tensorflow(*twins.tensorflow_batch(), SIZE)),
        lambda: (first * twins.torch(*twins.torch_batch(), SIZE)).sum(),
    )


@pytest.mark.parametrize("gridsize", [1, 2])
@pytest.mark.parametrize("dtype", ["float64"])
def test_gradients_of_the_training_loss(make_twins, agree, dtype, gridsize, rng) -> None:
    """In double precision: a pixel predicted much too dark has the slope 1 - Y / L, which loses digits with L."""
    twins = make_twins(dtype, settings={"gridsize": gridsize, "probe_mask": True}, probe_trainable=True)
    ours, theirs = modules(twins)
    our_batch, their_batch = batches(twins, rng.random((64, 64)) > 0.1)
    assert_same_gradients(agree, twins, "training loss", lambda: ours.loss(our_batch), lambda: theirs.loss(their_batch))


@pytest.mark.parametrize("dtype", ["float32"])
def test_the_training_loss_in_single_precision(make_twins, agree, dtype, rng) -> None:
    twins = make_twins(dtype, settings={"gridsize": 2})
    ours, theirs = modules(twins)
    our_batch, their_batch = batches(twins, rng.random((64, 64)) > 0.1)
    agree("network", "training loss", ours.loss(our_batch), theirs.loss(their_batch).detach())


@pytest.mark.parametrize(
    ("optimizer", "decay"), [("adam", 0.0), ("adam", 0.1), ("adamw", 0.1), ("sgd", 0.1)], ids=lambda v: str(v)
)
@pytest.mark.parametrize("dtype", ["float64"])
def test_steps_of_an_optimiser(make_twins, agree, optimizer, decay, dtype, rng) -> None:
    twins = make_twins(dtype, settings={"gridsize": 1}, probe_trainable=True)
    ours, theirs = modules(twins, optimizer=optimizer, weight_decay=decay)
    our_batch, their_batch = batches(twins, rng.random((64, 64)) > 0.1)
    before = model_manager.canonical_weights(twins.tensorflow.network)
    stepper = theirs.configure_optimizers()
    for _ in range(2):
        ours.training_step(*our_batch)
        stepper.zero_grad()
        theirs.loss(their_batch).backward()
        stepper.step()
    after = tensorflow_named(twins.tensorflow)
    for name, parameter in torch_named(twins.torch).items():
        found = after[name]
        found = np.stack([part.numpy() for part in found], axis=-1) if name == "probe" else found.numpy()
        if name in before:
            assert not np.array_equal(found, before[name])
        agree("optimiser", f"weights after two steps of {optimizer}", found, torch_array(parameter))
    assert optimizers.EPSILON == 1e-8


@pytest.mark.slow
@pytest.mark.parametrize("gridsize", [1, 3])
@pytest.mark.parametrize("dtype", ["float32"])
def test_with_xla_and_without(make_twins, agree, dtype, gridsize) -> None:
    twins = make_twins(dtype, settings={"gridsize": gridsize, "gaussian_smoothing_sigma": 0.5})
    model, batch = twins.tensorflow, twins.tensorflow_batch()

    def everything(amplitudes: tf.Tensor, positions: tf.Tensor) -> tuple[tf.Tensor, ...]:
        canvas, members = model.canvas_and_members(amplitudes, positions, SIZE)
        return canvas, members, model.expected_counts(members, positions)

    eager = everything(*batch)
    for name, jit in (("graph", False), ("XLA", True)):
        found = tf.function(everything, autograph=False, jit_compile=jit)(*batch)
        for what, one, other in zip(("canvas", "members", "counts"), found, eager, strict=True):
            agree("XLA", f"{name} and eager, {what}", one, other)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32"])
def test_a_training_step_with_xla_and_without(make_twins, agree, dtype, rng) -> None:
    """XLA against operation by operation: the same loss, and the same weights after the step."""
    mask, weights, losses = rng.random((64, 64)) > 0.1, [], []
    twins = make_twins(dtype, settings={"gridsize": 2})
    start = model_manager.canonical_weights(twins.tensorflow.network)
    for jit in (False, True):
        model_manager.set_canonical_weights(twins.tensorflow.network, start, "test")
        step = modules(twins, optimizer="sgd")[0].training_step
        step = tf.function(step, autograph=False, jit_compile=True) if jit else step
        losses.append(step(*batches(twins, mask)[0]))
        weights.append(model_manager.canonical_weights(twins.tensorflow.network))
    agree("XLA", "loss of a step", losses[1], losses[0])
    for name, plain in weights[0].items():
        assert not np.array_equal(plain, start[name])
        agree("XLA", "weights after a step", weights[1][name], plain)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32"])
def test_any_batch_size_in_one_graph(make_twins, agree, dtype) -> None:
    """A graph traced for a batch of any size takes a last odd one; B groups in, B patches out."""
    twins = make_twins(dtype, batch=5, settings={"gridsize": 2})
    signature = [tf.TensorSpec((None, 64, 64, 4)), tf.TensorSpec((None, 1, 2, 4))]
    predict = tf.function(lambda x, r: twins.tensorflow.predict_members(x, r, SIZE), input_signature=signature)
    amplitudes, positions = twins.tensorflow_batch()
    whole = predict(amplitudes, positions).numpy()
    parts = np.concatenate([predict(amplitudes[i:j], positions[i:j]) for i, j in ((0, 2), (2, 4), (4, 5))])
    assert whole.shape == (5, 64, 64, 4)
    agree("network", "a batch in parts", parts, whole)


@pytest.mark.parametrize("dtype", ["float32"])
@pytest.mark.parametrize("compiled", [False, True])
def test_batches_that_do_not_fit_name_both_shapes(make_twins, dtype, compiled) -> None:
    twins = make_twins(dtype, settings={"gridsize": 2})
    x, r = twins.tensorflow_batch()
    model = twins.tensorflow
    run = tf.function(model.predict_members, autograph=False, jit_compile=True) if compiled else model.predict_members
    with pytest.raises(DataError, match=r"must be \(B, 64, 64, 4\) with B >= 1 .* found \(3, 64, 64, 3\)"):
        run(x[..., :3], r, SIZE)
    with pytest.raises(DataError, match=r"must be \(B, 64, 64, 4\) with B >= 1 .* found \(0, 64, 64, 4\)"):
        run(x[:0], r[:0], SIZE)
    with pytest.raises(DataError, match=r"must be \(B, 64, 64, 4\) .* found \(64, 64, 4\)"):
        run(x[0], r, SIZE)
    with pytest.raises(DataError, match=r"positions must be \(3, 1, 2, 4\) .* found \(2, 1, 2, 4\)"):
        run(x, r[:2], SIZE)
    with pytest.raises(DataError, match=r"64 x 64 pixels .* found shape \(2, 32, 32\)"):
        PtychoPINN(model.config, np.ones((2, 32, 32)), 0.5, 30.0)


def test_a_fresh_network_says_vacuum(make_twins) -> None:
    config = make_twins("float32").tensorflow.config
    fresh = PtychoPINN(config, np.ones((64, 64)), 0.5, 30.0)
    amplitudes = np.random.default_rng(0).random((2, 64, 64, 1)).astype(np.float32)
    np.testing.assert_allclose(fresh.object_patches(amplitudes), np.ones((2, 64, 64, 1)), atol=1e-6)


def test_the_seed_says_where_training_starts(make_twins) -> None:
    config = make_twins("float32").tensorflow.config
    one, same, other = (
        model_manager.canonical_weights(PtychoPINN(config, np.ones((64, 64)), 0.5, 30.0, seed=seed).network)
        for seed in (3, 3, 4)
    )
    name = "encoder/1/conv1/kernel"
    assert np.array_equal(one[name], same[name])
    assert not np.array_equal(one[name], other[name])
    assert not np.array_equal(one["encoder/2/conv2/kernel"], one["encoder/3/conv2/kernel"])
    assert one["encoder/2/conv2/kernel"].std() == pytest.approx(np.sqrt(2 / (9 * 32)), rel=0.05)


def test_a_model_travels_to_another_process(make_twins, dtype, rng) -> None:
    twins = make_twins(dtype, settings=SETTINGS["masked, smoothed"], mask=rng.random((64, 64)) > 0.1)
    for model, batch in ((twins.tensorflow, twins.tensorflow_batch()), (twins.torch, twins.torch_batch())):
        model.labels, model.scan = {"run": 7}, {"metadata": {"places": [1, 2]}, "source": {"file": "a.npz"}}
        model.probe.take_energy_of(7 * model.probe.file_units())
        there = pickle.loads(pickle.dumps(model))  # noqa: S301
        assert (there.labels, there.scan, there.light) == (model.labels, model.scan, model.light)
        assert (there.config, there.intensity_scale, repr(there)) == (model.config, model.intensity_scale, repr(model))
        np.testing.assert_array_equal(there.probe.file_units(), model.probe.file_units())
        with torch.no_grad():
            here = model.predict_members(*batch, SIZE)
            np.testing.assert_allclose(there.predict_members(*batch, SIZE), here, rtol=1e-6)


def test_keras_on_another_backend_is_refused(make_twins, monkeypatch) -> None:
    config = make_twins("float32").tensorflow.config
    monkeypatch.setattr("keras.backend.backend", lambda: "jax")
    with pytest.raises(BackendError, match="found Keras on jax: unset KERAS_BACKEND"):
        PtychoPINN(config, np.ones((64, 64)), 0.5, 30.0)
