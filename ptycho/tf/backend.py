"""TensorFlow as a backend of the workflows, `ptycho.workflows.backend.Backend`; twin of `ptycho_torch.backend`."""

from __future__ import annotations

import functools
import logging
import math
import os
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from ptycho.config.config import PROCESSES, InferenceConfig, PyTorchExecutionConfig, TrainingConfig
from ptycho.config.deprecation import deprecation_text
from ptycho.config.options import changed_options
from ptycho.core.archive import ModelArchive
from ptycho.core.groups.container import GroupContainer
from ptycho.core.quality.arithmetic import IN_NUMPY, Arithmetic
from ptycho.core.refinement.device.kernels import Kernels, ScanData
from ptycho.core.refinement.refinement import Refinement, Start
from ptycho.core.refinement.trust import ON_HOST, TrustEngine
from ptycho.core.stitching.sums import MakeSums, NumpySums
from ptycho.core.training.identity import TrainingIdentity
from ptycho.errors import BackendError, ConfigError
from ptycho.raw_data import RawData
from ptycho.tf import fit as training
from ptycho.tf import predictor
from ptycho.tf import refine as refinement
from ptycho.tf.distributed import crew
from ptycho.tf.loader import PtychoDataContainer
from ptycho.tf.model_manager import remember, restored, save_tf_bundle, set_canonical_weights
from ptycho.tf.pinn import PtychoPINN
from ptycho.tf.refinement_kernels import RefinementKernels
from ptycho.workflows.backend import BackendName, ScanNetwork
from ptycho.workflows.networks.stored_model import archive_for, starting_weights
from ptycho.workflows.networks.training_data import TrainingSet
from ptycho.workflows.run_options import RunOptions
from ptycho.workflows.sharing.team import Team

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

name: BackendName = "tensorflow"
container: type[GroupContainer] = PtychoDataContainer

Models = Sequence[PtychoPINN]
Sets = Sequence[TrainingSet[PtychoDataContainer]]
Config = TrainingConfig | InferenceConfig

_IGNORED = ("USE_XLA_TRANSLATE", "USE_XLA_COMPILE")


def settled(run: RunOptions) -> RunOptions:
    """The options as they are; those of PyTorch alone are refused."""
    if run.execution is not None:
        asked = [name for name in changed_options(run.execution) if name not in PROCESSES]
        if asked:
            raise ConfigError(
                f"execution_config: {', '.join(asked)} is for the pytorch backend, found backend=tensorflow: leave out"
            )
    warn_of_ignored_variables()
    return run


@functools.cache
def warn_of_ignored_variables() -> None:
    """Warn, once in a process, of variables that are set and do nothing."""
    found = [variable for variable in _IGNORED if variable in os.environ]
    if found:
        instead = "ignored; to compile with it use --use_xla (use_xla=True)"
        logger.warning("%s", deprecation_text(f"XLA by {', '.join(found)}", instead))


@contextmanager
def team(run: RunOptions) -> Iterator[Team]:
    """The processes that share a run, by MultiWorkerMirroredStrategy (`ptycho.tf.distributed.crew`).

    A command, whose process is its own, takes of a GPU's memory what it needs, so that others may be beside it;
    elsewhere that is the caller's to say (`tf.config.experimental.set_memory_growth`), before TensorFlow is used.

    Raises:
        BackendError: within it, where the memory of a device is full.
    """
    if run.own_process:
        _take_memory_as_it_is_needed()
    try:
        with crew.team(run.execution or PyTorchExecutionConfig(), run.own_process) as processes:
            yield processes
    except tf.errors.ResourceExhaustedError as error:
        found = str(error.message).strip().split("\n")[0]
        raise BackendError(
            f"TensorFlow: expected room for the work, found the memory of the device full ({found}); give less at once "
            "(--batch-size of a training), end what else is on the card, or hide it: CUDA_VISIBLE_DEVICES= before the "
            "command"
        ) from error


def _take_memory_as_it_is_needed() -> None:
    """Not all of a GPU at once, as TensorFlow does where it is not told; too late once it is in use."""
    try:
        for gpu in tf.config.list_physical_devices("GPU"):
            tf.config.experimental.set_memory_growth(gpu, True)
    except RuntimeError as error:
        logger.debug("memory of the GPU as it was: %s", error)


def device(run: RunOptions) -> str:
    """What computes, in words: 'cpu', or the kind of accelerator with its name."""
    found = tf.config.list_physical_devices("GPU")
    return f"gpu ({tf.config.experimental.get_device_details(found[0]).get('device_name', 'GPU')})" if found else "cpu"


