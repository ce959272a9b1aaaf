"""Training of `unrolled` with PyTorch: it learns from neighbours that it does not see, by its own recipe."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from ptycho.config.config import ModelConfig, PyTorchExecutionConfig, TrainingConfig
from ptycho.workflows.reconstruct import inference_settings
from ptycho_torch.fit import PtychoPINN_Lightning
from ptycho_torch.pinn import PtychoPINN
from ptycho_torch.workflows.components import reconstruct_scan, train_cdi_model_torch

SMALL = ModelConfig(N=64, n_filters_scale=1, architecture="unrolled")


@pytest.fixture
def unrolled(training: TrainingConfig) -> TrainingConfig:
    return replace(training, model=replace(SMALL), n_groups=32, batch_size=8, nepochs=4)


def error_of_amplitude(found: np.ndarray, truth: np.ndarray) -> float:
    """Relative, in the middle of the scan, where every pixel has been seen."""
    middle = np.s_[40:-40, 40:-40]
    found, truth = abs(found[middle]), abs(truth[middle])
    return float(np.linalg.norm(found - truth) / np.linalg.norm(truth))


@pytest.mark.slow
def test_it_learns_behind_a_mask_with_two_modes(patterns, recorded, unrolled, execution) -> None:
    assert patterns.probeGuess.shape == (2, 64, 64)
    assert 0.01 < 1 - patterns.mask.mean() < 0.2
    results = train_cdi_model_torch(patterns, patterns, unrolled, execution_config=execution)
    losses, unseen = results["history"]["train_loss"], results["history"]["val_loss"]
    assert results["train_container"].neighbourhoods.shape == (32, 7)
    assert np.isfinite([losses, unseen]).all()
    assert losses[-1] < 0.9 * losses[0]
    assert unseen[-1] < 0.9 * losses[0]
    found = reconstruct_scan(results["model"], patterns, inference_settings(unrolled), execution_config=execution)
    assert found.subpixel == "fourier"
    flat = np.full_like(recorded.object, abs(recorded.object).mean())
    assert error_of_amplitude(found.object, recorded.object) < error_of_amplitude(flat, recorded.object)


def rates(module: PtychoPINN_Lightning, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Learning rates of the steps of a training of 9."""
    monkeypatch.setattr(PtychoPINN_Lightning, "trainer", SimpleNamespace(estimated_stepping_batches=9))
    made = module.configure_optimizers()
    if isinstance(made, torch.optim.Optimizer):
        return [made.param_groups[0]["lr"]] * 9
    (factor,), (rate,) = made["lr_scheduler"]["scheduler"].lr_lambdas, made["lr_scheduler"]["scheduler"].base_lrs
    return [rate * factor(step) for step in range(9)]


@pytest.mark.parametrize("architecture", ["cnn", "unrolled"])
def test_the_recipe_gives_way_to_what_the_settings_say(architecture, unrolled, execution, monkeypatch) -> None:
    config = replace(unrolled, model=replace(SMALL, architecture=architecture))
    model = PtychoPINN(config.model, np.ones((64, 64)), 1.0, 1.0)
    base = 4e-3 if architecture == "unrolled" else 1e-3

    def made(config: TrainingConfig, execution: PyTorchExecutionConfig) -> list[float]:
        return rates(PtychoPINN_Lightning(model, config, execution, 72), monkeypatch)

    cycle = [0.5, 1.0] if architecture == "unrolled" else [1.0, 1.0]
    assert made(config, execution)[:2] == pytest.approx([base * part for part in cycle])
    asked = replace(execution, learning_rate=5e-4)
    assert made(config, asked)[1] == pytest.approx(5e-4)
    warmed = replace(config, scheduler="WarmupCosine", lr_min_ratio=1.0)
    assert made(warmed, execution) == pytest.approx([base] * 9)


