"""What is known of beam, background and blur, in both frameworks against the oracle: in the loss, and in the pass."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import torch

from ptycho.config.config import ModelConfig, PyTorchExecutionConfig, TrainingConfig
from ptycho.config.options import ObjectiveOptions
from ptycho.core.groups.neighbourhood import make_neighbourhoods
from ptycho.core.physics import losses as core_losses
from ptycho.core.physics.detector_blur import blur_matrix, blurred
from ptycho.core.physics.diffraction import cleared, diffract
from ptycho.core.physics.recording import Recording
from ptycho.core.training.scales import InputScaling
from ptycho.networks import unrolled as unrolled_data
from ptycho.raw_data import RawData
from ptycho.tf import objective as tf_objective
from ptycho.tf.loader import PtychoDataContainer
from ptycho.workflows.networks.training_data import prepare_training
from ptycho_torch import model_manager as torch_manager
from ptycho_torch import objective as torch_objective
from ptycho_torch.lightning.dataset import group_loader
from ptycho_torch.lightning.staging import set_apart
from ptycho_torch.loader import PtychoDataContainerTorch

SIZE = 72


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    """One plain step and one stage."""
    monkeypatch.setattr(unrolled_data, "DESCENT", 1)
    monkeypatch.setattr(unrolled_data, "STAGES", 1)


def recorded(twins, rng: np.random.Generator, sigma: float | None = None) -> SimpleNamespace:
    """The batch of the twins with a beam, a background and perhaps a blur of their own on it, channel-first, and what
    each framework is told of them.
    """
    plain = twins.amplitudes.transpose(0, 3, 1, 2)
    flux, background = rng.uniform(0.5, 1.5, (*plain.shape[:2], 1, 1)), rng.uniform(0, 0.2, (1, 1, 64, 64))
    measured = np.sqrt(blurred(flux * plain**2, sigma) + background)
    known = [flux, background, *([] if sigma is None else [blur_matrix(64, sigma)[None, None]])]
    theirs = tuple(torch.as_tensor(a.astype(plain.dtype)) for a in known)
    ours = tuple(tf.constant(a.astype(plain.dtype).transpose(0, 2, 3, 1)) for a in known)
    lit = twins._replace(amplitudes=measured.transpose(0, 2, 3, 1).astype(plain.dtype))
    return SimpleNamespace(flux=flux, background=background, measured=measured, lit=lit, theirs=theirs, ours=ours)


def channel_last(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().numpy().transpose(0, 2, 3, 1)


def test_cleared(backend, agree, rng) -> None:
    amplitudes, flux, background = rng.random((2, 3, 4, 4)), rng.uniform(0.5, 2, (2, 3, 1, 1)), rng.random((1, 1, 4, 4))
    found = backend.physics.cleared(*map(backend.array, (amplitudes, flux, background)))
    agree("network", "cleared", backend.numpy(found), cleared(amplitudes, flux, background))
    assert backend.physics.cleared(backend.array(amplitudes)).shape == amplitudes.shape


@pytest.mark.parametrize("shape", [(5, 1, 8, 8), (16, 1, 64, 64), (5, 8, 8), (8, 8)])
def test_images_of_any_batch_are_blurred(framework, agree, shape, rng) -> None:
    values, n = rng.random(shape), shape[-1]
    given = framework.array(values), framework.array(blur_matrix(n, 1.3).reshape((1,) * (len(shape) - 2) + (n, n)))
    agree("function", "blurred", framework.numpy(framework.physics.blurred(*given)), blurred(values, 1.3))


def test_blurred(framework, agree, rng) -> None:
    """That of the oracle, and its own adjoint; odd sides."""
    one, other, matrix = rng.random((2, 3, 7, 7)), rng.random((2, 3, 7, 7)), framework.array(blur_matrix(7, 1.3))
    seen, back = (framework.numpy(framework.physics.blurred(framework.array(a), matrix)) for a in (one, other))
    agree("function", "blurred", seen, blurred(one, 1.3))
    assert np.vdot(seen, other) == pytest.approx(np.vdot(one, back), rel=1e-6)
    np.testing.assert_array_equal(
        framework.numpy(framework.physics.blurred(framework.array(one))), framework.array(one)
    )


LOSSES: dict[str, tuple[dict[str, Any], dict[str, Any], float | None]] = {
    "Poisson": ({}, {}, None),
    "Poisson, blurred": ({}, {}, 0.9),
    "Poisson, blurred, unrolled": ({"architecture": "unrolled", "gridsize": 2}, {}, 0.9),
    "amplitude, blurred": ({}, {"nll_weight": 0.0, "mae_weight": 1.0}, 0.9),
}


@pytest.mark.parametrize("dtype", ["float64"])
@pytest.mark.parametrize("name", LOSSES)
def test_the_loss_and_its_gradient(make_twins, agree, dtype, name, rng) -> None:
    """The value is that of the oracle's forward model; so is the slope in the dose, by finite differences."""
    settings, weights, sigma = LOSSES[name]
    twins = make_twins(dtype, batch=2, settings=settings)
    known = recorded(twins, rng, sigma)
    mask, config = rng.random((64, 64)) > 0.1, TrainingConfig(model=twins.tensorflow.config, **weights)
    ours = tf_objective.Objective(config, ObjectiveOptions(), twins.tensorflow)
    theirs = torch_objective.Objective(config, ObjectiveOptions(), twins.torch)
    named = {
        **twins.tensorflow.network.named_parameters(),
        "log_intensity_scale": twins.tensorflow.log_intensity_scale,
    }
    with tf.GradientTape() as tape:
        batch = (*known.lit.tensorflow_batch(), tf.constant(mask[None, :, :, None]), *known.ours)
        value = ours.loss(twins.tensorflow, batch, SIZE)
    found = tape.gradient(value, named)
    batch = (*known.lit.torch_batch(), torch.as_tensor(mask[None, None]), *known.theirs)
    their_value = theirs.loss(twins.torch, batch, SIZE)
    their_value.backward()

    members = twins.torch.canvas_and_members(batch[0], batch[1], SIZE, batch[2], *known.theirs)[1].detach().numpy()
    probe = twins.torch.probe().detach().numpy()
    loss = core_losses.mae_loss if weights else core_losses.poisson_loss
    places = -batch[1].numpy()[:, :, 0].reshape(-1, 2)
    offsets = (places - np.rint(places)).T if twins.torch.network.canvas else (0.0, 0.0)

    def expected(log_scale: float) -> float:
        beam, rest = known.flux.ravel() * np.exp(2 * log_scale), 30.0**2 * known.background[0, 0]
        scan = Recording(beam, background=rest, blur=sigma)
        counts = diffract(probe, members.reshape(-1, 64, 64), *offsets, recording=scan).reshape(members.shape)
        return loss(counts, (30.0 * known.measured) ** 2, 30.0**2 / 4, mask)

    at = np.log(30.0)
    for one in (value, their_value.detach()):
        assert float(one) == pytest.approx(expected(at), rel=1e-11)
    slope = (expected(at + 1e-5) - expected(at - 1e-5)) / 2e-5
    by_dose = float(found["log_intensity_scale"]), float(twins.torch.log_intensity_scale.grad)
    assert by_dose[0] == pytest.approx(by_dose[1], rel=1e-7)
    assert twins.torch.network.canvas or by_dose[0] == pytest.approx(slope, rel=1e-7)  # its steps go by the dose, too
    for key, gradient in twins.torch.network.named_parameters():
        array = gradient.grad.numpy()
        array = array.transpose(2, 3, 1, 0) if array.ndim == 4 else array
        agree("network gradient", f"known recording, {name}", found[torch_manager.canonical_name(key)], array)


