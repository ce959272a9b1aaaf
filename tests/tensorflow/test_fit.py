"""Training: it learns, it is repeatable, it can be interrupted and resumed, and it refuses what it cannot do."""

import logging
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from ptycho import fit as fit_module
from ptycho import model_manager, params
from ptycho.config.config import TrainingConfig
from ptycho.core.schedules import Plateau
from ptycho.errors import ArchiveError, ConfigError, MissingFileError
from ptycho.fit import Patience, Schedule, TrainingModule
from ptycho.model import PtychoPINN
from ptycho.optimizers import Optimizer, clip_gradients
from ptycho.raw_data import RawData
from ptycho.workflows.components import train_cdi_model


def with_model(config: TrainingConfig, **changes) -> TrainingConfig:
    """The same settings with another model."""
    return replace(config, model=replace(config.model, **changes))


def train(scan: RawData, config: TrainingConfig, **options):
    return train_cdi_model(scan, None, config, **options)


def weights(results) -> list[np.ndarray]:
    return [np.array(variable.numpy()) for variable in results["model"].variables]


def assert_equal_weights(first, second) -> None:
    for one, other in zip(weights(first), weights(second), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("gridsize", [1, 2])
def test_the_loss_falls_and_epochs_are_reported(gridsize, scan, training, caplog) -> None:
    config = replace(with_model(training, gridsize=gridsize), nepochs=6, n_groups=60, batch_size=8)
    with caplog.at_level(logging.INFO, "ptycho.fit"):
        results = train(scan, config)
    losses = results["history"]["train_loss"]
    assert len(losses) == len(results["history"]["seconds"]) == 6
    assert losses[-1] < 0.6 * losses[0]
    lines = [record.getMessage() for record in caplog.records if record.name == "ptycho.fit"]
    assert [line.split(":")[0] for line in lines] == [f"epoch {i}/6" for i in range(1, 7)]
    assert results["backend"] == "tensorflow"


def test_unseen_groups_are_watched(scan, training) -> None:
    results = train_cdi_model(scan, scan, training)
    assert len(results["history"]["val_loss"]) == 2
    assert len(results["test_container"]) == 32


def test_an_odd_last_batch_makes_the_graph_twice_and_never_again(scan, training, monkeypatch) -> None:
    traced = []
    step = TrainingModule.training_step

    def counted(self, *batch):
        traced.append(tuple(batch[0].shape))
        return step(self, *batch)

    monkeypatch.setattr(TrainingModule, "training_step", counted)
    train(scan, replace(training, nepochs=3, n_groups=13, batch_size=6))
    assert sorted(traced) == [(1, 64, 64, 1), (6, 64, 64, 1)]


def test_the_computed_keys_are_written(scan, training) -> None:
    model = train(scan, training)["model"]
    assert params.cfg["input_scale"] == pytest.approx(scan.input_scale())
    assert params.cfg["intensity_scale"] == pytest.approx(model.intensity_scale)
    assert params.cfg["probe"].shape == (1, 64, 64)


def test_the_same_seed_gives_the_same_weights_and_leaves_the_global_one_alone(scan, training) -> None:
    tf.random.set_seed(5)
    expected = tf.random.uniform((3,)).numpy()
    tf.random.set_seed(5)
    first = train(scan, training)
    np.testing.assert_array_equal(tf.random.uniform((3,)).numpy(), expected)
    assert_equal_weights(first, train(scan, training))
    other = train(scan, replace(training, subsample_seed=1))
    assert not all(np.array_equal(one, two) for one, two in zip(weights(first), weights(other), strict=True))


def test_counts_bring_their_own_dose(scan, training) -> None:
    """A scan of counts is in photon units after the input scale: s k = 1."""
    model = train(scan, training)["model"]
    assert model.nominal_intensity_scale * model.input_scale == pytest.approx(1, rel=1e-5)


def test_a_trained_probe_moves_at_constant_energy_and_a_fixed_one_stays(scan, training) -> None:
    fixed = train(scan, training)["model"].probe
    moved = train(scan, replace(training, probe_trainable=True))["model"].probe
    before = np.asarray(scan.probeGuess).reshape(1, 64, 64)
    np.testing.assert_allclose(fixed.file_units(), before, atol=1e-5 * abs(before).max())
    assert np.linalg.norm(moved.file_units() - before) > 1e-3 * np.linalg.norm(before)
    assert np.linalg.norm(moved.file_units()) == pytest.approx(np.linalg.norm(before), rel=1e-5)


def test_resuming_is_never_having_stopped(scan, training, tmp_path) -> None:
    """The same batches, rates and moments: the weights are the same to the last digit."""
    config = replace(training, nepochs=3, scheduler="WarmupCosine", batch_size=12, n_groups=24)
    whole = train(scan, replace(config, output_dir=tmp_path / "whole"))
    parts = replace(config, output_dir=tmp_path / "parts")
    interrupted = train_cdi_model_for_epochs(scan, parts, 2)
    assert len(interrupted) == 2
    resumed = train(scan, parts, resume=tmp_path / "parts" / "checkpoints" / "last.ckpt")
    assert resumed["history"]["train_loss"] == whole["history"]["train_loss"][2:]
    assert_equal_weights(resumed, whole)


def train_cdi_model_for_epochs(scan, config, epochs: int) -> list[float]:
    """Train until an interrupt after some epochs; return the losses up to there."""
    losses = []

    def watch(done, total, found, *rest) -> None:
        losses.append(found["train_loss"])
        if done > epochs:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(fit_module, "_report", watch)
        train(scan, config)
    return losses[:epochs]


def test_checkpoints_hold_no_code_and_nothing_is_left_behind(scan, training) -> None:
    train(scan, training)
    folder = Path(training.output_dir) / "checkpoints"
    assert [path.name for path in folder.iterdir()] == ["last.ckpt"]
    with np.load(folder / "last.ckpt", allow_pickle=False) as content:
        assert '"epoch": 2' in str(content["about"])


def test_what_cannot_be_resumed_is_an_error(scan, training, tmp_path) -> None:
    with pytest.raises(MissingFileError, match="no checkpoint to resume from"):
        train(scan, training, resume=tmp_path / "last.ckpt")
    other = tmp_path / "other.ckpt"
    other.write_bytes(b"PK\x03\x04 cut short")
    with pytest.raises(ArchiveError, match=r"other\.ckpt: no checkpoint of the tensorflow backend"):
        train(scan, training, resume=other)
    with other.open("wb") as file:
        np.savez(file, weights=np.zeros(3))
    with pytest.raises(ArchiveError, match="found another file"):
        train(scan, training, resume=other)
    train(scan, training)
    last = Path(training.output_dir) / "checkpoints" / "last.ckpt"
    with pytest.raises(ArchiveError, match="resume with the settings of the training that wrote it"):
        train(scan, replace(training, optimizer="sgd"), resume=last)


@pytest.mark.usefixtures("interrupts")
def test_an_interrupt_is_an_interrupt(scan, training) -> None:
    main = threading.main_thread()

    def interrupt() -> None:
        while not (Path(training.output_dir) / "checkpoints" / "last.ckpt").exists():
            time.sleep(0.05)
        signal.pthread_kill(main.ident, signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        train(scan, replace(training, nepochs=500))
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_training_stops_when_the_time_is_over(scan, training) -> None:
    history = train(scan, replace(training, nepochs=500), max_seconds=0.0)["history"]
    assert len(history["train_loss"]) == 1


def test_a_loss_that_is_no_number_ends_the_training(caplog) -> None:
    patience = Patience()
    assert [patience.gone(loss) for loss in (3.0, 2.0, float("nan"))] == [False, False, True]
    assert "the loss is nan" in caplog.text
    patience = Patience()
    assert [patience.gone(1.0) for _ in range(101)] == [False] * 100 + [True]


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"realspace_weight": 1.0}, "realspace_weight"),
        ({"realspace_mae_weight": 1.0}, "realspace_mae_weight"),
        ({"positions_provided": False}, "positions_provided=False"),
        ({"gradient_clip_val": 1.0, "gradient_clip_algorithm": "agc"}, "gradient_clip_algorithm='agc'"),
        ({"torch_loss_mode": "mae"}, "torch_loss_mode='mae' .here it is mae_weight."),
    ],
)
def test_settings_without_effect_are_refused(changes, name, scan, training) -> None:
    with pytest.raises(ConfigError, match=f"not supported by the tensorflow backend yet: {name}"):
        train(scan, replace(training, **changes))


