"""Two threads with two models: each gets what it would get alone."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ptycho import params
from ptycho.config.config import InferenceConfig, ModelConfig, PyTorchExecutionConfig, TrainingConfig
from ptycho.core.archive import load_archive
from ptycho.raw_data import RawData
from ptycho.workflows.backend_selector import (
    reconstruct_with_backend,
    save_bundle_with_backend,
    train_cdi_model_with_backend,
)

BACKENDS = pytest.mark.parametrize("backend", [pytest.param("tensorflow", marks=pytest.mark.slow), "pytorch"])
REPETITIONS = 3


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Threads take turns every hundredth of a millisecond, and the legacy dictionary is the test's."""
    monkeypatch.setattr(params, "cfg", dict(params.cfg))
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


@pytest.fixture
def scans(fixture_file: Path) -> list[RawData]:
    return two(fixture_file)


def two(path: Path) -> list[RawData]:
    """Counts under one probe; and seven times the amplitudes under another one, three times as bright."""
    scan = RawData.from_file(path)
    part, probe = scan.subsample(36, 5), 3 * np.roll(scan.probeGuess, 4, -1) * np.exp(0.3j)
    other = RawData.from_coords_without_pc(
        part.xcoords, part.ycoords, 7 * part.amplitude(), probe, None, units="amplitude"
    )
    return [scan, other]


def options(backend: str) -> dict[str, Any]:
    if backend == "tensorflow":
        return {}
    quiet = PyTorchExecutionConfig(accelerator="cpu", enable_progress_bar=False, logger_backend=None)
    return {"execution_config": quiet}


def settings(backend: str, folder: Path, number: int) -> TrainingConfig:
    model = ModelConfig(N=64, gridsize=1 + number, n_filters_scale=1)
    return TrainingConfig(
        model=model, nepochs=2, n_groups=12, batch_size=4, subsample_seed=number, backend=backend, output_dir=folder
    )


def together(calls: Sequence[Callable[[], Any]]) -> list[Any]:
    """What all calls return, begun at the same moment in threads of their own."""
    ready = threading.Barrier(len(calls))

    def run(call: Callable[[], Any]) -> Any:
        ready.wait()
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))


@pytest.fixture(scope="module")
def alone(fixture_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], list[dict[str, Any]]]:
    """`alone(backend)`: a training on each of the scans, one after the other, once for all tests."""

    @cache
    def train(backend: str) -> list[dict[str, Any]]:
        folder = tmp_path_factory.mktemp(backend)
        return [trained(backend, folder, scan, number) for number, scan in enumerate(two(fixture_file))]

    return train


def trained(backend: str, folder: Path, scan: RawData, number: int) -> dict[str, Any]:
    config = settings(backend, folder / str(number), number)
    results = train_cdi_model_with_backend(scan, None, config, **options(backend))
    return {"path": save_bundle_with_backend(results, config, folder / str(number)), **results}


@pytest.fixture
def _meet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads wait for each other where their groups are made: whatever is handed on by way of the process is mixed."""
    make, meeting = RawData.generate_grouped_data, threading.Barrier(2, timeout=300)

    def late(self: RawData, *given: Any, **settings: Any) -> Any:
        if threading.current_thread() is not threading.main_thread():
            meeting.wait()
        return make(self, *given, **settings)

    monkeypatch.setattr(RawData, "generate_grouped_data", late)


@BACKENDS
@pytest.mark.usefixtures("_meet")
def test_reconstructions(backend: str, scans: list[RawData], alone: Callable[[str], list[dict[str, Any]]]) -> None:
    calls = []
    for scan, results in zip(scans, alone(backend), strict=True):
        config = InferenceConfig(model_path=results["path"], backend=backend)
        calls.append(partial(reconstruct_with_backend, scan, config, refine=1, **options(backend)))
    one_by_one = [call() for call in calls]
    first, second = (np.abs(found.network_object).mean() for found in one_by_one)
    assert second > 2 * first
    for _ in range(REPETITIONS):
        for found, expected in zip(together(calls), one_by_one, strict=True):
            for name in ("network_object", "object", "probe", "coverage"):
                assert relative(getattr(found, name), getattr(expected, name)) < 1e-5, name
            assert found.trust.overall_ratio == pytest.approx(expected.trust.overall_ratio, rel=1e-4)


@pytest.mark.slow
@BACKENDS
def test_trainings(
    backend: str, scans: list[RawData], alone: Callable[[str], list[dict[str, Any]]], tmp_path: Path
) -> None:
    """The weights of both, and what each archive says of its scales and settings."""
    for repetition in range(2):
        folder = tmp_path / str(repetition)
        made = together([partial(trained, backend, folder, scan, number) for number, scan in enumerate(scans)])
        for number, (found, expected) in enumerate(zip(made, alone(backend), strict=True)):
            assert found["history"]["train_loss"] == pytest.approx(expected["history"]["train_loss"], rel=1e-5)
            ours, theirs = load_archive(found["path"]), load_archive(expected["path"])
            for name, weights in theirs.weights.items():
                np.testing.assert_allclose(ours.weights[name], weights, atol=1e-5, err_msg=name)
            assert ours.params["gridsize"] == 1 + number
            for name in ("input_scale", "intensity_scale"):
                assert ours.params[name] == pytest.approx(theirs.params[name], rel=1e-6), name
            assert ours.params["input_scale"] == pytest.approx(scans[number].input_scale())


class Unreadable(dict[str, Any]):
    """A dictionary that takes what is written to it and gives nothing."""

    def __getitem__(self, key: str) -> Any:
        raise AssertionError(f"params.cfg[{key!r}] was read")

    def get(self, key: str, default: Any = None) -> Any:
        raise AssertionError(f"params.cfg.get({key!r}) was called")

    __iter__ = keys = values = items = copy = None  # type: ignore[assignment]


@pytest.mark.usefixtures("without_graphs")
@BACKENDS
def test_nothing_is_read_from_the_legacy_dictionary(
    backend: str, scan: RawData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From training by way of the archive to the refined object."""
    monkeypatch.setattr(params, "cfg", Unreadable())
    path = trained(backend, tmp_path, scan, 0)["path"]
    config = InferenceConfig(model_path=path, backend=backend)
    assert reconstruct_with_backend(scan, config, refine=1, **options(backend)).method == "network+refined"
    assert {"input_scale", "intensity_scale", "probe", "N"} <= set(dict.keys(params.cfg))


def relative(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))
