"""Networks: train one on a scan, reconstruct scans with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ptycho import params
from ptycho.api.backends import installed_backend
from ptycho.api.scans import Scan, as_scan
from ptycho.config.config import InferenceConfig, ModelConfig, PyTorchExecutionConfig, TrainingConfig
from ptycho.core.archive import ARCHIVE_NAME
from ptycho.core.reconstruction import Reconstruction
from ptycho.core.result import plural
from ptycho.errors import ConfigError
from ptycho.networks.universal import weights_file
from ptycho.workflows.backend import BackendName
from ptycho.workflows.backend_selector import (
    backend_named,
    reconstruct_with_backend,
    save_bundle_with_backend,
    train_cdi_model_with_backend,
)
from ptycho.workflows.networks.stored_model import shaped_like
from ptycho.workflows.reconstruct import inference_settings, reconstruct
from ptycho.workflows.run_options import NEUTRAL_RUN, RunOptions

__all__ = ["TrainedModel", "infer", "train"]


@dataclass(frozen=True, eq=False, repr=False)
class TrainedModel:
    """A network after its training."""

    backend: BackendName
    networks: tuple[Any, ...]
    """The backend's `PtychoPINN`, one per experiment; they share their weights."""
    config: TrainingConfig
    history: Mapping[str, Sequence[float]]
    """Losses by name, one number per epoch."""

    def __repr__(self) -> str:
        model, losses = self.config.model, next(iter(self.history.values()), ())
        kind = f"{model.architecture}, N={model.N}, gridsize={model.gridsize}, {self.backend}"
        change = f", loss {losses[0]:.4g} -> {losses[-1]:.4g}" if losses else ""
        return f"TrainedModel({kind}, {plural(len(losses), 'epoch')}{change})"

    def save(self, path: Path | str) -> Path:
        """Write the archive `wts.h5.zip` into a folder (or as `path`, where that ends in .zip); return its path.

        Raises:
            OutputError: a place that cannot be written.
        """
        results = {"backend": self.backend, "models": self.networks}
        return save_bundle_with_backend(results, self.config, Path(path))

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the archive, for processes to hand a model on: one of TensorFlow cannot be pickled itself."""
        with TemporaryDirectory() as folder:
            archive = self.save(folder).read_bytes()
        return _unpickled, (archive, self.backend, len(self.networks), self.config, dict(self.history))


@params.left_alone()
def _unpickled(
    archive: bytes, backend: BackendName, count: int, config: TrainingConfig, history: Mapping[str, Sequence[float]]
) -> TrainedModel:
    """The model of an archive of `count` experiments."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / ARCHIVE_NAME
        path.write_bytes(archive)
        load = backend_named(backend).load
        networks = tuple(load(path, number, None, NEUTRAL_RUN)[0] for number in range(count))
    return TrainedModel(backend, networks, config, history)


