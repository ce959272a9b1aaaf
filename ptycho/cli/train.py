"""The command line `ptycho_train`: read the settings, train, report."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ptycho.cli.console import resumable
from ptycho.cli.programs import TRAINING
from ptycho.cli.progress import shown_progress
from ptycho.cli.run import (
    LOG_FILE,
    diagnostics_of,
    dump_folder,
    input_path,
    is_set,
    output_folder,
    quiet_tensorflow,
    report_files,
    report_history,
    report_reconstruction,
    report_trust,
    run_command,
    run_log,
    team_of,
    tell_of_folder,
)
from ptycho.cli.scan_flags import recorded
from ptycho.cli.settings import Command, Settled
from ptycho.config.config import validate_model_config, validate_training_config
from ptycho.core.files.atomic import new_output_folder
from ptycho.errors import ConfigError
from ptycho.networks.registry import PATTERN_SIZES
from ptycho.networks.universal import weights_file

if TYPE_CHECKING:
    from ptycho.core.reconstruction import Reconstruction
    from ptycho.raw_data import RawData

__all__ = ["train_main"]

_log = logging.getLogger(__name__)

_PROBE_ITERATIONS = 40
"""Bring a probe that does not fit close to the right one."""


def train_main(argv: Sequence[str] | None = None, command: Command = TRAINING) -> int:
    """Train a network on a scan, write its archive and, with --do-stitching, the reconstruction.

    Args:
        argv: the arguments; those of the process when None.
        command: its name and its flags.

    Returns:
        The exit status: 0, 2 for bad input, 130 for an interrupt.
    """
    return run_command(command, _train, argv)


def _train(asked: Settled, debug: bool) -> None:
    _check(asked)
    config, run = asked.config, asked.run
    resume = None if run.resume is None else input_path(run.resume, "--resume", "a checkpoint")

    quiet_tensorflow(config.backend, debug)
    with team_of(asked) as first:
        if first:
            _trained(asked, resume)


def _trained(asked: Settled, resume: Path | None) -> None:
    """What the first process of a run does, and mostly there is one."""
    from ptycho.workflows.backend_selector import run_cdi_example_with_backend, save_bundle_with_backend
    from ptycho.workflows.outputs import remove_results, save_reconstructions
    from ptycho.workflows.preview import PREVIEW

    config, run = asked.config, asked.run
    config.output_dir = _free_folder(config.output_dir, run)
    checkpoint = config.output_dir / "checkpoints" / "last.ckpt"
    log = run_log(config.output_dir / LOG_FILE)
    with output_folder(config.output_dir), log, dump_folder(run.debug_dump), resumable(checkpoint):
        train_data, test_data = _scans(asked)
        diagnostics = diagnostics_of(asked)
        wanted = not run.quiet and (asked.execution is None or asked.execution.enable_progress_bar)
        with shown_progress(wanted) as watch:
            _, _, results = run_cdi_example_with_backend(
                train_data,
                test_data,
                config,
                do_stitching=run.do_stitching,
                learning_rate=run.learning_rate,
                execution_config=asked.execution,
                resume=resume,
                max_seconds=run.max_seconds,
                diagnostics=diagnostics,
                watch=watch,
                start_from=run.start_from,
            )
        written = [save_bundle_with_backend(results, config, config.output_dir)]
        reconstructions = results.get("reconstructions", ())
        written += save_reconstructions(reconstructions, config.output_dir, run.pdf)
        if run.overwrite:
            remove_results(config.output_dir, len(reconstructions))
        (config.output_dir / PREVIEW).unlink(missing_ok=True)
        written += diagnostics.written if diagnostics is not None else []
        report_history(results["history"])
        _report(reconstructions, written)


def _free_folder(asked: Path, run: Any) -> Path:
    """The folder to write to, which holds no model of before unless that is to be overwritten.

    A training that goes on does so in the folder of its checkpoint.
    """
    archive = "wts.h5.zip"
    if run.overwrite or not (asked / archive).exists():
        return asked
    free = new_output_folder(asked, results=(archive,))
    if run.resume is not None and run.resume.parent.name == "checkpoints":
        free = run.resume.parent.parent
    if free.resolve() == asked.resolve():
        return asked
    tell_of_folder(asked, free, "model")
    return free


def _check(asked: Settled) -> None:
    """What can be known to be wrong before anything is read."""
    config, run = asked.config, asked.run
    validate_training_config(config, stitching=run.do_stitching)
    if run.debug_dump is not None and not run.do_stitching:
        raise ConfigError("--debug-dump shows what stitching works with: give --do-stitching too")
    if not config.training_directories or is_set(config.train_data_file):
        input_path(config.train_data_file, "--train-data-file", "the scan to train on")
    if is_set(config.test_data_file):
        input_path(config.test_data_file, "--test-data-file", "the scan to validate with")
    if run.start_from is not None:
        input_path(weights_file(run.start_from), "--start-from", "a trained network")
    if run.recording is not None:
        input_path(run.recording, "--recording", "a result")
        if config.training_directories:
            raise ConfigError(
                "--recording is a result of one scan, and several experiments are trained on: leave it out"
            )
    for folder in config.training_directories:
        input_path(folder, "--training-directories", "the folder of an experiment")


def _scans(asked: Settled) -> tuple[list[RawData], list[RawData | None]]:
    """The scans to train on and to validate with; N is theirs, unless it was given."""
    from ptycho.workflows.experiments import experiment_files, read_experiments
    from ptycho.workflows.networks.training_data import at_network_size

    config, run = asked.config, asked.run
    train, test = read_experiments(experiment_files(config), units=run.units, memory_map=run.memory_map)
    if "N" not in asked.stated:
        config.model.N = train[0].fitted(sizes=PATTERN_SIZES).N
        validate_model_config(config.model)
    train = [at_network_size(recorded(scan, run.recording), config.model.N) for scan in train]
    _settle_network(asked, train[0])
    train = [_with_fitting_probe(asked, scan) for scan in train]
    test = [None if scan is None else at_network_size(scan, config.model.N) for scan in test]
    return _simulated(asked, train, test) if run.simulated_objects else (train, test)


def _settle_network(asked: Settled, scan: RawData) -> None:
    """Have the scan, of several the first, choose what the command line left open about the network."""
    from ptycho.workflows.choose_method import settle_by_scan

    if asked.run.start_from is not None:
        from ptycho.workflows.networks.stored_model import shaped_like

        _log.info("%s", shaped_like(asked.run.start_from, asked.config, asked.stated))
    elif asked.config.model.model_type == "pinn":
        chosen = settle_by_scan(asked.config, asked.stated, scan)
        if chosen:
            _log.info("%s: %s", scan.name, chosen)


def _with_fitting_probe(asked: Settled, scan: RawData) -> RawData:
    """The scan with a probe that fits its patterns."""
    from ptycho.workflows.backend_selector import refine_probe_with_backend
    from ptycho.workflows.choose_method import probe_fits

    iterations = asked.run.find_probe
    if iterations is None:
        iterations = 0 if scan.has_probe and probe_fits(scan) else _PROBE_ITERATIONS
    if not iterations:
        return scan
    return refine_probe_with_backend(scan, asked.config, iterations, execution_config=asked.execution)


def _simulated(
    asked: Settled, train: list[RawData], test: list[RawData | None]
) -> tuple[list[RawData], list[RawData | None]]:
    """Simulated scans like those to train on, which validate where there is nothing else to."""
    from ptycho.workflows.networks.simulated_training import simulated_scan_like

    objects, dose, seed = asked.run.simulated_objects, asked.config.nphotons, asked.config.subsample_seed or 0
    test = [scan if known is None else known for scan, known in zip(train, test, strict=True)]
    return [simulated_scan_like(scan, objects, scan.photons(dose), seed) for scan in train], test


def _report(reconstructions: Sequence[Reconstruction], written: Sequence[Path]) -> None:
    titles = [f"experiment {number}: " if len(reconstructions) > 1 else "" for number in range(len(reconstructions))]
    for title, reconstruction in zip(titles, reconstructions, strict=True):
        report_reconstruction(reconstruction, title)
    report_files(written)
    for title, reconstruction in zip(titles, reconstructions, strict=True):
        report_trust(reconstruction, title)
