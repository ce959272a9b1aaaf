"""Training: it learns, it is repeatable, it can be interrupted and resumed, and it refuses what it cannot do."""

import logging
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ptycho import params
from ptycho.config.config import PyTorchExecutionConfig, TrainingConfig
from ptycho.core.schedules import warmup_cosine
from ptycho.errors import BackendError, ConfigError, MissingFileError
from ptycho.raw_data import RawData
from ptycho_torch.cli.shared import resolve_accelerator, resolve_execution
from ptycho_torch.workflows.components import train_cdi_model_torch


def with_model(config: TrainingConfig, **changes) -> TrainingConfig:
    """The same settings with another model."""
    return replace(config, model=replace(config.model, **changes))


def train(scan: RawData, config: TrainingConfig, execution: PyTorchExecutionConfig, **options):
    return train_cdi_model_torch(scan, None, config, execution_config=execution, **options)


def weights(results) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in results["model"].state_dict().items()}


def assert_equal_weights(first, second) -> None:
    for (name, one), other in zip(weights(first).items(), weights(second).values(), strict=True):
        assert torch.equal(one, other), name


@pytest.mark.parametrize("gridsize", [1, 2])
def test_the_loss_falls_and_epochs_are_reported(gridsize, scan, training, execution, caplog) -> None:
    config = replace(with_model(training, gridsize=gridsize), nepochs=6, n_groups=64, batch_size=8)
    with caplog.at_level(logging.INFO, "ptycho_torch.fit"):
        results = train(scan, config, execution)
    losses = results["history"]["train_loss"]
    assert len(losses) == 6
    assert losses[-1] < 0.6 * losses[0]
    assert [record.getMessage().split(":")[0] for record in caplog.records] == [f"epoch {i}/6" for i in range(1, 7)]
    assert results["backend"] == "pytorch"


def test_unseen_groups_are_watched(scan, training, execution) -> None:
    results = train_cdi_model_torch(scan, scan, training, execution_config=execution)
    assert len(results["history"]["val_loss"]) == 2
    assert len(results["test_container"]) == 32
    assert (Path(training.output_dir) / "checkpoints" / "best-checkpoint.ckpt").is_file()


def test_the_computed_keys_are_written(scan, training, execution) -> None:
    model = train(scan, training, execution)["model"]
    assert params.cfg["input_scale"] == pytest.approx(scan.input_scale())
    assert params.cfg["intensity_scale"] == pytest.approx(model.intensity_scale)
    assert params.cfg["probe"].shape == (1, 64, 64)


def test_the_same_seed_gives_the_same_weights_and_leaves_the_global_one_alone(scan, training, execution) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = train(scan, training, execution)
    assert torch.equal(torch.rand(3), expected)
    assert_equal_weights(first, train(scan, training, execution))
    other = train(scan, replace(training, subsample_seed=1), execution)
    assert not torch.equal(
        other["model"].network.encoder["0"].conv1.weight, first["model"].network.encoder["0"].conv1.weight
    )


def test_training_leaves_the_mode_of_torch_alone(scan, training, execution) -> None:
    assert execution.deterministic is True
    train(scan, training, execution)
    assert not torch.are_deterministic_algorithms_enabled()


def scaled(scan: RawData, amplitude: float = 1, probe: float = 1) -> RawData:
    """The scan as amplitude in another unit; powers of two, so that no digit is lost."""
    return RawData.from_coords_without_pc(
        scan.xcoords, scan.ycoords, amplitude * scan.amplitude(), probe * scan.probeGuess, None, units="amplitude"
    )


@pytest.mark.parametrize(("change", "factor"), [({"amplitude": 8}, 8), ({"probe": 8}, 1 / 8)])
def test_units_of_amplitude_and_probe_change_the_object_s_scale_alone(
    change, factor, scan, training, execution
) -> None:
    plain, other = (train(scaled(scan, **c), training, execution) for c in ({}, change))
    assert_equal_weights(plain, other)
    ratio = float(other["model"].object_scale.detach() / plain["model"].object_scale.detach())
    assert ratio == pytest.approx(factor, rel=1e-6)


def test_counts_bring_their_own_dose(scan, training, execution) -> None:
    """A scan of counts is in photon units after the input scale: s k = 1."""
    model = train(scan, training, execution)["model"]
    assert model.nominal_intensity_scale * model.input_scale == pytest.approx(1, rel=1e-5)


def test_a_trained_probe_moves_at_constant_energy_and_a_fixed_one_stays(scan, training, execution) -> None:
    fixed = train(scan, training, execution)["model"].probe
    moved = train(scan, replace(training, probe_trainable=True), execution)["model"].probe
    before = np.asarray(scan.probeGuess).reshape(1, 64, 64)
    np.testing.assert_allclose(fixed.file_units(), before, atol=1e-5 * abs(before).max())
    assert np.linalg.norm(moved.file_units() - before) > 1e-3 * np.linalg.norm(before)
    assert np.linalg.norm(moved.file_units()) == pytest.approx(np.linalg.norm(before), rel=1e-5)


