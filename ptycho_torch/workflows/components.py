"""The PyTorch chain from a scan to an object: train, predict, stitch, refine."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ptycho import params
from ptycho.config.config import (
    InferenceConfig,
    ModelConfig,
    PyTorchExecutionConfig,
    TrainingConfig,
    validate_inference_config,
    validate_training_config,
)
from ptycho.core.diffraction import as_modes
from ptycho.core.geometry import ObjectFrame, object_frame, reframe
from ptycho.core.grouped_data import GroupedData
from ptycho.core.products import Reconstruction
from ptycho.core.scaling import intensity_scale
from ptycho.errors import ConfigError, DataError
from ptycho.raw_data import RawData
from ptycho.workflows.assembly import stitch_scan
from ptycho_torch.cli.shared import resolve_execution
from ptycho_torch.data_container_bridge import PtychoDataContainerTorch
from ptycho_torch.fit import PtychoPINN_Lightning, fit, refuse_unsupported
from ptycho_torch.model import PtychoPINN
from ptycho_torch.model_manager import load_torch_bundle, save_torch_bundle
from ptycho_torch.refine import Refinement, refine

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
DEFAULT_GROUPS = 512
ENERGY_WARNING = 2.0
PROBE_WARNING = 0.9


def _group(data: RawData, config: TrainingConfig | InferenceConfig, groups: int, sequential: bool) -> GroupedData:
    """Groups of a scan by the fields that training and inference share."""
    return data.generate_grouped_data(
        config.model.N,
        K=config.neighbor_count,
        nsamples=groups,
        seed=config.subsample_seed,
        sequential_sampling=sequential,
        gridsize=config.model.gridsize,
        enable_oversampling=config.enable_oversampling,
        neighbor_pool_size=config.neighbor_pool_size,
    )


def _prepare(data: RawData, config: TrainingConfig | InferenceConfig) -> RawData:
    """Check the pattern size and take the subsample that the configuration asks for."""
    if data.N != config.model.N:
        raise DataError(
            f"the model expects patterns of N={config.model.N} pixels, found {data.N}: crop or bin them, or train with "
            f"N={data.N}"
        )
    if config.n_subsample is None:
        return data
    return data.subsample(config.n_subsample, config.subsample_seed)


def _container(data: RawData, config: TrainingConfig, groups: int) -> PtychoDataContainerTorch:
    grouped = _group(data, config, groups, config.sequential_sampling)
    return PtychoDataContainerTorch(grouped, data.probeGuess, data.mask)


def _photons(data: RawData, config: TrainingConfig) -> float:
    """Photons per pattern; with counts a dose left at its default is no claim that could be wrong."""
    claimed = data.units == "amplitude" or config.nphotons != TrainingConfig().nphotons
    return data.photons(config.nphotons if claimed else None)


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
    data = _prepare(train_data, config)
    scale = data.input_scale()
    dose_scale = intensity_scale(_photons(data, config), config.model.N)
    params.cfg.update(input_scale=scale, intensity_scale=dose_scale, probe=as_modes(np.asarray(data.probeGuess)))
    train = _container(data, config, config.n_groups or min(DEFAULT_GROUPS, len(data)))
    test = None
    if test_data is not None:
        unseen = _prepare(test_data, replace(config, n_subsample=None))
        test = _container(unseen, config, min(config.n_groups or DEFAULT_GROUPS, len(unseen)))
    seed = config.subsample_seed or 0
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = PtychoPINN(
            config.model,
            np.asarray(data.probeGuess),
            scale,
            dose_scale,
            data.mask if data.mask is not None and data.mask.ndim == 2 else None,
            config.probe_trainable,
            config.intensity_scale_trainable,
        )
        size = max(container.canvas_size for container in (train, test) if container is not None)
        module = PtychoPINN_Lightning(model, config, execution, size)
        count = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
        logger.info(
            "training on %s: %d groups of %d, %d parameters",
            execution.accelerator,
            len(train),
            config.model.gridsize**2,
            count,
        )
        begun = time.perf_counter()
        history = fit(
            module, train, test, accelerator=execution.accelerator, resume=resume, max_seconds=max_seconds, seed=seed
        )
    params.cfg["intensity_scale"] = model.intensity_scale
    return {
        "backend": "pytorch",
        "model": model.eval(),
        "history": history,
        "train_container": train,
        "test_container": test,
        "train_seconds": time.perf_counter() - begun,
        "config": config,
    }


def predict_scan(
    model: PtychoPINN,
    container: PtychoDataContainerTorch,
    batch_size: int = 64,
    device: torch.device | str = "cpu",
) -> NDArray[np.complex64]:
    """Object patches of every member of every group, `(B, C, N, N)` in the file's units, batch by batch."""
    model = model.to(device).eval()
    n = model.config.N
    patches = np.empty((len(container), model.config.gridsize**2, n, n), np.complex64)
    with torch.inference_mode():
        for start in range(0, len(container), batch_size):
            part = slice(start, start + batch_size)
            normalised, positions, mask = (tensor.to(device) for tensor in container.batch(part))
            members = model.predict_members(normalised, positions, container.canvas_size, mask)
            patches[part] = members.cpu().numpy()
    return patches


