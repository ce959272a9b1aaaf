"""The library in a process that `multiprocessing` spawns: what goes there, what comes back."""

from __future__ import annotations

import copy
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import ptycho


@pytest.fixture(scope="module")
def child() -> Iterator[ProcessPoolExecutor]:
    """One process, spawned: it imports everything anew, and has nothing of this one but what is pickled."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        yield pool


@pytest.fixture(scope="module")
def scan(fixture_file: Path) -> ptycho.RawData:
    return ptycho.load_scan(fixture_file).subsample(16, 1)


@pytest.mark.slow
def test_scans_and_results_go_there_and_back(child, scan) -> None:
    settings = {"iterations": 2, "backend": "pytorch"}
    there, here = child.submit(ptycho.refine, scan, **settings).result(60), ptycho.refine(scan, **settings)
    np.testing.assert_allclose(there.object, here.object, atol=1e-5)
    assert there.error_history == pytest.approx(here.error_history, rel=1e-5)


def test_a_network_is_trained_there_and_used_here(child, scan, tmp_path) -> None:
    config = ptycho.TrainingConfig(
        model=ptycho.ModelConfig(n_filters_scale=1), nepochs=1, n_groups=8, backend="pytorch", output_dir=tmp_path
    )
    quiet = ptycho.PyTorchExecutionConfig(accelerator="cpu", enable_progress_bar=False, logger_backend=None)
    there = child.submit(ptycho.train, scan, config, execution=quiet, output_dir=tmp_path / "there").result(60)
    here = ptycho.train(scan, config, execution=quiet, output_dir=tmp_path / "here")
    assert there.history["train_loss"] == pytest.approx(here.history["train_loss"], rel=1e-5)
    assert (tmp_path / "there" / "wts.h5.zip").is_file()
    assert_same_pass(there, here, scan)


def assert_same_pass(one: ptycho.TrainedModel, other: ptycho.TrainedModel, scan: ptycho.RawData) -> None:
    passes = [ptycho.infer(model, scan).object for model in (one, other)]
    assert np.linalg.norm(passes[0] - passes[1]) < 1e-4 * np.linalg.norm(passes[1])


@pytest.mark.usefixtures("without_graphs")
def test_a_model_of_tensorflow_is_pickled(scan, tmp_path) -> None:
    small = ptycho.ModelConfig(n_filters_scale=1)
    config = ptycho.TrainingConfig(model=small, nepochs=1, n_groups=4, backend="tensorflow", output_dir=tmp_path)
    model = ptycho.train(scan, config)
    assert_same_pass(copy.copy(model), model, scan)  # by what pickle takes


def test_an_error_comes_back_as_itself(child, tmp_path) -> None:
    with pytest.raises(ptycho.MissingFileError, match="nothing"):
        child.submit(ptycho.load_scan, tmp_path / "nothing.npz").result(60)
