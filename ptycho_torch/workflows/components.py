"""The PyTorch chain from a scan to an object: train, predict, stitch, refine."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from numpy.typing import NDArray

from ptycho import params
from ptycho.config.config import (
    InferenceConfig,
    PyTorchExecutionConfig,
    TrainingConfig,
    validate_inference_config,
    validate_training_config,
)
from ptycho.core.reconstruction import Reconstruction
from ptycho.core.stitching.options import NEUTRAL_STITCHING, StitchOptions
from ptycho.core.stitching.patch_store import patch_array
from ptycho.core.training.identity import TrainingIdentity
from ptycho.errors import ConfigError
from ptycho.raw_data import RawData
from ptycho.workflows import reconstruct as stages
from ptycho.workflows.diagnostics import Diagnostics, make_diagnostics
from ptycho.workflows.experiments import Scans, TestScans, experiment_pairs, scans_to_stitch
from ptycho.workflows.result_frame import scan_frame
from ptycho.workflows.training_data import TrainingSet, prepare_experiments
from ptycho_torch.cli.shared import resolve_execution
from ptycho_torch.config_factory import TrainingPayload
from ptycho_torch.config_options import NEUTRAL_OPTIONS, TorchOptions
from ptycho_torch.data_container_bridge import PtychoDataContainerTorch
from ptycho_torch.fit import PtychoPINN_Lightning, fit
from ptycho_torch.lightning.schedule import setting
from ptycho_torch.model_manager import load_torch_bundle, save_torch_bundle
from ptycho_torch.pinn import PtychoPINN
from ptycho_torch.precision import full_float32
from ptycho_torch.refine import refine

__all__ = [
    "load_inference_bundle_torch",
    "predict_batches",
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
    train_data: Scans,
    test_data: TestScans,
    config: TrainingConfig,
    *,
    execution_config: Execution | None = None,
    resume: Path | None = None,
    max_seconds: float | None = None,
    training_payload: TrainingPayload | None = None,
    callbacks: Sequence[Callback] = (),
    diagnostics: Diagnostics | None = None,
) -> dict[str, Any]:
    """Train a network on a scan: without labels, or supervised by a known object.

    The input scale k is measured on `train_data`; with counts, so is the dose. The starting weights and the order of
    the batches follow `config.subsample_seed` (None: 0). `params.cfg` receives `probe`, `input_scale` and
    `intensity_scale`.

    Args:
        train_data, test_data: the scans to train on and to validate with. Those of several experiments, lists in the
            same order, train one network together, each with the probe and the scales of its own.
        config: settings of the training.
        execution_config: how PyTorch runs; None takes the payload's.
        resume: a checkpoint to go on from.
        max_seconds: stop after this time.
        training_payload: what `config_factory.create_training_payload` made: its PyTorch dataclasses bring the options
            that the shared configuration does not have.
        callbacks: of Lightning, besides those of this library.
        diagnostics: told of the patches of the training groups after the last epoch; None: nobody is.

    Returns:
        `backend`, `model` (PtychoPINN), `history` (losses per epoch), `train_container`, `test_container`,
        `train_seconds`, `config`; and `models`, `train_containers`, `test_containers`, one per experiment.

    Raises:
        ConfigError, DataError: settings or data that cannot work.
        BackendError: the accelerator is not there.
        KeyboardInterrupt: interrupted; `output_dir/checkpoints/last.ckpt` can be resumed.
    """
    execution = resolve_execution(_execution_of(training_payload, execution_config))
    options = NEUTRAL_OPTIONS if training_payload is None else training_payload.options
    validate_training_config(config)
    pairs = experiment_pairs(train_data, test_data)
    _check_number(training_payload, len(pairs))
    sets = prepare_experiments(train_data, test_data, config, PtychoDataContainerTorch, options.groups, options.scales)
    train, test = [found.train for found in sets], [found.test for found in sets]
    with torch.random.fork_rng():
        torch.manual_seed(sets[0].seed)
        models = _models(sets, config, options)
        size = max(found.canvas_size for found in sets)
        module = PtychoPINN_Lightning(models, config, execution, size, options.objective)
        module.interface = {"scan": scan_frame(*pairs[0])}
        module.identity = _identity(pairs, module, options)
        logger.info(
            "training on %s: %d groups of %d, %d parameters",
            execution.accelerator,
            sum(map(len, train)),
            config.model.gridsize**2,
            sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad),
        )
        begun = time.perf_counter()
        history = fit(
            module,
            train,
            test,
            accelerator=execution.accelerator,
            resume=resume,
            max_seconds=max_seconds,
            seed=sets[0].seed,
            stages=options.stages,
            callbacks=callbacks,
        )
    for model in models:
        model.eval().measure_light()
    params.cfg["intensity_scale"] = models[0].intensity_scale
    seconds = time.perf_counter() - begun
    if diagnostics is not None:
        diagnostics.trained(predict_batches(models[0], train[0], config.batch_size, execution.accelerator))
    return stages.training_results("pytorch", models, sets, history, seconds, config)


def _identity(
    pairs: Sequence[tuple[RawData, RawData | None]], module: PtychoPINN_Lightning, options: TorchOptions
) -> TrainingIdentity:
    """What decides a training; of a setting that two configurations have, the one that acts."""
    config, execution = module.config, module.execution
    return TrainingIdentity.of(
        [scan.identity for scan, _ in pairs],
        config,
        options.groups,
        options.scales,
        options.network,
        options.objective,
        options.stages,
        accum_steps=execution.accum_steps,
        scheduler=setting("scheduler", execution, config),
    )


def _models(sets: Sequence[TrainingSet[Any]], config: TrainingConfig, options: TorchOptions) -> list[PtychoPINN]:
    """A model for every experiment; they share the network of the first."""
    models: list[PtychoPINN] = []
    for found in sets:
        model = PtychoPINN(
            config.model,
            found.probe,
            found.input_scale,
            found.intensity_scale,
            found.mask,
            config.probe_trainable,
            config.intensity_scale_trainable,
            options.network,
            found.scaling,
            models[0].network if models else None,
        )
        if found.first_intensity_scale != found.intensity_scale:
            model.log_intensity_scale.data.fill_(math.log(found.first_intensity_scale))
        models.append(model)
    return models


def _check_number(payload: TrainingPayload | None, experiments: int) -> None:
    """`num_datasets` is as many as there are, where it says a number: 1, its default, says none."""
    said = 1 if payload is None else payload.pt_model_config.num_datasets
    if said not in (1, experiments):
        raise ConfigError(
            f"num_datasets={said}: expected the number of experiments, found {experiments}; correct it, or "
            "training_directories"
        )


def _execution_of(payload: TrainingPayload | None, execution: Execution | None) -> Execution | None:
    return payload.execution_config if execution is None and payload is not None else execution


def predict_scan(
    model: PtychoPINN,
    container: PtychoDataContainerTorch,
    batch_size: int = 64,
    device: torch.device | str = "cpu",
) -> NDArray[np.complex64]:
    """Object patches of every member of every group as the probe meets them, `(B, C, N, N)` in the file's units."""
    n, done = model.config.N, 0
    patches = patch_array((len(container), model.config.gridsize**2, n, n))
    for batch in predict_batches(model, container, batch_size, device):
        patches[done : done + len(batch)] = batch
        done += len(batch)
    return patches


