"""The command lines `ptycho_train` and `ptycho_inference`: read settings, call the workflows, report.

Nothing heavy is imported before the arguments are known to be good, so that help and complaints come at once.
"""

from __future__ import annotations

import argparse
import logging
import math
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ptycho.cli.console import USER_ERRORS, add_volume_flags, complain, console_log, log_level, resumable
from ptycho.cli.flags import (
    FlagParser,
    add_config_flags,
    add_diagnostics_flags,
    add_execution_flags,
    add_learning_rate_flag,
    add_reading_flags,
    add_refinement_flags,
    config_from_options,
    diagnostics_from_options,
    execution_from_options,
    reading_from_options,
    refinement_from_options,
)
from ptycho.config.config import (
    InferenceConfig,
    PyTorchExecutionConfig,
    TrainingConfig,
    load_config_file,
    validate_execution_config,
    validate_inference_config,
    validate_model_config,
    validate_training_config,
)
from ptycho.errors import ConfigError, MissingFileError, OutputError

if TYPE_CHECKING:
    from ptycho.core.reconstruction import Reconstruction
    from ptycho.workflows.diagnostics import Diagnostics

__all__ = ["inference_main", "train_main"]

_log = logging.getLogger(__name__)
_SHOWN_PATTERNS = 64
"""Patterns, spread over the scan, that the summary picture averages."""
_INFERENCE_EXECUTION = ("accelerator", "deterministic", "precision", "num_workers", "inference_batch_size")


def train_main(argv: Sequence[str] | None = None) -> int:
    """Train a network on a scan, write its archive and, with --do_stitching, the reconstruction.

    Args:
        argv: the arguments; those of the process when None.

    Returns:
        The exit status: 0, 2 for bad input, 130 for an interrupt.
    """
    parser = _parser("ptycho_train", "--train_data_file SCAN.npz --output_dir FOLDER", train_main.__doc__)
    parser.add_argument("--do_stitching", action="store_true", help="reconstruct the object after training")
    parser.add_argument(
        "--resume", type=Path, metavar="CHECKPOINT", help="go on from a checkpoint, with its optimiser and epoch"
    )
    parser.add_argument(
        "--max_seconds",
        type=_positive,
        metavar="S",
        help="stop after S seconds of training; one-cycle rates fit into it",
    )
    parser.add_argument(
        "--simulated_objects",
        type=_iterations,
        metavar="N",
        help="train on N simulated objects under the probe, positions and dose of the scan instead of on its patterns, "
        "which then validate",
    )
    parser.add_argument(
        "--refine_probe",
        type=_iterations,
        metavar="N",
        help="first find the probe by at most N iterations of refinement on the scan; for a probeGuess that is not the "
        "measured one (default: 0)",
    )
    add_diagnostics_flags(parser)
    add_learning_rate_flag(parser)
    add_config_flags(parser, TrainingConfig)
    add_execution_flags(parser)
    return _run(parser, _train, argv)


def inference_main(argv: Sequence[str] | None = None) -> int:
    """Reconstruct a scan with a trained model and write the object as pictures, NPZ and HDF5.

    Args:
        argv: the arguments; those of the process when None.

    Returns:
        The exit status: 0, 2 for bad input, 130 for an interrupt.
    """
    required = "--model_path MODEL --test_data SCAN.npz --output_dir FOLDER"
    parser = _parser("ptycho_inference", required, inference_main.__doc__)
    parser.add_argument(
        "--refine",
        type=_iterations,
        metavar="N",
        help="at most N iterations of refinement of object and probe after the network (default: 0)",
    )
    add_diagnostics_flags(parser)
    add_refinement_flags(parser)
    add_config_flags(parser, InferenceConfig, skip=("model", "debug"))
    add_execution_flags(parser, _INFERENCE_EXECUTION)
    return _run(parser, _infer, argv)


def _parser(program: str, required: str, doc: str | None) -> FlagParser:
    summary = (doc or "").splitlines()[0]
    parser = FlagParser(prog=program, usage=f"{program} {required} [options]", description=summary)
    parser.add_argument("--config", type=Path, metavar="FILE", help="settings from YAML, TOML or JSON; flags win")
    add_reading_flags(parser)
    add_volume_flags(parser)
    return parser


