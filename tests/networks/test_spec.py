"""The networks as data: names, shapes, starts and recipes; no framework."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import pytest

from ptycho.config.config import ModelConfig
from ptycho.errors import ConfigError
from ptycho.networks.cnn import CnnSpec, cnn_spec
from ptycho.networks.options import NetworkOptions
from ptycho.networks.parts import EfficientGate
from ptycho.networks.spec import network_spec
from ptycho.networks.unrolled import CANVAS_CHANNELS, DESCENT, STAGES, UNSHUFFLE, UnrolledSpec

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
    """`cnn` trains at 0.001 where no rate is asked for; `unrolled` has at least 3 others in its loss."""
    assert network_spec(ModelConfig()).recipe.learning_rate == 1e-3
    assert not network_spec(ModelConfig()).recipe.one_cycle
    assert network_spec(ModelConfig()).recipe.held_out(1) == 0
    specs = [network_spec(replace(UNROLLED, gridsize=gridsize)) for gridsize in (1, 2, 3)]
    assert [spec.recipe.held_out(spec.members) for spec in specs] == [6, 3, 3]
    assert network_spec(ModelConfig()).recipe.clip is None
    assert all(spec.recipe.clip == 0.02 for spec in specs)
    assert all(spec.recipe.one_cycle for spec in specs)
    assert all(math.isclose(spec.recipe.learning_rate, 4e-3) for spec in specs)


def test_neutral_options_change_nothing() -> None:
    for config in (ModelConfig(gridsize=2), UNROLLED):
        assert network_spec(config, NetworkOptions()) == network_spec(config)
        assert network_spec(config).statistics() == {}


@pytest.mark.parametrize(("channels", "kernel"), [(8, 3), (16, 3), (64, 3), (127, 3), (128, 5), (2048, 7)])
def test_the_kernel_of_channel_attention_follows_from_the_channels(channels, kernel) -> None:
    """The odd number nearest to (log2 C + 1) / 2: 2 gives 3, 4 gives 5, 6 gives 7, the larger of two."""
    assert EfficientGate("gate", channels).kernel == kernel


def test_attention_by_place() -> None:
    def gates(**options) -> set[str]:
        names = cnn_spec(ModelConfig(), NetworkOptions(**options)).parameters().keys() - plain
        return {name.rpartition("/")[0] for name in names}

    plain = cnn_spec(ModelConfig()).parameters().keys()
    deepest = len(cnn_spec(ModelConfig()).encoder) - 1
    decoders = [f"{branch}/{level}" for branch in ("amplitude", "phase") for level in range(deepest)]
    above = [f"encoder/{level}" for level in range(deepest)]
    halves = ("cbam_channel", "cbam_spatial")
    assert gates(eca_encoder=True) == {f"{name}/eca" for name in [*above, f"encoder/{deepest}"]}
    assert gates(cbam_encoder=True) == {f"{name}/{half}" for name in above for half in halves}
    assert gates(cbam_bottleneck=True) == {f"encoder/{deepest}/{half}" for half in halves}
    assert gates(eca_decoder=True) == {f"{name}/eca" for name in decoders}
    assert gates(cbam_decoder=True) == {f"{name}/{half}" for name in decoders for half in halves}
    assert gates(spatial_decoder=True) == {f"{name}/spatial" for name in decoders}


def test_shapes_of_options() -> None:
    options = NetworkOptions(
        batch_norm=True, cbam_bottleneck=True, spatial_decoder=True, decoder_spatial_kernel=5, use_shared_decoder=True
    )
    spec = cnn_spec(ModelConfig(gridsize=2, n_filters_scale=4), options)
    shapes = {
        "encoder/0/norm1/scale": (32,),
        "encoder/3/norm2/bias": (128,),
        "encoder/3/cbam_channel/inner": (128, 8),
        "encoder/3/cbam_channel/outer": (8, 128),
        "encoder/3/cbam_spatial/kernel": (7, 7, 2, 1),
        "amplitude/0/spatial/kernel": (5, 5, 2, 1),
        "phase/head/kernel": (3, 3, 32, 4),
    }
    found = spec.parameters()
    assert {name: found[name] for name in shapes} == shapes
    assert not [name for name in found if name.startswith("phase/") and "head" not in name]
    statistics = spec.statistics()
    assert statistics["encoder/0/norm1/mean"] == statistics["encoder/0/norm2/variance"] == (32,)
    assert len(statistics) == 4 * (len(spec.encoder) + len(spec.amplitude_decoder))


@pytest.mark.parametrize(
    ("fraction", "channels"), [(1.0, 32), (0.5, 16), (0.125, 4), (0.11, 4), (0.1, 3), (0.01, 1), (0.0, 1)]
)
def test_the_border_reads_a_part_of_32_channels(fraction, channels) -> None:
    spec = cnn_spec(ModelConfig(), NetworkOptions(outer_fraction=fraction))
    assert (spec.border_head.in_channels, spec.border_head.out_channels) == (channels, 2)


@pytest.mark.parametrize(
    ("N", "edge", "padding"), [(64, 0, 0), (64, 1, 8), (64, 10, 16), (128, 10, 16), (256, 10, 32), (64, 56, 56)]
)
def test_an_edge_is_whole_pixels_of_every_level(N, edge, padding) -> None:
    spec = cnn_spec(ModelConfig(N=N), NetworkOptions(edge_pad=edge))
    assert spec.padding == padding
    assert padding % 2 ** (len(spec.encoder) - 1) == 0


def test_one_amplitude_for_a_group() -> None:
    spec = cnn_spec(ModelConfig(gridsize=2), NetworkOptions(amplitude_channels=1))
    assert (spec.amplitude_head.out_channels, spec.phase_head.out_channels) == (1, 4)
    assert (spec.border_head.out_channels, len(spec.border_head.bias)) == (5, 5)
    assert cnn_spec(ModelConfig(gridsize=2), NetworkOptions(amplitude_channels=4)) == cnn_spec(ModelConfig(gridsize=2))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"batch_norm": 1}, "batch_norm=1: expected true or false"),
        ({"decoder_spatial_kernel": 4}, "decoder_spatial_kernel must be odd, .* found 4"),
        ({"outer_fraction": 1.5}, "outer_fraction=1.5: expected a finite number at least 0 and at most 1"),
        ({"edge_pad": -1}, "edge_pad=-1: expected a whole number at least 0"),
        ({"mask_sigma": -1.0}, "mask_sigma=-1.0: expected a finite number at least 0"),
        ({"mask_diameter": 0.0}, "mask_diameter=0.0: expected a finite number above 0"),
        ({"mask_array": [[0.0, 2.0], [0, 0]]}, "mask_array must hold numbers from 0 to 1, .* found 0 to 2"),
        ({"mask_array": [[0.0, 0.0], [0, 0]]}, "mask_array must hold numbers from 0 to 1, some above 0, found 0 to 0"),
        ({"mask_array": [[0.0, 1.0]]}, r"mask_array must be N x N, found shape \(1, 2\)"),
        ({"mask_array": [[1.0]], "mask_diameter": 3}, "mask_diameter=3 is of a disk: give it or the mask"),
    ],
)
def test_values_that_an_option_may_not_hold(change, text) -> None:
    with pytest.raises(ConfigError, match=text):
        NetworkOptions(**change)


def test_options_that_do_not_fit_the_network_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"amplitude_channels must be 1 or gridsize\^2 = 4, found 3"):
        cnn_spec(ModelConfig(gridsize=2), NetworkOptions(amplitude_channels=3))
    with pytest.raises(ConfigError, match="edge_pad must be at most 56 with N=64, found 57"):
        cnn_spec(ModelConfig(), NetworkOptions(edge_pad=57))
    text = "batch_norm, edge_pad: expected the defaults with architecture='unrolled'.* or use architecture='cnn'"
    with pytest.raises(ConfigError, match=text):
        network_spec(UNROLLED, NetworkOptions(batch_norm=True, edge_pad=8, mask_diameter=20))
    assert network_spec(UNROLLED, NetworkOptions(mask_diameter=20)) == network_spec(UNROLLED)
