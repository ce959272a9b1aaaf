"""Training: it learns, it is repeatable, it can be interrupted and resumed, and it refuses what it cannot do."""

import inspect
import logging
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ptycho import params
from ptycho.config.config import INFERENCE_BATCH, PyTorchExecutionConfig, TrainingConfig
from ptycho.config.schema import settings_of
from ptycho.core.physics.losses import realspace_mae, total_variation
from ptycho.core.physics.patches import extract_rounded
from ptycho.core.training.checkpoint_npz import write_checkpoint
from ptycho.core.training.schedules import warmup_cosine
from ptycho.errors import ArchiveError, BackendError, DataError, MissingFileError
from ptycho.raw_data import RawData
from ptycho_torch import reassembly
from ptycho_torch.cli.shared import resolve_accelerator, resolve_execution
from ptycho_torch.fit import PtychoPINN_Lightning
from ptycho_torch.lightning.schedule import setting
from ptycho_torch.pinn import PtychoPINN
from ptycho_torch.precision import full_float32
from ptycho_torch.workflows.components import predict_scan, train_cdi_model_torch


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


@pytest.mark.slow
@pytest.mark.parametrize("gridsize", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_the_loss_falls_and_epochs_are_reported(gridsize, scan, training, execution, caplog) -> None:
    members = gridsize**2
    config = replace(
        with_model(training, gridsize=gridsize), nepochs=6, n_groups=64 // members, batch_size=8 // members
    )
    with caplog.at_level(logging.INFO, "ptycho.core.progress"):
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


def labelled(scan: RawData, amplitude: float = 1, probe: float = 1) -> RawData:
    """The scan as amplitude in another unit, with its truth; powers of two, so that no digit is lost."""
    truth = extract_rounded(scan.objectGuess, scan.xcoords, scan.ycoords, scan.N)[0] * np.float32(amplitude / probe)
    positions = scan.xcoords, scan.ycoords, None, None
    return RawData(*positions, amplitude * scan.amplitude(), probe * scan.probeGuess, Y=truth, units="amplitude")


@pytest.mark.parametrize(("change", "factor"), [({"amplitude": 8}, 8), ({"probe": 8}, 1 / 8)])
def test_units_of_amplitude_and_probe_change_the_object_s_scale_alone(
    change, factor, scan, training, execution
) -> None:
    """With losses at the detector and in real space: no weight means something else in another unit."""
    config = replace(training, realspace_weight=0.1, realspace_mae_weight=0.1)
    plain, other = (train(labelled(scan, **c), config, execution) for c in ({}, change))
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


def test_resuming_is_never_having_stopped(scan, training, execution, tmp_path) -> None:
    """The same batches, rates and moments: the weights are the same to the last bit."""
    whole = train(scan, replace(training, nepochs=4, output_dir=tmp_path / "whole"), execution)
    train(scan, replace(training, nepochs=2, output_dir=tmp_path / "parts"), execution)
    last = tmp_path / "parts" / "checkpoints" / "last.ckpt"
    resumed = train(scan, replace(training, nepochs=4, output_dir=tmp_path / "parts"), execution, resume=last)
    assert resumed["history"]["train_loss"] == whole["history"]["train_loss"][2:]
    assert_equal_weights(resumed, whole)


def test_checkpoints_hold_no_code(scan, training, execution) -> None:
    train(scan, training, execution)
    content = torch.load(Path(training.output_dir) / "checkpoints" / "last.ckpt", weights_only=True)
    assert content["hyper_parameters"]["config"]["model"]["N"] == 64


def test_a_batch_system_changes_nothing(scan, training, execution, monkeypatch) -> None:
    """Lightning goes on from a checkpoint that a requeued job has left, also in a later training of something else."""
    settings = {"NTASKS": "4", "JOB_ID": "77", "PROCID": "0", "LOCALID": "0", "NODEID": "0", "NODELIST": "localhost"}
    for name, value in settings.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    monkeypatch.setenv("SLURM_JOB_NAME", "train")
    train(scan, replace(training, nepochs=1), execution)
    folder = Path(training.output_dir)
    shutil.copy(folder / "checkpoints" / "last.ckpt", folder / "hpc_ckpt_1.ckpt")
    assert len(train(scan, training, execution)["history"]["train_loss"]) == 2


def test_what_cannot_be_resumed_is_an_error(scan, training, execution, tmp_path) -> None:
    path = tmp_path / "other.ckpt"
    with pytest.raises(MissingFileError, match="no checkpoint to resume from"):
        train(scan, training, execution, resume=path)
    cut = "the beginning of one, which was cut off"
    for content, found in ((b"", cut), (b"PK\x03\x04 cut short", cut), (b"a text\n", "another file")):
        path.write_bytes(content)
        with pytest.raises(ArchiveError, match=f"expected a checkpoint of the pytorch backend, found {found}"):
            train(scan, training, execution, resume=path)
    for stranger in ([1], {"state_dict": {}}, {"hyper_parameters": None}):
        torch.save(stranger, path)
        with pytest.raises(ArchiveError, match="found another file"):
            train(scan, training, execution, resume=path)
    torch.save({"state_dict": Path("a class of its own")}, path)
    with pytest.raises(ArchiveError, match="found another file") as caught:
        train(scan, training, execution, resume=path)
    assert len(str(caught.value).splitlines()) == 1
    write_checkpoint(path, [np.zeros(3)], {"epoch": 2})
    with pytest.raises(ArchiveError, match="found one of the tensorflow backend: name"):
        train(scan, training, execution, resume=path)


def test_a_checkpoint_of_other_settings_is_an_error(scan, training, execution) -> None:
    train(scan, replace(training, nepochs=1), execution)
    last = Path(training.output_dir) / "checkpoints" / "last.ckpt"
    for other in (replace(training, optimizer="sgd"), with_model(training, gridsize=2)):
        with pytest.raises(ArchiveError, match="resume with the settings of the training that wrote it"):
            train(scan, other, execution, resume=last)


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


@pytest.mark.parametrize("name", ["Exponential", "WarmupCosine", "ReduceLROnPlateau"])
@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_schedules_and_optimisers_run(name, optimizer, scan, training, execution) -> None:
    config = replace(
        training, scheduler=name, optimizer=optimizer, lr_warmup_epochs=1, n_groups=16, gradient_clip_val=1.0
    )
    losses = train(scan, config, execution)["history"]["train_loss"]
    assert np.isfinite(losses).all()


@pytest.mark.slow
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


@pytest.mark.slow
def test_the_truth_teaches_the_object_and_total_variation_smooths_it(scan, training, execution) -> None:
    """Losses in real space alone, and the oracle's figures of the patches that are predicted."""
    config = replace(training, nll_weight=0.0, realspace_mae_weight=1.0, nepochs=4, batch_size=8)
    execution = replace(execution, learning_rate=3e-3, enable_checkpointing=False)
    plain, smooth = (train(labelled(scan), replace(config, realspace_weight=w), execution) for w in (0.0, 5.0))
    assert plain["history"]["train_loss"][-1] < 0.93 * plain["history"]["train_loss"][0]
    patches, flat = (predict_scan(found["model"], found["train_container"]) for found in (plain, smooth))
    truth = np.moveaxis(plain["train_container"].Y.numpy(), -1, 1)
    assert realspace_mae(patches, truth) < 0.93 * realspace_mae(flat, truth)
    assert total_variation(flat) < 0.1 * total_variation(patches)


def test_a_scan_without_truth_cannot_teach_the_object(scan, training, execution) -> None:
    config = replace(training, realspace_mae_weight=0.5)
    with pytest.raises(DataError, match=r"needs ground-truth patches, found a scan without: add Y \(n, N, N\)"):
        train(scan, config, replace(execution, num_workers=1))
    with pytest.raises(DataError, match="needs ground-truth patches"):
        train_cdi_model_torch(labelled(scan), scan, config, execution_config=execution)


@pytest.fixture
def rounded_products() -> Iterator[str]:
    """The user's choice for matrix products, which rounds their factors."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    yield "medium"
    torch.set_float32_matmul_precision(before)


_BY_DEVICE = hasattr(torch.backends, "fp32_precision")
"""Whether PyTorch has a precision for every kind of device: from 2.9 on."""


def precisions() -> tuple[str, ...]:
    """What products of matrices are rounded to, on a GPU and on a CPU."""
    if not _BY_DEVICE:
        return (torch.get_float32_matmul_precision(),)
    return torch.backends.cuda.matmul.fp32_precision, torch.backends.mkldnn.matmul.fp32_precision


def test_shifts_are_computed_in_full_precision(rounded_products, scan, training, execution, monkeypatch) -> None:
    """Whatever the user chose for matrix products, forward and backward; afterwards it is as he left it."""
    seen = []
    sandwich = reassembly._sandwich

    def watched(left, images, right):
        seen.append(precisions())
        result = sandwich(left, images, right)
        if result.requires_grad:
            result.register_hook(lambda gradient: seen.append(precisions()))
        return result

    monkeypatch.setattr(reassembly, "_sandwich", watched)
    before = precisions()
    results = train(scan, replace(with_model(training, gridsize=2), nepochs=1, n_groups=4), execution)
    trained = len(seen)
    predict_scan(results["model"], results["train_container"])
    assert trained < len(seen)
    assert set(seen) == {("ieee", "ieee") if _BY_DEVICE else ("highest",)}
    assert precisions() == before == (("tf32", "bf16") if _BY_DEVICE else ("medium",))
    assert torch.get_float32_matmul_precision() == rounded_products


def test_full_precision_leaves_the_defaults_alone() -> None:
    before = precisions()
    with full_float32():
        assert precisions() == before
        assert torch.get_float32_matmul_precision() == "highest"


def test_accelerators(monkeypatch, caplog) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    once = resolve_execution(None)
    assert (once.accelerator, resolve_execution(once).accelerator) == ("cpu", "cpu")
    assert [record.getMessage() for record in caplog.records] == ["no CUDA device found: running on the CPU"]
    with pytest.raises(BackendError, match="'cuda' is not available on this machine"):
        resolve_accelerator("cuda")


@pytest.mark.parametrize(
    ("architecture", "asked", "rate"),
    [("cnn", None, 0.001), ("unrolled", None, 0.004), ("unrolled", 0.001, 0.001), ("cnn", 0.004, 0.004)],
)
def test_the_rate_is_the_one_asked_for_or_that_of_the_recipe(architecture, asked, rate, scan, training) -> None:
    model = replace(training.model, architecture=architecture)
    network = PtychoPINN(model, scan.probeGuess, scan.input_scale(), 1 / scan.input_scale())
    execution = PyTorchExecutionConfig(accelerator="cpu", learning_rate=asked)
    assert PtychoPINN_Lightning(network, replace(training, model=model), execution, 64).rate == rate


def test_a_setting_of_the_execution_that_is_none_is_that_of_the_training(training) -> None:
    config = replace(training, scheduler="Exponential", gradient_clip_val=2.0, gradient_clip_algorithm="value")
    names = ("scheduler", "gradient_clip_val", "gradient_clip_algorithm")
    assert [setting(name, PyTorchExecutionConfig(), config) for name in names] == ["Exponential", 2.0, "value"]
    stated = PyTorchExecutionConfig(scheduler="Default", gradient_clip_algorithm="norm")
    assert [setting(name, stated, config) for name in names] == ["Default", 2.0, "norm"]


def test_an_inference_without_a_batch_size_takes_64() -> None:
    assert inspect.signature(predict_scan).parameters["batch_size"].default == INFERENCE_BATCH == 64
    assert "(none: 64)" in settings_of(PyTorchExecutionConfig)["inference_batch_size"].doc.text
