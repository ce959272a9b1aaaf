"""A training that diverges stops, says where, and leaves everything good as it was; in both backends."""

import importlib
import json
import re
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ptycho import params
from ptycho.cli.train import train_main
from ptycho.config.config import ModelConfig, PyTorchExecutionConfig, TrainingConfig
from ptycho.errors import ArchiveError, DivergedError
from ptycho.networks import unrolled as unrolled_data
from ptycho.raw_data import RawData
from ptycho.workflows.backend_selector import train_cdi_model_with_backend

pytestmark = pytest.mark.usefixtures("without_graphs")

BACKENDS = ("pytorch", "tensorflow")
CONTAINERS = {
    "pytorch": "ptycho_torch.data_container_bridge.PtychoDataContainerTorch",
    "tensorflow": "ptycho.tf.loader.PtychoDataContainer",
}
CPU = PyTorchExecutionConfig(accelerator="cpu", enable_progress_bar=False, logger_backend=None)
GOOD = b"the archive of a good model"
slow = pytest.mark.slow
ALL_SLOWLY = ("pytorch", pytest.param("tensorflow", marks=slow))
NETWORKS = [
    ("pytorch", "cnn"),
    pytest.param("tensorflow", "cnn", marks=slow),
    pytest.param("pytorch", "unrolled", marks=slow),
    pytest.param("tensorflow", "unrolled", marks=slow),
]


@pytest.fixture(autouse=True)
def _own_params(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(params, "cfg", dict(params.cfg))
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    """A network `unrolled` of one stage, for time."""
    monkeypatch.setattr(unrolled_data, "STAGES", 1)


@pytest.fixture
def training(tmp_path: Path) -> TrainingConfig:
    """Four batches an epoch."""
    model = ModelConfig(N=64, gridsize=1, n_filters_scale=1)
    return TrainingConfig(model=model, nepochs=3, n_groups=16, batch_size=4, output_dir=tmp_path / "out")


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, int], None]:
    """`planted(backend, k)`: the k-th batch that is asked for, of the training or the validation, is not a number."""

    def plant(backend: str, number: int) -> None:
        module, name = CONTAINERS[backend].rsplit(".", 1)
        container = getattr(importlib.import_module(module), name)
        original, asked = container.batch, []

        def batch(self: Any, *arguments: Any, **options: Any) -> tuple[Any, ...]:
            first, *rest = original(self, *arguments, **options)
            asked.append(None)
            return (first * np.nan if len(asked) == number else first, *rest)

        monkeypatch.setattr(container, "batch", batch)

    return plant


def train(backend: str, scans: Any, config: TrainingConfig, tests: Any = None, **options: Any) -> dict[str, Any]:
    if backend == "pytorch":
        options = {"execution_config": CPU, **options}
    return train_cdi_model_with_backend(scans, tests, replace(config, backend=backend), **options)


def command(backend: str, scan: Path, folder: Path, *flags: str) -> int:
    """Exit status of a training of four batches an epoch."""
    files = ["--train_data_file", str(scan), "--output_dir", str(folder), "--backend", backend]
    of_pytorch = ["--torch-accelerator", "cpu", "--torch-disable-progress-bar"] if backend == "pytorch" else []
    size = ["--n_groups", "16", "--batch_size", "4", "--n_filters_scale", "1", "--nepochs", "3", "--overwrite"]
    return train_main([*files, *of_pytorch, *size, *flags])


def content(checkpoint: Path) -> tuple[int, list[np.ndarray]]:
    """Epochs that a checkpoint of either backend has seen, and its arrays."""
    if of_tensorflow(checkpoint):
        with np.load(checkpoint, allow_pickle=False) as file:
            epoch = json.loads(str(file["about"]))["epoch"]
            return epoch, [file[name] for name in file.files if name != "about"]
    import torch

    found = torch.load(checkpoint, weights_only=True)
    return found["epoch"] + 1, [value.numpy() for value in found["state_dict"].values()]


def of_tensorflow(checkpoint: Path) -> bool:
    with zipfile.ZipFile(checkpoint) as file:
        return "about.npy" in file.namelist()


def assert_finite(checkpoint: Path, epochs: int) -> None:
    done, arrays = content(checkpoint)
    assert done == epochs
    assert arrays
    assert all(np.isfinite(array).all() for array in arrays)


@pytest.mark.parametrize(("backend", "architecture"), NETWORKS)
def test_the_command_says_where_and_overwrites_nothing(
    backend, architecture, fixture_file, tmp_path, planted, capsys
) -> None:
    (tmp_path / "wts.h5.zip").write_bytes(GOOD)
    planted(backend, 4 + 3)
    assert command(backend, fixture_file, tmp_path, "--architecture", architecture) == 2
    said, best = capsys.readouterr().err, tmp_path / "checkpoints" / "best-checkpoint.ckpt"
    assert "Traceback" not in said
    assert said.splitlines()[-1].startswith(
        "ptycho_train: error: the training diverged and has stopped: expected a finite loss in epoch 2, batch 3, found "
        f"nan; its best finite model is {best}: go on from there with --resume {best} and a learning rate below 0.00"
    )
    assert (tmp_path / "wts.h5.zip").read_bytes() == GOOD
    for name in ("last.ckpt", "best-checkpoint.ckpt"):
        assert_finite(tmp_path / "checkpoints" / name, epochs=1)
    assert {path.name for path in (tmp_path / "checkpoints").iterdir()} == {"last.ckpt", "best-checkpoint.ckpt"}


