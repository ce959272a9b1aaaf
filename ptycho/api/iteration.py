"""Reconstruction without a network: from a flat object, or from any start, to what the patterns say."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ptycho import params
from ptycho.api.backends import installed_backend
from ptycho.api.scans import Scan, as_scans
from ptycho.config.config import InferenceConfig, PyTorchExecutionConfig, config_from_dict
from ptycho.config.options import IterationOptions
from ptycho.core.progress import Progress, log_progress
from ptycho.core.reconstruction import Reconstruction
from ptycho.core.refinement.device.likelihood import Likelihood
from ptycho.core.refinement.refinement import Refinement, Start
from ptycho.core.refinement.steps.placement import Positions
from ptycho.networks.universal import weights_file
from ptycho.workflows.backend import BackendName
from ptycho.workflows.backend_selector import backend_named
from ptycho.workflows.front_door import Request, reconstruct_scan
from ptycho.workflows.iteration.iterate import object_grid
from ptycho.workflows.iteration.start_from import read_start
from ptycho.workflows.outputs import save_run
from ptycho.workflows.run_options import RunOptions

__all__ = ["reconstruct", "refine", "told_of"]

ITERATIONS = 80
"""After which a scan that can be solved is solved; a refinement that gains nothing more ends sooner."""


@params.left_alone()
def reconstruct(
    scan: Scan | Sequence[Scan],
    *,
    probe: Path | str | None = None,
    model: Path | str | None = None,
    train: float | None = None,
    start: Start | Path | str | None = None,
    output_dir: Path | str | None = None,
    force: bool = False,
    uncertainty: bool = False,
    backend: BackendName | None = None,
    execution: PyTorchExecutionConfig | None = None,
    report: Callable[[int, float], None] | None = None,
    **settings: Any,
) -> Reconstruction:
    """Reconstruct a scan: look at it, find what it needs, iterate, and measure how well the object explains it.

    What `ptycho reconstruct` does; no argument is needed but the scan. What is found and decided is logged.

    Args:
        scan: a scan or its file; several of one object, with positions in one frame, are reconstructed together, each
            with its own probe.
        probe: where the probe is from: a file, optics such as 'gaussian:fwhm=2um', or 'patterns'; None is that of the
            scan, or where it has none what its patterns say.
        model: the archive of a trained network, or 'universal', that of the package; its pass is the start.
        train: seconds to train a network on the scan; its pass is the start.
        start: an earlier result, or its file, to go on from; an array (H, W) complex lies in the frame of the result.
        output_dir: folder to write the result and its pictures to; None writes nothing.
        force: go on where the scan has a fault with which an object means nothing.
        uncertainty: also find how far photon noise takes every pixel, the result's `uncertainty`; takes up to as long
            again.
        backend: 'pytorch' or 'tensorflow'; None takes what is installed, PyTorch first.
        execution: device and so on for PyTorch; None takes a GPU where there is one.
        report: called with the iteration (0 = start) and its relative error.
        settings: fields of `ptycho.IterationOptions`: `iterations`, `seconds`, `modes`, `refine_probe`,
            `refine_positions` and so on.

    Returns:
        The object (H, W) complex64: times the probe it predicts the amplitudes of the scan. It lies on the pixels of
        the scan's `objectGuess` where there is one, else in the smallest frame that holds every patch; with its
        coverage, the probe (M, N, N) as refined, positions in pixels and the trust.

    Raises:
        MissingFileError, DataError: no sound scan, or a fault; the line says what mends it.
        ConfigError: a setting that cannot work. BackendError: no backend is installed.

    >>> found = reconstruct(example, iterations=10)
    >>> found.method, found.object.shape, found.trust.grade
    ('refined', (128, 128), 'to the noise')
    """
    data = as_scans(scan)
    with ExitStack() as left_behind:
        folder = None if output_dir is None else Path(output_dir)
        if train is not None and folder is None:
            folder = Path(left_behind.enter_context(TemporaryDirectory()))
        outcome = reconstruct_scan(
            data,
            Request(
                backend=installed_backend(backend),
                iteration=config_from_dict(IterationOptions, settings, "reconstruct"),
                probe=None if probe is None else str(probe),
                model=None if model is None else weights_file(Path(model)),
                train_seconds=train,
                start=read_start(Path(start)) if isinstance(start, Path | str) else start,
                force=force,
                uncertainty=uncertainty,
                folder=folder,
                execution=execution,
                watch=log_progress if report is None else partial(told_of, report),
            ),
        )
    if output_dir is not None:
        save_run(outcome, data, Path(output_dir))
    return outcome.reconstruction


def told_of(report: Callable[[int, float], None], progress: Progress) -> None:
    """Report an iteration; of a training before it nothing."""
    if progress.unit == "iteration":
        report(int(progress.done), progress.values["relative error"])


def refine(
    scan: Scan | Sequence[Scan],
    start: Start | None = None,
    iterations: int = ITERATIONS,
    *,
    refine_probe: bool = True,
    refine_positions: Positions = False,
    likelihood: Likelihood = "amplitude",
    backend: BackendName | None = None,
    execution: PyTorchExecutionConfig | None = None,
    **settings: Any,
) -> Refinement:
    """Refine an object, the probe and, when asked for, the positions on the patterns of a scan.

    Args:
        scan: a scan or its file; several of one object, with positions in one frame, are reconstructed together, each
            with its own probe.
        start: None begins flat; a `Reconstruction` or `Refinement` goes on where it ended; an array (H, W) complex
            lies in the frame of the result.
        iterations: at most so many.
        refine_probe: whether all modes of the probe move too.
        refine_positions: whether positions move too: scale, rotation, shear and backlash of the stage first, then each
            by itself; 'stage' leaves out the latter; 'search' first tries each elsewhere, within `position_bound_px`.
        likelihood: 'amplitude', or 'poisson' for few photons.
        backend: 'pytorch' or 'tensorflow'; None takes what is installed, PyTorch first.
        execution: device and so on for PyTorch; None takes a GPU where there is one.
        settings: further keywords of `ptycho_torch.refine.refine` and `ptycho.tf.refine.refine`: `holdout`,
            `batch_size`, `noise`, `frame`, `report` and so on.

    Returns:
        The best point seen, never worse than the start: object (H, W), probe (M, N, N), positions in pixels, and the
        relative error after every iteration.

    Raises:
        MissingFileError, DataError: no sound scan, or a start that does not fit. ConfigError: a setting that cannot
        work. BackendError: no backend is installed.

    >>> found = refine(example, iterations=3)
    >>> found.iterations, found.error_history[found.kept] < found.error_history[0] / 2
    (3, True)
    """
    data, used = as_scans(scan), installed_backend(backend)
    if "frame" not in settings and not isinstance(start, Reconstruction | Refinement):
        bound = settings.get("position_bound_px", 2.0) if refine_positions and start is None else None
        settings["frame"] = object_grid(data, bound)
    engine = backend_named(used)
    return engine.refine(
        data,
        start,
        iterations,
        InferenceConfig(backend=used),
        engine.settled(RunOptions(execution=execution)),
        refine_probe=refine_probe,
        refine_positions=refine_positions,
        likelihood=likelihood,
        **settings,
    )
