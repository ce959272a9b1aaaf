"""Train, save, load and infer as a user does: each command in a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

ROOT = Path(__file__).parents[2]


def command(script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_WAIT_POLICY": "PASSIVE"}
    line = [sys.executable, str(ROOT / "scripts" / script), *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, env=environment, check=False, timeout=300)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("chain")


@pytest.fixture(scope="module")
def trained(folder: Path) -> Path:
    fixture = ROOT / "tests" / "fixtures" / "pytorch_integration" / "minimal_dataset_v1.npz"
    run = command(
        "training/train.py", "--backend", "tensorflow", "--train_data_file", fixture, "--output_dir", folder / "model",
        "--gridsize", 2, "--n_filters_scale", 1, "--nepochs", 4, "--batch_size", 8,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert "epoch 4/4" in run.stderr
    return fixture


@pytest.fixture(scope="module")
def result(trained: Path, folder: Path) -> Path:
    run = command(
        "inference/inference.py", "--backend", "tensorflow", "--model_path", folder / "model", "--test_data", trained,
        "--output_dir", folder / "result",
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert "Loaded intensity_scale from bundle" in run.stderr
    return folder / "result"


def test_train_then_infer(trained: Path, result: Path) -> None:
    names = {path.name for path in result.iterdir()}
    assert {"reconstructed_amplitude.png", "reconstructed_phase.png", "summary.png"} <= names
    with np.load(result / "reconstruction.npz") as file:
        found, coverage = file["object"], file["coverage"]
    with np.load(trained) as scan:
        assert found.shape == scan["objectGuess"].shape
        positions = len(scan["xcoords"])
    covered = coverage > 0.1
    assert np.var(np.abs(found[covered])) > 1e-6
    with h5py.File(result / "reconstruction.h5") as product:
        np.testing.assert_array_equal(np.squeeze(product["object"][()]), found)
        assert len(product["probe_position_x_m"]) == positions


def test_the_archive_names_its_backend(trained: Path, folder: Path) -> None:
    import zipfile

    with zipfile.ZipFile(folder / "model" / "wts.h5.zip") as archive:
        assert json.loads(archive.read("manifest.json"))["backend"] == "tensorflow"


def test_a_wrong_file_ends_in_one_line(trained: Path, folder: Path) -> None:
    run = command(
        "inference/inference.py", "--backend", "tensorflow", "--model_path", trained, "--test_data", trained,
        "--output_dir", folder / "nothing",
    )  # fmt: skip
    assert run.returncode == 2
    assert run.stderr.splitlines()[-1].startswith("ptycho_inference: error: ")
    assert "Traceback" not in run.stderr
    assert not (folder / "nothing").exists()


def test_refinement_is_refused_in_one_line(trained: Path, folder: Path) -> None:
    run = command(
        "inference/inference.py", "--backend", "tensorflow", "--model_path", folder / "model", "--test_data", trained,
        "--output_dir", folder / "refined", "--refine", 10,
    )  # fmt: skip
    assert run.returncode == 2
    assert "use --backend pytorch for refinement" in run.stderr.splitlines()[-1]
    assert "Traceback" not in run.stderr
    assert not (folder / "refined").exists()


def test_pytorch_reads_and_refines_the_same_archive(trained: Path, folder: Path, result: Path) -> None:
    run = command(
        "inference/inference.py", "--backend", "pytorch", "--model_path", folder / "model", "--test_data", trained,
        "--output_dir", folder / "other", "--refine", 10, "--torch-accelerator", "cpu",
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    with (
        np.load(result / "reconstruction.npz") as ours,
        np.load(folder / "other" / "reconstruction.npz") as file,
    ):
        network, here = file["network_object"], ours["object"]
        assert file["error_history"][-1] < file["error_history"][0]
    assert np.linalg.norm(network - here) < 1e-4 * np.linalg.norm(here)


def test_a_training_is_resumed(trained: Path, folder: Path) -> None:
    run = command(
        "training/train.py", "--backend", "tensorflow", "--train_data_file", trained, "--output_dir", folder / "model",
        "--gridsize", 2, "--n_filters_scale", 1, "--nepochs", 5, "--batch_size", 8,
        "--resume", folder / "model" / "checkpoints" / "last.ckpt",
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert "epoch 5/5" in run.stderr
    assert "epoch 4/5" not in run.stderr
