"""The command line `ptycho reconstruct`: from a scan to a judged object in a folder of its own."""

from __future__ import annotations

import json
import logging
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ptycho.cli.programs import RECONSTRUCTION
from ptycho.cli.progress import shown_progress
from ptycho.cli.run import (
    LOG_FILE,
    RUN_FILE,
    free_folder,
    input_path,
    output_folder,
    quiet_tensorflow,
    report_files,
    report_reconstruction,
    report_trust,
    run_command,
    run_log,
)
from ptycho.cli.scan_flags import data_from, name_of, recorded
from ptycho.cli.settings import Settled
from ptycho.core.files.atomic import RESULT_FILE
from ptycho.core.files.damage import readable
from ptycho.core.files.whole_set import UNFINISHED
from ptycho.core.files.written import written
from ptycho.errors import ConfigError, MissingFileError, PtychoError

if TYPE_CHECKING:
    from ptycho.core.reconstruction import Reconstruction
    from ptycho.raw_data import RawData
    from ptycho.workflows.front_door import Request

__all__ = ["is_finished", "read_asked", "reconstruct_main", "scan_asked_for"]

_log = logging.getLogger(__name__)

_TAKEN = (RESULT_FILE, RUN_FILE, "wts.h5.zip")
"""By which a folder holds a run, also one that was cut off."""


def reconstruct_main(argv: Sequence[str] | None = None) -> int:
    """Reconstruct a scan and write the object as pictures, NPZ and HDF5.

    Args:
        argv: the arguments; those of the process when None.

    Returns:
        The exit status: 0, 2 for bad input, 130 for an interrupt.
    """
    return run_command(RECONSTRUCTION, _reconstruct, argv, _meant)


def _meant(arguments: list[str]) -> list[str]:
    """The arguments; where a run is to go on those that it was begun with, and its folder."""
    resumed = getattr(RECONSTRUCTION.parser().parse_flags(arguments), "run.resume", None)
    return arguments if resumed is None else [*_arguments_of(Path(resumed)), "--resume", str(resumed)]


def _arguments_of(folder: Path) -> list[str]:
    """The arguments of a run that is to go on.

    Raises:
        MissingFileError, ConfigError: no run in the folder, one that is finished, or one that was begun elsewhere.
    """
    path = folder / RUN_FILE
    if not path.is_file():
        raise MissingFileError(f"--resume {folder}: expected a run ({RUN_FILE}), found none; name the folder of one")
    arguments, begun_in = read_asked(path)
    if is_finished(folder):
        raise ConfigError(f"--resume {folder}: this run is finished; --start {folder} goes on from its result")
    if Path(begun_in) != Path.cwd():
        raise ConfigError(f"--resume {folder}: the run was begun in {begun_in}; go there (cd) and name it from there")
    return arguments


def read_asked(path: Path) -> tuple[list[str], str]:
    """The arguments of a run and the folder that it was begun in, from its `RUN_FILE`; ConfigError: it is damaged."""
    with readable(path, "the arguments of a run", ConfigError, "start anew"):
        asked = json.loads(path.read_text(encoding="utf-8"))
        return [str(one) for one in asked["arguments"]], str(asked["working_directory"])


def _reconstruct(asked: Settled, debug: bool) -> None:
    run, options = asked.run, asked.options
    scan = options.scan
    if scan is not None or not options.patterns:
        scan = input_path(scan, "SCAN", "the scan to reconstruct")
    others = [input_path(one, "SCAN", "a further scan of the same object") for one in options.others]
    _check(run, others, options)

    from ptycho.report.page import REPORT_FILE
    from ptycho.workflows.backend_selector import require_backend
    from ptycho.workflows.front_door import reconstruct_scan
    from ptycho.workflows.outputs import save_run

    quiet_tensorflow(asked.config.backend, debug)
    require_backend(asked.config.backend)
    named = Path(f"{Path(name_of(options, scan)).stem}_reconstruction")
    folder = run.resume or free_folder(run.output_dir or named, run.overwrite, results=_TAKEN)
    with output_folder(folder), _resumable(folder, run.resume is not None), run_log(folder / LOG_FILE):
        data = _together(asked, [scan, *others]) if others else scan_asked_for(asked, scan)
        data = recorded(data, run.recording)
        request = _request(asked, folder)
        if run.resume is None:
            _begin(folder, asked.arguments)
        with shown_progress(not run.quiet) as watch:
            outcome = reconstruct_scan(data, replace(request, watch=watch))
        written = save_run(outcome, data, folder, compare_with=run.compare, pdf=run.pdf)
        if run.frc:
            written = _with_halves(data, request, outcome.reconstruction, folder, run) + written
        report_reconstruction(outcome.reconstruction)
        report_files(written)
        report_trust(outcome.reconstruction)
        _log.info("Look at %s", folder / REPORT_FILE)


def is_finished(folder: Path) -> bool:
    """Whether the run in a folder has its result; while one goes on that of an earlier run may stand there."""
    from ptycho.workflows.front_door import STATE

    return (folder / RESULT_FILE).exists() and not any((folder / name).exists() for name in (STATE, UNFINISHED))


