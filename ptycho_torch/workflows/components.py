"""The names by which callers train and reconstruct with PyTorch; the order of things is that of
`ptycho.workflows.train` and `ptycho.workflows.reconstruct`.
"""

from __future__ import annotations

import ptycho_torch.lightning  # noqa: F401  # isort: skip

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lightning.pytorch.callbacks import Callback
from numpy.typing import NDArray

from ptycho.config.config import InferenceConfig, PyTorchExecutionConfig, TrainingConfig, config_from_dict
from ptycho.config.options import PatchStatsOptions, StitchOptions
from ptycho.core.reconstruction import Reconstruction
from ptycho.errors import ConfigError
from ptycho.raw_data import RawData
from ptycho.workflows.diagnostics import Diagnostics, with_diagnostics
from ptycho.workflows.experiments import Scans, TestScans, as_asked, experiment_pairs
from ptycho.workflows.reconstruct import load_and_reconstruct, reconstruct
from ptycho.workflows.results import RunResults
from ptycho.workflows.run_options import RunOptions
from ptycho.workflows.train import train, train_and_reconstruct
from ptycho_torch import backend
from ptycho_torch.cli.shared import resolve_execution
from ptycho_torch.config_bridge import labels_of
from ptycho_torch.config_factory import TrainingPayload
from ptycho_torch.model_manager import load_torch_bundle, save_torch_bundle
from ptycho_torch.pinn import PtychoPINN
from ptycho_torch.predictor import predict_batches, predict_scan

