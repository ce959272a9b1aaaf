"""One door to both backends: a table of modules, each imported when a caller asks for that backend, and not before."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from ptycho import params
from ptycho.config.config import InferenceConfig, PyTorchExecutionConfig, TrainingConfig
from ptycho.core.progress import Watch
from ptycho.core.reconstruction import Reconstruction
from ptycho.errors import BackendError, ConfigError
from ptycho.raw_data import RawData
from ptycho.workflows.backend import Backend
from ptycho.workflows.experiments import Scans, TestScans, as_asked
from ptycho.workflows.iteration.refine_probe import with_refined_probe
from ptycho.workflows.reconstruct import load_and_reconstruct
from ptycho.workflows.results import RunResults
from ptycho.workflows.run_options import RunOptions
from ptycho.workflows.solver import Solver
from ptycho.workflows.train import train, train_and_reconstruct

if TYPE_CHECKING:
    from ptycho.workflows.diagnostics import Diagnostics

__all__ = [
    "backend_named",
    "load_inference_bundle_with_backend",
    "reconstruct_with_backend",
    "refine_probe_with_backend",
    "require_backend",
    "run_cdi_example_with_backend",
    "save_bundle_with_backend",
    "train_cdi_model_with_backend",
]

Execution = PyTorchExecutionConfig


class _Entry(NamedTuple):
    """Where a backend is, what it needs, and what to say where that is missing."""

    module: str
    """That is a `ptycho.workflows.backend.Backend`."""
    title: str
    packages: tuple[str, ...]
    install: str
    other: str


_BACKENDS = {
    "tensorflow": _Entry("ptycho.tf.backend", "TensorFlow", ("tensorflow", "keras"), "'tensorflow>=2.20'", "pytorch"),
    "pytorch": _Entry(
        "ptycho_torch.backend", "PyTorch", ("torch", "lightning"), "'torch>=2.5' 'lightning>=2.4'", "tensorflow"
    ),
}


def require_backend(name: str) -> None:
    """Make sure that a backend can run here.

    Raises:
        ConfigError: `name` is neither `tensorflow` nor `pytorch`.
        BackendError: a package that the backend needs is not installed; the line names the other backend.
    """
    if name not in _BACKENDS:
        raise ConfigError(f"backend must be 'tensorflow' or 'pytorch', found {name!r}")
    needed = _BACKENDS[name]
    missing = [package for package in needed.packages if importlib.util.find_spec(package) is None]
    if missing:
        raise BackendError(
            f"{needed.title} backend selected, but {missing[0]} is not installed: pip install {needed.install}, "
            f"or use --backend {needed.other}"
        )


def backend_named(name: str) -> Backend:
    """The backend of a name; errors as of `require_backend`."""
    require_backend(name)
    return cast(Backend, importlib.import_module(_BACKENDS[name].module))


def _enter(config: TrainingConfig | InferenceConfig, run: RunOptions) -> tuple[Backend, RunOptions]:
    """The backend of a configuration and the options settled for it; `params.cfg` mirrors the configuration."""
    backend = backend_named(config.backend)
    run = backend.settled(run)
    params.mirror(config)
    return backend, run


def train_cdi_model_with_backend(
    train_data: Scans,
    test_data: TestScans,
    config: TrainingConfig,
    *,
    learning_rate: float | None = None,
    execution_config: Execution | None = None,
    resume: Path | None = None,
    max_seconds: float | None = None,
    start_from: Path | None = None,
) -> dict[str, Any]:
    """Synchronise `params.cfg`, then train with the backend of the configuration; `results["backend"]` names it.

    `train_data` may be the scans of several experiments, `test_data` a list in the same order.

    `learning_rate` is for either backend, in the place of `execution_config.learning_rate`; `max_seconds` stops the
    training after that time; `start_from` is an archive whose weights it begins with, `universal` those of the package.
    """
    asked = RunOptions(execution_config, learning_rate, resume, max_seconds, start_from=start_from)
    backend, run = _enter(config, asked)
    return train(backend, train_data, test_data, config, run)


def run_cdi_example_with_backend(
    train_data: Scans,
    test_data: TestScans,
    config: TrainingConfig,
    *,
    do_stitching: bool = False,
    flip_x: bool = False,
    flip_y: bool = False,
    transpose: bool = False,
    M: int | None = None,
    learning_rate: float | None = None,
    execution_config: Execution | None = None,
    resume: Path | None = None,
    max_seconds: float | None = None,
    diagnostics: Diagnostics | None = None,
    watch: Watch | None = None,
    start_from: Path | None = None,
) -> RunResults:
    """Synchronise `params.cfg`, then train and, with `do_stitching`, reconstruct: (amplitude, phase, results).

    `learning_rate`, `max_seconds` and `start_from` as in `train_cdi_model_with_backend`; `diagnostics` looks at the
    patches, `watch` is told how far the training is. `flip_x`, `flip_y`, `transpose` and `M` as in
    `ptycho.workflows.experiments.as_asked`.
    """
    asked = as_asked((train_data, test_data, config), flip_x, flip_y, transpose, M)
    options = RunOptions(
        execution_config, learning_rate, resume, max_seconds, diagnostics, watch, start_from=start_from
    )
    backend, run = _enter(asked[2], options)
    return train_and_reconstruct(backend, *asked, do_stitching, run)


def refine_probe_with_backend(
    data: RawData, config: TrainingConfig, iterations: int, *, execution_config: Execution | None = None
) -> RawData:
    """The scan with the probe that refinement finds on it, to train with (`workflows.refine_probe`)."""
    backend, run = _enter(config, RunOptions(execution_config))
    return with_refined_probe(data, Solver.of(backend, config, run), iterations)


def save_bundle_with_backend(results: dict[str, Any], config: TrainingConfig, output_dir: Path) -> Path:
    """Write the trained model of `results` to `output_dir/wts.h5.zip` and return that path."""
    return backend_named(results["backend"]).save(Path(output_dir), results["models"], config)


def load_inference_bundle_with_backend(
    model_path: Path, config: InferenceConfig, *, execution_config: Execution | None = None
) -> tuple[Any, dict[str, Any]]:
    """Load a model for the backend of the configuration: (model, training configuration as a dict).

    `params.cfg` is synchronised first; what the archive holds wins.
    """
    backend, run = _enter(config, RunOptions(execution_config))
    model, archive = backend.load(Path(model_path), config.experiment_number, None, run)
    return backend.for_callers(model), archive.configs["training"]


def reconstruct_with_backend(
    data: RawData,
    config: InferenceConfig,
    *,
    refine: int = 0,
    refinement: Mapping[str, Any] | None = None,
    execution_config: Execution | None = None,
    diagnostics: Diagnostics | None = None,
    watch: Watch | None = None,
    folder: Path | None = None,
    uncertainty: bool = False,
) -> Reconstruction:
    """Reconstruct a scan with the model of `config.model_path`, refined by at most `refine` iterations.

    `refinement` holds further keywords of the backend's `refine`, such as `refine_positions` or `likelihood`;
    `diagnostics` looks at the patches and at the canvas made of them, `watch` is told how far the refinement is, which
    shows in `folder` what it has found so far. `uncertainty` measures how wrong a pass is that is not refined.
    """
    asked = RunOptions(
        execution_config,
        diagnostics=diagnostics,
        watch=watch,
        refine_iterations=refine,
        refinement=refinement,
        folder=folder,
        uncertainty=uncertainty,
    )
    backend, run = _enter(config, asked)
    return load_and_reconstruct(backend, data, config, run)
