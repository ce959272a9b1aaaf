"""Options of the `cnn` network and of the probe's mask: what each does, where it starts, what it leaves alone."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from ptycho import params
from ptycho.config.config import ModelConfig, TrainingConfig
from ptycho.core.archive import ModelArchive, load_archive, save_archive
from ptycho.core.physics.probes import probe_mask
from ptycho.errors import ArchiveError, ConfigError, DataError
from ptycho.networks.cnn import cnn_spec
from ptycho.networks.options import NEUTRAL, NetworkOptions
from ptycho.networks.parts import Block, ChannelGate, EfficientGate, SpatialGate
from ptycho_torch.attention import attention
from ptycho_torch.layers import CnnNetwork, ConvBlock
from ptycho_torch.model_manager import canonical_weights, load_torch_bundle, save_torch_bundle, set_canonical_weights
from ptycho_torch.pinn import PtychoPINN

PAIR = ModelConfig(N=64, gridsize=2, n_filters_scale=1)
ATTENTION = {
    "eca_encoder": True,
    "eca_decoder": True,
    "cbam_encoder": True,
    "cbam_bottleneck": True,
    "cbam_decoder": True,
    "spatial_decoder": True,
    "decoder_spatial_kernel": 5,
}
ALONE = {
    "batch_norm": {"batch_norm": True},
    **{name: {name: True} for name in ATTENTION if name != "decoder_spatial_kernel"},
    "use_shared_decoder": {"use_shared_decoder": True},
    "outer_fraction": {"outer_fraction": 0.3},
    "edge_pad": {"edge_pad": 10},
    "amplitude_channels": {"amplitude_channels": 1},
}
ALL = NetworkOptions(**{name: value for change in (*ALONE.values(), ATTENTION) for name, value in change.items()})
OFFSETS = torch.tensor([[0.0, 0], [-4, 0], [0, -4], [-4, -4]])[None, :, None].expand(2, 4, 1, 2)


@pytest.fixture(autouse=True)
def _restore_params(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(params, "cfg", dict(params.cfg))


def probe() -> np.ndarray:
    y, x = np.mgrid[:64, :64] - 32.0
    return np.exp(-(x**2 + y**2) / 300 + 0.01j * (x**2 + y**2))


def fresh(options: NetworkOptions = NEUTRAL, config: ModelConfig = PAIR, seed: int = 0) -> PtychoPINN:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return PtychoPINN(config, probe(), 0.5, 30.0, options=options).eval()


def perturbed(options: NetworkOptions = NEUTRAL, config: ModelConfig = PAIR) -> PtychoPINN:
    """A model of which every array differs from its start."""
    made, numbers = fresh(options, config), np.random.default_rng(5)
    weights = canonical_weights(made.network)
    for name in sorted(weights):
        spread = 0.05 if "head" in name else 0.3 if "cbam" in name or "eca" in name or "spatial" in name else 0.02
        weights[name] = weights[name] + spread * numbers.standard_normal(weights[name].shape)
    set_canonical_weights(made.network, weights, "test")
    return made


def amplitudes(config: ModelConfig = PAIR, size: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(size, config.gridsize**2, config.N, config.N, generator=generator)


def patches(model: PtychoPINN) -> torch.Tensor:
    with torch.no_grad():
        return model.object_patches(amplitudes(model.config), positions=OFFSETS)


def test_neutral_options_are_the_network_of_the_configuration() -> None:
    assert cnn_spec(PAIR, NetworkOptions()) == cnn_spec(PAIR)
    assert not [name for name, _ in fresh().network.named_buffers()]
    torch.testing.assert_close(patches(fresh(NetworkOptions())), patches(fresh()), rtol=0, atol=0)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", ALONE)
def test_the_first_prediction_is_flat_with_every_option(name: str, training: bool) -> None:
    found = patches(fresh(NetworkOptions(**ALONE[name])).train(training))
    torch.testing.assert_close(found, torch.ones_like(found), atol=1e-5, rtol=0)


def test_attention_starts_as_nothing() -> None:
    """With the same convolutions, the network with attention says what the one without says, to the last digit."""
    plain, made = perturbed(), fresh(NetworkOptions(**ATTENTION))
    set_canonical_weights(made.network, canonical_weights(made.network) | canonical_weights(plain.network), "test")
    torch.testing.assert_close(patches(made), patches(plain), rtol=0, atol=0)


@pytest.mark.parametrize("name", ALONE)
def test_every_option_changes_the_object(name: str) -> None:
    """What both networks have is the same in both, cut to the smaller shape."""
    plain, made = perturbed(), perturbed(NetworkOptions(**ALONE[name]))
    common, weights = canonical_weights(plain.network), canonical_weights(made.network)
    for key in common.keys() & weights.keys():
        shape = weights[key].shape
        weights[key] = common[key][tuple(slice(length) for length in shape)]
    set_canonical_weights(made.network, weights, "test")
    change = (patches(made) - patches(plain)).abs().max()
    assert change > 1e-4, f"{name}: {change:.1e}"


@pytest.mark.parametrize("options", [ALL, NetworkOptions(batch_norm=True)], ids=["all", "batch_norm"])
def test_names_shapes_and_gradients_are_those_of_the_spec(options: NetworkOptions) -> None:
    made = perturbed(options)
    spec = cnn_spec(PAIR, options)
    shapes = {name: array.shape for name, array in canonical_weights(made.network).items()}
    assert shapes == spec.parameters() | spec.statistics()
    assert len(list(made.network.parameters())) == len(spec.parameters())
    found = made.object_patches(amplitudes(), positions=OFFSETS)
    (found.real + 2 * found.imag).sum().backward()
    for name, value in made.network.named_parameters():
        assert value.grad.abs().max() > 0, f"no gradient reaches {name}"


def sigmoid(values: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-values))


def gated(spec: EfficientGate | ChannelGate | SpatialGate, x: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """What the layer of a gate makes of `(B, C, n, n)`, and its random parameters."""
    layer, generator = attention(spec).double(), torch.Generator().manual_seed(2)
    for value in layer.parameters():
        value.data = torch.randn(value.shape, generator=generator, dtype=torch.float64)
    with torch.no_grad():
        return layer(torch.as_tensor(x)).numpy(), {name: v.numpy() for name, v in layer.state_dict().items()}


@pytest.fixture
def features(rng: np.random.Generator) -> np.ndarray:
    return rng.standard_normal((2, 8, 5, 5))


def test_efficient_channel_attention_by_hand(features: np.ndarray) -> None:
    found, values = gated(EfficientGate("gate", 8), features)
    assert values["kernel"].shape == (3,)
    means = np.pad(features.mean((2, 3)), ((0, 0), (1, 1)))
    score = sum(values["kernel"][j] * means[:, j : j + 8] for j in range(3))
    np.testing.assert_allclose(found, 2 * sigmoid(score)[:, :, None, None] * features, rtol=1e-12)


def test_channel_half_of_cbam_by_hand(features: np.ndarray) -> None:
    found, values = gated(ChannelGate("gate", 8), features)
    score = sum(
        np.maximum(pooled @ values["inner"], 0) @ values["outer"]
        for pooled in (features.mean((2, 3)), features.max((2, 3)))
    )
    np.testing.assert_allclose(found, 2 * sigmoid(score)[:, :, None, None] * features, rtol=1e-12)


@pytest.mark.parametrize("kernel", [3, 7])
def test_spatial_attention_by_hand(features: np.ndarray, kernel: int) -> None:
    found, values = gated(SpatialGate("gate", kernel), features)
    edge = kernel // 2
    seen = np.pad(np.stack([features.mean(1), features.max(1)], 1), ((0, 0), (0, 0), (edge, edge), (edge, edge)))
    score = sum(
        values["kernel"][0, :, r, c][None, :, None, None] * seen[:, :, r : r + 5, c : c + 5]
        for r in range(kernel)
        for c in range(kernel)
    ).sum(1, keepdims=True)
    np.testing.assert_allclose(found, 2 * sigmoid(score) * features, rtol=1e-12)


def test_batch_norm_by_hand(rng: np.random.Generator) -> None:
    """In training by the batch, otherwise by statistics of which the batch is a tenth."""
    block = ConvBlock(Block("block", 2, 3, normalised=True)).double()
    x = torch.as_tensor(rng.standard_normal((4, 2, 6, 6)))
    with torch.no_grad():
        raw = block.conv1(x).numpy()
        mean, variance = raw.mean((0, 2, 3)), raw.var((0, 2, 3))
        found = block.norm1(torch.as_tensor(raw)).numpy()
        np.testing.assert_allclose(found.mean((0, 2, 3)), 0, atol=1e-12)
        np.testing.assert_allclose(found.var((0, 2, 3)), variance / (variance + 1e-5), rtol=1e-10)
        running = 0.1 * mean, 0.9 + 0.1 * variance * 144 / 143
        np.testing.assert_allclose(block.norm1.running_mean, running[0], rtol=1e-12)
        np.testing.assert_allclose(block.norm1.running_var, running[1], rtol=1e-12)
        found = block.eval().norm1(torch.as_tensor(raw)).numpy()
    expected = (raw - running[0][:, None, None]) / np.sqrt(running[1] + 1e-5)[:, None, None]
    np.testing.assert_allclose(found, expected, rtol=1e-10)


def test_a_mirrored_edge_hides_the_end_of_the_pattern_from_the_encoder() -> None:
    """Of a constant picture, the finest level is constant up to its edge; zeros beyond the edge would show."""
    pictures = torch.ones(1, 8, 64, 64)
    with torch.no_grad():
        plain, mirrored = (perturbed(o).network._encoded(pictures) for o in (NEUTRAL, NetworkOptions(edge_pad=3)))
    assert [level.shape for level in mirrored] == [level.shape for level in plain]
    assert plain[0].std(dim=(2, 3)).max() > 1e-3
    assert mirrored[0].std(dim=(2, 3)).max() < 1e-5


def test_the_border_reads_its_part_of_the_channels() -> None:
    """Of 16 channels of its level, 30 % are 5 (4.8): the sixth is for the decoders alone."""
    options = NetworkOptions(outer_fraction=0.3)
    made = perturbed(options)
    assert made.network.border_head.in_channels == 5
    border = torch.ones(64, 64, dtype=torch.bool)
    border[16:48, 16:48] = False
    for channel, reaches in ((5, False), (4, True)):
        before = patches(made)
        with torch.no_grad():
            made.network.encoder["1"].conv2.bias[channel] += 0.5
        changed = (patches(made) - before).abs().amax(dim=(0, 1)) > 1e-6
        assert bool(changed[~border].any())
        assert bool(changed[border].any()) == reaches


def test_one_amplitude_for_the_group_is_cut_at_every_member() -> None:
    """Members 4 pixels apart show the same amplitude 4 pixels apart, vacuum from outside, and phases of their own."""
    made = perturbed(NetworkOptions(amplitude_channels=1))
    found = patches(made)
    amplitude = found.abs()
    torch.testing.assert_close(amplitude[:, 0, :, 4:], amplitude[:, 1, :, :-4])
    torch.testing.assert_close(amplitude[:, 0, 4:], amplitude[:, 2, :-4])
    torch.testing.assert_close(amplitude[:, 1, :, -4:], torch.ones(2, 64, 4))
    assert (found.angle()[:, 0, :, 4:] - found.angle()[:, 1, :, :-4]).abs().max() > 1e-2
    with pytest.raises(DataError, match="share one amplitude, expected their positions, found none"):
        made.object_patches(amplitudes())


def test_one_amplitude_for_one_member_is_the_usual_one() -> None:
    alone = ModelConfig(N=64, n_filters_scale=1)
    assert cnn_spec(alone, NetworkOptions(amplitude_channels=1)) == cnn_spec(alone)


def test_a_shared_decoder_serves_both_heads() -> None:
    names = canonical_weights(fresh(NetworkOptions(use_shared_decoder=True)).network)
    expected = {n for n in cnn_spec(PAIR).parameters() if not n.startswith("phase/") or n.startswith("phase/head")}
    assert names.keys() == expected


def test_mixed_precision_and_a_device_take_every_option() -> None:
    made, x = perturbed(ALL), amplitudes()
    with torch.no_grad():
        members = made.canvas_and_members(x, OFFSETS, 80)[1]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            mixed = made.canvas_and_members(x, OFFSETS, 80)[1]
    assert mixed.dtype == torch.complex64
    error = float((mixed - members).abs().square().sum() / members.abs().square().sum()) ** 0.5
    assert 1e-5 < error < 0.05
    assert made.to("meta")(x.to("meta"), OFFSETS.to("meta"), 80).device.type == "meta"


MASKED = ModelConfig(N=64, n_filters_scale=1, probe_mask=True)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (NEUTRAL, probe_mask(64)),
        (NetworkOptions(mask_diameter=20), probe_mask(64, 20)),
        (NetworkOptions(mask_sigma=4.0), probe_mask(64, None, 4)),
        (NetworkOptions(mask_array=np.eye(64)), np.eye(64)),
        (NetworkOptions(mask_array=torch.eye(64) / 2), np.eye(64) / 2),
    ],
    ids=["disk of N/2", "diameter", "soft edge", "array", "tensor"],
)
@pytest.mark.parametrize("architecture", ["cnn", "unrolled"])
def test_the_mask_multiplies_the_probe(options: NetworkOptions, expected: np.ndarray, architecture: str) -> None:
    made = PtychoPINN(
        ModelConfig(N=64, n_filters_scale=1, probe_mask=True, architecture=architecture), probe(), 1, 1, options=options
    )
    masked = probe() * expected
    with torch.no_grad():
        found = made.probe()[0].numpy()
    np.testing.assert_allclose(found, masked * (32 / np.linalg.norm(masked)), atol=1e-5)


def test_masks_that_cannot_be_are_refused() -> None:
    with pytest.raises(ConfigError, match="mask_diameter is of the probe's mask, which is off: set probe_mask=True"):
        PtychoPINN(PAIR, probe(), 1, 1, options=NetworkOptions(mask_diameter=20))
    with pytest.raises(ConfigError, match="mask_array must be 64 x 64 as N says, found shape"):
        PtychoPINN(MASKED, probe(), 1, 1, options=NetworkOptions(mask_array=np.ones((32, 32))))


def test_options_pickle_and_compare() -> None:
    mask = np.eye(64)
    options = NetworkOptions(batch_norm=True, mask_array=mask)
    assert pickle.loads(pickle.dumps(options)) == options  # noqa: S301 - our own bytes
    assert options == NetworkOptions(batch_norm=True, mask_array=mask.tolist())
    assert options != NetworkOptions(batch_norm=True, mask_array=mask / 2)
    assert options != NetworkOptions(batch_norm=True)
    assert NetworkOptions() == NEUTRAL
    assert options.changed == ("batch_norm", "mask_array")


def saved(folder: Path, options: NetworkOptions) -> ModelArchive:
    return load_archive(
        save_torch_bundle(folder, perturbed(options, MASKED), TrainingConfig(model=MASKED, output_dir=folder))
    )


def test_an_archive_holds_what_is_not_neutral(tmp_path: Path) -> None:
    plain = saved(tmp_path / "plain", NEUTRAL)
    assert set(plain.configs) == {"training"}
    assert plain.probe_mask is None
    found = saved(tmp_path / "mask", NetworkOptions(edge_pad=10, mask_array=np.eye(64)))
    assert found.configs["network"] == {"edge_pad": 10}
    np.testing.assert_array_equal(found.probe_mask, np.eye(64))
    assert load_torch_bundle(tmp_path / "mask")[0].options == NetworkOptions(edge_pad=10, mask_array=np.eye(64))


def test_an_archive_of_an_unknown_option_is_refused(tmp_path: Path) -> None:
    archive = saved(tmp_path, NetworkOptions(batch_norm=True))
    archive.configs["network"]["batch_normal"] = True
    save_archive(tmp_path, archive)
    with pytest.raises(ArchiveError, match=r"unknown key 'batch_normal'; did you mean batch_norm.*update this library"):
        load_torch_bundle(tmp_path)


def test_the_statistics_of_training_are_in_the_archive(tmp_path: Path) -> None:
    made = perturbed(NetworkOptions(batch_norm=True), MASKED).train()
    before = canonical_weights(made.network)["encoder/0/norm1/mean"].copy()
    x, nowhere = amplitudes(MASKED), torch.zeros(2, 1, 1, 2)
    with torch.no_grad():
        made(x, nowhere, 64)
        expected = made.eval().predict_members(x, nowhere, 64)
    path = save_torch_bundle(tmp_path, made, TrainingConfig(model=MASKED, output_dir=tmp_path))
    loaded = load_torch_bundle(path)[0]
    with torch.no_grad():
        torch.testing.assert_close(loaded.predict_members(x, nowhere, 64), expected, rtol=1e-5, atol=1e-6)
    after = canonical_weights(loaded.network)["encoder/0/norm1/mean"]
    assert np.abs(after - before).max() > 1e-3


def test_a_network_of_the_spec_needs_no_model() -> None:
    options = NetworkOptions(**ATTENTION, batch_norm=True)
    names = {name for name, _ in CnnNetwork(cnn_spec(PAIR, options)).named_parameters()}
    assert {"encoder.0.gates.eca.kernel", "encoder.3.gates.cbam_channel.inner", "encoder.2.norm1.weight"} <= names
