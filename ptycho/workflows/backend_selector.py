"""One door to both backends: a backend is imported inside the function that needs it, and nowhere else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho import params
from ptycho.config.config import InferenceConfig, PyTorchExecutionConfig, TrainingConfig, update_legacy_dict
from ptycho.core.products import Reconstruction
from ptycho.errors import BackendError, ConfigError
from ptycho.raw_data import RawData

__all__ = [
    "load_inference_bundle_with_backend",
    "reconstruct_with_backend",
    "require_backend",
    "run_cdi_example_with_backend",
    "save_bundle_with_backend",
    "train_cdi_model_with_backend",
]

Execution = PyTorchExecutionConfig


def require_backend(name: str) -> None:
    """Make sure that a backend can run here.

    Raises:
        ConfigError: `name` is neither `tensorflow` nor `pytorch`.
        BackendError: the backend is not available; the line names the other one.
    """
    if name not in ("tensorflow", "pytorch"):
        raise ConfigError(f"backend must be 'tensorflow' or 'pytorch', found {name!r}")
    if name == "tensorflow":
        raise BackendError("the tensorflow backend is not part of this version yet: use --backend pytorch")
    try:
        import lightning  # noqa: F401
        import torch  # noqa: F401
    except ModuleNotFoundError as error:
        raise BackendError(
            f"PyTorch backend selected, but {error.name} is not installed: pip install 'torch>=2.2' lightning, "
            "or use --backend tensorflow"
        ) from error


def train_cdi_model_with_backend(
    train_data: RawData,
    test_data: RawData | None,
    config: TrainingConfig,
    *,
    execution_config: Execution | None = None,
    resume: Path | None = None,
) -> dict[str, Any]:
    """Synchronise `params.cfg`, then train with the backend of the configuration; `results["backend"]` names it."""
    require_backend(config.backend)
    update_legacy_dict(params.cfg, config)
    from ptycho_torch.workflows.components import train_cdi_model_torch

    return train_cdi_model_torch(train_data, test_data, config, execution_config=execution_config, resume=resume)


def run_cdi_example_with_backend(
    train_data: RawData,
    test_data: RawData | None,
    config: TrainingConfig,
    *,
    do_stitching: bool = False,
    execution_config: Execution | None = None,
    resume: Path | None = None,
) -> tuple[NDArray[np.float32] | None, NDArray[np.float32] | None, dict[str, Any]]:
    """Synchronise `params.cfg`, then train and, with `do_stitching`, reconstruct: (amplitude, phase, results)."""
    require_backend(config.backend)
    update_legacy_dict(params.cfg, config)
    from ptycho_torch.workflows.components import run_cdi_example_torch

    return run_cdi_example_torch(
        train_data,
        test_data,
        config,
        do_stitching=do_stitching,
        execution_config=execution_config,
        resume=resume,
    )


def save_bundle_with_backend(results: dict[str, Any], config: TrainingConfig, output_dir: Path) -> Path:
    """Write the trained model of `results` to `output_dir/wts.h5.zip` and return that path."""
    require_backend(results["backend"])
    from ptycho_torch.model_manager import save_torch_bundle

    return save_torch_bundle(Path(output_dir), results["model"], config)


def load_inference_bundle_with_backend(
    model_path: Path, config: InferenceConfig, *, execution_config: Execution | None = None
) -> tuple[Any, dict[str, Any]]:
    """Load a model for the backend of the configuration: (model, training configuration as a dict)."""
    require_backend(config.backend)
    from ptycho_torch.workflows.components import load_inference_bundle_torch

    return load_inference_bundle_torch(Path(model_path), execution_config)


def reconstruct_with_backend(
    data: RawData, config: InferenceConfig, *, refine: int = 0, execution_config: Execution | None = None
) -> Reconstruction:
    """Reconstruct a scan with the model of `config.model_path`, refined by `refine` iterations."""
    require_backend(config.backend)
    from ptycho_torch.workflows.components import reconstruct_torch

    return reconstruct_torch(data, config, refine_iterations=refine, execution_config=execution_config)