def scan_asked_for(asked: Settled, scan: Path | None) -> RawData:
    """The scan of the flags, ready to be reconstructed; told, with what computes."""
    data = data_from(asked.options, scan, asked.run.memory_map, asked.run.crop)
    if asked.run.bin > 1:
        data = data.fitted(asked.run.crop, asked.run.bin)
    _log.info("Scan: %s", data)
    chosen = "" if "backend" in asked.stated else ", the first that is installed"
    _log.info("Backend: %s%s", asked.config.backend, chosen)
    return data


def _together(asked: Settled, scans: Sequence[Path | None]) -> RawData:
    """Several scans of one object as one, and told."""
    from ptycho.workflows.shared_object import joined

    data = joined([scan_asked_for(asked, scan) for scan in scans])
    _log.info("One object from %d scans: %s", len(scans), data)
    return data


def _with_halves(data: RawData, request: Request, found: Reconstruction, folder: Path, run: Any) -> list[Path]:
    """Reconstruct both halves too, with what the whole was reconstructed with, and bring them into the report."""
    from ptycho.report.page import REPORT_FILE
    from ptycho.workflows.half_scans import reconstruct_halves, save_halves
    from ptycho.workflows.report import write_report

    with shown_progress(not run.quiet) as watch:
        halves = reconstruct_halves(data, replace(request, watch=watch))
    _log.info("Resolution: %s", halves.resolution.summary)
    written = save_halves(halves, folder, run.pdf)
    write_report(found, folder / REPORT_FILE, data, run.compare)
    return written


def _check(run: Any, others: Sequence[Path], options: Any) -> None:
    """What can be known to be wrong before anything is read."""
    for flag, given in (
        ("--frc", run.frc),
        ("--patterns", options.patterns),
        ("--scan-positions", options.scan_positions),
    ):
        if others and given:
            raise ConfigError(f"{flag}: expected one scan, found {1 + len(others)}; leave one of both out")
    beginnings = [f"--{name}" for name in ("start", "model", "train") if getattr(run, name) is not None]
    if len(beginnings) > 1:
        raise ConfigError(f"{' and '.join(beginnings)} each say where to begin: give one of them")
    named = (
        (run.model, "--model", "a trained network"),
        (run.start, "--start", "a result"),
        (run.recording, "--recording", "a result"),
        (run.compare, "--compare", "a result"),
    )
    for path, flag, what in named:
        if path is not None:
            input_path(path, flag, what)


def _request(asked: Settled, folder: Path) -> Request:
    """What the flags ask for."""
    from ptycho.workflows.front_door import Request
    from ptycho.workflows.start_from import read_start

    run = asked.run
    return Request(
        backend=asked.config.backend,
        iteration=asked.config.iteration,
        probe=run.probe,
        model=run.model,
        train_seconds=run.train,
        start=None if run.start is None else read_start(run.start),
        force=run.force,
        folder=folder,
        execution=asked.execution,
    )


def _write_arguments(path: Path, arguments: Sequence[str]) -> None:
    from ptycho.core.files.atomic import atomic_path

    facts = {"arguments": list(arguments), "working_directory": str(Path.cwd())}
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


@contextmanager
def _resumable(folder: Path, resumes: bool) -> Iterator[None]:
    """Have an interrupt say how to go on; what could not begin for a fault of its input leaves nothing."""
    before, log = written(folder / RUN_FILE), (folder / LOG_FILE).exists()
    try:
        yield
    except KeyboardInterrupt as stop:
        begun = resumes or written(folder / RUN_FILE) != before
        stop.args = (_advice(folder),) if begun else ()
        raise
    except PtychoError:
        if not resumes and written(folder / RUN_FILE) != before and _nothing_done(folder):
            for name in (RUN_FILE, *(() if log else (LOG_FILE,))):
                (folder / name).unlink(missing_ok=True)
        raise


def _advice(folder: Path) -> str:
    """What can be done about a run that was cut off."""
    from ptycho.workflows.unfinished import SO_FAR

    if is_finished(folder):  # what was cut off came after it
        return f"the result is written; ptycho frc SCAN -o {shlex.quote(str(folder))} adds the resolution"
    found = folder / SO_FAR
    kept = f"the object so far is in {found}; " if found.exists() else ""
    return f"{kept}go on with ptycho reconstruct --resume {shlex.quote(str(folder))}"


def _nothing_done(folder: Path) -> bool:
    """Whether a run has come to no state that it could go on from; the empty folder for that goes."""
    from ptycho.workflows.front_door import STATE

    with suppress(OSError):
        (folder / STATE).rmdir()
    return not (folder / STATE).exists()


def _begin(folder: Path, arguments: Sequence[str]) -> None:
    """Mark a folder as that of a run with these arguments, which is not finished: nothing of an earlier one stays.

    Only then is there anything to go on from.
    """
    from ptycho.workflows.front_door import begin_anew

    begin_anew(folder)
    _write_arguments(folder / RUN_FILE, arguments)