def test_the_cycle_goes_by_the_clock_that_all_processes_have(unrolled, execution, monkeypatch) -> None:
    config = replace(unrolled, model=replace(SMALL, architecture="unrolled"))
    module = PtychoPINN_Lightning(PtychoPINN(config.model, np.ones((64, 64)), 1.0, 1.0), config, execution, 72)
    told = iter([0.0] * 4 + [100.0] * 20)
    module.max_seconds, module.clock = 100.0, lambda: next(told)
    found = rates(module, monkeypatch)
    assert found[1] > 0 and found[4:] == pytest.approx([0.0] * 5)


def test_a_resumed_training_goes_on_in_its_cycle(patterns, unrolled, execution, tmp_path: Path) -> None:
    config = replace(unrolled, n_groups=8, nepochs=2)
    train_cdi_model_torch(patterns, None, replace(config, nepochs=1), execution_config=execution)
    last = tmp_path / "out" / "checkpoints" / "last.ckpt"
    half = torch.load(last, weights_only=True)["lr_schedulers"][0]
    results = train_cdi_model_torch(patterns, None, config, execution_config=execution, resume=last)
    whole = torch.load(last, weights_only=True)["lr_schedulers"][0]
    assert (half["last_epoch"], whole["last_epoch"]) == (1, 2)
    assert whole["_last_lr"] == pytest.approx([0.0], abs=1e-12)
    assert np.isfinite(results["history"]["train_loss"]).all()


def test_mixed_precision_is_for_the_corrections_alone(patterns, execution, rng) -> None:
    config = replace(SMALL, gridsize=2)
    made = PtychoPINN(config, patterns.probeGuess, 0.5, 30.0).eval()
    for stage in made.network.stages:
        torch.nn.init.normal_(stage.head.weight, std=0.02)
    x = torch.as_tensor(rng.uniform(0.2, 0.5, (2, 4, 64, 64)), dtype=torch.float32)
    positions = torch.as_tensor(rng.uniform(-3, 3, (2, 4, 1, 2)), dtype=torch.float32)
    with torch.no_grad():
        canvas, members = made.canvas_and_members(x, positions, 72)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            mixed = made.canvas_and_members(x, positions, 72)[0]
            counts = made.expected_counts(members, positions)
        torch.testing.assert_close(counts, made.expected_counts(members, positions), rtol=0, atol=0)
    assert mixed.dtype == torch.complex64
    assert 1e-5 < float(torch.linalg.norm(mixed - canvas) / torch.linalg.norm(canvas)) < 0.05


@pytest.mark.parametrize("trainable", [True, False])
def test_corrections_see_where_the_probe_has_light(trainable, rng) -> None:
    """A compact probe leaves the rim of the canvas to the gradient; after training it is measured again."""
    y, x = np.mgrid[:64, :64] - 32.0
    made = PtychoPINN(SMALL, np.exp(-(x**2 + y**2) / 50), 0.5, 30.0, probe_trainable=trainable)
    assert made.light == 24
    torch.nn.init.normal_(made.network.stages[-1].head.weight, std=0.1)
    torch.nn.init.constant_(made.network.stages[-1].head.bias, 0.1)
    x = torch.as_tensor(rng.uniform(0.2, 0.5, (1, 1, 64, 64)), dtype=torch.float32)
    nowhere = torch.zeros(1, 1, 1, 2)
    with torch.no_grad():
        plain = made.canvas_and_members(x, nowhere, 64)[0]
        torch.nn.init.zeros_(made.network.stages[-1].head.weight)
        torch.nn.init.zeros_(made.network.stages[-1].head.bias)
        change = (made.canvas_and_members(x, nowhere, 64)[0] - plain).abs()[0]
    assert change[:20].max() == change[44:].max() == change[:, :20].max() == change[:, 44:].max() == 0
    assert change[20:44, 20:44].min() > 0
    made.probe.modes.data = torch.ones_like(made.probe.modes)
    made.measure_light()
    assert made.light == 64