@pytest.mark.parametrize(("backend", "architecture"), NETWORKS)
def test_a_rate_that_is_far_too_high(backend, architecture, fixture_file, tmp_path, capsys) -> None:
    (tmp_path / "wts.h5.zip").write_bytes(GOOD)
    flags = ("--architecture", architecture, "--learning_rate", "1e4")
    assert command(backend, fixture_file, tmp_path, *flags) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert re.search(r"the training diverged .* epoch \d, batch \d, found .* below 10000, or clip the gradient", line)
    assert (tmp_path / "wts.h5.zip").read_bytes() == GOOD
    for checkpoint in (tmp_path / "checkpoints").glob("*"):
        assert_finite(checkpoint, content(checkpoint)[0])


def ruin(model: Any, what: str) -> None:
    """Make a weight NaN, or the logarithm of the intensity scale one of which there is no number above 0."""
    with np.errstate(all="ignore"):
        if what == "weight":
            variable = next(iter(getattr(model, "trainable_variables", None) or model.network.parameters()))
            value = variable.numpy() * np.nan if hasattr(variable, "assign") else np.nan
        else:
            variable, value = model.log_intensity_scale, -2000.0
    if hasattr(variable, "assign"):
        variable.assign(value)
    else:
        variable.data.fill_(value)


@pytest.mark.parametrize("backend", ALL_SLOWLY)
@pytest.mark.parametrize(
    ("what", "found"), [("weight", r"[\d,]+ of [\d,]+ numbers"), ("scale", r"1 of .*intensity_scale")]
)
def test_the_last_step_of_an_epoch_is_looked_at_too(backend, what, found, scan, training, monkeypatch) -> None:
    """No loss tells of it: the weights of the last step meet no further batch before they are written."""
    module = importlib.import_module("ptycho_torch.lightning.schedule" if backend == "pytorch" else "ptycho.tf.fit")
    if backend == "pytorch":
        from lightning.pytorch.callbacks import Callback

        class Ruin(Callback):
            def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
                if (trainer.current_epoch, batch_idx) == (1, 3):
                    ruin(pl_module.model, what)

        options = {"callbacks": [Ruin()]}
        from ptycho_torch.workflows.components import train_cdi_model_torch as run

        options["execution_config"] = CPU
    else:
        from ptycho.workflows.components import train_cdi_model as run

        original, epochs, options = module._train_epoch, [], {}

        def train_epoch(trained, *arguments):
            result = original(trained, *arguments)
            epochs.append(None)
            if len(epochs) == 2:
                ruin(trained.model, what)
            return result

        monkeypatch.setattr(module, "_train_epoch", train_epoch)
    with pytest.raises(DivergedError, match=f"expected finite weights after epoch 2, batch 4, found {found}"):
        run(scan, None, replace(training, backend=backend), **options)
    for name in ("last.ckpt", "best-checkpoint.ckpt"):
        assert_finite(training.output_dir / "checkpoints" / name, epochs=1)


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_validation_loss_is_looked_at(backend, scan, training, planted) -> None:
    planted(backend, 4 + 2)
    expected = "expected a finite validation loss in epoch 1, batch 2, found nan; this training wrote no model"
    with pytest.raises(DivergedError, match=expected):
        train(backend, scan, training, scan)
    assert not list(training.output_dir.rglob("*.ckpt"))


@pytest.mark.parametrize("backend", ALL_SLOWLY)
def test_without_checkpoints_there_is_none_to_name(backend, scan, training, planted) -> None:
    """In the first epoch; and where a training goes on from a checkpoint, that is the best there is."""
    planted(backend, 1)
    with pytest.raises(DivergedError, match="epoch 1, batch 1, found nan; this training wrote no model: begin again"):
        train(backend, scan, training)
    train(backend, scan, replace(training, nepochs=1))
    last = (training.output_dir / "checkpoints" / "last.ckpt").rename(training.output_dir / "begun.ckpt")
    (training.output_dir / "checkpoints" / "best-checkpoint.ckpt").unlink()
    planted(backend, 2)
    with pytest.raises(DivergedError, match=r"epoch 2, batch 2, found nan; its best finite model is .*begun\.ckpt: go"):
        train(backend, scan, training, resume=last)


@pytest.mark.parametrize("backend", ALL_SLOWLY)
def test_several_experiments(backend, scan, training, planted) -> None:
    planted(backend, 8 + 5)
    with pytest.raises(DivergedError, match="expected a finite loss in epoch 2, batch 5, found nan"):
        train(backend, [scan, scan], training, [None, None])
    assert_finite(training.output_dir / "checkpoints" / "last.ckpt", epochs=1)


