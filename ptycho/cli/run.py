"""What training and inference share around their work: a run from its flags to its exit status, and its report.

Nothing heavy is imported before the arguments are known to be good, so that help and complaints come at once.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ptycho import params
from ptycho.cli.console import USER_ERRORS, complain, console_log, drawing_to_files, log_level
from ptycho.cli.settings import Command, Settled, load_table
from ptycho.cli.stopping import Stops
from ptycho.core.files.atomic import RESULT_FILES, new_output_folder
from ptycho.core.files.folder_lock import LOCK_FILE, one_run_in
from ptycho.core.invocation import command_line
from ptycho.errors import ConfigError, MissingFileError, OutputError

if TYPE_CHECKING:
    from ptycho.core.reconstruction import Reconstruction
    from ptycho.workflows.diagnostics import Diagnostics

__all__ = [
    "LOG_FILE",
    "RUN_FILE",
    "check_compared",
    "check_inputs",
    "diagnostics_of",
    "dump_folder",
    "free_folder",
    "input_path",
    "is_set",
    "output_folder",
    "quiet_tensorflow",
    "report_files",
    "report_history",
    "report_reconstruction",
    "report_run",
    "report_trust",
    "report_uncertainty",
    "run_command",
    "run_log",
    "team_of",
    "tell_of_folder",
    "usable_cache",
]

_log = logging.getLogger(__name__)

_QUIETING = "TF_CPP_MIN_LOG_LEVEL"
_CHATTER = re.compile(r"[IWE]\d{4} \d\d:\d\d:|WARNING: All log messages before absl")
"""How a line of the log of C++ libraries begins; a fatal one (F) is shown."""

_CACHE = "TORCHINDUCTOR_CACHE_DIR"

LOG_FILE = "run.log"
"""What a run said, in its folder."""
RUN_FILE = "run.json"
"""What a reconstruction was asked, in its folder: the arguments and where they were given."""


def run_command(
    command: Command,
    work: Callable[[Settled, bool], None],
    argv: Sequence[str] | None,
    meant: Callable[[list[str]], list[str]] = list,
) -> int:
    """Parse, work and turn what that raises into one line on stderr and the exit status.

    Args:
        command: what it takes.
        work: what it does with its settings; the second argument says whether `--debug` was given.
        argv: the arguments; those of the process when None.
        meant: the arguments that these stand for.

    Returns:
        The exit status: 0, 2 for bad input, that of `ptycho.cli.stopping.Stopped` for a signal.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    try:
        arguments = meant(arguments)
        options = command.parser().parse_flags(arguments)
        table = load_table(options)
        debug = debug or table.get("debug") is True
        with (
            Stops(),
            params.left_alone(),
            drawing_to_files(),
            command_line(command.program, arguments),
            console_log(log_level(debug=debug, quiet="quiet" in options or table.get("quiet") is True)),
            usable_cache(),
        ):
            work(replace(command.settle(options, table), options=options, arguments=tuple(arguments)), debug)
    except USER_ERRORS as error:
        return complain(command.program, error, debug)
    return 0


@contextmanager
def usable_cache() -> Iterator[None]:
    """Have PyTorch keep compiled code elsewhere, for this run, where the folder that its variable names cannot be made.

    PyTorch makes it as soon as its compiler is loaded, and fails there.
    """
    asked = os.environ.get(_CACHE)
    if asked is None or _can_be_made(Path(asked)):
        yield
        return
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as instead:
        _log.warning("%s=%s cannot be written: compiled code is kept for this run alone", _CACHE, asked)
        os.environ[_CACHE] = instead
        try:
            yield
        finally:
            os.environ[_CACHE] = asked


