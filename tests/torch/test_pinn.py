"""The network as the spec says, its flat start, its units, its canvases, and its way through an archive."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ptycho import params
from ptycho.config.config import ModelConfig, TrainingConfig
from ptycho.core.physics import diffraction
from ptycho.errors import ArchiveError, ConfigError, DataError
from ptycho.networks.cnn import LADDERS, cnn_spec
from ptycho.networks.parts import amplitude_head
from ptycho_torch.layers import CnnNetwork, amplitude_activation, canonical_name
from ptycho_torch.model_manager import load_torch_bundle, save_torch_bundle
from ptycho_torch.pinn import PtychoPINN

SMALL = ModelConfig(N=64, gridsize=2, n_filters_scale=1)


@pytest.fixture(autouse=True)
def _restore_params(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(params, "cfg", dict(params.cfg))


def probe(modes: int = 1) -> np.ndarray:
    y, x = np.mgrid[:64, :64] - 32.0
    first = np.exp(-(x**2 + y**2) / 150 + 0.01j * (x**2 + y**2))
    return np.stack([first * x**m for m in range(modes)])


def model(config: ModelConfig = SMALL, seed: int = 0, **changes) -> PtychoPINN:
    """A model whose heads are not zero, so that it says something."""
    settings = {"probe": probe(), "input_scale": 0.5, "intensity_scale": 30.0, **changes}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made = PtychoPINN(
            config, settings.pop("probe"), settings.pop("input_scale"), settings.pop("intensity_scale"), **settings
        )
        for head in (made.network.amplitude_head, made.network.phase_head, made.network.border_head):
            if head is not None:
                torch.nn.init.normal_(head.weight, std=0.05)
    return made.eval()


def batch(config: ModelConfig = SMALL, size: int = 3, seed: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    c = config.gridsize**2
    positions = torch.rand(size, c, 1, 2, generator=generator) * 6 - 3 if c > 1 else torch.zeros(size, 1, 1, 2)
    return torch.rand(size, c, config.N, config.N, generator=generator), positions


@pytest.mark.parametrize("N", sorted(LADDERS))
@pytest.mark.parametrize(("gridsize", "pad_object", "probe_big"), [(1, True, True), (2, True, False), (3, False, True)])
def test_the_network_has_the_parameters_of_its_spec(N: int, gridsize: int, pad_object: bool, probe_big: bool) -> None:
    spec = cnn_spec(ModelConfig(N=N, gridsize=gridsize, n_filters_scale=1, pad_object=pad_object, probe_big=probe_big))
    found = {}
    for name, value in CnnNetwork(spec).named_parameters():
        shape = tuple(value.shape)
        found[canonical_name(name)] = (shape[2], shape[3], shape[1], shape[0]) if len(shape) == 4 else shape
    assert found == spec.parameters()


@pytest.mark.parametrize("activation", ["sigmoid", "swish", "softplus", "relu"])
@pytest.mark.parametrize("probe_scale", [3.0, 4.0, 10.0])
def test_an_amplitude_head_starts_at_one_and_reaches_above(activation: str, probe_scale: float) -> None:
    span, bias = amplitude_head(activation, probe_scale)
    values = torch.tensor([bias, bias + 3.0], dtype=torch.float64, requires_grad=True)
    amplitude = span * amplitude_activation(values, activation)
    amplitude[0].backward()
    amplitude = amplitude.detach()
    assert float(amplitude[0]) == pytest.approx(1, rel=1e-6)
    assert float(amplitude[1]) > 1
    assert float(values.grad[0]) > 0.1
    assert (amplitude_activation(torch.linspace(-20, 20, 999), activation) >= -1e-7).all()


def test_a_range_that_does_not_reach_one_is_refused() -> None:
    with pytest.raises(ConfigError, match="probe_scale must be above 2"):
        amplitude_head("sigmoid", 2.0)


@pytest.mark.parametrize("gridsize", [1, 2, 3])
def test_the_first_prediction_is_a_flat_object_of_the_right_energy(gridsize: int) -> None:
    config = replace(SMALL, gridsize=gridsize)
    fresh = PtychoPINN(config, probe(), 0.5, 30.0).eval()
    x, positions = batch(config)
    with torch.no_grad():
        members = fresh.canvas_and_members(x, positions, 80)[1]
        counts = fresh(x, positions, 80)
    # members of a group are shifted: the last line of pixels may meet the outside, which is vacuum as well
    torch.testing.assert_close(members, torch.ones_like(members), atol=1e-5, rtol=0)
    torch.testing.assert_close(counts.sum((-2, -1)), torch.full((3, gridsize**2), 30.0**2 * 32**2), rtol=1e-4, atol=0)


@pytest.mark.parametrize("pad_object", [True, False])
@pytest.mark.parametrize("probe_big", [True, False])
def test_where_the_branches_reach(pad_object: bool, probe_big: bool) -> None:
    config = ModelConfig(N=64, n_filters_scale=1, pad_object=pad_object, probe_big=probe_big)
    broad = np.exp(-(np.hypot(*np.mgrid[-32:32, -32:32]) ** 2) / 3000)
    patches = model(config, probe=broad).object_patches(batch(config)[0])
    border = torch.ones(64, 64, dtype=torch.bool)
    border[16:48, 16:48] = False
    assert patches[..., ~border].abs().std() > 1e-3
    varies = patches[..., border].abs().std() > 1e-3
    assert bool(varies) == (probe_big or not pad_object)


def test_expected_counts_are_what_the_oracle_says(rng: np.random.Generator) -> None:
    made = model(probe=probe(2))
    members = rng.standard_normal((2, 4, 64, 64)) + 1j * rng.standard_normal((2, 4, 64, 64))
    normalised = probe(2) * (32 / np.linalg.norm(probe(2)))
    expected = 30.0**2 * diffraction.diffract(normalised, members)
    found = made.expected_counts(torch.as_tensor(members, dtype=torch.complex64), torch.zeros(2, 4, 1, 2))
    found = found.detach().numpy()
    assert np.linalg.norm(found - expected) < 1e-5 * np.linalg.norm(expected)


def test_the_object_times_the_file_s_probe_predicts_the_file_s_amplitudes() -> None:
    made = model()
    x, positions = batch()
    with torch.no_grad():
        objects = made.predict_members(x, positions, 80).numpy()
        counts = made(x, positions, 80).numpy()
    in_file_units = np.sqrt(counts) / 30.0 / 0.5
    predicted = np.sqrt(diffraction.diffract(probe(), objects))
    assert np.linalg.norm(predicted - in_file_units) < 1e-5 * np.linalg.norm(in_file_units)


@pytest.mark.parametrize(
    ("change", "factor"),
    [({"probe": 7 * probe()}, 1 / 7), ({"input_scale": 0.5 / 7}, 7.0), ({"intensity_scale": 210.0}, 1.0)],
    ids=["probe x 7", "amplitudes x 7", "counts x 49 at the same amplitudes"],
)
def test_scales_of_probe_amplitude_and_dose(change: dict, factor: float) -> None:
    """With fixed weights: X_norm = k A is the same, so only the units of the object follow."""
    x, positions = batch()
    with torch.no_grad():
        plain = model().predict_members(x, positions, 80)
        changed = model(**change).predict_members(x, positions, 80)
    torch.testing.assert_close(changed, factor * plain, rtol=1e-5, atol=1e-6)


def test_a_trained_intensity_scale_goes_into_the_object() -> None:
    made = model()
    before = float(made.object_scale.detach())
    made.log_intensity_scale.data += math.log(1.25)
    assert float(made.object_scale.detach()) == pytest.approx(1.25 * before, rel=1e-6)
    assert made.intensity_scale == pytest.approx(37.5, rel=1e-6)


def test_members_and_group_are_one_for_a_group_of_one() -> None:
    config = replace(SMALL, gridsize=1)
    made, (x, positions) = model(config), batch(config)
    with torch.no_grad():
        torch.testing.assert_close(made.predict_members(x, positions, 64)[:, 0], made.predict_group(x, positions, 64))


def test_without_object_big_each_member_stands_alone() -> None:
    x, positions = batch()
    alone, together = model(replace(SMALL, object_big=False)), model()
    with torch.no_grad():
        members = alone.predict_members(x, positions, 80)
        torch.testing.assert_close(members, alone.object_scale * alone.object_patches(x))
        assert not torch.allclose(members, together.predict_members(x, positions, 80), atol=1e-3)


def test_overlapping_members_agree_after_the_canvas() -> None:
    """Cut from one canvas, two members say the same of the pixels they share (whole-pixel offsets)."""
    made, (x, _) = model(), batch()
    positions = torch.tensor([[0.0, 0], [-4, 0], [0, -4], [-4, -4]])[None, :, None].expand(3, 4, 1, 2)
    with torch.no_grad():
        members = made.predict_members(x, positions, 80)
    torch.testing.assert_close(members[:, 0, :, 4:], members[:, 1, :, :-4])
    torch.testing.assert_close(members[:, 0, 4:], members[:, 2, :-4])


def test_any_batch_size_gives_the_same_answer() -> None:
    made, (x, positions) = model(), batch(size=5)
    with torch.no_grad():
        whole = made.predict_group(x, positions, 80)
        parts = torch.cat([made.predict_group(x[i:j], positions[i:j], 80) for i, j in ((0, 3), (3, 5))])
    assert whole.shape == (5, 64, 64)
    torch.testing.assert_close(whole, parts, atol=1e-5, rtol=1e-5)


def test_shapes_that_do_not_fit_are_named() -> None:
    made, (x, positions) = model(), batch()
    with pytest.raises(DataError, match=r"found \(3, 3, 64, 64\)"):
        made(x[:, :3], positions, 80)
    with pytest.raises(DataError, match=r"B >= 1 .* found \(0, 4, 64, 64\)"):
        made(x[:0], positions[:0], 80)
    with pytest.raises(DataError, match=r"positions must be \(3, 4, 1, 2\) .* found \(2, 4, 1, 2\)"):
        made(x, positions[:2], 80)
    with pytest.raises(DataError, match="64 x 64 pixels"):
        model(probe=np.ones((1, 32, 32)))


def test_what_invalid_pixels_hold_does_not_matter() -> None:
    mask = np.ones((64, 64), bool)
    mask[30:34] = False
    made, (x, positions) = model(mask=mask), batch()
    spoiled = torch.where(torch.as_tensor(mask), x, 1e3)
    with torch.no_grad():
        torch.testing.assert_close(made.predict_members(spoiled, positions, 80), made.predict_members(x, positions, 80))


def test_the_whole_model_follows_a_device() -> None:
    """On the `meta` device every operation fails that meets a tensor left behind on the CPU."""
    made = model(replace(SMALL, probe_mask=True, gaussian_smoothing_sigma=0.7)).to("meta")
    x, positions = (tensor.to("meta") for tensor in batch())
    assert made(x, positions, 80).device.type == "meta"
    assert made.predict_members(x, positions, 80).device.type == "meta"


@pytest.mark.parametrize("probe_mask", [False, True])
def test_an_archive_gives_the_same_predictions(tmp_path: Path, probe_mask: bool) -> None:
    config = replace(SMALL, probe_mask=probe_mask)
    made = model(config, probe=probe(2), probe_trainable=True)
    made.probe.modes.data *= 1 + 0.1 * torch.rand(made.probe.modes.shape, generator=torch.Generator().manual_seed(3))
    made.log_intensity_scale.data += 0.2
    path = save_torch_bundle(tmp_path, made, TrainingConfig(model=config, output_dir=tmp_path))
    params.cfg.clear()
    loaded, _ = load_torch_bundle(path)
    x, positions = batch()
    with torch.no_grad():
        for name in ("predict_members", "predict_group", "forward"):
            found, expected = (getattr(m, name)(x, positions, 80) for m in (loaded, made))
            assert float((found - expected).abs().square().sum() / expected.abs().square().sum()) < 1e-10
    assert params.cfg["intensity_scale"] == pytest.approx(30 * math.exp(0.2))
    assert params.cfg["input_scale"] == 0.5


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    save_torch_bundle(tmp_path, model(), TrainingConfig(model=replace(SMALL, pad_object=False, probe_big=False)))
    with pytest.raises(ArchiveError, match="weight 'border/head/bias' is unexpected"):
        load_torch_bundle(tmp_path)


@pytest.mark.parametrize("gridsize", [1, 2])
def test_mixed_precision_is_for_the_convolutions_alone(gridsize: int) -> None:
    config = replace(SMALL, gridsize=gridsize)
    made, (x, positions) = model(config), batch(config)
    with torch.no_grad():
        members = made.canvas_and_members(x, positions, 80)[1]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            mixed = made.canvas_and_members(x, positions, 80)[1]
            counts = made.expected_counts(members, positions)
        torch.testing.assert_close(counts, made.expected_counts(members, positions), rtol=0, atol=0)
    assert mixed.dtype == torch.complex64
    error = float((mixed - members).abs().square().sum() / members.abs().square().sum()) ** 0.5
    assert 1e-5 < error < 0.02


def test_forward_predict_is_predict_members_in_the_callers_units() -> None:
    made, (x, positions) = model(), batch()
    with torch.no_grad():
        expected = made.predict_members(x, positions, 72)
        torch.testing.assert_close(made.forward_predict(x, positions), expected)
        torch.testing.assert_close(made.forward_predict(x / 3, positions, input_scale_factor=3.0), expected)
        found = made.forward_predict(x, positions, torch.as_tensor(7 * probe()))
    torch.testing.assert_close(7 * found, expected)