__all__ = [
    "LoadedModel",
    "load_inference_bundle_torch",
    "predict_batches",
    "predict_scan",
    "reconstruct_scan",
    "reconstruct_torch",
    "run_cdi_example_torch",
    "save_torch_bundle",
    "train_cdi_model_torch",
]

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
        training_payload: what `config_factory.create_training_payload` made, for how PyTorch runs, the number of
            experiments and the statistics of patches that `pt_inference_config` asks for; the options are those of
            `config`.
        callbacks: of Lightning, besides those of this library.
        diagnostics: told of the patches of the training groups after the last epoch; None: nobody is.

    Returns:
        `backend`, `model` (PtychoPINN), `history` (losses per epoch), `train_container`, `test_container`,
        `train_seconds`, `config`; and `models`, `train_containers`, `test_containers`, one per experiment. With
        `logger_backend="mlflow"` (`orchestrator="Mlflow"`) also `mlflow_uri`, where `PtychoModel.load_from_mlflow`
        finds the model.

    Raises:
        ConfigError, DataError: settings or data that cannot work.
        BackendError: the accelerator is not there.
        KeyboardInterrupt: interrupted; `output_dir/checkpoints/last.ckpt` can be resumed.
    """
    _check_number(training_payload, train_data, test_data)
    run = RunOptions(
        execution=execution_config,
        resume=resume,
        max_seconds=max_seconds,
        callbacks=callbacks,
        diagnostics=diagnostics,
    )
    return _with_address(train(backend, train_data, test_data, config, _as_paid(run, training_payload, config)))


def _with_address(results: dict[str, Any]) -> dict[str, Any]:
    """The results with `mlflow_uri`, where MLflow followed the training."""
    address = results["model"].tracked
    return results if address is None else {**results, "mlflow_uri": address}


def _as_paid(run: RunOptions, payload: TrainingPayload | None, config: TrainingConfig) -> RunOptions:
    """The options of a run with what a payload asks for beside the shared configuration."""
    if payload is None:
        return run
    inference = payload.pt_inference_config
    if run.diagnostics is None and inference.log_patch_stats and not config.patch_stats.log_patch_stats:
        asked = replace(config, patch_stats=PatchStatsOptions(True, inference.patch_stats_limit))
        run = with_diagnostics(run, asked)
    return replace(
        run,
        execution=payload.execution_config if run.execution is None else run.execution,
        labels=labels_of(payload.pt_model_config, payload.pt_training_config),
    )


def _check_number(payload: TrainingPayload | None, train_data: Scans, test_data: TestScans) -> None:
    """`num_datasets` is as many as there are, where it says a number: 1, its default, says none."""
    said = 1 if payload is None else payload.pt_model_config.num_datasets
    experiments = len(experiment_pairs(train_data, test_data))
    if said not in (1, experiments):
        raise ConfigError(
            f"num_datasets={said}: expected the number of experiments, found {experiments}; correct it, or "
            "training_directories"
        )


def reconstruct_scan(
    model: PtychoPINN,
    data: RawData,
    config: InferenceConfig,
    *,
    refine_iterations: int = 0,
    refinement: Mapping[str, Any] | None = None,
    execution_config: Execution | None = None,
    stitching: StitchOptions | None = None,
    diagnostics: Diagnostics | None = None,
) -> Reconstruction:
    """Reconstruct a scan: one pass of the network, stitching and, when asked for, refinement.

    The object is in the units of `data`: times its probe it predicts its amplitudes. It lies on the grid of the scan's
    `objectGuess` where there is one, else on the smallest canvas that holds every patch. `refinement` holds further
    keywords of `ptycho_torch.refine.refine`; `diagnostics` is told of the patches and of what stitching makes of them.
    """
    run = RunOptions(execution=execution_config, diagnostics=diagnostics)
    run = replace(run, refine_iterations=refine_iterations, refinement=refinement)
    return reconstruct(backend, model, data, _stitched_by(config, stitching), run)


def _stitched_by(config: InferenceConfig, stitching: StitchOptions | None) -> InferenceConfig:
    """The configuration, with other options of stitching where a caller gives some."""
    return config if stitching is None else replace(config, stitching=stitching)


class LoadedModel(tuple[PtychoPINN, dict[str, Any]]):
    """A model and its training configuration as a dict; `loaded["lightning_module"]` is the model as Lightning has it.

    `loaded["model"]` and `loaded["config"]` are the two.
    """

    def __getitem__(self, key: Any) -> Any:
        """By number or by name."""
        if not isinstance(key, str):
            return super().__getitem__(key)
        named = {"model": self[0], "config": self[1]}
        if key in named:
            return named[key]
        if key != "lightning_module":
            raise KeyError(f"{key!r}: expected lightning_module, {' or '.join(named)}")
        return _lightning_module(*self)


def _lightning_module(model: PtychoPINN, training: dict[str, Any]) -> Any:
    """The model as Lightning has it; called from a method with `super()`, Lightning 2.4 takes that for its own."""
    from ptycho_torch.fit import PtychoPINN_Lightning

    config = config_from_dict(TrainingConfig, training)
    return PtychoPINN_Lightning(model, config, PyTorchExecutionConfig(), None).eval()


def load_inference_bundle_torch(
    path: Path,
    execution_config: Execution | None = None,
    experiment: int | None = None,
    probe: NDArray[Any] | None = None,
) -> LoadedModel:
    """Load a model onto the device that was asked for; return it and its training configuration as a dict.

    `experiment` and `probe` choose among several experiments as in `load_torch_bundle`.
    """
    device = resolve_execution(execution_config).accelerator
    model, archive = load_torch_bundle(Path(path), device, experiment, probe)
    return LoadedModel((backend.for_callers(model), archive.configs["training"]))


def reconstruct_torch(
    data: RawData,
    config: InferenceConfig,
    *,
    refine_iterations: int = 0,
    refinement: Mapping[str, Any] | None = None,
    execution_config: Execution | None = None,
    stitching: StitchOptions | None = None,
    diagnostics: Diagnostics | None = None,
) -> Reconstruction:
    """Load the model of `config.model_path` and reconstruct a scan with it."""
    run = RunOptions(execution=execution_config, diagnostics=diagnostics)
    run = replace(run, refine_iterations=refine_iterations, refinement=refinement)
    return load_and_reconstruct(backend, data, _stitched_by(config, stitching), run)


def run_cdi_example_torch(
    train_data: Scans,
    test_data: TestScans,
    config: TrainingConfig,
    *,
    do_stitching: bool = False,
    flip_x: bool = False,
    flip_y: bool = False,
    transpose: bool = False,
    M: int | None = None,
    execution_config: Execution | None = None,
    resume: Path | None = None,
    max_seconds: float | None = None,
    training_payload: TrainingPayload | None = None,
    diagnostics: Diagnostics | None = None,
) -> RunResults:
    """Train and, with `do_stitching`, reconstruct the test scan (the training scan without one).

    Scans as in `train_cdi_model_torch`; every experiment is reconstructed. `flip_x`, `flip_y`, `transpose`, `M`: as in
    `ptycho.workflows.experiments.as_asked`.

    Returns:
        Amplitude and phase (H, W) of the object, or None twice, and the results of the training, with
        `reconstruction`, `obj_tensor_full`, `global_offsets`, `recon_amp` and `recon_phase` after stitching, and
        `reconstructions`, one per experiment.
    """
    _check_number(training_payload, train_data, test_data)
    asked = as_asked((train_data, test_data, config), flip_x, flip_y, transpose, M)
    run = RunOptions(execution=execution_config, resume=resume, max_seconds=max_seconds, diagnostics=diagnostics)
    run = _as_paid(run, training_payload, asked[2])
    amplitude, phase, results = train_and_reconstruct(backend, *asked, do_stitching, run)
    return amplitude, phase, _with_address(results)