@pytest.mark.parametrize("dtype", ["float64"])
def test_what_a_blurred_pass_sees(make_twins, agree, dtype, rng) -> None:
    """Patches are made of the patterns as they are; steps on a canvas know the blur, alone or with each member."""
    for settings in ({"gridsize": 2}, *({"architecture": "unrolled", "gridsize": 2, "object_big": b} for b in (1, 0))):
        twins = make_twins(dtype, batch=2, settings=settings)
        known = recorded(twins, rng, 1.2)
        ours, theirs = (*known.lit.tensorflow_batch(), SIZE, None), (*known.lit.torch_batch(), SIZE, None)
        with torch.no_grad():
            told = channel_last(twins.torch.predict_on_grid(*theirs, *known.theirs))
            untold = channel_last(twins.torch.predict_on_grid(*theirs, *known.theirs[:2]))
        agree("network", "pass with a blur", twins.tensorflow.predict_on_grid(*ours, *known.ours), told)
        if "architecture" in settings:
            assert np.linalg.norm(told - untold) > 1e-3 * np.linalg.norm(told)
        else:
            np.testing.assert_array_equal(told, untold)


@pytest.mark.parametrize("dtype", ["float64"])
def test_a_known_object_beside_a_known_recording(make_twins, agree, dtype, rng) -> None:
    """The error against it comes to the loss on the detector."""
    twins = make_twins(dtype, batch=2)
    known, truth = recorded(twins, rng, 0.7), np.ones(twins.amplitudes.shape, complex)
    found = []
    for weight in (0.0, 2.0):
        config = TrainingConfig(model=twins.tensorflow.config, realspace_mae_weight=weight)
        mask = np.ones((1, 64, 64, 1), bool)
        ours = [tf.constant(mask), *([tf.constant(truth)] if weight else []), *known.ours]
        theirs = [np.moveaxis(each, -1, 1) for each in ([mask, truth] if weight else [mask])]
        value = tf_objective.Objective(config, ObjectiveOptions(), twins.tensorflow).loss(
            twins.tensorflow, (*known.lit.tensorflow_batch(), *ours), SIZE
        )
        batch = (*known.lit.torch_batch(), *map(torch.as_tensor, theirs), *known.theirs)
        other = torch_objective.Objective(config, ObjectiveOptions(), twins.torch).loss(twins.torch, batch, SIZE)
        agree("network", "a known object beside a known recording", float(value), float(other.detach()))
        found.append(float(value))
    assert found[1] > found[0] + 0.01


