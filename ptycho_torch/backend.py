"""PyTorch as a backend of the workflows, `ptycho.workflows.backend.Backend`; twin of `ptycho.tf.backend`."""

from __future__ import annotations

import logging
import math
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ptycho.config.config import INFERENCE_BATCH, InferenceConfig, PyTorchExecutionConfig, TrainingConfig
from ptycho.core.archive import ModelArchive
from ptycho.core.groups.container import GroupContainer
from ptycho.core.quality.arithmetic import IN_NUMPY, Arithmetic
from ptycho.core.refinement.device.kernels import Kernels, ScanData
from ptycho.core.refinement.refinement import Refinement, Start
from ptycho.core.refinement.trust import TrustEngine
from ptycho.core.stitching.sums import MakeSums, NumpySums
from ptycho.core.training.identity import TrainingIdentity
from ptycho.raw_data import RawData
from ptycho.workflows.backend import BackendName, ScanNetwork
from ptycho.workflows.networks.stored_model import archive_for, starting_weights
from ptycho.workflows.networks.training_data import TrainingSet
from ptycho.workflows.run_options import RunOptions
from ptycho.workflows.sharing.team import Team
from ptycho_torch import predictor
from ptycho_torch import refine as refinement
from ptycho_torch.cli.shared import resolve_execution
from ptycho_torch.device.arithmetic import TorchArithmetic
from ptycho_torch.device.cuda import faults_are_told
from ptycho_torch.device.stitching import TorchSums
from ptycho_torch.distributed import crew
from ptycho_torch.lightning.process_state import seeded
from ptycho_torch.loader import PtychoDataContainerTorch
from ptycho_torch.model_manager import restored, save_torch_bundle, set_canonical_weights
from ptycho_torch.pinn import PtychoPINN
from ptycho_torch.precision import usual_defaults
from ptycho_torch.refinement_kernels import RefinementKernels

__all__ = [
    "build",
    "canvas_sums",
    "container",
    "device",
    "fit",
    "for_callers",
    "image_arithmetic",
    "load",
    "name",
    "predict",
    "predict_batches",
    "refine",
    "save",
    "scan_network",
    "settled",
    "team",
    "trust_engine",
]

logger = logging.getLogger(__name__)

name: BackendName = "pytorch"
container: type[GroupContainer] = PtychoDataContainerTorch

Models = Sequence[PtychoPINN]
Sets = Sequence[TrainingSet[PtychoDataContainerTorch]]
Config = TrainingConfig | InferenceConfig


def settled(run: RunOptions) -> RunOptions:
    """The options with the accelerator resolved and the learning rate among those of PyTorch."""
    execution = resolve_execution(run.execution)
    if run.learning_rate is not None:
        execution = replace(execution, learning_rate=run.learning_rate)
    return replace(run, execution=execution)


def _execution(run: RunOptions) -> PyTorchExecutionConfig:
    """How PyTorch runs."""
    return resolve_execution(run.execution)


@contextmanager
def team(run: RunOptions) -> Iterator[Team]:
    """The processes that share a run, by torch.distributed (`ptycho_torch.distributed.crew`).

    Raises:
        BackendError: within it, where the memory of a GPU is full, or it fails.
    """
    with faults_are_told(), usual_defaults(), crew.team(run.execution or PyTorchExecutionConfig()) as processes:
        yield processes


def device(run: RunOptions) -> str:
    """What computes, in words: 'cpu', or the kind of accelerator with its name."""
    accelerator = _execution(run).accelerator
    return f"cuda ({torch.cuda.get_device_name()})" if accelerator == "cuda" else accelerator


@usual_defaults()
def build(sets: Sets, config: TrainingConfig, run: RunOptions) -> list[PtychoPINN]:
    """A model for every experiment; they share the network of the first. Weights follow the seed, or are given."""
    models: list[PtychoPINN] = []
    with seeded(sets[0].seed):
        for found in sets:
            models.append(
                PtychoPINN(
                    config.model,
                    found.probe,
                    found.input_scale,
                    found.intensity_scale,
                    found.mask,
                    config.probe_trainable,
                    config.intensity_scale_trainable,
                    options=config.network,
                    scaling=found.scaling,
                    network=models[0].network if models else None,
                )
            )
    for model, found in zip(models, sets, strict=True):
        model.labels, model.scan = dict(run.labels), dict(found.scan)
        if found.first_intensity_scale != found.intensity_scale:
            model.log_intensity_scale.data.fill_(math.log(found.first_intensity_scale))
    if run.start_from is not None:
        set_canonical_weights(models[0].network, *starting_weights(run.start_from))
    return models


