"""The command line `ptycho_inference`: read the settings, reconstruct, report."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ptycho.cli.programs import INFERENCE
from ptycho.cli.progress import shown_progress
from ptycho.cli.run import (
    LOG_FILE,
    check_compared,
    diagnostics_of,
    dump_folder,
    free_folder,
    input_path,
    output_folder,
    quiet_tensorflow,
    report_files,
    report_reconstruction,
    report_trust,
    report_uncertainty,
    run_command,
    run_log,
    team_of,
)
from ptycho.cli.scan_flags import recorded
from ptycho.cli.settings import Command, Settled
from ptycho.config.config import validate_inference_config
from ptycho.networks.universal import weights_file

__all__ = ["inference_main"]


def inference_main(argv: Sequence[str] | None = None, command: Command = INFERENCE) -> int:
    """Reconstruct a scan with a trained model and write the object as pictures, NPZ and HDF5.

    Args:
        argv: the arguments; those of the process when None.
        command: its name and its flags.

    Returns:
        The exit status: 0, 2 for bad input, 130 for an interrupt.
    """
    return run_command(command, _infer, argv)


def _infer(asked: Settled, debug: bool) -> None:
    config, run = asked.config, asked.run
    config.debug = config.debug or debug
    validate_inference_config(config)
    test_file = input_path(config.test_data_file, "--test-data", "the scan to reconstruct")
    config.model_path = input_path(weights_file(config.model_path), "--model-path", "the trained model")

    check_compared(run.compare)
    if run.recording is not None:
        input_path(run.recording, "--recording", "a result")

    quiet_tensorflow(config.backend, debug)
    with team_of(asked) as first:
        if first:
            _reconstructed(asked, test_file)


def _reconstructed(asked: Settled, test_file: Path) -> None:
    """What the first process of a run does, and mostly there is one."""
    from ptycho.raw_data import RawData
    from ptycho.workflows.backend_selector import reconstruct_with_backend
    from ptycho.workflows.outputs import save_reconstruction
    from ptycho.workflows.unfinished import forget

    config, run = asked.config, asked.run
    config.output_dir = free_folder(config.output_dir, run.overwrite)
    with output_folder(config.output_dir), run_log(config.output_dir / LOG_FILE), dump_folder(run.debug_dump):
        forget(config.output_dir)  # what is left there is of another run
        diagnostics = diagnostics_of(asked)
        data = recorded(RawData.from_file(test_file, units=run.units, memory_map=run.memory_map), run.recording)
        with shown_progress(not run.quiet) as watch, _what_is_left(config.output_dir, test_file):
            reconstruction = reconstruct_with_backend(
                data,
                config,
                refine=run.refine,
                refinement=asked.refinement,
                execution_config=asked.execution,
                diagnostics=diagnostics,
                watch=watch,
                folder=config.output_dir,
                uncertainty=run.uncertainty,
            )
        written = save_reconstruction(reconstruction, config.output_dir, data, compare_with=run.compare, pdf=run.pdf)
        written += diagnostics.written if diagnostics is not None else []
        forget(config.output_dir)
        report_reconstruction(reconstruction)
        report_files(written)
        report_uncertainty(reconstruction)
        report_trust(reconstruction)


@contextmanager
def _what_is_left(folder: Path, scan: Path) -> Iterator[None]:
    """Have an interrupt say how to go on."""
    try:
        yield
    except KeyboardInterrupt as stop:
        from ptycho.workflows.unfinished import SO_FAR

        found = folder / SO_FAR
        if found.exists():
            command = shlex.join(["ptycho", "reconstruct", str(scan), "--start", str(found)])
            stop.args = (f"the object so far is in {found}; go on with {command}",)
        raise