@params.left_alone()
def train(
    scan: Scan | Sequence[Scan],
    config: TrainingConfig | None = None,
    *,
    validation: Scan | None = None,
    output_dir: Path | str | None = None,
    backend: BackendName | None = None,
    learning_rate: float | None = None,
    max_seconds: float | None = None,
    resume: Path | None = None,
    start_from: Path | str | None = None,
    execution: PyTorchExecutionConfig | None = None,
) -> TrainedModel:
    """Train a network on a scan, without labels unless the configuration says otherwise.

    Args:
        scan: a scan or its file; several train one network, each with the probe and the scales of its own.
        config: how; None is `TrainingConfig` with the size of the patterns. It is not changed.
        validation: another scan, to validate on; None holds groups of this one out where the network can.
        output_dir: folder for checkpoints and the model; None takes the one of `config`, and without a `config` leaves
            nothing behind.
        backend: 'pytorch' or 'tensorflow'; None takes that of `config`, else what is installed, PyTorch first.
        learning_rate: None is the network's own.
        max_seconds: stop after that time.
        resume: a checkpoint to go on from.
        start_from: archive of a network whose weights the training begins with, 'universal' those of the package; with
            its shape where there is no `config`.
        execution: device, precision and so on for PyTorch.

    Returns:
        The trained model; `save` writes it, `infer` reconstructs with it.

    Raises:
        MissingFileError, DataError: no sound scan. ConfigError: settings that cannot work.
        BackendError: no backend is installed.

    >>> import ptycho
    >>> small = ptycho.ModelConfig(n_filters_scale=1)
    >>> settings = ptycho.TrainingConfig(model=small, nepochs=1, output_dir=folder)
    >>> quiet = ptycho.PyTorchExecutionConfig(enable_progress_bar=False)
    >>> model = train(example, settings, backend="pytorch", execution=quiet)
    >>> model.save(folder).name, infer(model, example).method
    ('wts.h5.zip', 'network')
    """
    scans = [as_scan(one) for one in ([scan] if isinstance(scan, Scan) else scan)]
    if not scans:
        raise ConfigError("scan: expected one scan or more to train on, found none; give one")
    with ExitStack() as left_behind:
        if output_dir is None and config is None:
            output_dir = left_behind.enter_context(TemporaryDirectory())
        settings = _settings(config, scans[0].N, backend, output_dir)
        start = None if start_from is None else Path(start_from)
        if start is not None and config is None:
            shaped_like(start, settings, ())
        results = train_cdi_model_with_backend(
            scans if len(scans) > 1 else scans[0],
            None if validation is None else as_scan(validation),
            settings,
            learning_rate=learning_rate,
            execution_config=execution,
            resume=resume,
            max_seconds=max_seconds,
            start_from=start,
        )
        model = TrainedModel(results["backend"], results["models"], settings, results["history"])
        if output_dir is not None:
            model.save(output_dir)
    return model


def _settings(
    config: TrainingConfig | None, N: int, backend: BackendName | None, output_dir: Path | str | None
) -> TrainingConfig:
    """The settings of a training; those that were given stay as they are."""
    if config is None:
        config = TrainingConfig(model=ModelConfig(N=N), backend=installed_backend(backend))
    changes: dict[str, Any] = {} if backend is None else {"backend": backend}
    if output_dir is not None:
        changes["output_dir"] = Path(output_dir)
    return replace(config, model=replace(config.model), **changes)


@params.left_alone()
def infer(
    model: TrainedModel | Path | str,
    scan: Scan,
    refine: int = 0,
    *,
    config: InferenceConfig | None = None,
    refinement: Mapping[str, Any] | None = None,
    uncertainty: bool = False,
    backend: BackendName | None = None,
    execution: PyTorchExecutionConfig | None = None,
) -> Reconstruction:
    """Reconstruct a scan with a trained network: one pass, stitching, and refinement where it is asked for.

    Args:
        model: what `train` returned; the archive (its folder, the zip, or unpacked), of either backend; or 'universal',
            the weights of the package, for any scan.
        scan: a scan or its file.
        refine: at most so many iterations of refinement after the network; 0 is none.
        config: groups and neighbours; None takes every scan point, with the neighbours of the training.
        refinement: further keywords of the refinement, such as `refine_positions` (`ptycho.refine` names them).
        uncertainty: also find how wrong the pass is, pixel by pixel, the result's `uncertainty`; not with `refine`.
        backend: for an archive; None takes what is installed, PyTorch first.
        execution: device and so on for PyTorch.

    Returns:
        The object (H, W) complex64, the network's own object where it was refined, and the trust.

    Raises:
        MissingFileError, ArchiveError: no sound model. DataError: no sound scan. ConfigError: settings that cannot
        work. BackendError: no backend is installed.
    """
    data = as_scan(scan)
    if isinstance(model, TrainedModel):
        return reconstruct(
            backend_named(model.backend),
            model.networks[0],
            data,
            inference_settings(model.config) if config is None else config,
            RunOptions(execution=execution, refine_iterations=refine, refinement=refinement, uncertainty=uncertainty),
        )
    settings = InferenceConfig() if config is None else config
    named = backend if config is None else backend or config.backend
    settings = replace(settings, model_path=weights_file(Path(model)), backend=installed_backend(named))
    return reconstruct_with_backend(
        data, settings, refine=refine, refinement=refinement, execution_config=execution, uncertainty=uncertainty
    )