def predict_batches(
    model: PtychoPINN,
    container: PtychoDataContainerTorch,
    batch_size: int = 64,
    device: torch.device | str = "cpu",
) -> Iterator[NDArray[np.complex64]]:
    """What `predict_scan` returns, batch by batch; of a training container also the members held out."""
    model = model.to(device).eval()
    for start in range(0, len(container), batch_size):
        with torch.inference_mode(), full_float32():
            batch = container.batch(slice(start, start + batch_size))
            normalised, positions, mask = (tensor.to(device) for tensor in batch)
            members = model.predict_on_grid(normalised, positions, container.canvas_size, mask).cpu().numpy()
        yield members


def reconstruct_scan(
    model: PtychoPINN,
    data: RawData,
    config: InferenceConfig,
    *,
    refine_iterations: int = 0,
    refinement: Mapping[str, Any] | None = None,
    execution_config: Execution | None = None,
    stitching: StitchOptions = NEUTRAL_STITCHING,
    diagnostics: Diagnostics | None = None,
) -> Reconstruction:
    """Reconstruct a scan: one pass of the network, stitching and, when asked for, refinement.

    The object is in the units of `data`: times its probe it predicts its amplitudes. It lies on the grid of the scan's
    `objectGuess` where there is one, else on the smallest canvas that holds every patch. `refinement` holds further
    keywords of `ptycho_torch.refine.refine`; `diagnostics` is told of the patches and of what stitching makes of them.
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
        stitching=stitching,
        diagnostics=diagnostics,
    )


def load_inference_bundle_torch(
    path: Path,
    execution_config: Execution | None = None,
    experiment: int | None = None,
    probe: NDArray[Any] | None = None,
) -> tuple[PtychoPINN, dict[str, Any]]:
    """Load a model onto the device that was asked for; return it and its training configuration as a dict.

    `experiment` and `probe` choose among several experiments as in `load_torch_bundle`.
    """
    device = resolve_execution(execution_config).accelerator
    model, archive = load_torch_bundle(Path(path), device, experiment, probe)
    return model, archive.configs["training"]


def reconstruct_torch(
    data: RawData,
    config: InferenceConfig,
    *,
    refine_iterations: int = 0,
    refinement: Mapping[str, Any] | None = None,
    execution_config: Execution | None = None,
    stitching: StitchOptions = NEUTRAL_STITCHING,
    diagnostics: Diagnostics | None = None,
) -> Reconstruction:
    """Load the model of `config.model_path` and reconstruct a scan with it."""
    validate_inference_config(config)
    path = stages.model_path(config)
    execution_config = resolve_execution(execution_config)
    model, _ = load_inference_bundle_torch(path, execution_config, config.experiment_number, data.probeGuess)
    logger.info("Loaded intensity_scale from bundle: %f", model.intensity_scale)
    return reconstruct_scan(
        model,
        data,
        config,
        refine_iterations=refine_iterations,
        refinement=refinement,
        execution_config=execution_config,
        stitching=stitching,
        diagnostics=diagnostics,
    )


def run_cdi_example_torch(
    train_data: Scans,
    test_data: TestScans,
    config: TrainingConfig,
    *,
    do_stitching: bool = False,
    execution_config: Execution | None = None,
    resume: Path | None = None,
    max_seconds: float | None = None,
    training_payload: TrainingPayload | None = None,
    diagnostics: Diagnostics | None = None,
) -> tuple[NDArray[np.float32] | None, NDArray[np.float32] | None, dict[str, Any]]:
    """Train and, with `do_stitching`, reconstruct the test scan (the training scan without one).

    Scans as in `train_cdi_model_torch`; every experiment is reconstructed.

    Returns:
        Amplitude and phase (H, W) of the object, or None twice, and the results of the training, with
        `reconstruction`, `obj_tensor_full`, `global_offsets`, `recon_amp` and `recon_phase` after stitching, and
        `reconstructions`, one per experiment.
    """
    execution_config = resolve_execution(_execution_of(training_payload, execution_config))
    if diagnostics is None and training_payload is not None:
        asked = training_payload.options.patch_stats
        diagnostics = make_diagnostics(
            config.output_dir, "pytorch", execution_config.inference_batch_size, **vars(asked)
        )
    settings = stages.inference_settings(config) if do_stitching else None
    results = train_cdi_model_torch(
        train_data,
        test_data,
        config,
        execution_config=execution_config,
        resume=resume,
        max_seconds=max_seconds,
        training_payload=training_payload,
        diagnostics=diagnostics,
    )
    if settings is None:
        return None, None, results
    stitching = NEUTRAL_STITCHING if training_payload is None else training_payload.options.stitching
    one = partial(reconstruct_scan, config=settings, execution_config=execution_config, stitching=stitching)
    return stages.add_reconstructions(results, scans_to_stitch(train_data, test_data), one, diagnostics)
