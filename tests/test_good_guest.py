"""A call leaves the process that it runs in as it was: when it is done, when it fails, and when Ctrl-C ends it."""

from __future__ import annotations

import gc
import logging
import multiprocessing
import os
import random
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import keras
import matplotlib
import numpy as np
import pytest
import tensorflow as tf
import torch
from tensorflow.python.eager import context

import ptycho
from ptycho import params
from ptycho.cli.infer import inference_main
from ptycho.cli.train import train_main
from ptycho.errors import DataError
from ptycho.raw_data import RawData
from ptycho.workflows import backend_selector, components
from ptycho_torch.workflows import components as torch_components

pytestmark = pytest.mark.usefixtures("without_graphs", "interrupts", "_seeded")

BACKENDS = ("pytorch", "tensorflow")
REFINING = "ptycho.core.refinement.problem:ScanProblem.gradient"
LOSS = {"pytorch": "ptycho_torch.objective:Objective.loss", "tensorflow": "ptycho.tf.objective:Objective.loss"}
PASS = {
    "pytorch": "ptycho_torch.pinn:PtychoPINN.predict_on_grid",
    "tensorflow": "ptycho.tf.pinn:PtychoPINN.predict_on_grid",
}
QUIET = ptycho.PyTorchExecutionConfig(accelerator="cpu", enable_progress_bar=False, logger_backend=None)


def _loggers() -> Iterator[tuple[str, logging.Logger]]:
    yield "root", logging.getLogger()
    yield from ((n, one) for n, one in logging.Logger.manager.loggerDict.items() if isinstance(one, logging.Logger))


def _plain(value: Any) -> Any:
    """Arrays as something that is compared by `==`."""
    return (value.dtype.str, value.shape, value.tobytes()) if isinstance(value, np.ndarray) else value


def host_state() -> dict[str, Any]:
    """What a process has only once, by names."""
    state: dict[str, Any] = {
        "random state of Python": random.getstate(),
        "random state of NumPy": repr(np.random.get_state(legacy=False)),  # noqa: NPY002
        "random state of PyTorch": torch.get_rng_state().tolist(),
        "random state of TensorFlow": (context.global_seed(), context.context()._rng.getstate()),
        "generator of TensorFlow": tf.random.get_global_generator().state.numpy().tolist(),
        "threads of PyTorch": (torch.get_num_threads(), torch.get_num_interop_threads()),
        "threads of TensorFlow": (
            tf.config.threading.get_intra_op_parallelism_threads(),
            tf.config.threading.get_inter_op_parallelism_threads(),
        ),
        "threads of Python": sorted(thread.name for thread in threading.enumerate()),
        "precision of PyTorch": (
            torch.get_default_dtype(),
            torch.get_float32_matmul_precision(),
            torch.backends.cudnn.allow_tf32,
            torch.backends.cuda.matmul.allow_tf32,
        ),
        "modes of PyTorch": (
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
            torch.backends.cudnn.benchmark,
            torch.backends.cudnn.deterministic,
            torch.is_grad_enabled(),
            torch.is_inference_mode_enabled(),
            torch.is_anomaly_enabled(),
            torch.get_default_device(),
            torch.multiprocessing.get_sharing_strategy(),
        ),
        "precision of TensorFlow": (
            keras.config.floatx(),
            keras.config.dtype_policy().name,
            tf.config.experimental.tensor_float_32_execution_enabled(),
        ),
        "modes of TensorFlow": (
            keras.config.epsilon(),
            keras.config.image_data_format(),
            tf.config.functions_run_eagerly(),
            tf.config.optimizer.get_jit(),
        ),
        "modes of NumPy": (np.geterr(), np.geterrcall(), np.get_printoptions()),
        "modes of matplotlib": dict(matplotlib.rcParams),
        "signals": {number: signal.getsignal(number) for number in signal.valid_signals()},
        "warnings": list(warnings.filters),
        "streams and hooks": (sys.stdout, sys.stderr, sys.excepthook, threading.excepthook, sys.unraisablehook),
        "path of modules": list(sys.path),
        "folder": Path.cwd(),
        "start of processes": multiprocessing.get_start_method(allow_none=True),
        "interpreter": (gc.isenabled(), gc.get_threshold(), sys.getrecursionlimit(), sys.getswitchinterval()),
    }
    state |= {f"variable {name}": value for name, value in os.environ.items()}
    state |= {f"params.cfg[{name!r}]": _plain(value) for name, value in params.cfg.items()}
    for name, one in _loggers():
        state[f"log {name}"] = (one.level, list(one.handlers), list(one.filters), one.propagate, one.disabled)
    return state