@usual_defaults()
def fit(models: Models, sets: Sets, config: TrainingConfig, run: RunOptions) -> dict[str, list[float]]:
    """Train the models of `build`; the history, one entry per epoch."""
    from ptycho_torch import fit as training  # Lightning takes longer to import than many a refinement takes

    execution = _execution(run)
    train, test = [found.train for found in sets], [found.test for found in sets]
    size = max(found.canvas_size for found in sets)
    module = training.PtychoPINN_Lightning(models, config, execution, size)
    module.interface = {"scan": dict(sets[0].frame)}
    module.identity = _identity(sets, config, run)
    logger.info(
        "training on %s: %d groups of %d, %d parameters",
        execution.accelerator,
        sum(map(len, train)),
        config.model.gridsize**2,
        sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad),
    )
    with team(run) as processes:
        history = training.fit(
            module,
            train,
            test,
            accelerator=execution.accelerator,
            resume=run.resume,
            max_seconds=run.max_seconds,
            seed=sets[0].seed,
            callbacks=run.callbacks,
            watch=run.watch,
            team=processes,
        )
    for model in models:
        model.eval().measure_light()
    return history


def _identity(sets: Sets, config: TrainingConfig, run: RunOptions) -> TrainingIdentity:
    """What decides a training; of a setting that two configurations have, the one that acts."""
    from ptycho_torch.lightning.schedule import setting

    execution = _execution(run)
    return TrainingIdentity.of(
        [found.identity for found in sets],
        config,
        accum_steps=execution.accum_steps,
        scheduler=setting("scheduler", execution, config),
    )


def predict(
    model: PtychoPINN, container: PtychoDataContainerTorch, config: Config, run: RunOptions
) -> NDArray[np.complex64]:
    """Object patches of every member of every group, (B, C, N, N) in the file's units."""
    execution = _execution(run)
    size = execution.inference_batch_size or INFERENCE_BATCH
    return predictor.predict_scan(model, container, size, execution.accelerator)


def predict_batches(
    model: PtychoPINN, container: PtychoDataContainerTorch, config: TrainingConfig, run: RunOptions
) -> Generator[NDArray[np.complex64], None, None]:
    """The same of a training's groups, batch by batch, with the members held out."""
    return predictor.predict_batches(model, container, config.batch_size, _execution(run).accelerator)


def canvas_sums(run: RunOptions) -> MakeSums:
    """What sums the patches of a scan: a CUDA device, or NumPy beside a CPU and where there is no double precision."""
    execution = _execution(run)
    return partial(TorchSums, **_placed(execution)) if execution.accelerator == "cuda" else NumpySums


def scan_network(model: PtychoPINN, config: Config, run: RunOptions) -> ScanNetwork | None:
    """A model for a pass on one canvas; None where its network has no plain descent before its stages."""
    stages, placed = model.network.scan_stages(), _placed(_execution(run))
    if stages is None:
        return None
    model.to(placed["device"])

    def kernels(floor: float) -> Kernels:
        return RefinementKernels("amplitude", floor, **placed)

    return ScanNetwork(
        stages=stages,
        object_scale=float(model.object_scale.detach()),
        amplitude_scale=model.input_scale * model.nominal_intensity_scale / model.intensity_scale,
        light=model.light,
        kernels=kernels,
    )


def refine(
    scan: ScanData, start: Start | None, iterations: int, config: Config, run: RunOptions, **settings: Any
) -> Refinement:
    """Refine object and probe on a scan; `settings` are further keywords of `ptycho_torch.refine.refine`."""
    execution = _execution(run)
    placed = _placed(execution)
    return refinement.refine(scan, start, iterations, device_memory=_memory(execution), **placed, **settings)


def trust_engine(run: RunOptions) -> TrustEngine:
    """What works out the trust of a result: where it is refined, in double precision, which `mps` does not have."""
    execution = _execution(run)
    device = "cpu" if execution.accelerator == "mps" else execution.accelerator
    kernels = partial(RefinementKernels, "amplitude", 0.0, device=device, dtype=torch.float64)
    return TrustEngine(kernels, _memory(execution))


def image_arithmetic(run: RunOptions) -> Arithmetic:
    """What compares two images: a CUDA device, or NumPy beside a CPU and where there is no double precision."""
    execution = _execution(run)
    return TorchArithmetic(execution.accelerator) if execution.accelerator == "cuda" else IN_NUMPY


def _memory(execution: PyTorchExecutionConfig) -> int | None:
    """Bytes on the device; None: as many as the kernels take."""
    gib = execution.device_memory
    return None if gib is None else round(gib * 2**30)


def _placed(execution: PyTorchExecutionConfig) -> dict[str, Any]:
    """Where the patterns are worked on, and whether the same run gives the same bits there.

    Sums are in double precision, which `mps` does not have: beside it they are worked on by the CPU.
    """
    device = "cpu" if execution.accelerator == "mps" else execution.accelerator
    return {"device": device, "deterministic": bool(execution.deterministic)}


def save(folder: Path, models: Models, config: TrainingConfig) -> Path:
    """Write trained models that share a network to `folder/wts.h5.zip`; that path."""
    return save_torch_bundle(folder, models, config)


@usual_defaults()
def load(path: Path, experiment: int | None, scan: RawData | None, run: RunOptions) -> tuple[PtychoPINN, ModelArchive]:
    """The model of an archive on the device that was asked for, and what else is in it."""
    return restored(archive_for(path, experiment, scan), str(path), _execution(run).accelerator)


def for_callers(model: PtychoPINN) -> PtychoPINN:
    """The model itself: it has `forward_predict`."""
    return model