CASES: dict[str, tuple[dict[str, Any], InputScaling]] = {
    "cnn, even groups": ({"gridsize": 2}, InputScaling(even_groups=True)),
    "unrolled, even groups": ({"architecture": "unrolled", "gridsize": 2}, InputScaling(even_groups=True)),
    "unrolled, members alone": ({"architecture": "unrolled", "gridsize": 2, "object_big": False}, InputScaling()),
}


@pytest.mark.parametrize("dtype", ["float64"])
@pytest.mark.parametrize("name", CASES)
def test_the_pass(make_twins, agree, dtype, name, rng) -> None:
    """Both frameworks make the same of what is known, and nearly what they make of a scan with nothing to know.

    But for the floor under the root of its fields, in the unrolled one.
    """
    settings, scaling = CASES[name]
    twins = make_twins(dtype, batch=2, settings=settings)
    known = recorded(twins, rng)
    twins.torch.scaling = twins.tensorflow.scaling = scaling
    mask = torch.ones(1, 1, 64, 64, dtype=torch.bool)
    with torch.no_grad():
        plain = channel_last(twins.torch.predict_on_grid(*twins.torch_batch(), SIZE))
        blind = channel_last(twins.torch.predict_on_grid(*known.lit.torch_batch(), SIZE))
        expected = channel_last(twins.torch.predict_on_grid(*known.lit.torch_batch(), SIZE, mask, *known.theirs))
    ours = known.lit.tensorflow_batch(), SIZE, tf.ones((1, 64, 64, 1), bool)
    found = twins.tensorflow.predict_on_grid(*ours[0], *ours[1:], *known.ours)
    agree("network", f"pass with flux and background, {name}", found, expected)
    left, without = (np.linalg.norm(one - plain) / np.linalg.norm(plain) for one in (expected, blind))
    assert left < (1e-10 if "cnn" in name else 0.25 * without)
    assert without > 1e-3


def test_flux_or_background_alone_is_used(make_twins, agree, rng) -> None:
    """As beside the other one where that changes nothing, in the network's input and in what is expected."""
    twins = make_twins("float64", batch=2)
    known = recorded(twins, rng)
    ours, theirs = (*known.lit.tensorflow_batch(), SIZE, None), (*known.lit.torch_batch(), SIZE, None)
    for alone in (0, 1):
        pairs = known.ours, known.theirs
        only, beside = ([one if k == alone else None for k, one in enumerate(pair)] for pair in pairs)
        nothing = [(tf.zeros_like, tf.ones_like)[alone](known.ours[1 - alone])]
        both = [*nothing, only[1]] if alone else [only[0], *nothing]
        with torch.no_grad():
            expected = channel_last(twins.torch(*theirs, *beside))
            plain = channel_last(twins.torch(*theirs))
        agree("network", "counts with one of both, PyTorch", twins.tensorflow(*ours, *both), expected)
        agree("network", "counts with one of both", twins.tensorflow(*ours, *only), expected)
        assert np.linalg.norm(expected - plain) > 1e-3 * np.linalg.norm(plain)