def build(sets: Sets, config: TrainingConfig, run: RunOptions) -> list[PtychoPINN]:
    """A model for every experiment; they share the network of the first. Weights follow the seed, or are given."""
    crew.check_training(run.execution or PyTorchExecutionConfig())
    models: list[PtychoPINN] = []
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
                seed=found.seed,
                options=config.network,
                scaling=found.scaling,
                network=models[0].network if models else None,
            )
        )
        models[-1].labels, models[-1].scan = dict(run.labels), dict(found.scan)
        if found.first_intensity_scale != found.intensity_scale:
            models[-1].log_intensity_scale.assign(math.log(found.first_intensity_scale))
    if run.start_from is not None:
        set_canonical_weights(models[0].network, *starting_weights(run.start_from))
    return models


def fit(models: Models, sets: Sets, config: TrainingConfig, run: RunOptions) -> dict[str, list[float]]:
    """Train the models of `build`; the history, one entry per epoch. `model_manager.save` writes these models then."""
    train, test = [found.train for found in sets], [found.test for found in sets]
    size = max(found.canvas_size for found in sets)
    module = training.TrainingModule(models, config, size, run.learning_rate)
    module.identity = TrainingIdentity.of([found.identity for found in sets], config)
    logger.info(
        "training on %s: %d groups of %d, %d parameters",
        "gpu" if tf.config.list_physical_devices("GPU") else "cpu",
        sum(map(len, train)),
        config.model.gridsize**2,
        sum(int(np.prod(variable.shape)) for variable in module.variables),
    )
    with team(run) as processes:
        history = training.fit(
            module,
            train,
            test,
            resume=run.resume,
            max_seconds=run.max_seconds,
            seed=sets[0].seed,
            watch=run.watch,
            team=processes,
        )
    for model in models:
        model.measure_light()
    remember(models, config)
    return history


def predict(
    model: PtychoPINN, container: PtychoDataContainer, config: Config, run: RunOptions
) -> NDArray[np.complex64]:
    """Object patches of every member of every group, (B, C, N, N) in the file's units."""
    return predictor.predict_scan(model, container, use_xla=config.use_xla)


def predict_batches(
    model: PtychoPINN, container: PtychoDataContainer, config: TrainingConfig, run: RunOptions
) -> Generator[NDArray[np.complex64], None, None]:
    """The same of a training's groups, batch by batch, with the members held out."""
    return predictor.predict_batches(model, container, config.batch_size, config.use_xla)


def canvas_sums(run: RunOptions) -> MakeSums:
    """What sums the patches of a scan: NumPy."""
    return NumpySums


def scan_network(model: PtychoPINN, config: Config, run: RunOptions) -> ScanNetwork | None:
    """A model for a pass on one canvas; None where its network has no plain descent before its stages."""
    stages = model.network.scan_stages()
    if stages is None:
        return None

    def kernels(floor: float) -> Kernels:
        return RefinementKernels("amplitude", floor, use_xla=config.use_xla)

    return ScanNetwork(
        stages=stages,
        object_scale=float(model.object_scale.numpy()),
        amplitude_scale=model.input_scale * model.nominal_intensity_scale / model.intensity_scale,
        light=model.light,
        kernels=kernels,
    )


def refine(
    scan: ScanData, start: Start | None, iterations: int, config: Config, run: RunOptions, **settings: Any
) -> Refinement:
    """Refine object and probe on a scan; `settings` are further keywords of `ptycho.tf.refine.refine`."""
    return refinement.refine(scan, start, iterations, use_xla=config.use_xla, **settings)


def trust_engine(run: RunOptions) -> TrustEngine:
    """What works out the trust of a result: where it is refined, in double precision; on a CPU NumPy, which is
    faster there.
    """
    if not tf.config.list_physical_devices("GPU"):
        return ON_HOST
    return TrustEngine(functools.partial(RefinementKernels, "amplitude", 0.0, dtype=tf.float64))


def image_arithmetic(run: RunOptions) -> Arithmetic:
    """What compares two images: NumPy."""
    return IN_NUMPY


def save(folder: Path, models: Models, config: TrainingConfig) -> Path:
    """Write trained models that share a network to `folder/wts.h5.zip`; that path."""
    return save_tf_bundle(folder, models, config)


def load(path: Path, experiment: int | None, scan: RawData | None, run: RunOptions) -> tuple[PtychoPINN, ModelArchive]:
    """The model of an archive, and what else is in it."""
    return restored(archive_for(path, experiment, scan), str(path))


def for_callers(model: PtychoPINN) -> predictor.DiffractionToObject:
    """`predict([s X, local_offsets])` gives complex64 patches (B, N, N, 1)."""
    return predictor.DiffractionToObject(model)