def reconstruct_scan(
    model: PtychoPINN,
    data: RawData,
    config: InferenceConfig,
    *,
    refine_iterations: int = 0,
    execution_config: Execution | None = None,
) -> Reconstruction:
    """Reconstruct a scan: one pass of the network, stitching and, when asked for, refinement.

    The object is in the units of `data`: times its probe it predicts its amplitudes. It lies on the grid of the scan's
    `objectGuess` where there is one, else on the smallest canvas that holds every patch.
    """
    execution = resolve_execution(execution_config)
    device = execution.accelerator
    settings = replace(config, model=model.config)
    data = _prepare(data, settings)
    _compare_with_training(model, data)
    model.probe.take_energy_of(np.asarray(data.probeGuess))
    params.cfg["input_scale"] = model.input_scale
    groups = settings.n_groups or len(data)
    container = PtychoDataContainerTorch(_group(data, settings, groups, True), data.probeGuess, data.mask)
    timings: dict[str, float] = {}
    begun = time.perf_counter()
    patches = predict_scan(model, container, execution.inference_batch_size or 64, device)
    timings["inference"] = time.perf_counter() - begun
    logger.info(
        "inference: %d patches in %.1f s (%.0f patches/s)",
        patches.shape[0] * patches.shape[1],
        timings["inference"],
        patches.shape[0] * patches.shape[1] / timings["inference"],
    )
    begun = time.perf_counter()
    work = object_frame(data.xcoords, data.ycoords, data.N)
    probe = model.probe.file_units()
    found = stitch_scan(patches, container.coords_nominal.numpy(), data, probe, work)
    stitched, coverage = found.object, found.coverage
    timings["stitching"] = time.perf_counter() - begun
    logger.info(
        "stitching: %.1f s, agreement of overlaps %.3f, with synchronised phases %.3f: %s",
        timings["stitching"],
        *found.agreement,
        "synchronised" if found.synchronised else "left as predicted",
    )
    refined: NDArray[np.complex64] | None = None
    history: tuple[float, ...] = ()
    if refine_iterations:
        vacuum = np.abs(stitched).mean(where=coverage > 0)
        start = np.where(coverage > 0, stitched, vacuum)
        refinement = _refined(data, start, probe, work, refine_iterations, device)
        refined, probe, history = refinement.object, refinement.probe, refinement.error_history
        refined = np.where(coverage > 0, refined, np.complex64(1))
        timings["refinement"] = refinement.seconds
    frame = work
    if data.objectGuess is not None:
        height, width = data.objectGuess.shape[-2:]
        frame = ObjectFrame(height, width, 0, 0)
        stitched, coverage = reframe(stitched, work, frame, 1), reframe(coverage, work, frame, 0)
        refined = None if refined is None else reframe(refined, work, frame, 1)
    x, y = frame.local(data.xcoords, data.ycoords)
    return Reconstruction(
        object=stitched if refined is None else refined,
        coverage=coverage,
        probe=probe,
        xcoords=x,
        ycoords=y,
        frame=frame,
        backend="pytorch",
        method="network" if refined is None else "network+refined",
        subpixel="bilinear" if refined is None else "fourier",
        network_object=None if refined is None else stitched,
        error_history=history,
        timings=timings,
        synchronised=found.synchronised,
        agreement=found.agreement,
    )


