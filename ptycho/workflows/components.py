"""The TensorFlow chain from a scan to an object: train, predict, stitch, and the names that callers use."""

from __future__ import annotations

import functools
import logging
import os
import time
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from ptycho import params
from ptycho.config.config import (
    InferenceConfig,
    TrainingConfig,
    validate_inference_config,
    validate_training_config,
)
from ptycho.config.deprecation import deprecation_text, warn_deprecated
from ptycho.core.reconstruction import Reconstruction
from ptycho.core.stitching.patch_store import patch_array
from ptycho.core.training.identity import TrainingIdentity
from ptycho.raw_data import RawData
from ptycho.tf.fit import TrainingModule, fit
from ptycho.tf.loader import PtychoDataContainer
from ptycho.tf.model_manager import load_tf_bundle, remember, save_tf_bundle
from ptycho.tf.pinn import PtychoPINN
from ptycho.tf.predictor import DiffractionToObject, compiled
from ptycho.tf.refine import refine
from ptycho.workflows import reconstruct as stages
from ptycho.workflows.experiments import Scans, TestScans, experiment_pairs, scans_to_stitch
from ptycho.workflows.outputs import save_outputs
from ptycho.workflows.training_data import prepare_experiments

if TYPE_CHECKING:
    from ptycho.workflows.diagnostics import Diagnostics

__all__ = [
    "load_data",
    "load_inference_bundle",
    "predict_batches",
    "predict_scan",
    "reassemble_cdi_image",
    "reconstruct_scan",
    "reconstruct_tf",
    "run_cdi_example",
    "save_outputs",
    "save_tf_bundle",
    "train_cdi_model",
]

logger = logging.getLogger(__name__)


def load_data(
    file_path: Path | str,
    n_images: int | None = None,
    n_subsample: int | None = None,
    subsample_seed: int | None = None,
    units: str | None = None,
) -> RawData:
    """Read a scan file, all of it or `n_subsample` patterns drawn at random; `n_images` is its deprecated name."""
    if n_images is not None:
        warn_deprecated("n_images", f"use n_subsample={n_images if n_subsample is None else n_subsample}")
    wanted = n_images if n_subsample is None else n_subsample
    data = RawData.from_file(file_path, units=units)
    return data if wanted is None else data.subsample(wanted, subsample_seed)


def train_cdi_model(
    train_data: Scans,
    test_data: TestScans,
    config: TrainingConfig,
    *,
    learning_rate: float | None = None,
    resume: Path | None = None,
    max_seconds: float | None = None,
    diagnostics: Diagnostics | None = None,
) -> dict[str, Any]:
    """Train a network on a scan, without labels or supervised; `learning_rate` None is the network's own.

    The input scale k is measured on `train_data`; with counts, so is the dose. The starting weights and the order of
    the batches follow `config.subsample_seed` (None: 0). `params.cfg` receives `probe`, `input_scale` and
    `intensity_scale`, and `ptycho.tf.model_manager.save` writes this model until another one is trained. `diagnostics`
    is told of the patches of the training groups after the last epoch.

    `train_data` may be the scans of several experiments, which then train one network, each with the probe and the
    scales of its own; `test_data` is a list in the same order.

    Returns:
        `backend`, `model` (PtychoPINN), `history` (losses per epoch), `train_container`, `test_container`,
        `train_seconds`, `config`; and `models`, `train_containers`, `test_containers`, one per experiment.

    Raises:
        ConfigError, DataError: settings or data that cannot work.
        KeyboardInterrupt: interrupted; `output_dir/checkpoints/last.ckpt` can be resumed.
    """
    _warn_of_ignored_variables()
    validate_training_config(config)
    sets = prepare_experiments(train_data, test_data, config, PtychoDataContainer)
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
                scaling=found.scaling,
                network=models[0].network if models else None,
            )
        )
    train, test = [found.train for found in sets], [found.test for found in sets]
    module = TrainingModule(models, config, max(found.canvas_size for found in sets), learning_rate)
    scans = [scan.identity for scan, _ in experiment_pairs(train_data, test_data)]
    module.identity = TrainingIdentity.of(scans, config)
    logger.info(
        "training on %s: %d groups of %d, %d parameters",
        "gpu" if tf.config.list_physical_devices("GPU") else "cpu",
        sum(map(len, train)),
        config.model.gridsize**2,
        sum(int(np.prod(variable.shape)) for variable in module.variables),
    )
    begun = time.perf_counter()
    history = fit(module, train, test, resume=resume, max_seconds=max_seconds, seed=sets[0].seed)
    for model in models:
        model.measure_light()
    params.cfg["intensity_scale"] = models[0].intensity_scale
    remember(models, config)
    seconds = time.perf_counter() - begun
    if diagnostics is not None:
        diagnostics.trained(predict_batches(models[0], train[0], config.batch_size, config.use_xla))
    return stages.training_results("tensorflow", models, sets, history, seconds, config)


def predict_scan(
    model: PtychoPINN, container: PtychoDataContainer, batch_size: int = 64, use_xla: bool = False
) -> NDArray[np.complex64]:
    """Object patches of every member of every group as the probe meets them, `(B, C, N, N)` in the file's units."""
    n, done = model.config.N, 0
    patches = patch_array((len(container), model.config.gridsize**2, n, n))
    for batch in predict_batches(model, container, batch_size, use_xla):
        patches[done : done + len(batch)] = batch
        done += len(batch)
    return patches


