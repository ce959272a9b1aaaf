"""What the command lines of both backends have to do, and their results side by side."""

import csv
import json
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest

from ptycho import params
from ptycho.cli.infer import inference_main
from ptycho.cli.train import train_main
from ptycho.core.quality.score import score

BACKENDS = ["pytorch", "tensorflow"]
EACH = pytest.mark.parametrize("backend", [pytest.param(name, marks=pytest.mark.slow) for name in BACKENDS])

SPREAD = {"train_loss": 0.019, "amplitude_mae": 0.011, "scale": 0.043}
"""Largest differences between the backends. The first weights are others; what that does was measured with six seeds.

Standard deviations over the seeds, PyTorch and TensorFlow together: 0.0033 of 0.041, 0.0020 of 0.052 and 0.0076 of
1.006. Each limit is four times that of a difference; a flat object has an error of amplitude of 0.077. (From the same
weights the losses agree to 5e-4: tests/tf/test_fit.py.)
"""


@pytest.fixture(autouse=True)
def _as_in_a_process_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(params, "cfg", dict(params.cfg))
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")


def inferred(model: Path, scan: Path, result: Path, backend: str, *flags: str) -> int:
    """Exit status of the inference command."""
    files = ["--model_path", model, "--test_data", scan, "--output_dir", result, "--backend", backend]
    return inference_main([*map(str, files), "--no-refine", *flags])


def last_epochs(model: Path, version: int = 0) -> list[tuple[int, int, float]]:
    """(epoch, step, training loss) of every epoch that a training wrote down."""
    with (model / "logs" / f"version_{version}" / "metrics.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["train_loss"]]
    return [(int(row["epoch"]), int(row["step"]), float(row["train_loss"])) for row in rows]


def network_object(result: Path) -> np.ndarray:
    """What the network found, before a refinement."""
    with np.load(result / "reconstruction.npz") as file:
        return file["network_object" if "network_object" in file else "object"]


@EACH
def test_the_commands_say_what_they_do(backend, chain) -> None:
    run = chain(backend)
    assert "epoch 4/4" in run.training_log
    assert (run.model / "wts.h5.zip").is_file()
    assert "Loaded intensity_scale from bundle" in run.inference_log
    with np.load(run.result / "reconstruction.npz") as file, np.load(run.scan) as scan:
        assert file["object"].shape == scan["objectGuess"].shape


@EACH
def test_refinement_ends_better_than_it_began(backend, chain, tmp_path) -> None:
    """Asked of the chain's own command; TensorFlow's refines what it has written, with the probe held."""
    run = chain(backend)
    result = run.result
    if backend == "tensorflow":
        result = tmp_path / "refined"
        assert inferred(run.model, run.scan, result, backend, "--refine", "10", "--no-refine_probe") == 0
    assert (result / "network_amplitude.png").is_file()
    with np.load(result / "reconstruction.npz") as file:
        assert len(file["error_history"]) == 11
        assert file["error_history"][-1] < file["error_history"][0]
        assert not np.array_equal(file["network_object"], file["object"])


@EACH
def test_inference_writes_the_object_as_pictures_npz_and_product(backend, chain) -> None:
    run = chain(backend)
    names = {path.name for path in run.result.iterdir()}
    assert {"reconstructed_amplitude.png", "reconstructed_phase.png", "summary.png"} <= names
    with np.load(run.result / "reconstruction.npz") as file:
        found, coverage = file["object"], file["coverage"]
    assert np.var(np.abs(found[coverage > 0.1])) > 1e-6
    with h5py.File(run.result / "reconstruction.h5") as product, np.load(run.scan) as scan:
        np.testing.assert_array_equal(np.squeeze(product["object"][()]), found)
        assert len(product["probe_position_x_m"]) == len(scan["xcoords"])


@EACH
def test_training_leaves_an_archive_checkpoints_and_metrics(backend, chain) -> None:
    model = chain(backend).model
    with zipfile.ZipFile(model / "wts.h5.zip") as archive:
        assert json.loads(archive.read("manifest.json"))["backend"] == backend
    assert {path.name for path in (model / "checkpoints").iterdir()} == {"last.ckpt", "best-checkpoint.ckpt"}
    epochs = last_epochs(model)
    assert [(epoch, step) for epoch, step, _ in epochs] == [(0, 7), (1, 15), (2, 23), (3, 31)]
    assert epochs[-1][2] < epochs[0][2]


@EACH
def test_the_other_backend_reads_the_archive_and_finds_the_same(backend, chain, tmp_path) -> None:
    run, other = chain(backend), BACKENDS[1 - BACKENDS.index(backend)]
    assert inferred(run.model, run.scan, tmp_path / "other", other) == 0
    here, there = network_object(run.result), network_object(tmp_path / "other")
    assert np.linalg.norm(there - here) < 1e-4 * np.linalg.norm(here)


@EACH
def test_a_training_is_resumed(backend, chain, tmp_path) -> None:
    run, last = chain(backend), chain(backend).model / "checkpoints" / "last.ckpt"
    files = ["--train_data_file", run.scan, "--output_dir", tmp_path / "resumed", "--resume", last]
    assert train_main([*map(str, files), *run.settings, "--nepochs", "5"]) == 0
    assert [epoch for epoch, *_ in last_epochs(tmp_path / "resumed")] == [4]


@EACH
def test_a_wrong_file_ends_in_one_line(backend, chain, tmp_path, capsys) -> None:
    run, result = chain(backend), tmp_path / "nothing"
    assert inferred(run.scan, run.scan, result, backend) == 2
    said = capsys.readouterr().err
    assert said.splitlines()[-1].startswith("ptycho_inference: error: ")
    assert "Traceback" not in said
    assert not result.exists()


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_checkpoint_of_the_other_backend_ends_in_one_line(backend, chain, tmp_path, capsys) -> None:
    run, other = chain(backend), chain(BACKENDS[1 - BACKENDS.index(backend)])
    files = ["--train_data_file", run.scan, "--output_dir", tmp_path / "nothing"]
    resume = ["--resume", str(other.model / "checkpoints" / "last.ckpt")]
    assert train_main([*map(str, files), *run.settings, *resume]) == 2
    assert f"expected a checkpoint of the {backend} backend" in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "nothing").exists()


@pytest.mark.slow
def test_both_backends_learn_alike(chain) -> None:
    """The same groups and settings, other first weights: losses and scores against the truth, side by side."""
    table = {}
    for backend in BACKENDS:
        run = chain(backend)
        with np.load(run.scan) as scan:
            truth, x, y = scan["objectGuess"], scan["xcoords"], scan["ycoords"]
        inside = int(y.min()), int(y.max()) + 1, int(x.min()), int(x.max()) + 1
        found = score(network_object(run.result), truth, inside)
        table[backend] = {"train_loss": last_epochs(run.model)[-1][2]}
        table[backend] |= {name: getattr(found, name) for name in SPREAD if name != "train_loss"}
    for name, largest in SPREAD.items():
        one, other = (table[backend][name] for backend in BACKENDS)
        assert abs(one - other) < largest, table
