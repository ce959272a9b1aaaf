"""The command lines `ptycho_train` and `ptycho_inference`: read settings, call the workflows, report.

Nothing heavy is imported before the arguments are known to be good, so that help and complaints come at once.
"""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ptycho.cli.console import USER_ERRORS, complain, console_log, log_level, resumable
from ptycho.cli.flags import FlagParser
from ptycho.cli.settings import INFERENCE, TRAINING, Command, Settled, load_table
from ptycho.config.config import (
    validate_inference_config,
    validate_model_config,
    validate_training_config,
)
from ptycho.errors import ConfigError, MissingFileError, OutputError

if TYPE_CHECKING:
    from ptycho.core.reconstruction import Reconstruction
    from ptycho.raw_data import RawData
    from ptycho.workflows.diagnostics import Diagnostics

__all__ = ["inference_main", "scans_to_train", "train_main"]

_log = logging.getLogger(__name__)
_SHOWN_PATTERNS = 64
"""Patterns, spread over the scan, that the summary picture averages."""


def train_main(argv: Sequence[str] | None = None) -> int:
    """Train a network on a scan, write its archive and, with --do-stitching, the reconstruction.

    Args:
        argv: the arguments; those of the process when None.

    Returns:
        The exit status: 0, 2 for bad input, 130 for an interrupt.
    """
    parser = _parser("ptycho_train", "--train-data-file SCAN.npz --output-dir FOLDER", train_main.__doc__)
    return _run(parser, TRAINING, _train, argv)


def inference_main(argv: Sequence[str] | None = None) -> int:
    """Reconstruct a scan with a trained model and write the object as pictures, NPZ and HDF5.

    Args:
        argv: the arguments; those of the process when None.

    Returns:
        The exit status: 0, 2 for bad input, 130 for an interrupt.
    """
    required = "--model-path MODEL --test-data SCAN.npz --output-dir FOLDER"
    parser = _parser("ptycho_inference", required, inference_main.__doc__)
    return _run(parser, INFERENCE, _infer, argv)


def _parser(program: str, required: str, doc: str | None) -> FlagParser:
    summary = (doc or "").splitlines()[0]
    parser = FlagParser(prog=program, usage=f"{program} {required} [options]", description=summary)
    return parser


def _run(
    parser: FlagParser, settings: Command, command: Callable[[Settled, bool], None], argv: Sequence[str] | None
) -> int:
    """Parse, run the command and turn what it raises into one line on stderr and the exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    settings.add_flags(parser)
    try:
        options = parser.parse_flags(arguments)
        table = load_table(options)
        debug = debug or table.get("debug") is True
        with console_log(log_level(debug=debug, quiet="quiet" in options or table.get("quiet") is True)):
            command(settings.settle(options, table), debug)
    except USER_ERRORS as error:
        return complain(parser.prog, error, debug)
    return 0


def _train(asked: Settled, debug: bool) -> None:
    config, run, execution = asked.config, asked.run, asked.execution
    validate_training_config(config, stitching=run.do_stitching)
    if run.debug_dump is not None and not run.do_stitching:
        raise ConfigError("--debug-dump shows what stitching works with: give --do-stitching too")
    if not config.training_directories or _is_set(config.train_data_file):
        _input_path(config.train_data_file, "--train-data-file", "the scan to train on")
    if _is_set(config.test_data_file):
        _input_path(config.test_data_file, "--test-data-file", "the scan to validate with")
    for folder in config.training_directories:
        _input_path(folder, "--training-directories", "the folder of an experiment")
    resume = None if run.resume is None else _input_path(run.resume, "--resume", "a checkpoint")

    from ptycho.workflows.backend_selector import (
        require_backend,
        run_cdi_example_with_backend,
        save_bundle_with_backend,
    )
    from ptycho.workflows.experiments import experiment_files, read_experiments
    from ptycho.workflows.outputs import save_reconstructions

    _quiet_tensorflow(config.backend, debug)
    require_backend(config.backend)
    checkpoint = config.output_dir / "checkpoints" / "last.ckpt"
    with _output_folder(config.output_dir), _dump_folder(run.debug_dump), resumable(checkpoint):
        train_data, test_data = read_experiments(experiment_files(config), units=run.units, memory_map=run.memory_map)
        if "N" not in asked.stated:
            config.model.N = int(train_data[0].probeGuess.shape[-1])
            validate_model_config(config.model)
        train_data, test_data = scans_to_train(asked, train_data, test_data)
        diagnostics = _diagnostics(asked)
        _, _, results = run_cdi_example_with_backend(
            train_data,
            test_data,
            config,
            do_stitching=run.do_stitching,
            learning_rate=run.learning_rate,
            execution_config=execution,
            resume=resume,
            max_seconds=run.max_seconds,
            diagnostics=diagnostics,
        )
        written = [save_bundle_with_backend(results, config, config.output_dir)]
        reconstructions = results.get("reconstructions", ())
        written += save_reconstructions(reconstructions, config.output_dir)
        written += diagnostics.written if diagnostics is not None else []
    _report_history(results["history"])
    titles = [f"experiment {number}: " if len(reconstructions) > 1 else "" for number in range(len(reconstructions))]
    for title, reconstruction in zip(titles, reconstructions, strict=True):
        _report_reconstruction(reconstruction, title)
    _report_files(written)
    for title, reconstruction in zip(titles, reconstructions, strict=True):
        _report_trust(reconstruction, title)


def scans_to_train(asked: Settled, train: list[RawData], test: list[RawData | None]) -> tuple[Any, Any]:
    """The scans to train on and to validate with: with the probes that refinement finds, or simulated, if asked for."""
    config, run = asked.config, asked.run
    if run.find_probe:
        from ptycho.workflows.backend_selector import refine_probe_with_backend

        train = [
            refine_probe_with_backend(scan, config, run.find_probe, execution_config=asked.execution) for scan in train
        ]
    if run.simulated_objects:
        from ptycho.workflows.simulated_training import simulated_scan_like

        seed = config.subsample_seed or 0
        test = [scan if known is None else known for scan, known in zip(train, test, strict=True)]
        train = [
            simulated_scan_like(scan, run.simulated_objects, scan.photons(config.nphotons), seed) for scan in train
        ]
    return train, test


def _infer(asked: Settled, debug: bool) -> None:
    config, run, execution = asked.config, asked.run, asked.execution
    config.debug = config.debug or debug
    validate_inference_config(config)
    test_file = _input_path(config.test_data_file, "--test-data", "the scan to reconstruct")
    config.model_path = _input_path(config.model_path, "--model-path", "the trained model")

    from ptycho.raw_data import RawData
    from ptycho.workflows.backend_selector import reconstruct_with_backend, require_backend
    from ptycho.workflows.outputs import save_reconstruction

    _quiet_tensorflow(config.backend, debug)
    require_backend(config.backend)
    with _output_folder(config.output_dir), _dump_folder(run.debug_dump):
        diagnostics = _diagnostics(asked)
        data = RawData.from_file(test_file, units=run.units, memory_map=run.memory_map)
        reconstruction = reconstruct_with_backend(
            data,
            config,
            refine=run.refine,
            refinement=asked.refinement,
            execution_config=execution,
            diagnostics=diagnostics,
        )
        shown = data.amplitude(range(0, len(data), 1 + len(data) // _SHOWN_PATTERNS))
        written = save_reconstruction(reconstruction, config.output_dir, patterns=shown)
        written += diagnostics.written if diagnostics is not None else []
    _report_reconstruction(reconstruction)
    _report_files(written)
    _report_trust(reconstruction)


def _quiet_tensorflow(backend: str, debug: bool) -> None:
    """Keep what TensorFlow says about its own start from the terminal, unless --debug or the user's own setting."""
    if backend == "tensorflow" and not debug:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def _diagnostics(asked: Settled) -> Diagnostics | None:
    """What writes the statistics and the dump that were asked for; None for neither."""
    if not asked.config.patch_stats.log_patch_stats and asked.run.debug_dump is None:
        return None
    from ptycho.workflows.diagnostics import configured_diagnostics

    size = None if asked.execution is None else asked.execution.inference_batch_size
    return configured_diagnostics(asked.config, size, asked.run.debug_dump)


