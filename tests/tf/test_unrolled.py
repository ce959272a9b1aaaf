"""Training of `unrolled` with TensorFlow: it learns from neighbours that it does not see, by its own recipe."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from ptycho.config.config import ModelConfig, TrainingConfig
from ptycho.networks import unrolled as unrolled_data
from ptycho.networks.parts import Head
from ptycho.tf import fit, model_manager
from ptycho.tf.layers import linear_head
from ptycho.tf.pinn import PtychoPINN
from ptycho.workflows.components import predict_scan, reconstruct_scan, train_cdi_model
from ptycho.workflows.networks.training_data import prepare_training
from ptycho.workflows.reconstruct import inference_settings

SMALL = ModelConfig(N=64, n_filters_scale=1, architecture="unrolled")


@pytest.fixture
def unrolled(training: TrainingConfig) -> TrainingConfig:
    return replace(training, model=replace(SMALL), n_groups=32, batch_size=8, nepochs=4)


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """A network of one stage, for time."""
    monkeypatch.setattr(unrolled_data, "STAGES", 1)


def error_of_amplitude(found: np.ndarray, truth: np.ndarray) -> float:
    """Relative, in the middle of the scan, where every pixel has been seen."""
    middle = np.s_[40:-40, 40:-40]
    found, truth = abs(found[middle]), abs(truth[middle])
    return float(np.linalg.norm(found - truth) / np.linalg.norm(truth))


@pytest.mark.slow
@pytest.mark.usefixtures("short")
def test_it_learns_behind_a_mask_with_two_modes(patterns, recorded, unrolled) -> None:
    assert patterns.probeGuess.shape == (2, 64, 64)
    assert 0.01 < 1 - patterns.mask.mean() < 0.2
    results = train_cdi_model(patterns, patterns, unrolled)
    losses, unseen = results["history"]["train_loss"], results["history"]["val_loss"]
    assert results["train_container"].neighbourhoods.shape == (32, 7)
    assert np.isfinite([losses, unseen]).all()
    assert losses[-1] < 0.9 * losses[0]
    assert unseen[-1] < 0.9 * losses[0]
    found = reconstruct_scan(results["model"], patterns, inference_settings(unrolled))
    assert found.subpixel == "fourier"
    flat = np.full_like(recorded.object, abs(recorded.object).mean())
    assert error_of_amplitude(found.object, recorded.object) < error_of_amplitude(flat, recorded.object)


@pytest.mark.parametrize("architecture", ["cnn", "unrolled"])
def test_the_recipe_gives_way_to_what_the_settings_say(architecture, unrolled) -> None:
    config = replace(unrolled, model=replace(SMALL, architecture=architecture), nepochs=3)
    model = PtychoPINN(config.model, np.ones((64, 64)), 1.0, 1.0)
    base = 4e-3 if architecture == "unrolled" else 1e-3

    def rates(config: TrainingConfig, learning_rate: float | None = None) -> list[float]:
        """Of the steps of a training of 9."""
        schedule = fit._schedule(fit.TrainingModule(model, config, 72, learning_rate), 3, None)
        return [schedule.rate(step // 3, step) for step in range(9)]

    cycle = [0.5, 1.0] if architecture == "unrolled" else [1.0, 1.0]
    assert rates(config)[:2] == pytest.approx([base * part for part in cycle])
    assert rates(config, 5e-4)[1] == pytest.approx(5e-4)
    assert rates(replace(config, scheduler="WarmupCosine", lr_min_ratio=1.0)) == pytest.approx([base] * 9)


@pytest.mark.usefixtures("without_graphs")
@pytest.mark.slow
@pytest.mark.usefixtures("short")
def test_a_resumed_training_goes_on_in_its_cycle(patterns, unrolled, tmp_path: Path, monkeypatch) -> None:
    used: list[float] = []
    taken = fit.TrainingModule.training_step

    def noted(self: fit.TrainingModule, *batch: tf.Tensor, experiment_id: int = 0) -> tf.Tensor:
        tf.py_function(lambda rate: used.append(float(rate)), [self.optimizer.rate], [])
        return taken(self, *batch, experiment_id=experiment_id)

    monkeypatch.setattr(fit.TrainingModule, "training_step", noted)
    config = replace(unrolled, n_groups=8, nepochs=4)
    train_cdi_model(patterns, None, replace(config, nepochs=1))
    last = tmp_path / "out" / "checkpoints" / "last.ckpt"
    results = train_cdi_model(patterns, None, config, resume=last)
    assert np.isfinite(results["history"]["train_loss"]).all()
    # the parts 1/2 of the first training, then 2/5, 3/5 and 4/5 of the second
    falling = [0.5 * (1 + np.cos(np.pi * (part - 0.2) / 0.8)) for part in (1 / 2, 2 / 5, 3 / 5, 4 / 5)]
    assert used == pytest.approx([4e-3 * part for part in falling])


@pytest.mark.slow
@pytest.mark.usefixtures("short")
def test_a_step_of_training_with_xla_and_without(patterns, unrolled) -> None:
    found = prepare_training(patterns, None, unrolled, fit.PtychoDataContainer)
    arguments = (unrolled.model, found.probe, found.input_scale, found.intensity_scale, found.mask)
    weights = []
    for jit in (False, True):
        module = fit.TrainingModule(
            PtychoPINN(*arguments, seed=0), replace(unrolled, optimizer="sgd"), found.canvas_size
        )
        step = tf.function(module.training_step, autograph=False, jit_compile=True) if jit else module.training_step
        step(*found.train.batch(slice(0, 4)))
        weights.append(model_manager.canonical_weights(module.model.network))
    for name, plain in weights[0].items():
        assert np.linalg.norm(weights[1][name] - plain) <= 1e-5 * max(np.linalg.norm(plain), 1e-3), name


@pytest.mark.usefixtures("short")
@pytest.mark.slow
@pytest.mark.parametrize("use_xla", [False, True])
def test_a_scan_is_predicted_on_the_grid(patterns, use_xla, rng) -> None:
    """As the model itself says; in batches with a smaller last one, for which XLA would compile again."""
    count = 3 if use_xla else 5
    model = PtychoPINN(replace(SMALL, gridsize=2), patterns.probeGuess, patterns.input_scale(), 30.0, seed=0)
    grouped = patterns.generate_grouped_data(64, K=6, nsamples=count, gridsize=2)
    container = fit.PtychoDataContainer(grouped, patterns.probeGuess, patterns.mask, on_grid=True)
    found = predict_scan(model, container, batch_size=3, use_xla=use_xla)
    x, positions, mask = container.batch(slice(0, count))
    expected = model.predict_on_grid(x, positions, container.canvas_size, mask).numpy().transpose(0, 3, 1, 2)
    assert np.linalg.norm(found - expected) <= 1e-5 * np.linalg.norm(expected)
    assert np.linalg.norm(
        expected - model.predict_members(x, positions, container.canvas_size, mask).numpy().transpose(0, 3, 1, 2)
    ) > 1e-3 * np.linalg.norm(expected), "between pixels"


def test_layers_keep_their_own_order_of_axes() -> None:
    """The user's keras.json may say channels_first."""
    tf.keras.backend.set_image_data_format("channels_first")
    try:
        conv = linear_head(Head("head", 3, 2, (0.0, 1.0)))
    finally:
        tf.keras.backend.set_image_data_format("channels_last")
    assert conv(np.zeros((1, 8, 6, 3), np.float32)).shape == (1, 8, 6, 2)