def predict_batches(
    model: PtychoPINN, container: PtychoDataContainer, batch_size: int = 64, use_xla: bool = False
) -> Iterator[NDArray[np.complex64]]:
    """What `predict_scan` returns, batch by batch; of a training container also the members held out."""
    predict = compiled(model.predict_on_grid, container.canvas_size, use_xla)
    for start in range(0, len(container), batch_size):
        yield np.moveaxis(predict(*container.batch(slice(start, start + batch_size))).numpy(), -1, 1)


def reconstruct_scan(
    model: PtychoPINN,
    data: RawData,
    config: InferenceConfig,
    *,
    refine_iterations: int = 0,
    refinement: Mapping[str, Any] | None = None,
    diagnostics: Diagnostics | None = None,
) -> Reconstruction:
    """Reconstruct a scan: one pass of the network, stitching and, when asked for, refinement.

    The object is in the units of `data`: times its probe it predicts its amplitudes. It lies on the grid of the scan's
    `objectGuess` where there is one, else on the smallest canvas that holds every patch. `refinement` holds further
    keywords of `ptycho.tf.refine.refine`; `diagnostics` is told of the patches and of what stitching makes of them.
    """
    _warn_of_ignored_variables()
    return stages.reconstruct(
        model,
        data,
        config,
        backend="tensorflow",
        container=PtychoDataContainer,
        predict=partial(predict_scan, model, use_xla=config.use_xla),
        refine=partial(refine, use_xla=config.use_xla),
        refine_iterations=refine_iterations,
        refinement=refinement,
        diagnostics=diagnostics,
    )


def load_inference_bundle(
    model_dir: Path | str, experiment: int | None = None
) -> tuple[DiffractionToObject, dict[str, Any]]:
    """Load a model of either backend from its folder, its zip or an unpacked archive, and restore `params.cfg`.

    Where several experiments were trained together, `experiment` is the number of one; None takes the first.

    Returns:
        The model, whose `predict([s X, local_offsets])` gives complex64 patches (B, N, N, 1), and the configuration
        of its training as a dict.
    """
    model, archive = load_tf_bundle(Path(model_dir), experiment)
    return DiffractionToObject(model), archive.configs["training"]


def reconstruct_tf(
    data: RawData,
    config: InferenceConfig,
    *,
    refine_iterations: int = 0,
    refinement: Mapping[str, Any] | None = None,
    diagnostics: Diagnostics | None = None,
) -> Reconstruction:
    """Load the model of `config.model_path` and reconstruct a scan with it."""
    validate_inference_config(config)
    model, _ = load_tf_bundle(stages.model_path(config), config.experiment_number, data.probeGuess)
    logger.info("Loaded intensity_scale from bundle: %f", model.intensity_scale)
    return reconstruct_scan(
        model,
        data,
        config,
        refine_iterations=refine_iterations,
        refinement=refinement,
        diagnostics=diagnostics,
    )


def reassemble_cdi_image(
    test_data: Scans,
    config: TrainingConfig,
    results: dict[str, Any],
    *,
    diagnostics: Diagnostics | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.float32], dict[str, Any]]:
    """Reconstruct a scan with the model of `results`: (amplitude, phase, results with the reconstruction in it).

    Of several experiments `test_data` is a list in their order; amplitude and phase are those of the first.
    """
    one = partial(reconstruct_scan, config=stages.inference_settings(config))
    return stages.add_reconstructions(results, test_data, one, diagnostics)


def run_cdi_example(
    train_data: Scans,
    test_data: TestScans,
    config: TrainingConfig,
    do_stitching: bool = False,
    *,
    learning_rate: float | None = None,
    resume: Path | None = None,
    max_seconds: float | None = None,
    diagnostics: Diagnostics | None = None,
) -> tuple[NDArray[np.float32] | None, NDArray[np.float32] | None, dict[str, Any]]:
    """Train and, with `do_stitching`, reconstruct the test scan (the training scan without one).

    Scans as in `train_cdi_model`; every experiment is reconstructed.

    Returns:
        Amplitude and phase (H, W) of the object, or None twice, and the results of the training, with
        `reconstruction`, `obj_tensor_full`, `global_offsets`, `recon_amp` and `recon_phase` after stitching, and
        `reconstructions`, one per experiment.
    """
    results = train_cdi_model(
        train_data,
        test_data,
        config,
        learning_rate=learning_rate,
        resume=resume,
        max_seconds=max_seconds,
        diagnostics=diagnostics,
    )
    if not do_stitching:
        return None, None, results
    scans = scans_to_stitch(train_data, test_data)
    return reassemble_cdi_image(scans, config, results, diagnostics=diagnostics)


_IGNORED = ("USE_XLA_TRANSLATE", "USE_XLA_COMPILE")


@functools.cache
def _warn_of_ignored_variables() -> None:
    """Warn, once in a process, of variables that are set and do nothing."""
    found = [name for name in _IGNORED if name in os.environ]
    if found:
        instead = "ignored; to compile with it use --use_xla (use_xla=True)"
        logger.warning("%s", deprecation_text(f"XLA by {', '.join(found)}", instead))