def test_a_stage_that_has_forgotten_the_best_model_names_the_last(scan, training, planted, tmp_path) -> None:
    """Losses of the third stage cannot be compared with earlier ones: the best checkpoint goes when it begins."""
    from ptycho_torch.fit import fit

    planted("pytorch", 8 + 2)
    module, groups = untrained(scan, training)
    with pytest.raises(DivergedError, match=r"epoch 3, batch 2, .* best finite model is .*last\.ckpt: go on"):
        fit(module, groups, stages=stage_options(stage_1_epochs=1, stage_2_epochs=1, stage_3_epochs=2))
    assert_finite(training.output_dir / "checkpoints" / "last.ckpt", epochs=2)


@pytest.mark.parametrize("stage", [{"epochs_fine_tune": 2}, {"enable_staged_finetuning": True}])
def test_fine_tuning(stage, scan, training, planted) -> None:
    from ptycho_torch.fit import fit

    planted("pytorch", 4 + 2)
    module, groups = untrained(scan, replace(training, nepochs=1))
    with pytest.raises(DivergedError, match=r"epoch 2, batch 2, .* model is .*best-checkpoint\.ckpt: go on"):
        fit(module, groups, stages=stage_options(**stage, finetune_val_split=0.0))


def stage_options(**options: Any) -> Any:
    from ptycho_torch.lightning.staging import StageOptions

    return StageOptions(**options)


def untrained(scan: RawData, config: TrainingConfig) -> tuple[Any, Any]:
    """What `ptycho_torch.fit.fit` trains, and with what."""
    from ptycho_torch.data_container_bridge import PtychoDataContainerTorch
    from ptycho_torch.fit import PtychoPINN_Lightning
    from ptycho_torch.pinn import PtychoPINN

    grouped = scan.generate_grouped_data(64, K=4, nsamples=config.n_groups, gridsize=1, seed=1)
    groups = PtychoDataContainerTorch(grouped, scan.probeGuess)
    model = PtychoPINN(config.model, scan.probeGuess, scan.input_scale(), 1 / scan.input_scale())
    return PtychoPINN_Lightning(model, config, CPU, groups.canvas_size), groups


def spoil(checkpoint: Path, moments: bool) -> None:
    """Put a NaN among the weights of a checkpoint, or among the moments of its optimiser."""
    if of_tensorflow(checkpoint):
        with np.load(checkpoint, allow_pickle=False) as file:
            arrays = dict(file)
        floating = [name for name, array in arrays.items() if array.dtype == np.float32 and array.ndim]
        arrays[floating[-1 if moments else 0]].flat[0] = np.nan
        with checkpoint.open("wb") as file:
            np.savez(file, **arrays)
        return
    import torch

    found = torch.load(checkpoint, weights_only=True)
    state = found["optimizer_states"][0]["state"][0] if moments else found["state_dict"]
    array = state["exp_avg" if moments else "model.network.encoder.0.conv1.weight"]
    array[(0,) * array.ndim] = torch.nan
    torch.save(found, checkpoint)


@pytest.mark.parametrize("moments", [False, True], ids=["weights", "moments"])
@pytest.mark.parametrize("backend", ALL_SLOWLY)
def test_a_checkpoint_that_is_not_finite_is_not_resumed(backend, moments, scan, training) -> None:
    train(backend, scan, replace(training, nepochs=1))
    last = training.output_dir / "checkpoints" / "last.ckpt"
    spoil(last, moments)
    before = last.read_bytes()
    with pytest.raises(ArchiveError, match=r"last\.ckpt: expected a checkpoint of finite weights, found 1 of"):
        train(backend, scan, training, resume=last)
    assert last.read_bytes() == before


@pytest.mark.parametrize("scheduler", ["Default", "Exponential"])
@pytest.mark.parametrize("backend", ALL_SLOWLY)
def test_the_advice_helps(backend, scheduler, scan, training) -> None:
    """Going on from a checkpoint, the learning rate is that of the settings: with next to none nothing moves."""
    rate = {"execution_config": replace(CPU, learning_rate=1e-12)} if backend == "pytorch" else {"learning_rate": 1e-12}
    training = replace(training, scheduler=scheduler)
    train(backend, scan, replace(training, nepochs=1))
    last = training.output_dir / "checkpoints" / "last.ckpt"
    trained = weights(content(last)[1])
    train(backend, scan, replace(training, nepochs=2), resume=last, **rate)
    done, arrays = content(last)
    assert done == 2
    for one, other in zip(trained, weights(arrays), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-8)


def weights(arrays: list[np.ndarray]) -> list[np.ndarray]:
    """Kernels of four axes: no statistics, and the first of a checkpoint, before the moments."""
    kernels = [array for array in arrays if array.ndim == 4]
    assert len(kernels) > 3
    return kernels[:4]