def test_a_plateau_halves_the_rate_and_is_resumed(scan, training) -> None:
    schedule = Schedule(replace(training, scheduler="ReduceLROnPlateau"), 1)
    rates = []
    for loss in (1.0, 0.9, 0.9, 0.9, 0.9, 0.9, 0.8, 0.8):
        schedule.plateau.see(loss)
        rates.append(schedule.rate(0, 0))
    assert rates == [1e-3] * 5 + [5e-4] * 3
    train(scan, training)
    module = TrainingModule(untrained(scan, training), training, 64)
    plateau, patience = Plateau(), Patience()
    last = Path(training.output_dir) / "checkpoints" / "last.ckpt"
    assert fit_module._load_checkpoint(last, module, plateau, patience) == 2
    assert plateau.best == patience.best < 1
    assert int(module.optimizer.steps) == 4


def untrained(scan, config) -> PtychoPINN:
    return PtychoPINN(config.model, scan.probeGuess, scan.input_scale(), 10.0)


def test_rates_by_hand(training) -> None:
    config = replace(training, nepochs=4, lr_min_ratio=0.1)
    constant, exponential, cosine = (
        Schedule(replace(config, scheduler=name, lr_warmup_epochs=warmup), 5)
        for name, warmup in (("Default", 0), ("Exponential", 0), ("WarmupCosine", 1))
    )
    assert constant.rate(3, 17) == 1e-3
    assert [exponential.rate(epoch, 0) for epoch in (0, 2)] == pytest.approx([1e-3, 1e-3 * 0.1**0.5])
    assert [cosine.rate(0, step) for step in (0, 4, 5, 20)] == pytest.approx([1e-3 / 6, 5e-3 / 6, 1e-3, 1e-4])


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_the_steps_are_those_of_pytorch(optimizer, rng) -> None:
    """Six steps with weight decay and a rate that changes, in float64."""
    import torch

    start, gradients = rng.normal(size=(3, 5)), rng.normal(size=(6, 3, 5)) * 10.0 ** np.arange(-9, 3, 2)[:, None, None]
    config = TrainingConfig(optimizer=optimizer, weight_decay=0.03, adam_beta1=0.8, adam_beta2=0.95, momentum=0.7)
    variable = tf.Variable(start)
    ours = Optimizer(config, [variable], 0.0)
    parameter = torch.nn.Parameter(torch.tensor(start))
    kinds = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}
    options = {"momentum": 0.7} if optimizer == "sgd" else {"betas": (0.8, 0.95), "eps": 1e-8}
    theirs = kinds[optimizer]([parameter], lr=0.0, weight_decay=0.03, **options)
    for step, gradient in enumerate(gradients):
        ours.rate.assign(0.1 / (step + 1))
        theirs.param_groups[0]["lr"] = 0.1 / (step + 1)
        ours.apply([tf.constant(gradient)])
        parameter.grad = torch.tensor(gradient)
        theirs.step()
        np.testing.assert_allclose(variable.numpy(), parameter.detach().numpy(), rtol=1e-12)


