"""Adaptive gradient clipping of both backends against the oracle, and against each other on a network."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
import torch

from ptycho.config.config import TrainingConfig
from ptycho.core.training.clipping import adaptive_clip
from ptycho.tf import model_manager, optimizers
from ptycho.tf.fit import TrainingModule
from ptycho_torch.layers import canonical_name
from ptycho_torch.lightning import clipping


@pytest.mark.parametrize("unit", ["output", "array"])
@pytest.mark.parametrize("ratio", [0.01, 0.1])
def test_like_the_oracle(agree, both, unit, ratio, rng) -> None:
    """Kernels of unequal sides, a unit without weights, one without a gradient."""
    gradient, weights = rng.normal(size=(2, 3, 5, 4)), rng.normal(size=(2, 3, 5, 4)) * [1.0, 0.1, 0.0, 10.0]
    gradient[..., 1] = 0
    expected = adaptive_clip(gradient, weights, ratio, unit)
    assert np.isfinite(expected).all()
    assert not np.array_equal(expected, gradient)
    theirs, ours = both
    found = optimizers.adaptive_clip(ours.array(gradient), ours.array(weights), ratio, unit)
    agree("function", "adaptive clipping", ours.numpy(found), expected)
    axes = (3, 2, 0, 1)
    first = [theirs.array(values.transpose(axes).copy()) for values in (gradient, weights)]
    found = theirs.numpy(clipping.adaptive_clip(*first, ratio, unit)).transpose(np.argsort(axes))
    agree("function", "adaptive clipping", found, expected)


@pytest.mark.parametrize("dtype", ["float64"])
def test_a_network_s_gradients_are_clipped_alike(make_twins, agree, dtype, rng) -> None:
    """The same units in both, whatever the layout; heads, probe and scale are left alone."""
    twins = make_twins(dtype, probe_trainable=True)
    config = replace(TrainingConfig(model=twins.tensorflow.config), gradient_clip_val=0.02)
    config.gradient_clip_algorithm = "agc"
    module = TrainingModule(twins.tensorflow, config, 64)
    drawn = {
        name: rng.normal(size=a.shape) for name, a in model_manager.canonical_weights(module.model.network).items()
    }
    assert {name for name in module.network_names if name is not None} == set(drawn)
    gradients = [
        tf.constant(rng.normal(size=variable.shape) if name is None else drawn[name])
        for name, variable in zip(module.network_names, module.variables, strict=True)
    ]
    found = module._clipped(gradients)
    for parameter_name, parameter in twins.torch.network.named_parameters():
        gradient = drawn[canonical_name(parameter_name)]
        parameter.grad = torch.as_tensor(gradient.transpose(3, 2, 0, 1).copy() if gradient.ndim == 4 else gradient)
    clipping.clip_adaptively(twins.torch.network, 0.02)
    expected = {canonical_name(name): parameter.grad for name, parameter in twins.torch.network.named_parameters()}
    left = []
    for name, before, after in zip(module.network_names, gradients, found, strict=True):
        if name is None or "head" in name:
            np.testing.assert_array_equal(after, before)
            left.append(name)
            continue
        other = expected[name].numpy()
        agree("function", "adaptive clipping", after, other.transpose(2, 3, 1, 0) if other.ndim == 4 else other)
        assert np.linalg.norm(after) < np.linalg.norm(before), name
    assert left.count(None) >= 2, "probe and scale"