def _can_be_made(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return True


def quiet_tensorflow(backend: str, debug: bool) -> None:
    """Keep what TensorFlow says about its own start from the terminal, unless --debug or the user's own setting."""
    loaded, there = "tensorflow" in sys.modules, importlib.util.find_spec("tensorflow") is not None
    if backend != "tensorflow" or debug or _QUIETING in os.environ or loaded or not there:
        return
    os.environ[_QUIETING] = "3"  # it looks once, while it is loaded
    try:
        with _without_chatter():
            importlib.import_module("tensorflow")
    finally:
        del os.environ[_QUIETING]


@contextmanager
def _without_chatter() -> Iterator[None]:
    """Keep the log of C++ libraries from stderr; whatever else comes there is shown at the end.

    While it is loaded TensorFlow writes to the file descriptor, whatever its own variable says.
    """
    sys.stderr.flush()
    with tempfile.TemporaryFile() as kept:
        terminal = os.dup(2)
        os.dup2(kept.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)
            kept.seek(0)
            lines = kept.read().decode(errors="replace").splitlines(keepends=True)
            sys.stderr.write("".join(line for line in lines if not _CHATTER.match(line)))


@contextmanager
def team_of(asked: Settled) -> Iterator[bool]:
    """The processes of a run, where the backend is installed: True in the first, which does what was asked.

    The others have done their part by then, and said nothing but warnings.
    """
    from ptycho.workflows.backend_selector import backend_named, require_backend
    from ptycho.workflows.run_options import RunOptions

    require_backend(asked.config.backend)
    with backend_named(asked.config.backend).team(RunOptions(execution=asked.execution, own_process=True)) as team:
        for name in ("ptycho", "ptycho_torch") if team.rank else ():
            logging.getLogger(name).setLevel(logging.WARNING)  # `console_log` puts it back
        if team.size > 1:
            _log.info("%d processes share the work", team.size)
        team.serve()
        yield team.rank == 0


def diagnostics_of(asked: Settled) -> Diagnostics | None:
    """What writes the statistics and the dump that were asked for; None for neither."""
    if not asked.config.patch_stats.log_patch_stats and asked.run.debug_dump is None:
        return None
    from ptycho.workflows.diagnostics import configured_diagnostics

    size = None if asked.execution is None else asked.execution.inference_batch_size
    return configured_diagnostics(asked.config, size, asked.run.debug_dump)


def is_set(path: Path | None) -> bool:
    """Whether a path was given; the empty one counts as none."""
    return path is not None and path != Path()


def input_path(path: Path | None, flag: str, meaning: str) -> Path:
    """A path that has to be given and to be there.

    Raises:
        ConfigError: it was not given; `meaning` says what to name.
        MissingFileError: there is nothing.
    """
    if path is None or not is_set(path):
        raise ConfigError(f"{flag} is required, a file: name {meaning}")
    if not path.exists():
        raise MissingFileError(f"{flag} {path}: no such file")
    return path


@contextmanager
def output_folder(folder: Path, flag: str = "--output-dir") -> Iterator[None]:
    """Make the folder, prove that it can be written, and hold it: no other run may write there meanwhile.

    If the run fails, empty folders made here go.

    Raises:
        OutputError: it cannot be written, or another run is writing there.
    """
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    finished = False
    try:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            fact = f"{flag} {folder}: cannot be written: {error.strerror}"
            raise OutputError(f"{fact}; name another folder with {flag}") from error
        with one_run_in(folder):
            yield
        finished = True
    finally:
        for path in () if finished else made:
            with suppress(OSError):
                path.rmdir()


def free_folder(asked: Path, overwrite: bool, what: str = "result", results: Sequence[str] = RESULT_FILES) -> Path:
    """The folder to write to, which holds no result of before unless that is to be overwritten; another one is told.

    Args:
        asked: the folder that was asked for.
        overwrite: take it in any case.
        what: what a folder would hold, in a word.
        results: names of files by which it does.
    """
    free = new_output_folder(asked, overwrite, results)
    if free != asked:
        tell_of_folder(asked, free, what)
    return free


def tell_of_folder(asked: Path, free: Path, what: str) -> None:
    """Say that the output goes elsewhere."""
    _log.info("%s holds a %s: writing to %s (--overwrite writes over it)", asked, what, free)


class _RunLog(logging.FileHandler):
    """The log of a run in its folder."""

    def handleError(self, record: logging.LogRecord) -> None:
        """A full disk ends the log and nothing else; what matters is said on the console, too."""


@contextmanager
def run_log(path: Path) -> Iterator[None]:
    """Have the library's log also go to a file; where the run fails and leaves nothing else, that does not stay."""
    handler = _RunLog(path, encoding="utf-8", delay=True)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    loggers = [logging.getLogger(name) for name in ("ptycho", "ptycho_torch")]
    for logger in loggers:
        logger.addHandler(handler)
    failed = True
    try:
        yield
        failed = False
    finally:
        for logger in loggers:
            logger.removeHandler(handler)
        with suppress(OSError):  # of a full disk
            handler.close()
        if failed and {entry.name for entry in path.parent.iterdir()} <= {path.name, LOCK_FILE}:
            path.unlink(missing_ok=True)


def dump_folder(folder: Path | None) -> AbstractContextManager[None]:
    """The folder of the dump, likewise, where there is to be one."""
    return nullcontext() if folder is None else output_folder(folder, "--debug-dump")


def report_history(history: Mapping[str, Sequence[float]]) -> None:
    """The last value of every loss."""
    last = [f"{name} {values[-1]:.6g}" for name, values in history.items() if len(values)]
    epochs = max((len(values) for values in history.values()), default=0)
    if epochs:
        _log.info("Last of %d epochs: %s", epochs, ", ".join(last))


def report_reconstruction(reconstruction: Reconstruction, title: str = "") -> None:
    """Size, coverage and method, and what refinement has brought."""
    height, width = reconstruction.object.shape
    pixel = reconstruction.metadata.get("object_pixel_m")
    covered = 100 * float((reconstruction.coverage > 0).mean())
    text = "%sReconstructed %d x %d pixels, %.1f %% covered (%s)"
    _log.info(text, title, height, width, covered, reconstruction.method)
    if pixel is not None:
        sides = (1e6 * pixel * side for side in (height, width))
        _log.info("%sAn object pixel is %.4g nm, the object %.4g x %.4g um", title, 1e9 * pixel, *sides)
    if reconstruction.error_history:
        first, trust = reconstruction.error_history[0], reconstruction.trust
        last = reconstruction.error_history[-1] if trust is None else trust.fourier_error
        _log.info("Relative Fourier error: %.4g before refinement, %.4g after", first, last)


def report_files(written: Sequence[Path]) -> None:
    """Every file that was written."""
    for path in written:
        _log.info("Wrote %s", path)


def report_run(found: Reconstruction, written: Sequence[Path], folder: Path) -> None:
    """What a finished run found and wrote, and where to look."""
    from ptycho.report.page import REPORT_FILE

    report_reconstruction(found)
    report_files(written)
    report_uncertainty(found)
    report_trust(found)
    _log.info("Look at %s", folder / REPORT_FILE)


def check_inputs(*named: tuple[Path | None, str, str]) -> None:
    """That the files which some flags name are there: each with its flag, and what it is; None where none is named."""
    for path, flag, what in named:
        if path is not None:
            input_path(path, flag, what)


def check_compared(path: Path | None) -> None:
    """That there is an object in what `--compare` names: it is read for the report, when all else is done.

    Raises:
        MissingFileError, DataError: no file, no format that is known, or no object in it.
    """
    if path is None:
        return
    from ptycho.core.formats.placing import placed_object

    placed_object(input_path(path, "--compare", "a result"))


def report_uncertainty(reconstruction: Reconstruction, title: str = "") -> None:
    """The error bars in a line, where they were measured; where they do not hold even with --quiet."""
    known = reconstruction.uncertainty
    if known is not None:
        _log.log(logging.INFO if known.holds else logging.WARNING, "%sUncertainty: %s", title, known.summary)


def report_trust(reconstruction: Reconstruction, title: str = "") -> None:
    """The verdict as the last line; where it is bad even with --quiet."""
    if reconstruction.trust is not None:
        level = logging.WARNING if reconstruction.trust.grade == "fails" else logging.INFO
        _log.log(level, "%sTrust: %s", title, reconstruction.trust.verdict)
