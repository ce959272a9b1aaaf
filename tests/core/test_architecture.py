"""The networks as data: names, shapes, starts and recipes; no framework."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import pytest

from ptycho.architecture import CANVAS_CHANNELS, DESCENT, STAGES, UNSHUFFLE, CnnSpec, UnrolledSpec, network_spec
from ptycho.config.config import ModelConfig, PyTorchExecutionConfig
from ptycho.errors import ConfigError

UNROLLED = ModelConfig(architecture="unrolled")


def test_a_name_chooses_the_network() -> None:
    assert isinstance(network_spec(ModelConfig()), CnnSpec)
    assert isinstance(network_spec(UNROLLED), UnrolledSpec)
    with pytest.raises(ConfigError, match=r"architecture must be one of \['cnn', 'unrolled'\], found 'resnet'"):
        network_spec(replace(UNROLLED, architecture="resnet"))


@pytest.mark.parametrize("architecture", ["cnn", "unrolled"])
def test_an_impossible_pattern_size_is_refused(architecture) -> None:
    with pytest.raises(ConfigError, match=r"N must be one of \[64, 128, 256\], found 96: crop or bin"):
        network_spec(ModelConfig(N=96, architecture=architecture))


def test_the_weights_of_unrolled_know_nothing_of_the_scan() -> None:
    """Not its pattern size, not its groups, not the settings of the other network's heads."""
    expected = network_spec(UNROLLED).parameters()
    for change in ({"N": 256}, {"gridsize": 3}, {"object_big": False}, {"amp_activation": "relu", "probe_scale": 1}):
        assert network_spec(replace(UNROLLED, **change)).parameters() == expected
    assert network_spec(replace(UNROLLED, gridsize=3)).members == 9


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_names_and_shapes_of_unrolled(scale) -> None:
    width = 8 * scale
    found = network_spec(replace(UNROLLED, n_filters_scale=scale)).parameters()
    shapes = {
        "step": (STAGES,),
        "momentum": (STAGES,),
        "stages/0/down/0/conv1/kernel": (3, 3, 28, width),
        "stages/1/down/1/conv2/bias": (2 * width,),
        "stages/2/down/2/conv1/kernel": (3, 3, 2 * width, 2 * width),
        "stages/3/up/1/conv1/kernel": (3, 3, 4 * width, 2 * width),
        "stages/3/up/0/conv1/kernel": (3, 3, 3 * width, width),
        "stages/0/head/kernel": (3, 3, width, 8),
        "stages/0/head/bias": (8,),
    }
    assert {name: found[name] for name in shapes} == shapes
    # five blocks of two convolutions and a head, each with kernel and bias
    assert len(found) == 2 + STAGES * (5 * 4 + 2)
    assert list(found)[:2] == ["step", "momentum"]


@pytest.mark.parametrize(
    ("change", "steps"), [({}, 0), ({"gridsize": 2}, DESCENT), ({"gridsize": 2, "object_big": False}, 0)]
)
def test_plain_steps_are_for_members_that_overlap(change, steps) -> None:
    assert network_spec(replace(UNROLLED, **change)).descent == steps


def test_levels_of_a_correction_fit_together() -> None:
    spec = network_spec(UNROLLED)
    for stage, part in enumerate(spec.corrections):
        assert part.down[0].in_channels == CANVAS_CHANNELS * UNSHUFFLE**2
        assert all(upper.out_channels == lower.in_channels for upper, lower in pairwise(part.down))
        below = part.down[-1].out_channels
        for block, skip in zip(part.up, reversed(part.down[:-1]), strict=True):
            assert block.in_channels == below + skip.out_channels
            below = block.out_channels
        assert (part.head.in_channels, part.head.out_channels) == (below, 2 * UNSHUFFLE**2)
        assert set(part.head.bias) == {0.0}, "the first correction is nothing"
        assert all(name.startswith(f"stages/{stage}/") for name, _ in part.parameters())


def test_recipes() -> None:
    """`cnn` trains at the rate that the settings have by default; `unrolled` is judged by at least 3 others."""
    assert network_spec(ModelConfig()).recipe.learning_rate == PyTorchExecutionConfig.learning_rate
    assert not network_spec(ModelConfig()).recipe.one_cycle
    assert network_spec(ModelConfig()).recipe.held_out == 0
    recipes = [network_spec(replace(UNROLLED, gridsize=gridsize)).recipe for gridsize in (1, 2, 3)]
    assert [recipe.held_out for recipe in recipes] == [6, 3, 3]
    assert network_spec(ModelConfig()).recipe.clip is None
    assert all(recipe.clip == 0.02 for recipe in recipes)
    assert all(recipe.one_cycle for recipe in recipes)
    assert all(math.isclose(recipe.learning_rate, 4e-3) for recipe in recipes)