def _is_set(path: Path | None) -> bool:
    return path is not None and path != Path()


def _input_path(path: Path | None, flag: str, meaning: str) -> Path:
    if path is None or not _is_set(path):
        raise ConfigError(f"{flag} is required: name {meaning}")
    if not path.exists():
        raise MissingFileError(f"{flag} {path}: no such file")
    return path


@contextmanager
def _output_folder(folder: Path, flag: str = "--output-dir") -> Iterator[None]:
    """Make the folder and prove that it can be written; if the run fails, empty folders made here go."""
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    finished = False
    try:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            raise OutputError(f"{flag} {folder}: cannot be written: {error.strerror}") from error
        yield
        finished = True
    finally:
        for path in () if finished else made:
            with suppress(OSError):
                path.rmdir()


def _dump_folder(folder: Path | None) -> AbstractContextManager[None]:
    """The folder of the dump, likewise, where there is to be one."""
    return nullcontext() if folder is None else _output_folder(folder, "--debug-dump")


def _report_history(history: Mapping[str, Sequence[float]]) -> None:
    last = [f"{name} {values[-1]:.6g}" for name, values in history.items() if len(values)]
    epochs = max((len(values) for values in history.values()), default=0)
    if epochs:
        _log.info("Last of %d epochs: %s", epochs, ", ".join(last))


def _report_reconstruction(reconstruction: Reconstruction, title: str = "") -> None:
    height, width = reconstruction.object.shape
    covered = 100 * float((reconstruction.coverage > 0).mean())
    text = "%sReconstructed %d x %d pixels, %.1f %% covered (%s)"
    _log.info(text, title, height, width, covered, reconstruction.method)
    if reconstruction.error_history:
        first, last = reconstruction.error_history[0], reconstruction.error_history[-1]
        _log.info("Relative Fourier error: %.4g before refinement, %.4g after", first, last)


def _report_files(written: Sequence[Path]) -> None:
    for path in written:
        _log.info("Wrote %s", path)


def _report_trust(reconstruction: Reconstruction, title: str = "") -> None:
    """The verdict as the last line; where it is bad even with --quiet."""
    if reconstruction.trust is not None:
        level = logging.WARNING if reconstruction.trust.grade == "fails" else logging.INFO
        _log.log(level, "%sTrust: %s", title, reconstruction.trust.verdict)
