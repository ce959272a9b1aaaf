"""The PyTorch chain from a scan to an object: train, predict, stitch, refine."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ptycho import params
from ptycho.config.config import (
    InferenceConfig,
    PyTorchExecutionConfig,
    TrainingConfig,
    validate_inference_config,
    validate_training_config,
)
from ptycho.core.patch_store import patch_array
from ptycho.core.products import Reconstruction
from ptycho.raw_data import RawData
from ptycho.workflows import stages
from ptycho_torch.cli.shared import resolve_execution
from ptycho_torch.data_container_bridge import PtychoDataContainerTorch
from ptycho_torch.fit import PtychoPINN_Lightning, fit, refuse_unsupported
from ptycho_torch.model import PtychoPINN
from ptycho_torch.model_manager import load_torch_bundle, save_torch_bundle
from ptycho_torch.precision import full_float32
from ptycho_torch.refine import refine

__all__ = [
    "load_inference_bundle_torch",
    "predict_scan",
    "reconstruct_scan",
    "reconstruct_torch",
    "run_cdi_example_torch",
    "save_torch_bundle",
    "train_cdi_model_torch",
]

logger = logging.getLogger(__name__)

Execution = PyTorchExecutionConfig


def train_cdi_model_torch(
    train_data: RawData,
    test_data: RawData | None,
    config: TrainingConfig,
    *,
    execution_config: Execution | None = None,
    resume: Path | None = None,
    max_seconds: float | None = None,
) -> dict[str, Any]:
    """Train a network on a scan, without labels.

    The input scale k is measured on `train_data`; with counts, so is the dose. The starting weights and the order of
    the batches follow `config.subsample_seed` (None: 0). `params.cfg` receives `probe`, `input_scale` and
    `intensity_scale`.

    Returns:
        `backend`, `model` (PtychoPINN), `history` (losses per epoch), `train_container`, `test_container`,
        `train_seconds`, `config`.

    Raises:
        ConfigError, DataError: settings or data that cannot work.
        BackendError: the accelerator is not there.
        KeyboardInterrupt: interrupted; `output_dir/checkpoints/last.ckpt` can be resumed.
    """
    execution = resolve_execution(execution_config)
    validate_training_config(config)
    refuse_unsupported(config, execution)
    found = stages.prepare_training(train_data, test_data, config, PtychoDataContainerTorch)
    with torch.random.fork_rng():
        torch.manual_seed(found.seed)
        model = PtychoPINN(
            config.model,
            found.probe,
            found.input_scale,
            found.intensity_scale,
            found.mask,
            config.probe_trainable,
            config.intensity_scale_trainable,
        )
        module = PtychoPINN_Lightning(model, config, execution, found.canvas_size)
        logger.info(
            "training on %s: %d groups of %d, %d parameters",
            execution.accelerator,
            len(found.train),
            config.model.gridsize**2,
            sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad),
        )
        begun = time.perf_counter()
        history = fit(
            module,
            found.train,
            found.test,
            accelerator=execution.accelerator,
            resume=resume,
            max_seconds=max_seconds,
            seed=found.seed,
        )
    model.measure_light()
    params.cfg["intensity_scale"] = model.intensity_scale
    return {
        "backend": "pytorch",
        "model": model.eval(),
        "history": history,
        "train_container": found.train,
        "test_container": found.test,
        "train_seconds": time.perf_counter() - begun,
        "config": config,
    }


def predict_scan(
    model: PtychoPINN,
    container: PtychoDataContainerTorch,
    batch_size: int = 64,
    device: torch.device | str = "cpu",
) -> NDArray[np.complex64]:
    """Object patches of every member of every group as the probe meets them, `(B, C, N, N)` in the file's units."""
    model = model.to(device).eval()
    n = model.config.N
    patches = patch_array((len(container), model.config.gridsize**2, n, n))
    with torch.inference_mode(), full_float32():
        for start in range(0, len(container), batch_size):
            part = slice(start, start + batch_size)
            normalised, positions, mask = (tensor.to(device) for tensor in container.batch(part))
            members = model.predict_on_grid(normalised, positions, container.canvas_size, mask)
            patches[part] = members.cpu().numpy()
    return patches


def reconstruct_scan(
    model: PtychoPINN,
    data: RawData,
    config: InferenceConfig,
    *,
    refine_iterations: int = 0,
    refinement: Mapping[str, Any] | None = None,
    execution_config: Execution | None = None,
) -> Reconstruction:
    """Reconstruct a scan: one pass of the network, stitching and, when asked for, refinement.

    The object is in the units of `data`: times its probe it predicts its amplitudes. It lies on the grid of the scan's
    `objectGuess` where there is one, else on the smallest canvas that holds every patch. `refinement` holds further
    keywords of `ptycho_torch.refine.refine`.
    """
    execution = resolve_execution(execution_config)
    device = execution.accelerator
    return stages.reconstruct(
        model,
        data,
        config,
        backend="pytorch",
        container=PtychoDataContainerTorch,
        predict=partial(predict_scan, model, batch_size=execution.inference_batch_size or 64, device=device),
        refine=partial(refine, device=device),
        refine_iterations=refine_iterations,
        refinement=refinement,
    )


def load_inference_bundle_torch(
    path: Path, execution_config: Execution | None = None
) -> tuple[PtychoPINN, dict[str, Any]]:
    """Load a model onto the device that was asked for; return it and its training configuration as a dict."""
    model, archive = load_torch_bundle(Path(path), resolve_execution(execution_config).accelerator)
    return model, archive.configs["training"]


def reconstruct_torch(
    data: RawData,
    config: InferenceConfig,
    *,
    refine_iterations: int = 0,
    refinement: Mapping[str, Any] | None = None,
    execution_config: Execution | None = None,
) -> Reconstruction:
    """Load the model of `config.model_path` and reconstruct a scan with it."""
    validate_inference_config(config)
    path = stages.model_path(config)
    execution_config = resolve_execution(execution_config)
    model, _ = load_inference_bundle_torch(path, execution_config)
    logger.info("Loaded intensity_scale from bundle: %f", model.intensity_scale)
    return reconstruct_scan(
        model,
        data,
        config,
        refine_iterations=refine_iterations,
        refinement=refinement,
        execution_config=execution_config,
    )


def run_cdi_example_torch(
    train_data: RawData,
    test_data: RawData | None,
    config: TrainingConfig,
    *,
    do_stitching: bool = False,
    execution_config: Execution | None = None,
    resume: Path | None = None,
    max_seconds: float | None = None,
) -> tuple[NDArray[np.float32] | None, NDArray[np.float32] | None, dict[str, Any]]:
    """Train and, with `do_stitching`, reconstruct the test scan (the training scan without one).

    Returns:
        Amplitude and phase (H, W) of the object, or None twice, and the results of the training, with
        `reconstruction`, `obj_tensor_full`, `global_offsets`, `recon_amp` and `recon_phase` after stitching.
    """
    execution_config = resolve_execution(execution_config)
    results = train_cdi_model_torch(
        train_data, test_data, config, execution_config=execution_config, resume=resume, max_seconds=max_seconds
    )
    if not do_stitching:
        return None, None, results
    scan = train_data if test_data is None else test_data
    settings = stages.inference_settings(config)
    found = reconstruct_scan(results["model"], scan, settings, execution_config=execution_config)
    return stages.add_reconstruction(results, found)
