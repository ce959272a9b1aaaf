"""The `unrolled` network in both frameworks: against the oracle while it is fresh, and against its twin.

Amplitudes are those of an object that a group's members share: on random ones an iteration is chaotic, and a last
digit grows from stage to stage.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import torch
from scipy.ndimage import gaussian_filter

from ptycho.config.config import ModelConfig, PyTorchExecutionConfig, TrainingConfig
from ptycho.core.groups.neighbourhood import make_neighbourhoods
from ptycho.core.physics import group_gradient as oracle
from ptycho.core.physics import patches as core_patches
from ptycho.core.physics.diffraction import diffract, intensity, smooth
from ptycho.core.physics.patches import extract_rounded
from ptycho.core.physics.probes import make_probe
from ptycho.errors import DataError
from ptycho.networks import unrolled as unrolled_data
from ptycho.raw_data import RawData
from ptycho.tf import fit, loader, model_manager
from ptycho.tf import pinn as tf_model
from ptycho_torch import data_container_bridge
from ptycho_torch import fit as torch_fit
from ptycho_torch import model_manager as torch_manager
from ptycho_torch import pinn as torch_model

SIZE = 72
"""Canvas of a group; its offsets stay below 4 px."""
HELD_OUT = 2
LENGTH = {"DESCENT": unrolled_data.DESCENT, "STAGES": unrolled_data.STAGES}
"""Steps of the network; most tests take a shorter one, for time."""
SETTINGS: dict[str, dict[str, Any]] = {
    "gridsize 1": {"gridsize": 1},
    "gridsize 2": {"gridsize": 2},
    "gridsize 3": {"gridsize": 3},
    "members alone": {"gridsize": 2, "object_big": False},
    "masked, smoothed": {"gridsize": 2, "probe_mask": True, "gaussian_smoothing_sigma": 0.7},
}

PREDICTIONS = ("predict_members", "predict_on_grid", "predict_group")


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three plain steps and two stages."""
    monkeypatch.setattr(unrolled_data, "DESCENT", 3)
    monkeypatch.setattr(unrolled_data, "STAGES", 2)


def complex_normal(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape) + 1j * rng.standard_normal(shape)


def objects(rng: np.random.Generator, count: int, size: int) -> np.ndarray:
    """Smooth objects `(count, size, size)`: amplitude about 0.8, a phase of some tenths of a radian."""
    fields = gaussian_filter(rng.standard_normal((2, count, size, size)), (0, 0, 5, 5), mode="wrap")
    amplitude, phase = fields / fields.std(axis=(2, 3), keepdims=True)
    return (0.8 + 0.1 * amplitude) * np.exp(0.4j * phase)


def simulated(twins, rng: np.random.Generator, held_out: int = 0, counted: bool = True):
    """The twins with the patterns that the members of a group record of one object, at positions between pixels."""
    model = twins.torch
    members, batch = model.config.gridsize**2 + held_out, len(twins.amplitudes)
    positions = rng.uniform(-3.4, 3.4, (batch, members, 2)) * (members > 1)
    canvases = objects(rng, batch, SIZE)
    whole, remainder = oracle.split_positions(positions)
    patches = core_patches.cut(canvases[:, None], whole[..., 0], whole[..., 1], 64)
    probes = oracle.shifted_probes(model.probe().detach().numpy().astype(complex), remainder)
    counts = 30.0**2 * intensity(smooth(probes * patches[:, :, None], model.config.gaussian_smoothing_sigma))
    amplitudes = np.sqrt(rng.poisson(counts) if counted else counts) / 30.0
    kind = twins.amplitudes.dtype
    return twins._replace(
        amplitudes=amplitudes.transpose(0, 2, 3, 1).astype(kind),
        positions=positions.transpose(0, 2, 1)[:, None].astype(kind),
    )


@pytest.fixture
def make_pair(make_twins, rng) -> Callable[..., Any]:
    """`make_pair(dtype, held_out, settings, **model arguments)`: twins of `unrolled` and a batch of two groups."""

    def make(dtype: str, held_out: int, settings: dict[str, Any], batch: int = 2, **arguments: Any):
        settings = {"architecture": "unrolled", **settings}
        return simulated(make_twins(dtype, batch, settings, **arguments), rng, held_out)

    return make


