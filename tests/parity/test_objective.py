"""What training minimises: every term in both backends against the oracle, and its gradient against each other."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import torch

from ptycho.config.config import ModelConfig, TrainingConfig
from ptycho.config.losses import REGULARISERS
from ptycho.config.options import ObjectiveOptions
from ptycho.core.physics import losses as oracle
from ptycho.errors import ConfigError
from ptycho.tf import objective as tf_objective
from ptycho_torch import model_manager as torch_manager
from ptycho_torch import objective as torch_objective

SIZE = 80
"""Side of the canvas that holds every group of the twins, pixels."""
REGULARISER_LOSSES = {title: getattr(oracle, function) for title, function in REGULARISERS.items()}
EVERYTHING = ObjectiveOptions(
    phase_subtraction=False,
    amp_loss="Total_Variation",
    phase_loss="Mean_Deviation",
    amp_loss_coeff=0.3,
    phase_loss_coeff=0.2,
    probe_reference_coeff=0.7,
    amplitude_variance_loss=True,
    amplitude_variance_coeff=0.4,
)
CASES: dict[str, tuple[dict[str, Any], ObjectiveOptions, float]] = {
    "as ever": ({"mae_weight": 0.3}, ObjectiveOptions(), 1.0),
    "half physics": ({"mae_weight": 0.3}, ObjectiveOptions(), 0.5),
    "no physics": ({}, ObjectiveOptions(), 0.0),
    "everything": ({"realspace_weight": 0.1, "realspace_mae_weight": 0.2}, EVERYTHING, 1.0),
    "the other regularisers": (
        {},
        replace(EVERYTHING, amp_loss="Mean_Deviation", phase_loss="Total_Variation", probe_reference_coeff=0.0),
        0.25,
    ),
    "supervised": ({"supervised": True}, ObjectiveOptions(), 1.0),
    "supervised, absolute phase": ({"supervised": True, "realspace_mae_weight": 0.5}, EVERYTHING, 1.0),
}


def settings_of(model: ModelConfig, changes: dict[str, Any]) -> TrainingConfig:
    kind = "supervised" if changes.get("supervised") else "pinn"
    others = {name: value for name, value in changes.items() if name != "supervised"}
    return TrainingConfig(model=replace(model, model_type=kind), probe_trainable=True, **others)


def objectives(twins, changes: dict[str, Any], options: ObjectiveOptions) -> tuple[Any, Any]:
    """Of TensorFlow and PyTorch, made before the probe has moved."""
    config = settings_of(twins.tensorflow.config, changes)
    return (
        tf_objective.Objective(config, options, twins.tensorflow),
        torch_objective.Objective(config, options, twins.torch),
    )


def move_probe(twins, rng: np.random.Generator) -> None:
    """As a training would: the same step in both."""
    step = 0.05 * rng.normal(size=(*twins.torch.probe().shape, 2))
    with torch.no_grad():
        twins.torch.probe.modes.add_(torch.as_tensor(step).to(twins.torch.probe.modes))
    for part, change in ((twins.tensorflow.probe.real_part, 0), (twins.tensorflow.probe.imaginary_part, 1)):
        part.assign_add(tf.cast(step[..., change], part.dtype))


def batches(twins, mask: np.ndarray, truth: np.ndarray) -> tuple[tuple, tuple]:
    truth = truth.astype(np.result_type(twins.amplitudes.dtype, np.complex64))
    first = torch.as_tensor(truth), torch.as_tensor(mask[None, None])
    last = tf.constant(truth.transpose(0, 2, 3, 1)), tf.constant(mask[None, :, :, None])
    return (*twins.tensorflow_batch(), last[1], last[0]), (*twins.torch_batch(), first[1], first[0])


def expected_loss(model, batch, changes: dict[str, Any], options: ObjectiveOptions, weight: float, reference) -> float:
    """The terms by the formulas of the oracle, from the patches of the PyTorch model."""
    normalised, positions, mask, truth = batch
    with torch.no_grad():
        members = model.canvas_and_members(normalised, positions, SIZE, mask)[1]
        counts = model.expected_counts(members, positions).numpy()
        probe, factor = model.probe().numpy(), float(model.object_scale)
        light = model.group_weight().numpy()
    nominal, scale = model.probe.scale / model.input_scale, model.nominal_intensity_scale
    objects, known = factor / nominal * members.numpy(), truth.numpy() / nominal
    total = changes.get("realspace_weight", 0.0) * oracle.total_variation(objects)
    if changes.get("supervised"):
        error = oracle.realspace_mae(objects, known, options.phase_subtraction, light)
        total += changes.get("realspace_mae_weight", 1.0) * error
    else:
        error = oracle.realspace_mae(objects, known, options.phase_subtraction)
        total += changes.get("realspace_mae_weight", 0.0) * error
        given = counts, (scale * normalised.numpy()) ** 2, scale**2 / 4, np.broadcast_to(mask.numpy(), counts.shape)
        mae = oracle.mae_loss(*given)
        physics = oracle.poisson_loss(*given) + changes.get("mae_weight", 0.0) * mae
        total += weight * physics + (1 - weight) * mae
    if options.amp_loss:
        total += options.amp_loss_coeff * REGULARISER_LOSSES[options.amp_loss](np.abs(objects))
    if options.phase_loss:
        total += options.phase_loss_coeff * REGULARISER_LOSSES[options.phase_loss](oracle.phasors(objects))
    if options.amplitude_variance_loss:
        total += options.amplitude_variance_coeff * oracle.amplitude_flatness(objects)
    return total + options.probe_reference_coeff * oracle.probe_distance(probe, reference)


@pytest.mark.parametrize("name", CASES)
def test_the_loss_is_the_sum_of_its_terms(make_twins, name, rng) -> None:
    changes, options, weight = CASES[name]
    twins = make_twins("float64", batch=2, settings={"gridsize": 2}, probe_trainable=True)
    ours, theirs = objectives(twins, changes, options)
    reference = twins.torch.probe().detach().numpy().copy()
    move_probe(twins, rng)
    truth = 60 * (rng.normal(1, 0.3, (2, 4, 64, 64)) + 0.5j * rng.normal(size=(2, 4, 64, 64)))
    our_batch, their_batch = batches(twins, rng.random((64, 64)) > 0.1, truth)
    expected = expected_loss(twins.torch, their_batch, changes, options, weight, reference)
    found = (
        ours.loss(twins.tensorflow, our_batch[: 3 + ours.needs_truth], SIZE, weight),
        theirs.loss(twins.torch, their_batch[: 3 + theirs.needs_truth], SIZE, weight).detach(),
    )
    assert ours.needs_truth == theirs.needs_truth == bool(changes.keys() & {"supervised", "realspace_mae_weight"})
    for value in found:
        assert float(value) == pytest.approx(expected, rel=1e-11)


@pytest.mark.parametrize("dtype", ["float32"])
def test_the_loss_in_single_precision(make_twins, agree, dtype, rng) -> None:
    twins = make_twins(dtype, batch=2, probe_trainable=True)
    changes, options, _ = CASES["everything"]
    ours, theirs = objectives(twins, changes, options)
    move_probe(twins, rng)
    truth = 60 * (rng.normal(1, 0.3, (2, 1, 64, 64)) + 0j)
    our_batch, their_batch = batches(twins, rng.random((64, 64)) > 0.1, truth)
    found, expected = ours.loss(twins.tensorflow, our_batch, SIZE), theirs.loss(twins.torch, their_batch, SIZE)
    agree("network", "loss with every term", found, expected.detach())


@pytest.mark.parametrize("dtype", ["float64"])
@pytest.mark.parametrize(
    ("name", "still"), [("everything", []), ("supervised, absolute phase", ["log_intensity_scale"])]
)
def test_gradients_of_every_term(make_twins, agree, dtype, name, still, rng) -> None:
    """Of the weights, the probe, and the intensity scale, which known objects do not move."""
    changes, options, weight = CASES[name]
    twins = make_twins(dtype, batch=2, settings={"gridsize": 2}, probe_trainable=True)
    ours, theirs = objectives(twins, changes, options)
    move_probe(twins, rng)
    truth = 60 * (rng.normal(1, 0.3, (2, 4, 64, 64)) + 0.5j * rng.normal(size=(2, 4, 64, 64)))
    our_batch, their_batch = batches(twins, rng.random((64, 64)) > 0.1, truth)
    probe = twins.tensorflow.probe
    named = {
        **twins.tensorflow.network.named_parameters(),
        "log_intensity_scale": twins.tensorflow.log_intensity_scale,
        "probe/real": probe.real_part,
        "probe/imaginary": probe.imaginary_part,
    }
    with tf.GradientTape() as tape:
        value = ours.loss(twins.tensorflow, our_batch, SIZE, weight)
    found = tape.gradient(value, named)
    theirs.loss(twins.torch, their_batch, SIZE, weight).backward()
    model = twins.torch
    expected = {torch_manager.canonical_name(key): value.grad for key, value in model.network.named_parameters()}
    expected |= {"log_intensity_scale": model.log_intensity_scale.grad}
    expected |= {f"probe/{part}": model.probe.modes.grad[..., i] for i, part in enumerate(("real", "imaginary"))}
    assert found.keys() == expected.keys()
    assert [key for key, gradient in found.items() if gradient is None] == still
    assert [key for key, gradient in expected.items() if gradient is None] == still
    for key in found.keys() - set(still):
        gradient, array = found[key], expected[key].numpy()
        array = array.transpose(2, 3, 1, 0) if array.ndim == 4 else array
        agree("network gradient", f"objective, by {key.split('/')[0]}", gradient, array)


def test_a_supervised_model_has_no_physics_to_weigh(make_twins, rng) -> None:
    twins = make_twins("float32", batch=2)
    pair = objectives(twins, {"supervised": True}, ObjectiveOptions())
    truth = np.ones((2, 1, 64, 64), complex)
    for objective, model, batch in zip(
        pair, (twins.tensorflow, twins.torch), batches(twins, np.ones((64, 64), bool), truth), strict=True
    ):
        with pytest.raises(ConfigError, match=r"physics weight 0\.5: a supervised model has no loss on the detector"):
            objective.loss(model, batch, SIZE, 0.5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"amp_loss": "TV"}, "amp_loss='TV': expected one of Total_Variation, Mean_Deviation or none"),
        ({"phase_loss": "mean"}, "phase_loss='mean': expected one of Total_Variation, Mean_Deviation or none"),
        ({"amp_loss_coeff": -1.0}, "amp_loss_coeff=-1.0: expected a finite number at least 0"),
        ({"amplitude_variance_coeff": float("nan")}, "amplitude_variance_coeff=nan: expected a finite number"),
    ],
)
def test_options_that_cannot_be_meant(changes, message) -> None:
    with pytest.raises(ConfigError, match=message):
        ObjectiveOptions(**changes)