def test_gradients_are_clipped_by_hand() -> None:
    gradients = [tf.constant([3.0, 0.0]), tf.constant([[-4.0]])]
    by_norm = clip_gradients(gradients, 1.0, "norm")
    np.testing.assert_allclose(by_norm[0], [0.6, 0.0], rtol=1e-6)
    np.testing.assert_allclose(by_norm[1], [[-0.8]], rtol=1e-6)
    np.testing.assert_array_equal(clip_gradients(gradients, 9.0, "norm")[0], [3.0, 0.0])
    by_value = clip_gradients(gradients, 2.0, "value")
    np.testing.assert_array_equal(by_value[0], [2.0, 0.0])
    np.testing.assert_array_equal(by_value[1], [[-2.0]])


@pytest.mark.parametrize(
    ("name", "optimizer"), [("Exponential", "sgd"), ("WarmupCosine", "adamw"), ("ReduceLROnPlateau", "adam")]
)
def test_schedules_and_optimisers_run(name, optimizer, scan, training) -> None:
    config = replace(training, scheduler=name, optimizer=optimizer, lr_warmup_epochs=1, n_groups=16)
    losses = train(scan, replace(config, gradient_clip_val=1.0))["history"]["train_loss"]
    assert np.isfinite(losses).all()


@pytest.mark.slow
def test_xla_gives_the_same_losses(scan, training) -> None:
    """Before the first step to rounding; after it Adam makes the rounding of small gradients larger."""
    config = replace(with_model(training, gridsize=2), n_groups=9, batch_size=9)
    plain, compiled = (train(scan, replace(config, use_xla=xla))["history"]["train_loss"] for xla in (False, True))
    assert compiled[0] == pytest.approx(plain[0], rel=1e-5)
    assert compiled[1] == pytest.approx(plain[1], rel=1e-3)