def moved(before: dict[str, Any], after: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """What differs; a log that is new may be there as long as nobody has set anything of it."""
    untouched = (logging.NOTSET, [], [], True, False)
    nothing = {name: untouched for name in after if name.startswith("log ")}
    names = before.keys() | after.keys()
    pairs = {name: (before.get(name, nothing.get(name)), after.get(name)) for name in sorted(names)}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


class Ground(NamedTuple):
    """What calls work on."""

    file: Path
    folder: Path
    """Of this test."""
    models: Callable[[str], Path]
    """A trained model by its backend."""

    @property
    def scan(self) -> RawData:
        return RawData.from_file(self.file)

    def config(self, backend: str) -> ptycho.TrainingConfig:
        small = ptycho.ModelConfig(n_filters_scale=1)
        settings = {"nepochs": 1, "n_groups": 4, "batch_size": 4, "train_data_file": self.file}
        return ptycho.TrainingConfig(model=small, backend=backend, output_dir=self.folder / "out", **settings)

    def inference(self, backend: str) -> ptycho.InferenceConfig:
        return ptycho.InferenceConfig(model_path=self.models(backend), backend=backend, n_groups=4)

    def flags(self, backend: str) -> list[str]:
        return ["--backend", backend, "--output_dir", str(self.folder / "out"), "--quiet"]


@pytest.fixture(scope="module")
def small_scan(fixture_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("guest") / "scan.npz"
    RawData.from_file(fixture_file).subsample(16, 1).to_file(path)
    return path


@pytest.fixture(scope="module")
def models(small_scan: Path) -> Callable[[str], Path]:
    @cache
    def trained(backend: str) -> Path:
        folder = small_scan.parent / backend
        tf.config.run_functions_eagerly(True)
        config = Ground(small_scan, folder, trained).config(backend)
        ptycho.train(small_scan, config, output_dir=folder, execution=_execution(backend))
        return folder

    return trained


@pytest.fixture
def ground(small_scan: Path, tmp_path: Path, models: Callable[[str], Path]) -> Ground:
    return Ground(small_scan, tmp_path, models)


@pytest.fixture
def _seeded() -> Iterator[None]:
    """A host that has seeded everything: then a draw shows. What it chose before is back afterwards."""
    python, numpy, pytorch = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    tensorflow = context.global_seed()
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    torch.manual_seed(1)
    tf.random.set_seed(1)
    yield
    random.setstate(python)
    np.random.set_state(numpy)  # noqa: NPY002
    torch.set_rng_state(pytorch)
    tf.random.set_seed(tensorflow)


def _execution(backend: str) -> ptycho.PyTorchExecutionConfig | None:
    return QUIET if backend == "pytorch" else None


class Call(NamedTuple):
    """A public call."""

    name: str
    run: Callable[[Ground], object]
    within: str | None = None
    """A function that it is in for long, `module:name`: where it is made to fail and to be interrupted."""
    mirrors: bool = False
    """It writes `params.cfg`, for callers who read that afterwards."""


def _both(name: str, run: Callable[[Ground, str], object], within: dict[str, str], mirrors: bool = False) -> list[Call]:
    """The call with each backend."""
    return [
        Call(f"{name} {backend}", lambda ground, backend=backend: run(ground, backend), within[backend], mirrors)
        for backend in BACKENDS
    ]


def _command(program: Callable[[list[str]], int], *arguments: object) -> None:
    """A command within this process; its own errors are of no interest here."""
    status = program([*map(str, arguments)])
    if status == 130:
        raise KeyboardInterrupt
    if status:
        raise DataError(f"exit status {status}")


CALLS = [
    Call("load_scan", lambda g: ptycho.load_scan(g.file)),
    Call("simulate", lambda g: ptycho.simulate(shape=(96, 96), photons=1e6)),
    Call("doctor", lambda g: ptycho.doctor(g.file, reconstructions=False)),
    Call("compare", lambda g: ptycho.compare(g.scan.objectGuess, 1.1 * g.scan.objectGuess)),
    Call("find_probe", lambda g: ptycho.find_probe(g.file, backend="pytorch"), REFINING),
    Call(
        "reconstruct",
        lambda g: ptycho.reconstruct(
            g.file, iterations=1, modes=1, force=True, backend="pytorch", output_dir=g.folder / "result"
        ),
        REFINING,
    ),
    *_both(
        "refine",
        lambda g, backend: ptycho.refine(g.file, iterations=1, backend=backend),
        dict.fromkeys(BACKENDS, REFINING),
    ),
    *_both(
        "train",
        lambda g, backend: ptycho.train(
            g.file, g.config(backend), output_dir=g.folder / "model", execution=_execution(backend)
        ),
        LOSS,
    ),
    *_both(
        "infer",
        lambda g, backend: ptycho.infer(
            g.models(backend), g.file, config=g.inference(backend), execution=_execution(backend)
        ),
        PASS,
    ),
    *_both(
        "run_cdi_example_with_backend",
        lambda g, backend: backend_selector.run_cdi_example_with_backend(
            g.scan, None, g.config(backend), do_stitching=True, execution_config=_execution(backend)
        ),
        LOSS,
        mirrors=True,
    ),
    Call("load_inference_bundle", lambda g: components.load_inference_bundle(g.models("tensorflow")), mirrors=True),
    Call(
        "load_inference_bundle_torch",
        lambda g: torch_components.load_inference_bundle_torch(g.models("pytorch")),
        mirrors=True,
    ),
    *_both(
        "the training command",
        lambda g, backend: _command(
            train_main, "--train_data_file", g.file, *g.flags(backend), "--nepochs", 1, "--n_groups", 4,
            "--n_filters_scale", 1,
        ),
        LOSS,
    ),
    *_both(
        "the inference command",
        lambda g, backend: _command(
            inference_main, "--model_path", g.models(backend), "--test_data", g.file, *g.flags(backend),
            "--n_groups", 4, "--no-refine",
        ),
        PASS,
    ),
]  # fmt: skip
BROKEN = [call for call in CALLS if call.within]


def _named(calls: list[Call]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("call", calls, ids=[call.name for call in calls])


def assert_unmoved(call: Call, before: dict[str, Any]) -> None:
    found = moved(before, host_state())
    if call.mirrors:
        found = {name: pair for name, pair in found.items() if not name.startswith("params.cfg")}
    assert found == {}


@_named(CALLS)
def test_a_call_that_is_done(call: Call, ground: Ground) -> None:
    _prepare(call, ground)
    before = host_state()
    call.run(ground)
    assert_unmoved(call, before)


def _prepare(call: Call, ground: Ground) -> None:
    """What the call needs is there before: its model, and modules that set something once, when they are loaded."""
    for backend in BACKENDS:
        if backend in call.name or backend == "tensorflow":
            ground.models(backend)


def _fail() -> None:
    raise DataError("planted")


def _interrupt() -> None:
    signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize(
    ("end", "error"), [(_fail, DataError), (_interrupt, KeyboardInterrupt)], ids=["fails", "is interrupted"]
)
@_named(BROKEN)
def test_a_call_that(
    call: Call, end: Callable[[], None], error: type[BaseException], ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    _prepare(call, ground)
    assert call.within is not None
    module, _, name = call.within.partition(":")
    owner, _, method = name.partition(".")
    ended: list[bool] = []

    def broken(*_: object, **__: object) -> None:
        ended.append(True)
        end()

    monkeypatch.setattr(getattr(import_module(module), owner), method, broken)
    before = host_state()
    with pytest.raises(error):
        call.run(ground)
    assert ended
    assert_unmoved(call, before)


def test_the_snapshot_sees_what_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    before = host_state()
    random.random()
    monkeypatch.setenv("SOME_VARIABLE", "1")
    monkeypatch.setitem(params.cfg, "N", 128)
    monkeypatch.setattr(logging.getLogger("ptycho"), "level", logging.ERROR)
    names = {"random state of Python", "variable SOME_VARIABLE", "params.cfg['N']", "log ptycho"}
    assert moved(before, host_state()).keys() == names
