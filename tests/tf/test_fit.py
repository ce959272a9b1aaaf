"""Training: it learns, it is repeatable, it can be interrupted and resumed, and it refuses what it cannot do."""

import csv
import logging
import signal
import threading
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import tensorflow as tf

from ptycho import params
from ptycho.config.config import ModelConfig, TrainingConfig
from ptycho.core.physics.losses import realspace_mae, total_variation
from ptycho.core.physics.patches import extract_rounded
from ptycho.core.progress import Progress
from ptycho.core.training.schedules import Plateau
from ptycho.errors import ArchiveError, ConfigError, DataError, MissingFileError
from ptycho.raw_data import RawData
from ptycho.tf import backend, model_manager
from ptycho.tf import fit as fit_module
from ptycho.tf.fit import Patience, Schedule, TrainingModule
from ptycho.tf.loader import PtychoDataContainer
from ptycho.tf.optimizers import Optimizer, clip_gradients
from ptycho.tf.pinn import PtychoPINN
from ptycho.workflows.components import predict_scan, train_cdi_model


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


class Trained(NamedTuple):
    """A training that tests look at and leave as it is."""

    results: dict[str, Any]
    folder: Path
    params: dict[str, Any]


@pytest.fixture(scope="module")
def trained(fixture_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """The settings of `training`, with unseen groups."""
    folder = tmp_path_factory.mktemp("trained")
    config = TrainingConfig(model=ModelConfig(N=64, n_filters_scale=1), nepochs=2, n_groups=32, output_dir=folder)
    scan = RawData.from_file(fixture_file)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(params, "cfg", dict(params.cfg))
        patch.setattr(model_manager, "_trained", [])
        results = train_cdi_model(scan, scan, config)
        return Trained(results, folder, dict(params.cfg))


@pytest.mark.slow
@pytest.mark.parametrize("gridsize", [2])
def test_the_loss_falls_and_epochs_are_reported(gridsize, scan, training, caplog) -> None:
    config = replace(with_model(training, gridsize=gridsize), nepochs=6, n_groups=48, batch_size=8)
    with caplog.at_level(logging.INFO, "ptycho.core.progress"):
        results = train(scan, config)
    losses = results["history"]["train_loss"]
    assert len(losses) == len(results["history"]["seconds"]) == 6
    assert losses[-1] < 0.6 * losses[0]
    lines = [record.getMessage() for record in caplog.records if record.name == "ptycho.core.progress"]
    assert [line.split(":")[0] for line in lines] == [f"epoch {i}/6" for i in range(1, 7)]
    assert results["backend"] == "tensorflow"


def test_unseen_groups_are_watched(trained) -> None:
    assert len(trained.results["history"]["val_loss"]) == 2
    assert len(trained.results["test_container"]) == 32


@pytest.mark.slow
def test_the_losses_of_every_epoch_are_written(trained) -> None:
    """As PyTorch's CSVLogger: epochs and steps from 0, the step the last of its epoch."""
    with (trained.folder / "logs" / "version_0" / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["epoch", "step", "train_loss", "val_loss"]
    assert [(row["epoch"], row["step"]) for row in rows] == [("0", "1"), ("1", "3")]
    for name in ("train_loss", "val_loss"):
        assert [float(row[name]) for row in rows] == trained.results["history"][name]


@pytest.mark.slow
def test_an_odd_last_batch_makes_the_graph_twice_and_never_again(scan, training, monkeypatch) -> None:
    traced = []
    step = TrainingModule.training_step

    def counted(self, *batch, experiment_id=0):
        traced.append(tuple(batch[0].shape))
        return step(self, *batch, experiment_id=experiment_id)

    monkeypatch.setattr(TrainingModule, "training_step", counted)
    train(scan, replace(training, nepochs=3, n_groups=13, batch_size=6))
    assert sorted(traced) == [(1, 64, 64, 1), (6, 64, 64, 1)]


def test_the_computed_keys_are_written(trained, scan) -> None:
    assert trained.params["input_scale"] == pytest.approx(scan.input_scale())
    assert trained.params["intensity_scale"] == pytest.approx(trained.results["model"].intensity_scale)
    assert trained.params["probe"].shape == (1, 64, 64)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_weights_and_leaves_the_global_one_alone(
    trained, scan, training, monkeypatch
) -> None:
    """Neither do unseen groups change what is learned. Other seeds begin with other weights."""
    tf.random.set_seed(5)
    expected = tf.random.uniform((3,)).numpy()
    tf.random.set_seed(5)
    again = train(scan, training)
    np.testing.assert_array_equal(tf.random.uniform((3,)).numpy(), expected)
    assert_equal_weights(again, trained.results)
    monkeypatch.setattr(backend.training, "fit", lambda *_, **__: {})
    first, second, other = (weights(train(scan, replace(training, subsample_seed=seed))) for seed in (0, 0, 1))
    assert all(map(np.array_equal, first, second))
    assert not all(map(np.array_equal, first, other))


def test_counts_bring_their_own_dose(trained) -> None:
    """A scan of counts is in photon units after the input scale: s k = 1."""
    model = trained.results["model"]
    assert model.nominal_intensity_scale * model.input_scale == pytest.approx(1, rel=1e-5)


@pytest.mark.usefixtures("without_graphs")
def test_a_trained_probe_moves_at_constant_energy_and_a_fixed_one_stays(trained, scan, training) -> None:
    fixed = trained.results["model"].probe
    moved = train(scan, replace(training, nepochs=1, probe_trainable=True))["model"].probe
    before = np.asarray(scan.probeGuess).reshape(1, 64, 64)
    np.testing.assert_allclose(fixed.file_units(), before, atol=1e-5 * abs(before).max())
    assert np.linalg.norm(moved.file_units() - before) > 1e-3 * np.linalg.norm(before)
    assert np.linalg.norm(moved.file_units()) == pytest.approx(np.linalg.norm(before), rel=1e-5)


@pytest.mark.usefixtures("without_graphs")
@pytest.mark.slow
def test_resuming_is_never_having_stopped(scan, training, tmp_path) -> None:
    """The same batches, rates and moments: the weights are the same to the last digit."""
    config = replace(training, nepochs=3, scheduler="WarmupCosine", batch_size=6, n_groups=12)
    whole = train(scan, replace(config, output_dir=tmp_path / "whole"))
    parts = replace(config, output_dir=tmp_path / "parts")
    interrupted = train_cdi_model_for_epochs(scan, parts, 2)
    assert len(interrupted) == 2
    resumed = train(scan, parts, resume=tmp_path / "parts" / "checkpoints" / "last.ckpt")
    assert resumed["history"]["train_loss"] == whole["history"]["train_loss"][2:]
    assert_equal_weights(resumed, whole)
    with (tmp_path / "parts" / "logs" / "version_1" / "metrics.csv").open(newline="") as file:
        assert [(row["epoch"], row["step"]) for row in csv.DictReader(file)] == [("2", "5")]


def train_cdi_model_for_epochs(scan, config, epochs: int) -> list[float]:
    """Train until an interrupt after some epochs; return the losses up to there."""
    losses = []

    def watch(progress: Progress) -> None:
        losses.extend(value for name, value in progress.values.items() if name == "train_loss")
        if progress.noteworthy and progress.done > epochs:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(fit_module, "log_progress", watch)
        train(scan, config)
    return losses[:epochs]


def test_checkpoints_hold_no_code_and_nothing_is_left_behind(trained) -> None:
    folder = trained.folder / "checkpoints"
    assert {path.name for path in folder.iterdir()} == {"last.ckpt", "best-checkpoint.ckpt"}
    with np.load(folder / "last.ckpt", allow_pickle=False) as content:
        assert '"epoch": 2' in str(content["about"])


@pytest.mark.usefixtures("without_graphs")
def test_the_best_checkpoint_is_that_of_the_lowest_loss(scan, training, monkeypatch) -> None:
    losses = iter([3.0, 1.0, 2.0])
    monkeypatch.setattr(fit_module, "_mean_loss", lambda *_: next(losses))
    train_cdi_model(scan, scan, replace(training, nepochs=3, n_groups=4))
    folder = Path(training.output_dir) / "checkpoints"
    for name, epoch in (("best-checkpoint.ckpt", 2), ("last.ckpt", 3)):
        with np.load(folder / name, allow_pickle=False) as content:
            assert f'"epoch": {epoch},' in str(content["about"])


def test_what_cannot_be_resumed_is_an_error(trained, scan, training, tmp_path) -> None:
    with pytest.raises(MissingFileError, match="no checkpoint to resume from"):
        train(scan, training, resume=tmp_path / "last.ckpt")
    other = tmp_path / "other.ckpt"
    other.write_bytes(b"PK\x03\x04 cut short")
    with pytest.raises(
        ArchiveError, match=r"other\.ckpt: expected a checkpoint of the tensorflow backend, found the beginning of one"
    ):
        train(scan, training, resume=other)
    with other.open("wb") as file:
        np.savez(file, weights=np.zeros(3))
    with pytest.raises(ArchiveError, match="found another file"):
        train(scan, training, resume=other)
    last = trained.folder / "checkpoints" / "last.ckpt"
    with pytest.raises(ArchiveError, match="resume with the settings of the training that wrote it"):
        train(scan, replace(training, optimizer="sgd"), resume=last)


@pytest.mark.usefixtures("interrupts", "without_graphs")
def test_an_interrupt_is_an_interrupt(scan, training) -> None:
    main = threading.main_thread()

    def interrupt() -> None:
        while not (Path(training.output_dir) / "checkpoints" / "last.ckpt").exists():
            time.sleep(0.05)
        signal.pthread_kill(main.ident, signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        train(scan, replace(training, nepochs=500, n_groups=4))
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.usefixtures("without_graphs")
def test_training_stops_when_the_time_is_over(scan, training) -> None:
    history = train(scan, replace(training, nepochs=500, n_groups=4), max_seconds=0.0)["history"]
    assert len(history["train_loss"]) == 1


def test_patience_ends_after_a_hundred_epochs_without_progress() -> None:
    patience = Patience()
    assert [patience.gone(1.0) for _ in range(101)] == [False] * 100 + [True]


@pytest.mark.usefixtures("without_graphs")
@pytest.mark.slow
def test_a_step_is_small_beside_the_weights(scan, training) -> None:
    """Adaptive clipping: plain descent, two steps, of which the first leaves the decoder: its heads are 0 before."""
    config = replace(training, batch_size=2, nepochs=1, optimizer="sgd")
    asked = replace(config, gradient_clip_val=1e-5, gradient_clip_algorithm="agc")
    grouped = scan.generate_grouped_data(64, K=4, nsamples=4, gridsize=1, seed=1)
    groups = PtychoDataContainer(grouped, scan.probeGuess)

    def kernel(settings: TrainingConfig | None) -> np.ndarray:
        model = untrained(scan, training)
        if settings is not None:
            fit_module.fit(TrainingModule(model, settings, groups.canvas_size, learning_rate=0.1), groups)
        return np.array(model.network.phase.blocks[-1].conv1.kernel).reshape(-1, 8)

    start = kernel(None)
    limited, free = (
        np.linalg.norm(kernel(one) - start, axis=0) / np.linalg.norm(start, axis=0) for one in (asked, config)
    )
    assert 0 < limited.max() <= 1.2e-6, "the ratio times the rate, and rounding"
    assert free.max() > 2e-5


def test_a_plateau_halves_the_rate_and_is_resumed(trained, scan, training) -> None:
    schedule = Schedule(replace(training, scheduler="ReduceLROnPlateau"), 1, 1e-3)
    rates = []
    for loss in (1.0, 0.9, 0.9, 0.9, 0.9, 0.9, 0.8, 0.8):
        schedule.plateau.see(loss)
        rates.append(schedule.rate(0, 0))
    assert rates == [1e-3] * 5 + [5e-4] * 3
    module = TrainingModule(untrained(scan, training), training, 64)
    plateau, patience = Plateau(), Patience()
    last = trained.folder / "checkpoints" / "last.ckpt"
    assert fit_module._load_checkpoint(last, module, plateau, patience) == 2
    assert plateau.best == patience.best == trained.results["history"]["val_loss"][1] < 1
    assert int(module.optimizer.steps) == 4


def untrained(scan, config) -> PtychoPINN:
    """The model that a training of these settings starts from, up to the intensity scale."""
    seed = config.subsample_seed or 0
    return PtychoPINN(config.model, scan.probeGuess, scan.input_scale(), 1 / scan.input_scale(), seed=seed)


def test_rates_by_hand(training) -> None:
    config = replace(training, nepochs=4, lr_min_ratio=0.1)
    constant, exponential, cosine = (
        Schedule(replace(config, scheduler=name, lr_warmup_epochs=warmup), 5, 1e-3)
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


@pytest.mark.usefixtures("without_graphs")
@pytest.mark.parametrize(
    ("name", "optimizer"),
    [
        pytest.param("Exponential", "sgd", marks=pytest.mark.slow),
        pytest.param("WarmupCosine", "adamw", marks=pytest.mark.slow),
        ("ReduceLROnPlateau", "adam"),
    ],
)
def test_schedules_and_optimisers_run(name, optimizer, scan, training) -> None:
    config = replace(training, scheduler=name, optimizer=optimizer, lr_warmup_epochs=1, n_groups=8, batch_size=4)
    losses = train(scan, replace(config, gradient_clip_val=1.0))["history"]["train_loss"]
    assert np.isfinite(losses).all()


@pytest.mark.parametrize("use_xla", [False, True])
def test_xla_compiles_training_and_validation_where_it_is_asked_for(use_xla, scan, training, monkeypatch) -> None:
    """What a step compiled with it gives is compared in tests/parity."""
    asked, made = [], tf.function

    def noted(function=None, **options):
        if not isinstance(function, partial):  # a layer of Keras
            return made(function, **options)
        asked.append((function.func.__name__, options["jit_compile"]))
        return function

    monkeypatch.setattr(tf, "function", noted)
    train_cdi_model(scan, scan, replace(training, nepochs=1, n_groups=4, batch_size=4, use_xla=use_xla))
    assert asked == [("training_step", use_xla), ("validation_step", use_xla)]


@pytest.mark.usefixtures("without_graphs")
@pytest.mark.slow
def test_the_mean_absolute_error_can_be_the_loss(trained, scan, training) -> None:
    """The mode `mae` is what weights of 0 and 1 are, as in the PyTorch backend."""
    config = replace(training, n_groups=16)
    losses = train(scan, replace(config, torch_loss_mode="mae"))["history"]["train_loss"]
    assert losses[-1] < losses[0]
    assert losses[0] != pytest.approx(trained.results["history"]["train_loss"][0], rel=0.01)
    weighed = train(scan, replace(config, nepochs=1, mae_weight=1.0, nll_weight=0.0))["history"]["train_loss"]
    assert weighed == losses[:1]


def labelled(scan: RawData) -> RawData:
    """The scan with the truth behind every pattern."""
    truth = extract_rounded(scan.objectGuess, scan.xcoords, scan.ycoords, scan.N)[0]
    positions = scan.xcoords, scan.ycoords, None, None
    return RawData(*positions, scan.diff3d, scan.probeGuess, Y=truth, units=scan.units)


@pytest.mark.slow
def test_the_truth_teaches_the_object_and_total_variation_smooths_it(scan, training) -> None:
    """Losses in real space alone, and the oracle's figures of the patches that are predicted."""
    config = replace(training, nll_weight=0.0, realspace_mae_weight=1.0, nepochs=4, batch_size=8)
    plain, smooth = (
        train(labelled(scan), replace(config, realspace_weight=weight), learning_rate=3e-3) for weight in (0.0, 5.0)
    )
    assert plain["history"]["train_loss"][-1] < 0.93 * plain["history"]["train_loss"][0]
    patches, flat = (predict_scan(found["model"], found["train_container"]) for found in (plain, smooth))
    truth = np.moveaxis(plain["train_container"].Y.numpy(), -1, 1)
    assert realspace_mae(patches, truth) < 0.93 * realspace_mae(flat, truth)
    assert total_variation(flat) < 0.1 * total_variation(patches)


def test_a_scan_without_truth_cannot_teach_the_object(scan, training) -> None:
    config = replace(training, realspace_mae_weight=0.5)
    for validation, data in ((None, scan), (scan, labelled(scan))):
        with pytest.raises(DataError, match=r"needs ground-truth patches, found a scan without: add Y \(n, N, N\)"):
            train_cdi_model(data, validation, config)
    assert not Path(training.output_dir).exists()


@pytest.mark.usefixtures("without_graphs")
@pytest.mark.slow
def test_a_step_is_as_long_as_the_learning_rate_says(scan, training) -> None:
    """One step of gradient descent from the same weights, at two rates."""
    config = replace(training, optimizer="sgd", nepochs=1, n_groups=4, batch_size=4)
    start = weights({"model": untrained(scan, config)})
    steps = [
        [after - before for after, before in zip(weights(train(scan, config, learning_rate=rate)), start, strict=True)]
        for rate in (0.25, 0.5)
    ]
    assert max(abs(step).max() for step in steps[0]) > 1e-4
    for short, long in zip(*steps, strict=True):
        np.testing.assert_allclose(long, 2 * short, rtol=1e-3, atol=1e-6)
    with pytest.raises(ConfigError, match=r"learning_rate=-1: expected a finite number above 0"):
        train(scan, config, learning_rate=-1)


@pytest.mark.slow
def test_a_gpu_computes_in_full_precision_and_stays_as_it_was(scan, training, monkeypatch) -> None:
    """TF32 is off in the graphs of training, validation and prediction, on again afterwards, and off if it was off."""
    switch, seen = tf.config.experimental, []
    forward = PtychoPINN.canvas_and_members

    def watched(self, *arguments, **options):
        seen.append(switch.tensor_float_32_execution_enabled())
        return forward(self, *arguments, **options)

    monkeypatch.setattr(PtychoPINN, "canvas_and_members", watched)
    assert switch.tensor_float_32_execution_enabled()
    results = train_cdi_model(scan, scan, replace(training, nepochs=1, n_groups=4, batch_size=4))
    assert switch.tensor_float_32_execution_enabled()
    trained_with = len(seen)
    predict_scan(results["model"], results["test_container"])
    assert len(seen) > trained_with >= 2
    assert not any(seen)
    with pytest.raises(DataError):
        train(scan, replace(training, realspace_mae_weight=1.0))
    assert switch.tensor_float_32_execution_enabled()


@pytest.mark.usefixtures("without_graphs")
def test_the_model_that_was_trained_last_is_saved(scan, training, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(model_manager, "_trained", [])
    with pytest.raises(ConfigError, match="no model was trained in this process"):
        model_manager.save(tmp_path)
    results = train(scan, replace(training, nepochs=1, n_groups=4))
    assert model_manager.save(tmp_path / "model") == tmp_path / "model" / "wts.h5.zip"
    loaded, _ = model_manager.load_tf_bundle(tmp_path / "model")
    for name, array in model_manager.canonical_weights(results["model"].network).items():
        np.testing.assert_array_equal(model_manager.canonical_weights(loaded.network)[name], array)


@pytest.mark.slow
@pytest.mark.parametrize("gridsize", [2])
def test_both_backends_learn_alike_from_the_same_weights(gridsize, scan, training, request) -> None:
    """The same groups, batches, clipping, schedule and steps: the losses differ by rounding that Adam amplifies.

    Of TensorFlow with a graph, and without one.
    """
    import torch

    from ptycho.config.config import PyTorchExecutionConfig
    from ptycho.tf.loader import PtychoDataContainer
    from ptycho_torch import fit as torch_fit
    from ptycho_torch import model_manager as torch_manager
    from ptycho_torch.data_container_bridge import PtychoDataContainerTorch
    from ptycho_torch.pinn import PtychoPINN as TorchPINN

    if gridsize == 2:
        request.getfixturevalue("without_graphs")
    config = replace(
        with_model(training, gridsize=gridsize), scheduler="WarmupCosine", lr_warmup_epochs=1, gradient_clip_val=0.1
    )
    config = replace(config, probe_trainable=True, batch_size=6, weight_decay=1e-4, nepochs=3)
    config = replace(config, realspace_weight=0.05, realspace_mae_weight=0.05)
    grouped = labelled(scan).generate_grouped_data(64, K=6, nsamples=14, gridsize=gridsize, seed=1)
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
