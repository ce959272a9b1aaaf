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
        "training/train.py", "--backend", "pytorch", "--train_data_file", fixture, "--output_dir", folder / "model",
        "--gridsize", 2, "--n_filters_scale", 1, "--nepochs", 4, "--batch_size", 8, "--torch-accelerator", "cpu",
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert "epoch 4/4" in run.stderr
    return fixture


def test_train_then_infer_then_refine(trained: Path, folder: Path) -> None:
    run = command(
        "inference/inference.py", "--backend", "pytorch", "--model_path", folder / "model", "--test_data", trained,
        "--output_dir", folder / "result", "--refine", 10, "--torch-accelerator", "cpu",
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert "Loaded intensity_scale from bundle" in run.stderr
    names = {path.name for path in (folder / "result").iterdir()}
    assert {"reconstructed_amplitude.png", "reconstructed_phase.png", "summary.png", "network_amplitude.png"} <= names
    with np.load(folder / "result" / "reconstruction.npz") as file:
        found, coverage, errors = file["object"], file["coverage"], file["error_history"]
    with np.load(trained) as scan:
        assert found.shape == scan["objectGuess"].shape
        positions = len(scan["xcoords"])
    covered = coverage > 0.1
    assert np.var(np.abs(found[covered])) > 1e-6
    assert errors[-1] < errors[0]
    with h5py.File(folder / "result" / "reconstruction.h5") as product:
        np.testing.assert_array_equal(np.squeeze(product["object"][()]), found)
        assert len(product["probe_position_x_m"]) == positions


def test_the_archive_names_its_backend(trained: Path, folder: Path) -> None:
    import zipfile

    with zipfile.ZipFile(folder / "model" / "wts.h5.zip") as archive:
        assert json.loads(archive.read("manifest.json"))["backend"] == "pytorch"


def test_a_wrong_file_ends_in_one_line(trained: Path, folder: Path) -> None:
    run = command(
        "inference/inference.py", "--backend", "pytorch", "--model_path", trained, "--test_data", trained,
        "--output_dir", folder / "nothing",
    )  # fmt: skip
    assert run.returncode == 2
    assert run.stderr.splitlines()[-1].startswith("ptycho_inference: error: ")
    assert "Traceback" not in run.stderr
    assert not (folder / "nothing").exists()
