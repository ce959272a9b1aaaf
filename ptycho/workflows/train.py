"""The order of a training, the same for both backends: sets, models, fit, results; and the reconstruction after it."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho import params
from ptycho.config.config import InferenceConfig, TrainingConfig, validate_training_config
from ptycho.core.physics.diffraction import as_modes
from ptycho.core.reconstruction import Reconstruction
from ptycho.raw_data import RawData
from ptycho.workflows.backend import Backend
from ptycho.workflows.diagnostics import with_diagnostics
from ptycho.workflows.experiments import Scans, TestScans, experiment_pairs, scans_to_stitch
from ptycho.workflows.networks.stored_model import started_from
from ptycho.workflows.networks.training_data import TrainingSet, prepare_experiments
from ptycho.workflows.preview import watched_training
from ptycho.workflows.reconstruct import inference_settings, reconstruct, trained_source
from ptycho.workflows.results import RunResults, add_reconstructions, training_results
from ptycho.workflows.run_options import NEUTRAL_RUN, RunOptions
from ptycho.workflows.sharing.team import Team, quiet_run, share_out

__all__ = ["reconstruct_trained", "train", "train_and_reconstruct"]

logger = logging.getLogger(__name__)


def train(
    backend: Backend, train_data: Scans, test_data: TestScans, config: TrainingConfig, run: RunOptions = NEUTRAL_RUN
) -> dict[str, Any]:
    """Train a network on a scan, or on those of several experiments.

    `params.cfg` receives `probe`, `input_scale` and `intensity_scale` of the first experiment.

    Args:
        backend: that trains.
        train_data, test_data: the scans to train on and to validate with (`ptycho.workflows.experiments`).
        config: settings of the training.
        run: how; `diagnostics` is told of the patches of the training groups after the last epoch.

    Returns:
        As `ptycho.workflows.results.training_results`.

    Raises:
        ConfigError, DataError, BackendError: settings, data or a machine that cannot work.
        KeyboardInterrupt: interrupted; `output_dir/checkpoints/last.ckpt` can be resumed.
    """
    run = with_diagnostics(backend.settled(run), config)
    validate_training_config(config)
    sets = prepare_experiments(train_data, test_data, config, backend.container)
    models = backend.build(sets, config, run)
    if run.start_from is not None:
        known = started_from(run.start_from, *(model.scan for model in models))
        for model, scan in zip(models, known, strict=True):
            model.scan = scan
    begun = time.perf_counter()
    first = train_data if isinstance(train_data, RawData) else train_data[0]
    with backend.team(run) as team:
        _share(team, backend, train_data, test_data, config, run)
        history = backend.fit(models, sets, config, watched_training(backend, models[0], first, config, run))
    seconds = time.perf_counter() - begun
    _tell_callers(sets[0], models[0])
    if run.diagnostics is not None:
        run.diagnostics.trained(backend.predict_batches(models[0], sets[0].train, config, run))
    return training_results(backend.name, models, sets, history, seconds, config)


def _share(
    team: Team, backend: Backend, train_data: Scans, test_data: TestScans, config: TrainingConfig, run: RunOptions
) -> None:
    """Have the others of a team do their part of a training; they have the scans whole, since batches are drawn."""
    scans = [scan for pair in experiment_pairs(train_data, test_data) for scan in pair]

    def whole(_rank: int) -> list[dict[str, Any] | None]:
        return [None if scan is None else scan.shared(np.arange(len(scan)), truth=True) for scan in scans]

    share_out(team, backend, _trained, whole, config, replace(quiet_run(run), resume=run.resume))


def _trained(
    _team: Team, backend: Backend, shared: list[dict[str, Any] | None], config: TrainingConfig, run: RunOptions
) -> None:
    """The part of another process than the first."""
    scans = [None if one is None else RawData.from_shared(one) for one in shared]
    train_data = [scan for scan in scans[::2] if scan is not None]
    sets = prepare_experiments(train_data, scans[1::2], config, backend.container)
    backend.fit(backend.build(sets, config, run), sets, config, run)


def _tell_callers(found: TrainingSet[Any], model: Any) -> None:
    """Write what training has measured to `params.cfg`; the library itself does not read it there."""
    params.mirror(probe=as_modes(found.probe), input_scale=found.input_scale, intensity_scale=model.intensity_scale)


def train_and_reconstruct(
    backend: Backend,
    train_data: Scans,
    test_data: TestScans,
    config: TrainingConfig,
    do_stitching: bool = False,
    run: RunOptions = NEUTRAL_RUN,
) -> RunResults:
    """Train and, with `do_stitching`, reconstruct the test scan (the training scan without one) of every experiment.

    Raises:
        ConfigError: as `train` and `inference_settings`, the latter before any work.
    """
    settings = inference_settings(config) if do_stitching else None
    run = with_diagnostics(backend.settled(run), config)
    results = train(backend, train_data, test_data, config, run)
    if settings is None:
        return None, None, results
    return reconstruct_trained(backend, scans_to_stitch(train_data, test_data), settings, results, run)


def reconstruct_trained(
    backend: Backend, scans: Scans, settings: InferenceConfig, results: dict[str, Any], run: RunOptions = NEUTRAL_RUN
) -> tuple[NDArray[np.float32], NDArray[np.float32], dict[str, Any]]:
    """Reconstruct the scan of every experiment with its model of `results`; `diagnostics` is told of the first."""
    untold = replace(run, diagnostics=None)
    source = trained_source(results["config"]) if "config" in results else {}

    def one(number: int, model: Any, scan: RawData) -> Reconstruction:
        return reconstruct(backend, model, scan, settings, untold if number else run, source)

    return add_reconstructions(results, scans, one)
