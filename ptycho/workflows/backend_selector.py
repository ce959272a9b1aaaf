"""One door to both backends: a backend is imported inside the function that needs it, and nowhere else."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ptycho import params
from ptycho.config.config import InferenceConfig, PyTorchExecutionConfig, TrainingConfig, update_legacy_dict
from ptycho.core.reconstruction import Reconstruction
from ptycho.core.refinement.run import Refinement
from ptycho.errors import BackendError, ConfigError
from ptycho.raw_data import RawData
from ptycho.workflows.experiments import Scans, TestScans
from ptycho.workflows.refine_probe import with_refined_probe

if TYPE_CHECKING:
    from ptycho.workflows.diagnostics import Diagnostics

__all__ = [
    "load_inference_bundle_with_backend",
    "reconstruct_with_backend",
    "refine_probe_with_backend",
    "require_backend",
    "run_cdi_example_with_backend",
    "save_bundle_with_backend",
    "train_cdi_model_with_backend",
]

Execution = PyTorchExecutionConfig


class _Requirement(NamedTuple):
    """What a backend needs, and what to say where it is missing."""

    title: str
    packages: tuple[str, ...]
    install: str
    other: str


_REQUIREMENTS = {
    "tensorflow": _Requirement("TensorFlow", ("tensorflow", "keras"), "'tensorflow>=2.16'", "pytorch"),
    "pytorch": _Requirement("PyTorch", ("torch", "lightning"), "'torch>=2.2' lightning", "tensorflow"),
}


def require_backend(name: str) -> None:
    """Make sure that a backend can run here.

    Raises:
        ConfigError: `name` is neither `tensorflow` nor `pytorch`.
        BackendError: a package that the backend needs is not installed; the line names the other backend.
    """
    if name not in _REQUIREMENTS:
        raise ConfigError(f"backend must be 'tensorflow' or 'pytorch', found {name!r}")
    needed = _REQUIREMENTS[name]
    missing = [package for package in needed.packages if importlib.util.find_spec(package) is None]
    if missing:
        raise BackendError(
            f"{needed.title} backend selected, but {missing[0]} is not installed: pip install {needed.install}, "
            f"or use --backend {needed.other}"
        )


def _enter(config: TrainingConfig | InferenceConfig, execution: Execution | None) -> bool:
    """Check that the backend is there and the settings are for it, synchronise `params.cfg`; whether it is PyTorch."""
    require_backend(config.backend)
    pytorch = config.backend == "pytorch"
    if execution is not None and not pytorch:
        raise ConfigError(f"execution_config is for the pytorch backend, found backend={config.backend}: leave it out")
    update_legacy_dict(params.cfg, config)
    return pytorch


def _with_rate(execution: Execution | None, learning_rate: float | None) -> Execution | None:
    """The PyTorch settings with another learning rate, where one is given."""
    if learning_rate is None:
        return execution
    return replace(execution or Execution(), learning_rate=learning_rate)


def train_cdi_model_with_backend(
    train_data: Scans,
    test_data: TestScans,
    config: TrainingConfig,
    *,
    learning_rate: float | None = None,
    execution_config: Execution | None = None,
    resume: Path | None = None,
    max_seconds: float | None = None,
) -> dict[str, Any]:
    """Synchronise `params.cfg`, then train with the backend of the configuration; `results["backend"]` names it.

    `train_data` may be the scans of several experiments, `test_data` a list in the same order.

    `learning_rate` is for either backend, in the place of `execution_config.learning_rate`; `max_seconds` stops the
    training after that time.
    """
    if _enter(config, execution_config):
        from ptycho_torch.workflows.components import train_cdi_model_torch

        execution_config = _with_rate(execution_config, learning_rate)
        return train_cdi_model_torch(
            train_data, test_data, config, execution_config=execution_config, resume=resume, max_seconds=max_seconds
        )
    from ptycho.workflows.components import train_cdi_model

    return train_cdi_model(
        train_data, test_data, config, learning_rate=learning_rate, resume=resume, max_seconds=max_seconds
    )


def run_cdi_example_with_backend(
    train_data: Scans,
    test_data: TestScans,
    config: TrainingConfig,
    *,
    do_stitching: bool = False,
    learning_rate: float | None = None,
    execution_config: Execution | None = None,
    resume: Path | None = None,
    max_seconds: float | None = None,
    diagnostics: Diagnostics | None = None,
) -> tuple[NDArray[np.float32] | None, NDArray[np.float32] | None, dict[str, Any]]:
    """Synchronise `params.cfg`, then train and, with `do_stitching`, reconstruct: (amplitude, phase, results).

    `learning_rate` and `max_seconds` as in `train_cdi_model_with_backend`; `diagnostics` looks at the patches.
    """
    if _enter(config, execution_config):
        from ptycho_torch.workflows.components import run_cdi_example_torch

        return run_cdi_example_torch(
            train_data,
            test_data,
            config,
            do_stitching=do_stitching,
            execution_config=_with_rate(execution_config, learning_rate),
            resume=resume,
            max_seconds=max_seconds,
            diagnostics=diagnostics,
        )
    from ptycho.workflows.components import run_cdi_example

    return run_cdi_example(
        train_data,
        test_data,
        config,
        do_stitching,
        learning_rate=learning_rate,
        resume=resume,
        max_seconds=max_seconds,
        diagnostics=diagnostics,
    )


def refine_probe_with_backend(
    data: RawData, config: TrainingConfig, iterations: int, *, execution_config: Execution | None = None
) -> RawData:
    """The scan with the probe that refinement finds on it, to train with (`workflows.probe_first`)."""
    refine: Callable[..., Refinement]
    if _enter(config, execution_config):
        from ptycho_torch.cli.shared import resolve_execution
        from ptycho_torch.refine import refine as refine_torch

        refine = partial(refine_torch, device=resolve_execution(execution_config).accelerator)
    else:
        from ptycho.tf.refine import refine as refine_tensorflow

        refine = partial(refine_tensorflow, use_xla=config.use_xla)
    return with_refined_probe(data, refine, iterations)


def save_bundle_with_backend(results: dict[str, Any], config: TrainingConfig, output_dir: Path) -> Path:
    """Write the trained model of `results` to `output_dir/wts.h5.zip` and return that path."""
    require_backend(results["backend"])
    if results["backend"] == "pytorch":
        from ptycho_torch.model_manager import save_torch_bundle

        return save_torch_bundle(Path(output_dir), results["models"], config)
    from ptycho.tf.model_manager import save_tf_bundle

    return save_tf_bundle(Path(output_dir), results["models"], config)


def load_inference_bundle_with_backend(
    model_path: Path, config: InferenceConfig, *, execution_config: Execution | None = None
) -> tuple[Any, dict[str, Any]]:
    """Load a model for the backend of the configuration: (model, training configuration as a dict).

    `params.cfg` is synchronised first; what the archive holds wins.
    """
    if _enter(config, execution_config):
        from ptycho_torch.workflows.components import load_inference_bundle_torch

        return load_inference_bundle_torch(Path(model_path), execution_config, config.experiment_number)
    from ptycho.workflows.components import load_inference_bundle

    return load_inference_bundle(Path(model_path), config.experiment_number)


def reconstruct_with_backend(
    data: RawData,
    config: InferenceConfig,
    *,
    refine: int = 0,
    refinement: Mapping[str, Any] | None = None,
    execution_config: Execution | None = None,
    diagnostics: Diagnostics | None = None,
) -> Reconstruction:
    """Reconstruct a scan with the model of `config.model_path`, refined by at most `refine` iterations.

    `refinement` holds further keywords of the backend's `refine`, such as `refine_positions` or `likelihood`;
    `diagnostics` looks at the patches and at the canvas made of them.
    """
    if _enter(config, execution_config):
        from ptycho_torch.workflows.components import reconstruct_torch

        return reconstruct_torch(
            data,
            config,
            refine_iterations=refine,
            refinement=refinement,
            execution_config=execution_config,
            diagnostics=diagnostics,
        )
    from ptycho.workflows.components import reconstruct_tf

    return reconstruct_tf(data, config, refine_iterations=refine, refinement=refinement, diagnostics=diagnostics)