def test_resuming_is_like_never_having_stopped(scan, training, execution, tmp_path) -> None:
    whole = train(scan, replace(training, nepochs=4, output_dir=tmp_path / "whole"), execution)
    train(scan, replace(training, nepochs=2, output_dir=tmp_path / "parts"), execution)
    last = tmp_path / "parts" / "checkpoints" / "last.ckpt"
    resumed = train(scan, replace(training, nepochs=4, output_dir=tmp_path / "parts"), execution, resume=last)
    assert len(resumed["history"]["train_loss"]) == 2
    # the order of the batches starts anew, so the numbers agree in size, not in digits
    assert resumed["history"]["train_loss"][-1] == pytest.approx(whole["history"]["train_loss"][-1], rel=0.25)


def test_checkpoints_hold_no_code(scan, training, execution) -> None:
    train(scan, training, execution)
    content = torch.load(Path(training.output_dir) / "checkpoints" / "last.ckpt", weights_only=True)
    assert content["hyper_parameters"]["config"]["model"]["N"] == 64


def test_a_missing_checkpoint_is_an_error(scan, training, execution, tmp_path) -> None:
    with pytest.raises(MissingFileError, match="no checkpoint to resume from"):
        train(scan, training, execution, resume=tmp_path / "last.ckpt")


@pytest.mark.usefixtures("interrupts")
def test_an_interrupt_is_an_interrupt(scan, training, execution) -> None:
    main = threading.main_thread()

    def interrupt() -> None:
        while not (Path(training.output_dir) / "checkpoints" / "last.ckpt").exists():
            time.sleep(0.05)
        signal.pthread_kill(main.ident, signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        train(scan, replace(training, nepochs=500), execution)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"realspace_weight": 1.0}, "realspace_weight"),
        ({"realspace_mae_weight": 1.0}, "realspace_mae_weight"),
        ({"positions_provided": False}, "positions_provided=False"),
        ({"gradient_clip_val": 1.0, "gradient_clip_algorithm": "agc"}, "gradient_clip_algorithm='agc'"),
    ],
)
def test_settings_without_effect_are_refused(changes, name, scan, training, execution) -> None:
    with pytest.raises(ConfigError, match=f"not supported by the pytorch backend yet: {name}"):
        train(scan, replace(training, **changes), execution)


@pytest.mark.parametrize("name", ["Exponential", "WarmupCosine", "ReduceLROnPlateau"])
@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_schedules_and_optimisers_run(name, optimizer, scan, training, execution) -> None:
    config = replace(
        training, scheduler=name, optimizer=optimizer, lr_warmup_epochs=1, n_groups=16, gradient_clip_val=1.0
    )
    losses = train(scan, config, execution)["history"]["train_loss"]
    assert np.isfinite(losses).all()


def test_mixed_precision_trains(scan, training, execution) -> None:
    config = with_model(training, gridsize=2)
    losses = [
        train(scan, config, replace(execution, precision=name))["history"]["train_loss"][-1]
        for name in ("32-true", "bf16-mixed")
    ]
    assert losses[1] == pytest.approx(losses[0], rel=0.05)
    assert losses[1] != losses[0]


def test_warmup_cosine_by_hand() -> None:
    factor = warmup_cosine(steps=10, warmup=2, floor=0.1)
    assert [factor(0), factor(1), factor(2)] == pytest.approx([1 / 3, 2 / 3, 1])
    assert factor(6) == pytest.approx(0.55)
    assert factor(10) == pytest.approx(0.1)


def test_the_mean_absolute_error_can_be_the_loss(scan, training, execution) -> None:
    losses = train(scan, replace(training, torch_loss_mode="mae"), execution)["history"]["train_loss"]
    poisson = train(scan, training, execution)["history"]["train_loss"]
    assert losses[-1] < losses[0]
    assert losses[0] != pytest.approx(poisson[0], rel=0.01)


def test_accelerators(monkeypatch, caplog) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert [resolve_accelerator(name) for name in ("auto", "gpu", "cuda", "cpu")] == ["cuda", "cuda", "cuda", "cpu"]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    once = resolve_execution(None)
    assert (once.accelerator, resolve_execution(once).accelerator) == ("cpu", "cpu")
    assert [record.getMessage() for record in caplog.records] == ["no CUDA device found: running on the CPU"]
    with pytest.raises(BackendError, match="'cuda' is not available on this machine"):
        resolve_accelerator("cuda")
