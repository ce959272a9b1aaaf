"""What is known of beam and background, in both frameworks against the oracle: in the loss, and in what is seen."""

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
from ptycho.core.physics.diffraction import cleared, diffract
from ptycho.core.physics.recording import Recording
from ptycho.core.training.scales import InputScaling
from ptycho.networks import unrolled as unrolled_data
from ptycho.raw_data import RawData
from ptycho.tf import objective as tf_objective
from ptycho.tf.loader import PtychoDataContainer
from ptycho.workflows.training_data import prepare_training
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


def recorded(twins, rng: np.random.Generator) -> SimpleNamespace:
    """The batch of the twins with a beam and a background of their own on it, channel-first, and for each framework."""
    plain = twins.amplitudes.transpose(0, 3, 1, 2)
    flux, background = rng.uniform(0.5, 1.5, (*plain.shape[:2], 1, 1)), rng.uniform(0, 0.2, (1, 1, 64, 64))
    measured = np.sqrt(flux * plain**2 + background)
    theirs = tuple(torch.as_tensor(a.astype(plain.dtype)) for a in (flux, background))
    ours = tuple(tf.constant(a.astype(plain.dtype).transpose(0, 2, 3, 1)) for a in (flux, background))
    lit = twins._replace(amplitudes=measured.transpose(0, 2, 3, 1).astype(plain.dtype))
    return SimpleNamespace(flux=flux, background=background, measured=measured, lit=lit, theirs=theirs, ours=ours)


def channel_last(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().numpy().transpose(0, 2, 3, 1)


def test_cleared(backend, agree, rng) -> None:
    amplitudes, flux, background = rng.random((2, 3, 4, 4)), rng.uniform(0.5, 2, (2, 3, 1, 1)), rng.random((1, 1, 4, 4))
    found = backend.physics.cleared(*map(backend.array, (amplitudes, flux, background)))
    agree("network", "cleared", backend.numpy(found), cleared(amplitudes, flux, background))
    assert backend.physics.cleared(backend.array(amplitudes)).shape == amplitudes.shape


@pytest.mark.parametrize("dtype", ["float64"])
def test_the_loss_and_its_gradient(make_twins, agree, dtype, rng) -> None:
    """The value is that of the oracle's forward model; so is the slope in the dose, by finite differences."""
    twins = make_twins(dtype, batch=2)
    known = recorded(twins, rng)
    mask, config = rng.random((64, 64)) > 0.1, TrainingConfig(model=twins.tensorflow.config)
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

    def expected(log_scale: float) -> float:
        scan = Recording(known.flux.ravel() * np.exp(2 * log_scale), background=30.0**2 * known.background[0, 0])
        counts = diffract(probe, members.reshape(-1, 64, 64), recording=scan).reshape(members.shape)
        return core_losses.poisson_loss(counts, (30.0 * known.measured) ** 2, 30.0**2 / 4, mask)

    at = np.log(30.0)
    for one in (value, their_value.detach()):
        assert float(one) == pytest.approx(expected(at), rel=1e-11)
    slope = (expected(at + 1e-5) - expected(at - 1e-5)) / 2e-5
    assert float(found["log_intensity_scale"]) == pytest.approx(slope, rel=1e-7)
    assert float(twins.torch.log_intensity_scale.grad) == pytest.approx(slope, rel=1e-7)
    for key, gradient in twins.torch.network.named_parameters():
        array = gradient.grad.numpy()
        array = array.transpose(2, 3, 1, 0) if array.ndim == 4 else array
        agree("network gradient", "loss with flux and background", found[torch_manager.canonical_name(key)], array)


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
    """Pattern j holds j + 1 everywhere, and the beam had the flux j + 1 there."""
    number = 1.0 + np.arange(len(scan))
    patterns = np.broadcast_to(number[:, None, None], scan.diff3d.shape).astype(np.float32)
    background = np.arange(64.0**2).reshape(64, 64)
    made = RawData(scan.xcoords, scan.ycoords, None, None, patterns, scan.probeGuess, units="amplitude")
    return made.with_recording(number, background)


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
            for normalised, _, _, flux, background in batches:
                np.testing.assert_allclose(normalised[:, :1, :1] / grouped.scale, flux, rtol=1e-5)
                expected = grouped.scale**2 * np.arange(64.0**2).reshape(1, 64, 64, 1)
                np.testing.assert_allclose(background, expected, rtol=1e-5)


def test_training_and_validation_each_bring_their_own(scan) -> None:
    data = numbered(scan)
    config = TrainingConfig(model=ModelConfig(N=64, gridsize=1), n_subsample=20, n_groups=8)
    found = prepare_training(data, data.part(np.arange(30, 50)), config, PtychoDataContainerTorch)
    assert found.test is not None
    for container, first in ((found.train, 1.0), (found.test, 31.0)):
        rest, drawn = set_apart(container, 0.25, seed=0)
        for part in (rest, drawn):
            normalised, _, _, flux, _ = part.batch(np.arange(len(part)))
            np.testing.assert_allclose(normalised[:, :, :1, :1] / found.input_scale, flux, rtol=1e-5)
            assert flux.min() >= first and len(np.unique(flux)) == len(part)


def test_a_scan_of_which_nothing_is_known_brings_nothing(scan) -> None:
    grouped = scan.generate_grouped_data(64, K=6, nsamples=4, gridsize=2)
    assert len(PtychoDataContainerTorch(grouped, scan.probeGuess).batch([0, 1])) == 3