def channel_last(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().numpy().transpose(0, 2, 3, 1)


def torch_mask(mask: np.ndarray) -> torch.Tensor:
    return torch.as_tensor(np.ascontiguousarray(mask.transpose(0, 3, 1, 2)))


def held_out(name: str) -> int:
    return HELD_OUT if SETTINGS[name].get("object_big", True) else 0


@pytest.mark.parametrize("dtype", ["float64"])
@pytest.mark.parametrize("name", ["gridsize 1", "members alone", "masked, smoothed"])
def test_canvas_members_and_counts(make_pair, agree, dtype, name, rng) -> None:
    pair = make_pair(dtype, held_out(name), SETTINGS[name])
    mask = rng.random(pair.amplitudes.shape) > 0.1
    found = pair.tensorflow.canvas_and_members(*pair.tensorflow_batch(), SIZE, tf.constant(mask))
    counts = pair.tensorflow.expected_counts(found[1], pair.tensorflow_batch()[1])
    with torch.no_grad():
        expected = pair.torch.canvas_and_members(*pair.torch_batch(), SIZE, torch_mask(mask))
        their_counts = pair.torch.expected_counts(expected[1], pair.torch_batch()[1])
    agree("network", f"unrolled canvas, {name}", found[0], expected[0])
    agree("network", f"unrolled members, {name}", found[1], channel_last(expected[1]))
    agree("network", f"unrolled counts, {name}", counts, channel_last(their_counts))
    assert np.std(found[0]) > 0.05, "the network says something"


@pytest.mark.parametrize("dtype", ["float32"])
@pytest.mark.parametrize("name", SETTINGS)
def test_predictions(make_pair, agree, dtype, name, rng) -> None:
    pair = make_pair(dtype, held_out(name), SETTINGS[name])
    mask = rng.random(pair.amplitudes.shape) > 0.1
    ours, theirs = (*pair.tensorflow_batch(), SIZE, tf.constant(mask)), (*pair.torch_batch(), SIZE, torch_mask(mask))
    with torch.no_grad():
        agree("network", f"unrolled counts, {name}", pair.tensorflow(*ours), channel_last(pair.torch(*theirs)))
        for what in PREDICTIONS:
            expected = getattr(pair.torch, what)(*theirs)
            expected = expected[:, None] if expected.ndim == 3 else expected
            found = getattr(pair.tensorflow, what)(*ours)
            agree("network", f"unrolled {what}, {name}", found, channel_last(expected))


@pytest.mark.parametrize("dtype", ["float64"])
@pytest.mark.parametrize("gridsize", [1, 2])
def test_a_fresh_network_is_the_oracle_s_iteration(make_pair, agree, dtype, gridsize, rng) -> None:
    """The corrections begin as nothing: gradient steps with momentum, from a flat canvas."""
    pair = make_pair(dtype, 0, {"gridsize": gridsize, "gaussian_smoothing_sigma": 0.7})
    mask = rng.random((64, 64)) > 0.1
    spec = pair.torch.network.spec
    weights = {name: np.zeros(shape) for name, shape in spec.parameters().items()}
    weights |= {"step": np.array([1.0, 0.8]), "momentum": np.array([0.7, 0.6])}
    model_manager.set_canonical_weights(pair.tensorflow.network, weights, "test")
    torch_manager.set_canonical_weights(pair.torch.network, weights, "test")
    amplitudes = pair.amplitudes.transpose(0, 3, 1, 2)
    whole, remainder = oracle.split_positions(pair.positions[:, 0].transpose(0, 2, 1))
    probes = oracle.shifted_probes(pair.torch.probe().detach().numpy(), remainder)
    canvas = np.ones((2, SIZE, SIZE), complex)
    velocity = np.zeros_like(canvas)
    plain = [(unrolled_data.DESCENT_STEP, unrolled_data.DESCENT_MOMENTUM)] * spec.descent
    assert len(plain) == (3 if gridsize == 2 else 0)
    for size, momentum in (*plain, (1.0, 0.7), (0.8, 0.6)):
        step, _ = oracle.amplitude_step(canvas, amplitudes, probes, whole, mask, 0.7)
        velocity = momentum * velocity + size * step
        canvas = canvas + velocity
    found = pair.tensorflow.canvas_and_members(*pair.tensorflow_batch(), SIZE, tf.constant(mask))[0]
    agree("network", "fresh unrolled canvas, tensorflow", found, canvas)
    found = pair.torch.canvas_and_members(*pair.torch_batch(), SIZE, torch.as_tensor(mask))[0]
    agree("network", "fresh unrolled canvas, pytorch", found.detach(), canvas)


@pytest.mark.parametrize("dtype", ["float32"])
def test_at_full_length(make_pair, agree, dtype, monkeypatch) -> None:
    """Rounding may not grow through all steps."""
    for name, value in LENGTH.items():
        monkeypatch.setattr(unrolled_data, name, value)
    pair = make_pair(dtype, HELD_OUT, {"gridsize": 2})
    assert (pair.torch.network.spec.descent, len(pair.torch.network.spec.corrections)) == tuple(LENGTH.values())
    found = pair.tensorflow.canvas_and_members(*pair.tensorflow_batch(), SIZE)
    with torch.no_grad():
        expected = pair.torch.canvas_and_members(*pair.torch_batch(), SIZE)
    agree("network", "unrolled canvas, full length", found[0], expected[0])
    agree("network", "unrolled members, full length", found[1], channel_last(expected[1]))


@pytest.mark.parametrize("dtype", ["float32"])
def test_a_fresh_network_lowers_the_error_of_what_it_sees(make_twins, dtype, rng) -> None:
    """Of patterns without noise, seen and held out: members lie where they were recorded."""
    made = make_twins(dtype, 2, {"architecture": "unrolled", "gridsize": 2})
    fresh = torch_model.PtychoPINN(made.torch.config, made.torch.probe.file_units(), 0.5, 30.0)
    pair = simulated(made._replace(torch=fresh), rng, HELD_OUT, counted=False)
    x, positions = pair.torch_batch()
    with torch.no_grad():
        flat = fresh.expected_counts(torch.ones(x.shape, dtype=torch.complex64), positions)
        found = fresh(x, positions, SIZE)
    errors = [(((counts.sqrt() / 30 - x) ** 2).sum(dim=(0, 2, 3)).sqrt()) for counts in (found, flat)]
    assert (errors[0] < 0.5 * errors[1]).all(), errors


def modules(pair, **settings) -> tuple[fit.TrainingModule, torch_fit.PtychoPINN_Lightning]:
    """The two models with their losses, as training uses them."""
    config = TrainingConfig(model=pair.torch.config, mae_weight=0.3, **settings)
    execution = PyTorchExecutionConfig(accelerator="cpu")
    ours, theirs = (
        fit.TrainingModule(pair.tensorflow, config, SIZE),
        torch_fit.PtychoPINN_Lightning(pair.torch, config, execution, SIZE),
    )
    return ours, theirs


def named(pair) -> dict[str, tuple[Any, torch.Tensor]]:
    """What is trained, by name: TensorFlow's variables and PyTorch's parameters."""
    theirs = {torch_manager.canonical_name(n): p for n, p in pair.torch.network.named_parameters()}
    found = {name: (ours, theirs[name]) for name, ours in pair.tensorflow.network.named_parameters().items()}
    probe = (pair.tensorflow.probe.real_part, pair.tensorflow.probe.imaginary_part), pair.torch.probe.modes
    scale = pair.tensorflow.log_intensity_scale, pair.torch.log_intensity_scale
    return {**found, "probe": probe, "log_intensity_scale": scale}


def as_kernel(array: torch.Tensor) -> np.ndarray:
    found = array.detach().numpy()
    return found.transpose(2, 3, 1, 0) if found.ndim == 4 and found.shape[-1] == 3 else found


def as_array(value: Any) -> np.ndarray:
    return np.stack([part.numpy() for part in value], axis=-1) if isinstance(value, tuple) else value.numpy()


@pytest.mark.parametrize("gridsize", [1, 2])
@pytest.mark.parametrize("dtype", ["float64"])
def test_gradients_of_the_training_loss(make_pair, agree, dtype, gridsize, rng) -> None:
    pair = make_pair(dtype, HELD_OUT, {"gridsize": gridsize, "probe_mask": True}, probe_trainable=True)
    mask = rng.random(pair.amplitudes.shape) > 0.1
    ours, theirs = modules(pair)
    parameters = named(pair)
    with tf.GradientTape() as tape:
        found = ours.loss((*pair.tensorflow_batch(), tf.constant(mask)))
    gradients = tape.gradient(found, {name: values[0] for name, values in parameters.items()})
    expected = theirs.loss((*pair.torch_batch(), torch_mask(mask)))
    expected.backward()
    agree("network", "unrolled training loss", found, expected.detach())
    for name, (_, parameter) in parameters.items():
        assert parameter.grad.abs().max() > 0, name
        kind = "unrolled training loss, by " + name.split("/")[0]
        agree("network gradient", kind, as_array(gradients[name]), as_kernel(parameter.grad))


@pytest.mark.parametrize("dtype", ["float64"])
def test_steps_of_the_optimiser(make_pair, agree, dtype, rng, monkeypatch) -> None:
    pair = make_pair(dtype, HELD_OUT, {"gridsize": 1}, probe_trainable=True)
    mask = rng.random((1, 64, 64, 1)) > 0.1
    ours, theirs = modules(pair, scheduler="Exponential")
    monkeypatch.setattr(torch_fit.PtychoPINN_Lightning, "trainer", SimpleNamespace(estimated_stepping_batches=50))
    stepper, recipe = theirs.configure_optimizers()["optimizer"], pair.torch.network.spec.recipe
    assert stepper.param_groups[0]["lr"] == ours.learning_rate == recipe.learning_rate
    before = {name: as_array(values[0]) for name, values in named(pair).items()}
    for _ in range(2):
        ours.training_step(*pair.tensorflow_batch(), tf.constant(mask))
        stepper.zero_grad()
        theirs.loss((*pair.torch_batch(), torch_mask(mask))).backward()
        norm = torch.nn.utils.clip_grad_norm_(stepper.param_groups[0]["params"], recipe.clip)
        assert norm > recipe.clip, "the limit is felt"
        stepper.step()
    for name, (found, expected) in named(pair).items():
        assert not np.array_equal(as_array(found), before[name]), name
        agree("optimiser", "unrolled weights after two steps", as_array(found), as_kernel(expected))


@pytest.mark.slow
@pytest.mark.parametrize("gridsize", [1, 2])
@pytest.mark.parametrize("dtype", ["float32"])
def test_with_xla_and_without(make_pair, agree, dtype, gridsize, rng) -> None:
    pair = make_pair(dtype, HELD_OUT, {"gridsize": gridsize, "gaussian_smoothing_sigma": 0.5})
    model, batch = pair.tensorflow, (*pair.tensorflow_batch(), tf.constant(rng.random(pair.amplitudes.shape) > 0.1))

    def everything(amplitudes: tf.Tensor, positions: tf.Tensor, mask: tf.Tensor) -> tuple[tf.Tensor, ...]:
        canvas, members = model.canvas_and_members(amplitudes, positions, SIZE, mask)
        return canvas, members, model.expected_counts(members, positions)

    found = tf.function(everything, autograph=False, jit_compile=True)(*batch)
    for what, one, other in zip(("canvas", "members", "counts"), found, everything(*batch), strict=True):
        agree("XLA", f"unrolled, XLA and eager, {what}", one, other)


@pytest.mark.parametrize("dtype", ["float32"])
@pytest.mark.parametrize("object_big", [True, False])
def test_any_batch_size_in_one_graph(make_pair, agree, dtype, object_big) -> None:
    """A graph traced for a batch of any size takes a last odd one; what a group gives does not depend on others."""
    pair = make_pair(dtype, 0, {"gridsize": 2, "object_big": object_big}, batch=3)
    signature = [tf.TensorSpec((None, 64, 64, 4)), tf.TensorSpec((None, 1, 2, 4))]
    predict = tf.function(
        lambda x, r: pair.tensorflow.predict_on_grid(x, r, SIZE), input_signature=signature, autograph=False
    )
    x, r = pair.tensorflow_batch()
    whole = predict(x, r).numpy()
    parts = np.concatenate([predict(x[i:j], r[i:j]) for i, j in ((0, 2), (2, 3))])
    assert whole.shape == (3, 64, 64, 4)
    agree("network", "unrolled, a batch in parts", parts, whole)


def both_canvases(pair, amplitudes: np.ndarray, mask: np.ndarray | None = None) -> list[np.ndarray]:
    changed = pair._replace(amplitudes=amplitudes)
    ours = () if mask is None else (tf.constant(mask),)
    theirs = () if mask is None else (torch_mask(mask),)
    with torch.no_grad():
        canvas = changed.torch.canvas_and_members(*changed.torch_batch(), SIZE, *theirs)[0].numpy()
    return [canvas, changed.tensorflow.canvas_and_members(*changed.tensorflow_batch(), SIZE, *ours)[0].numpy()]


@pytest.mark.parametrize("dtype", ["float32"])
def test_held_out_members_say_nothing(make_pair, dtype) -> None:
    pair = make_pair(dtype, HELD_OUT, {"gridsize": 2})
    seen = 4
    changed, shown = pair.amplitudes.copy(), pair.amplitudes.copy()
    changed[..., seen:] = 100.0
    shown[..., seen - 1] *= 1.1
    before = both_canvases(pair, pair.amplitudes)
    for one, other, more in zip(before, both_canvases(pair, changed), both_canvases(pair, shown), strict=True):
        np.testing.assert_array_equal(one, other)
        assert np.linalg.norm(more - one) > 1e-3 * np.linalg.norm(one), "members that are seen do"


@pytest.mark.parametrize("dtype", ["float32"])
@pytest.mark.parametrize("kind", ["of every member", "of the model"])
def test_masked_pixels_say_nothing(make_pair, dtype, kind, rng) -> None:
    mask = rng.random((64, 64, 1)) > 0.2
    own = {"mask": mask[..., 0]} if kind == "of the model" else {}
    pair = make_pair(dtype, HELD_OUT, {"gridsize": 2}, **own)
    called = rng.random(pair.amplitudes.shape) > 0.2 if kind == "of every member" else None
    garbage = np.where(mask if called is None else called, pair.amplitudes, np.float32(1e4))
    for one, other in zip(
        both_canvases(pair, pair.amplitudes, called), both_canvases(pair, garbage, called), strict=True
    ):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("dtype", ["float64"])
def test_the_true_canvas_gives_the_recorded_patterns(make_pair, agree, dtype, rng, monkeypatch) -> None:
    """Seen and held out, at positions between pixels: what the forward model records of an object in the large."""
    pair = make_pair(dtype, HELD_OUT, {"gridsize": 2}, batch=1)
    truth, middle = objects(rng, 1, 96)[0], np.array([47.0, 50.0])
    places = middle + rng.uniform(-3.4, 3.4, (6, 2))
    probe = pair.torch.probe().detach().numpy()
    patches, *remainders = extract_rounded(truth, *places.T, 64)
    counts = 30.0**2 * diffract(probe, patches, *remainders)
    canvas = extract_rounded(truth, *middle[:, None], SIZE)[0]
    for model, known in ((pair.tensorflow, tf.constant(canvas)), (pair.torch, torch.as_tensor(canvas))):
        monkeypatch.setattr(type(model.network), "_canvas", lambda *_, known=known: known)
    recorded = pair._replace(positions=-(places - middle).T[None, None])
    found = recorded.tensorflow(*recorded.tensorflow_batch(), SIZE)[0]
    agree("network", "counts of the truth, tensorflow", found, counts.transpose(1, 2, 0))
    found = recorded.torch(*recorded.torch_batch(), SIZE)[0].detach()
    agree("network", "counts of the truth, pytorch", found, counts)


@pytest.mark.parametrize("dtype", ["float32"])
@pytest.mark.parametrize("gridsize", [1, 2])
def test_patches_on_the_grid_are_pixels_of_the_object(make_twins, dtype, gridsize, scan, rng, monkeypatch) -> None:
    """A network that knows the object: its patches, taken to `pixel_positions`, are the object's pixels there."""
    twins = make_twins(dtype, 1, {"architecture": "unrolled", "gridsize": gridsize})
    grouped = scan.generate_grouped_data(64, K=6, gridsize=gridsize, nsamples=7)
    truth = np.pad(scan.objectGuess, 64).astype(np.complex64)
    for kind, model in (
        (loader.PtychoDataContainer, twins.tensorflow),
        (data_container_bridge.PtychoDataContainerTorch, twins.torch),
    ):
        container = kind(grouped, scan.probeGuess, on_grid=True)
        middles = np.rint(np.asarray(grouped["coords_offsets"])[:, 0, :, 0]) + 64
        canvas = extract_rounded(truth, *middles.T, container.canvas_size)[0]
        known = tf.constant(canvas) if model is twins.tensorflow else torch.as_tensor(canvas)
        monkeypatch.setattr(type(model.network), "_canvas", lambda *_, known=known: known)
        found = model.predict_on_grid(*container.batch(slice(0, 7))[:2], container.canvas_size)
        found = found.numpy().transpose(0, 3, 1, 2) if model is twins.tensorflow else found.detach().numpy()
        found = found / float(twins.tensorflow.object_scale)
        places = (container.pixel_positions[:, 0] + 64).transpose(1, 0, 2).reshape(2, -1)
        np.testing.assert_allclose(found.reshape(-1, 64, 64), extract_rounded(truth, *places, 64)[0], atol=1e-6)


@pytest.mark.parametrize("dtype", ["float64"])
@pytest.mark.parametrize("size", [128, 256])
def test_larger_patterns(dtype, agree, size, rng) -> None:
    """The canvas is 8 pixels larger than a patch; in double precision, which large patterns need for ten digits."""
    config, probe = ModelConfig(N=size, n_filters_scale=1, architecture="unrolled"), make_probe("zone_plate", size)
    ours = tf_model.PtychoPINN(config, probe, 0.5, 30.0, dtype=dtype, seed=0)
    theirs = torch_model.PtychoPINN(config, probe, 0.5, 30.0).eval().double()
    theirs.log_intensity_scale.data.fill_(np.log(30.0))
    weights = {
        name: array + 0.02 * rng.standard_normal(array.shape)
        for name, array in model_manager.canonical_weights(ours.network).items()
    }
    model_manager.set_canonical_weights(ours.network, weights, "test")
    torch_manager.set_canonical_weights(theirs.network, weights, "test")
    waves = theirs.probe().detach().numpy() * objects(rng, 1, size)[:, None]
    normalised = np.sqrt(intensity(waves))
    found = ours.canvas_and_members(normalised.transpose(1, 2, 0)[None], np.zeros((1, 1, 2, 1)), size + 8)
    with torch.no_grad():
        nowhere = torch.zeros((1, 1, 1, 2), dtype=torch.float64)
        expected = theirs.canvas_and_members(torch.as_tensor(normalised)[None], nowhere, size + 8)
    agree("network", f"unrolled canvas, N={size}", found[0], expected[0])
    agree("network", f"unrolled members, N={size}", found[1], channel_last(expected[1]))


@pytest.mark.parametrize("dtype", ["float32"])
def test_both_networks_have_the_parameters_of_the_spec(make_twins, dtype) -> None:
    twins = make_twins(dtype, 1, {"architecture": "unrolled"})
    expected = twins.torch.network.spec.parameters()
    for weights in (
        model_manager.canonical_weights(twins.tensorflow.network),
        torch_manager.canonical_weights(twins.torch.network),
    ):
        assert {name: array.shape for name, array in weights.items()} == expected
    assert len(twins.tensorflow.network.trainable_variables) == len(expected)


def masked_scan(scan: RawData, rng: np.random.Generator) -> RawData:
    """The fixture scan, with a mask for every pattern and some truth."""
    mask = rng.random(scan.diff3d.shape) > 0.2
    truth = complex_normal(rng, *scan.diff3d.shape)
    return RawData(scan.xcoords, scan.ycoords, None, None, scan.diff3d, scan.probeGuess, Y=truth, mask=mask)


@pytest.mark.parametrize("dtype", ["float32"])
def test_both_containers_draw_the_same_batch(dtype, scan, rng) -> None:
    data = masked_scan(scan, rng)
    grouped = data.generate_grouped_data(64, K=6, nsamples=20, gridsize=2)
    drawn_from = make_neighbourhoods(data.xcoords, data.ycoords, grouped["nn_indices"][:, 0], 7)
    ours, theirs = (
        kind(grouped, data.probeGuess, data.mask, neighbourhoods=drawn_from)
        for kind in (loader.PtychoDataContainer, data_container_bridge.PtychoDataContainerTorch)
    )
    assert ours.canvas_size == theirs.canvas_size
    for indices in (slice(4, 9), np.array([17, 3, 8])):
        found, expected = ours.batch(indices, truth=True), theirs.batch(indices, truth=True)
        assert len(found) == len(expected) == 4
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_array_equal(one.numpy(), np.moveaxis(other.numpy(), 1, -1))
        assert found[0].shape[-1] == 7
    streamed = next(iter(ours.as_tf_dataset(5)))
    for one, other in zip(streamed, ours.batch(slice(0, 5)), strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())


@pytest.mark.parametrize("dtype", ["float32"])
def test_batches_that_do_not_fit_name_both_shapes(make_pair, dtype) -> None:
    pair = make_pair(dtype, HELD_OUT, {"gridsize": 2})
    x, r = pair.tensorflow_batch()
    for ours, text in (
        ((x[..., :3], r[..., :3]), r"must be \(B, 64, 64, 4\) with B >= 1 .* found \(2, 64, 64, 3\)"),
        ((x, r[..., :4]), r"positions must be \(2, 1, 2, 6\) for amplitudes \(2, 64, 64, 6\), found \(2, 1, 2, 4\)"),
        ((x[:0], r[:0]), r"found \(0, 64, 64, 6\)"),
    ):
        with pytest.raises(DataError, match=text):
            pair.tensorflow.predict_on_grid(*ours, SIZE)
    x, r = pair.torch_batch()
    for theirs, text in (
        ((x[:, :3], r[:, :3]), r"must be \(B, 4, 64, 64\) with B >= 1 .* found \(2, 3, 64, 64\)"),
        ((x, r[:, :4]), r"positions must be \(2, 6, 1, 2\) for amplitudes \(2, 6, 64, 64\), found \(2, 4, 1, 2\)"),
        ((x[:0], r[:0]), r"found \(0, 6, 64, 64\)"),
    ):
        with pytest.raises(DataError, match=text):
            pair.torch.predict_on_grid(*theirs, SIZE)


@pytest.mark.parametrize("dtype", ["float32"])
def test_members_alone_are_all_seen(make_pair, dtype) -> None:
    """Without a common canvas nobody can be held out."""
    pair = make_pair(dtype, HELD_OUT, {"gridsize": 2, "object_big": False})
    with pytest.raises(DataError, match=r"must be \(B, 64, 64, 4\) .* found \(2, 64, 64, 6\)"):
        pair.tensorflow(*pair.tensorflow_batch(), SIZE)
    with pytest.raises(DataError, match=r"must be \(B, 4, 64, 64\) .* found \(2, 6, 64, 64\)"):
        pair.torch(*pair.torch_batch(), SIZE)