def _positive(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number above 0, found {text}")
    return number


def _iterations(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a whole number at least 0, found {text}")
    return int(text)


def _run(
    parser: FlagParser,
    command: Callable[[argparse.Namespace, dict[str, Any]], None],
    argv: Sequence[str] | None,
) -> int:
    """Parse, run the command and turn what it raises into one line on stderr and the exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    try:
        options = parser.parse_flags(arguments)
        table = load_config_file(options.config) if "config" in options else {}
        debug = debug or table.get("debug") is True
        with console_log(log_level(debug=debug, quiet="quiet" in options)):
            command(options, table)
    except USER_ERRORS as error:
        return complain(parser.prog, error, debug)
    return 0


def _train(options: argparse.Namespace, table: dict[str, Any]) -> None:
    config = config_from_options(TrainingConfig, options, table, str(getattr(options, "config", "command line")))
    validate_training_config(config)
    execution = _execution(options, config)
    asked = diagnostics_from_options(options, stitches="do_stitching" in options)
    learning_rate = getattr(options, "learning_rate", None)
    if learning_rate is not None and "execution.learning_rate" in options:
        raise ConfigError("--learning_rate and --torch-learning-rate are the same setting: give one of them")
    if not config.training_directories or _is_set(config.train_data_file):
        _input_path(config.train_data_file, "--train_data_file", "the scan to train on")
    if _is_set(config.test_data_file):
        _input_path(config.test_data_file, "--test_data_file", "the scan to validate with")
    for folder in config.training_directories:
        _input_path(folder, "--training_directories", "the folder of an experiment")
    resume = _input_path(options.resume, "--resume", "a checkpoint") if "resume" in options else None

    from ptycho.workflows.backend_selector import (
        refine_probe_with_backend,
        require_backend,
        run_cdi_example_with_backend,
        save_bundle_with_backend,
    )
    from ptycho.workflows.experiments import experiment_files, read_experiments
    from ptycho.workflows.outputs import save_reconstructions

    _quiet_tensorflow(config.backend, options)
    require_backend(config.backend)
    checkpoint = config.output_dir / "checkpoints" / "last.ckpt"
    with _output_folder(config.output_dir), _dump_folder(asked), resumable(checkpoint):
        train_data, test_data = read_experiments(experiment_files(config), **reading_from_options(options))
        if "model.N" not in options and "N" not in table.get("model", {}):
            config.model.N = int(train_data[0].probeGuess.shape[-1])
            validate_model_config(config.model)
        iterations = getattr(options, "refine_probe", 0)
        if iterations:
            train_data = [
                refine_probe_with_backend(scan, config, iterations, execution_config=execution) for scan in train_data
            ]
        objects = getattr(options, "simulated_objects", 0)
        if objects:
            from ptycho.workflows.simulated_training import simulated_scan_like

            seed = config.subsample_seed or 0
            test_data = [scan if test is None else test for scan, test in zip(train_data, test_data, strict=True)]
            train_data = [
                simulated_scan_like(scan, objects, scan.photons(config.nphotons), seed) for scan in train_data
            ]
        diagnostics = _diagnostics(asked, config, execution)
        _, _, results = run_cdi_example_with_backend(
            train_data,
            test_data,
            config,
            do_stitching="do_stitching" in options,
            learning_rate=learning_rate,
            execution_config=execution,
            resume=resume,
            max_seconds=getattr(options, "max_seconds", None),
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


def _infer(options: argparse.Namespace, table: dict[str, Any]) -> None:
    source = str(getattr(options, "config", "command line"))
    if "model" in table:
        raise ConfigError(f"{source}: the settings of the model come with --model_path, remove 'model'")
    config = config_from_options(InferenceConfig, options, table, source)
    config.debug = config.debug or "debug" in options
    validate_inference_config(config)
    execution = _execution(options, config)
    iterations = getattr(options, "refine", 0)
    refinement = refinement_from_options(options, iterations)
    asked = diagnostics_from_options(options, stitches=True)
    test_file = _input_path(config.test_data_file, "--test_data", "the scan to reconstruct")
    config.model_path = _input_path(config.model_path, "--model_path", "the trained model")

    from ptycho.raw_data import RawData
    from ptycho.workflows.backend_selector import reconstruct_with_backend, require_backend
    from ptycho.workflows.outputs import save_reconstruction

    _quiet_tensorflow(config.backend, options)
    require_backend(config.backend)
    with _output_folder(config.output_dir), _dump_folder(asked):
        diagnostics = _diagnostics(asked, config, execution)
        data = RawData.from_file(test_file, **reading_from_options(options))
        reconstruction = reconstruct_with_backend(
            data,
            config,
            refine=iterations,
            refinement=refinement,
            execution_config=execution,
            diagnostics=diagnostics,
        )
        shown = data.amplitude(range(0, len(data), 1 + len(data) // _SHOWN_PATTERNS))
        written = save_reconstruction(reconstruction, config.output_dir, patterns=shown)
        written += diagnostics.written if diagnostics is not None else []
    _report_reconstruction(reconstruction)
    _report_files(written)
    _report_trust(reconstruction)


def _quiet_tensorflow(backend: str, options: argparse.Namespace) -> None:
    """Keep what TensorFlow says about its own start from the terminal, unless --debug or the user's own setting."""
    if backend == "tensorflow" and "debug" not in options:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def _execution(options: argparse.Namespace, config: TrainingConfig | InferenceConfig) -> PyTorchExecutionConfig | None:
    execution = execution_from_options(options, config)
    if execution is not None:
        if "quiet" in options and "execution.enable_progress_bar" not in options:
            execution.enable_progress_bar = False
        validate_execution_config(execution)
    return execution


def _diagnostics(
    asked: dict[str, Any], config: TrainingConfig | InferenceConfig, execution: PyTorchExecutionConfig | None
) -> Diagnostics | None:
    """What writes the statistics and the dump that were asked for; None for neither."""
    if not asked:
        return None
    from ptycho.workflows.diagnostics import make_diagnostics

    size = None if execution is None else execution.inference_batch_size
    return make_diagnostics(config.output_dir, config.backend, size, **asked)


def _is_set(path: Path | None) -> bool:
    return path is not None and path != Path()


def _input_path(path: Path | None, flag: str, meaning: str) -> Path:
    if path is None or not _is_set(path):
        raise ConfigError(f"{flag} is required: name {meaning}")
    if not path.exists():
        raise MissingFileError(f"{flag} {path}: no such file")
    return path


@contextmanager
def _output_folder(folder: Path, flag: str = "--output_dir") -> Iterator[None]:
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


def _dump_folder(asked: dict[str, Any]) -> AbstractContextManager[None]:
    """The folder of the dump, likewise, where there is to be one."""
    return _output_folder(asked["debug_dump"], "--debug-dump") if "debug_dump" in asked else nullcontext()


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