def numbered(scan: RawData) -> RawData:
    """Pattern j holds j + 1 everywhere, and the beam had the flux j + 1 there; the detector blurs by 0.8 pixels."""
    number = 1.0 + np.arange(len(scan))
    patterns = np.broadcast_to(number[:, None, None], scan.diff3d.shape).astype(np.float32)
    background = np.arange(64.0**2).reshape(64, 64)
    made = RawData(scan.xcoords, scan.ycoords, None, None, patterns, scan.probeGuess, units="amplitude")
    return made.with_recording(number, background, 0.8)


def test_every_batch_brings_its_own(scan) -> None:
    """Shuffled, with held-out members, of a subsample: in both frameworks, whichever way batches come."""
    data = numbered(scan).subsample(40, seed=1)
    grouped = data.generate_grouped_data(64, K=6, nsamples=30, gridsize=2)
    drawn = make_neighbourhoods(data.xcoords, data.ycoords, grouped["nn_indices"][:, 0], 7)
    execution = PyTorchExecutionConfig(accelerator="cpu", num_workers=0)
    for neighbourhoods in (None, drawn):
        ours = PtychoDataContainer(grouped, data.probeGuess, neighbourhoods=neighbourhoods)
        theirs = PtychoDataContainerTorch(grouped, data.probeGuess, neighbourhoods=neighbourhoods)
        streams = [
            [[a.numpy() for a in batch] for batch in ours.as_tf_dataset(8, shuffle_seed=3)],
            [[channel_last(a) for a in batch] for _, batch in group_loader([theirs], 8, execution, shuffle_seed=3)],
        ]
        streams[1] = [[*batch[:1], None, *batch[2:]] for batch in streams[1]]
        for batches in streams:
            assert sum(len(batch[0]) for batch in batches) == 30
            for normalised, _, _, flux, background, blur in batches:
                np.testing.assert_allclose(normalised[:, :1, :1] / grouped.scale, flux, rtol=1e-5)
                expected = grouped.scale**2 * np.arange(64.0**2).reshape(1, 64, 64, 1)
                np.testing.assert_allclose(background, expected, rtol=1e-5)
                np.testing.assert_allclose(blur[0, :, :, 0], blur_matrix(64, 0.8), rtol=1e-6, atol=1e-30)


def test_training_and_validation_each_bring_their_own(scan) -> None:
    data = numbered(scan)
    config = TrainingConfig(model=ModelConfig(N=64, gridsize=1), n_subsample=20, n_groups=8)
    found = prepare_training(data, data.part(np.arange(30, 50)), config, PtychoDataContainerTorch)
    assert found.test is not None
    for container, first in ((found.train, 1.0), (found.test, 31.0)):
        rest, drawn = set_apart(container, 0.25, seed=0)
        for part in (rest, drawn):
            normalised, _, _, flux, _, _ = part.batch(np.arange(len(part)))
            np.testing.assert_allclose(normalised[:, :, :1, :1] / found.input_scale, flux, rtol=1e-5)
            assert flux.min() >= first and len(np.unique(flux)) == len(part)


def test_a_scan_of_which_nothing_is_known_brings_nothing(scan) -> None:
    grouped = scan.generate_grouped_data(64, K=6, nsamples=4, gridsize=2)
    assert len(PtychoDataContainerTorch(grouped, scan.probeGuess).batch([0, 1])) == 3


def test_a_blur_alone_comes_with_a_steady_beam_and_no_background(scan) -> None:
    grouped = scan.with_recording(blur=0.5).generate_grouped_data(64, K=6, nsamples=4, gridsize=2)
    found = PtychoDataContainerTorch(grouped, scan.probeGuess).batch([0, 1])
    assert (found[3] == 1).all() and not found[4].any() and found[5].shape == (1, 1, 64, 64)