def test_the_mean_absolute_error_can_be_the_loss(scan, training) -> None:
    losses = train(scan, replace(training, mae_weight=1.0, nll_weight=0.0))["history"]["train_loss"]
    poisson = train(scan, training)["history"]["train_loss"]
    assert losses[-1] < losses[0]
    assert losses[0] != pytest.approx(poisson[0], rel=0.01)


def test_the_model_that_was_trained_last_is_saved(scan, training, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(model_manager, "_trained", [])
    with pytest.raises(ConfigError, match="no model was trained in this process"):
        model_manager.save(tmp_path)
    results = train(scan, training)
    assert model_manager.save(tmp_path / "model") == tmp_path / "model" / "wts.h5.zip"
    loaded, _ = model_manager.load_tf_bundle(tmp_path / "model")
    for name, array in model_manager.canonical_weights(results["model"].network).items():
        np.testing.assert_array_equal(model_manager.canonical_weights(loaded.network)[name], array)


@pytest.mark.parametrize("gridsize", [1, 2])
def test_both_backends_learn_alike_from_the_same_weights(gridsize, scan, training) -> None:
    """The same groups, batches, clipping, schedule and steps: the losses differ by rounding that Adam amplifies."""
    import torch

    from ptycho.config.config import PyTorchExecutionConfig
    from ptycho.loader import PtychoDataContainer
    from ptycho_torch import fit as torch_fit
    from ptycho_torch import model_manager as torch_manager
    from ptycho_torch.data_container_bridge import PtychoDataContainerTorch
    from ptycho_torch.model import PtychoPINN as TorchPINN

    config = replace(
        with_model(training, gridsize=gridsize), scheduler="WarmupCosine", lr_warmup_epochs=1, gradient_clip_val=0.1
    )
    config = replace(config, probe_trainable=True, batch_size=6, weight_decay=1e-4, nepochs=3)
    grouped = scan.generate_grouped_data(64, K=6, nsamples=20, gridsize=gridsize, seed=1)
    with torch.random.fork_rng():
        torch.manual_seed(2)
        theirs = TorchPINN(config.model, scan.probeGuess, scan.input_scale(), 10.0, None, True)
    ours = PtychoPINN(config.model, scan.probeGuess, scan.input_scale(), 10.0, None, True)
    model_manager.set_canonical_weights(ours.network, torch_manager.canonical_weights(theirs.network), "test")
    quiet = PyTorchExecutionConfig(accelerator="cpu", enable_progress_bar=False, logger_backend=None)
    containers = [kind(grouped, scan.probeGuess) for kind in (PtychoDataContainerTorch, PtychoDataContainer)]
    size = containers[0].canvas_size
    module = torch_fit.PtychoPINN_Lightning(theirs, config, quiet, size)
    expected = torch_fit.fit(module, containers[0], containers[0], seed=4)
    found = fit_module.fit(TrainingModule(ours, config, size), containers[1], containers[1], seed=4)
    for name in ("train_loss", "val_loss"):
        np.testing.assert_allclose(found[name], expected[name], rtol=5e-4)
        assert found[name][-1] < 0.98 * found[name][0]