def _refined(
    data: RawData,
    start: NDArray[np.complex64],
    probe: NDArray[np.complex64],
    frame: ObjectFrame,
    iterations: int,
    device: str,
) -> Refinement:
    """Refine on the whole scan, with a line of progress every tenth of the way."""

    def report(iteration: int, error: float) -> None:
        if iteration % max(1, iterations // 10) == 0 or iteration == iterations:
            logger.info("refinement %d/%d: relative Fourier error %.3g", iteration, iterations, error)

    x, y = frame.local(data.xcoords, data.ycoords)
    return refine(data.amplitude(), probe, x, y, start, iterations, mask=data.mask, device=device, report=report)


def _compare_with_training(model: PtychoPINN, data: RawData) -> None:
    """Warn where the scan is far from what the network was trained on."""
    energy = data.mean_energy * model.input_scale**2 / (data.N / 2) ** 2
    if not 1 / ENERGY_WARNING < energy < ENERGY_WARNING:
        logger.warning(
            "the patterns hold %.2g times the energy of those the network was trained on: expect a poor object; "
            "train on this scan, or refine",
            energy,
        )
    ours, theirs = model.probe.file_units(masked=False), as_modes(np.asarray(data.probeGuess))
    if ours.shape != theirs.shape:
        logger.warning(
            "the network was trained with %d probe modes, the scan has %d: the network's are used",
            len(ours),
            len(theirs),
        )
        return
    overlap = abs(np.vdot(ours, theirs)) / (np.linalg.norm(ours) * np.linalg.norm(theirs))
    if overlap < PROBE_WARNING:
        logger.warning(
            "the scan's probe overlaps with that of the training by %.2f only: expect a poor object", overlap
        )


def load_inference_bundle_torch(
    path: Path, execution_config: Execution | None = None
) -> tuple[PtychoPINN, dict[str, Any]]:
    """Load a model onto the device that was asked for; return it and its training configuration as a dict."""
    model, archive = load_torch_bundle(Path(path), resolve_execution(execution_config).accelerator)
    return model, archive.configs["training"]


def reconstruct_torch(
    data: RawData, config: InferenceConfig, *, refine_iterations: int = 0, execution_config: Execution | None = None
) -> Reconstruction:
    """Load the model of `config.model_path` and reconstruct a scan with it."""
    validate_inference_config(config)
    if config.model_path is None or config.model_path == Path():
        raise ConfigError("model_path is missing: name the folder or the zip of the trained model (wts.h5.zip)")
    execution_config = resolve_execution(execution_config)
    model, _ = load_inference_bundle_torch(Path(config.model_path), execution_config)
    logger.info("Loaded intensity_scale from bundle: %f", model.intensity_scale)
    return reconstruct_scan(model, data, config, refine_iterations=refine_iterations, execution_config=execution_config)


def run_cdi_example_torch(
    train_data: RawData,
    test_data: RawData | None,
    config: TrainingConfig,
    *,
    do_stitching: bool = False,
    execution_config: Execution | None = None,
    resume: Path | None = None,
) -> tuple[NDArray[np.float32] | None, NDArray[np.float32] | None, dict[str, Any]]:
    """Train and, with `do_stitching`, reconstruct the test scan (the training scan without one).

    Returns:
        Amplitude and phase (H, W) of the object, or None twice, and the results of the training, with
        `reconstruction`, `obj_tensor_full`, `global_offsets`, `recon_amp` and `recon_phase` after stitching.
    """
    execution_config = resolve_execution(execution_config)
    results = train_cdi_model_torch(train_data, test_data, config, execution_config=execution_config, resume=resume)
    if not do_stitching:
        return None, None, results
    inference = InferenceConfig(
        model=ModelConfig(**vars(config.model)),
        neighbor_count=config.neighbor_count,
        subsample_seed=config.subsample_seed,
        backend="pytorch",
    )
    scan = train_data if test_data is None else test_data
    found = reconstruct_scan(results["model"], scan, inference, execution_config=execution_config)
    amplitude, phase = np.abs(found.object), np.angle(found.object)
    results.update(
        reconstruction=found,
        obj_tensor_full=found.object,
        global_offsets=results["train_container"].global_offsets,
        recon_amp=amplitude,
        recon_phase=phase,
    )
    return amplitude, phase, results
