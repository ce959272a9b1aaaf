"""The names by which callers train and reconstruct with TensorFlow; the order of things is that of `train` and
`reconstruct` beside this file.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ptycho.config.config import InferenceConfig, TrainingConfig
from ptycho.config.deprecation import warn_deprecated
from ptycho.core.reconstruction import Reconstruction
from ptycho.raw_data import RawData
from ptycho.tf import backend
from ptycho.tf.model_manager import save_tf_bundle
from ptycho.tf.pinn import PtychoPINN
from ptycho.tf.predictor import DiffractionToObject, predict_batches, predict_scan
from ptycho.workflows.experiments import Scans, TestScans, as_asked
from ptycho.workflows.outputs import save_outputs
from ptycho.workflows.reconstruct import inference_settings, load_and_reconstruct, reconstruct
from ptycho.workflows.results import RunResults
from ptycho.workflows.run_options import NEUTRAL_RUN, RunOptions
from ptycho.workflows.train import reconstruct_trained, train, train_and_reconstruct

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


def load_data(
    file_path: Path | str,
    n_images: int | None = None,
    n_subsample: int | None = None,
    subsample_seed: int | None = None,
    units: str | None = None,
    *,
    flip_x: bool = False,
    flip_y: bool = False,
) -> RawData:
    """Read a scan file, all of it or `n_subsample` patterns drawn at random; `n_images` is its deprecated name.

    `flip_x`, `flip_y` turn the sign of positions (`RawData.turned`).
    """
    if n_images is not None:
        warn_deprecated("n_images", f"use n_subsample={n_images if n_subsample is None else n_subsample}")
    wanted = n_images if n_subsample is None else n_subsample
    data = RawData.from_file(file_path, units=units).turned(flip_x, flip_y)
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
    run = RunOptions(learning_rate=learning_rate, resume=resume, max_seconds=max_seconds, diagnostics=diagnostics)
    return train(backend, train_data, test_data, config, run)


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
    run = RunOptions(refine_iterations=refine_iterations, refinement=refinement, diagnostics=diagnostics)
    return reconstruct(backend, model, data, config, run)


def load_inference_bundle(
    model_dir: Path | str, experiment: int | None = None
) -> tuple[DiffractionToObject, dict[str, Any]]:
    """Load a model of either backend from its folder, its zip or an unpacked archive, and restore `params.cfg`.

    Where several experiments were trained together, `experiment` is the number of one; None takes the first.

    Returns:
        The model, whose `predict([s X, local_offsets])` gives complex64 patches (B, N, N, 1), and the configuration
        of its training as a dict.
    """
    model, archive = backend.load(Path(model_dir), experiment, None, NEUTRAL_RUN)
    return backend.for_callers(model), archive.configs["training"]


def reconstruct_tf(
    data: RawData,
    config: InferenceConfig,
    *,
    refine_iterations: int = 0,
    refinement: Mapping[str, Any] | None = None,
    diagnostics: Diagnostics | None = None,
) -> Reconstruction:
    """Load the model of `config.model_path` and reconstruct a scan with it."""
    run = RunOptions(refine_iterations=refine_iterations, refinement=refinement, diagnostics=diagnostics)
    return load_and_reconstruct(backend, data, config, run)


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
    run = RunOptions(diagnostics=diagnostics)
    return reconstruct_trained(backend, test_data, inference_settings(config), results, run)


def run_cdi_example(
    train_data: Scans,
    test_data: TestScans,
    config: TrainingConfig,
    do_stitching: bool = False,
    *,
    flip_x: bool = False,
    flip_y: bool = False,
    transpose: bool = False,
    M: int | None = None,
    learning_rate: float | None = None,
    resume: Path | None = None,
    max_seconds: float | None = None,
    diagnostics: Diagnostics | None = None,
) -> RunResults:
    """Train and, with `do_stitching`, reconstruct the test scan (the training scan without one).

    Scans as in `train_cdi_model`; every experiment is reconstructed. `flip_x`, `flip_y`, `transpose` and `M` as in
    `ptycho.workflows.experiments.as_asked`.

    Returns:
        Amplitude and phase (H, W) of the object, or None twice, and the results of the training, with
        `reconstruction`, `obj_tensor_full`, `global_offsets`, `recon_amp` and `recon_phase` after stitching, and
        `reconstructions`, one per experiment.
    """
    run = RunOptions(learning_rate=learning_rate, resume=resume, max_seconds=max_seconds, diagnostics=diagnostics)
    asked = as_asked((train_data, test_data, config), flip_x, flip_y, transpose, M)
    return train_and_reconstruct(backend, *asked, do_stitching, run)
