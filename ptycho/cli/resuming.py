"""Runs that were cut off: how they are begun so that they can go on, and how a command goes on with one."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from ptycho.cli.run import LOG_FILE, RUN_FILE
from ptycho.cli.settings import Command
from ptycho.core.files.atomic import RESULT_FILE
from ptycho.core.files.damage import readable
from ptycho.core.files.whole_set import UNFINISHED
from ptycho.core.files.written import written
from ptycho.errors import ConfigError, LostProcessError, MissingFileError, OutputError, PtychoError

__all__ = ["TAKEN", "begin", "is_finished", "meant_by", "read_asked", "resumable"]

TAKEN = (RESULT_FILE, RUN_FILE, "wts.h5.zip")
"""By which a folder holds a run, also one that was cut off."""


_RESUME = "--resume"
_ANYWAY = (_RESUME, "--quiet", "--debug")
"""What may stand beside: it changes no result."""


class _Asked(NamedTuple):
    """What a run was asked."""

    arguments: list[str]
    working_directory: str
    program: str | None
    """The command; None: the run was begun by a version that did not note it."""


def meant_by(command: Command, arguments: list[str]) -> list[str]:
    """The arguments; where a run is to go on those that it was begun with, and its folder.

    Raises:
        MissingFileError, ConfigError: no run of this command in the folder, one that is finished, one that was begun
            elsewhere, or with other flags than are given now.
    """
    named = getattr(command.parser().parse_flags(arguments), "run.resume", None)
    if named is None:
        return arguments
    folder = Path(named)
    path = folder / RUN_FILE
    if not path.is_file():
        raise MissingFileError(f"--resume {folder}: expected a run ({RUN_FILE}), found none; name the folder of one")
    asked = read_asked(path)
    if asked.program not in (None, command.program):
        raise ConfigError(
            f"--resume {folder}: expected a run of {command.program}, found one of {asked.program}; go on with "
            f"{asked.program} --resume {shlex.quote(str(folder))}"
        )
    if is_finished(folder):
        raise ConfigError(f"--resume {folder}: this run is finished{_goes_on(command, folder)}")
    if Path(asked.working_directory) != Path.cwd():
        raise ConfigError(
            f"--resume {folder}: the run was begun in {asked.working_directory}; go there (cd) and name it from there"
        )
    known = {*asked.arguments, *_ANYWAY}
    pairs = zip(["", *arguments], arguments, strict=False)
    new = [word for last, word in pairs if word not in known and last != _RESUME and not word.startswith(f"{_RESUME}=")]
    if new:
        raise ConfigError(
            f"--resume {folder}: the run goes on as it was begun, with {shlex.join(asked.arguments)}; found "
            f"{shlex.join(new)} beside; leave it out, or begin another{_from_there(command, folder)}"
        )
    return [*asked.arguments, "--resume", str(folder)]


def _from_there(command: Command, folder: Path) -> str:
    """How another run begins with what one that was cut off has found, where that can be."""
    so_far = folder / "so_far.npz"
    return f" with --start {shlex.quote(str(so_far))}" if hasattr(command.run, "start") and so_far.exists() else ""


def _goes_on(command: Command, folder: Path) -> str:
    """How to go on from a result, where that can be."""
    if not hasattr(command.run, "start"):
        return "; begin another with the same images"
    return f"; --start {shlex.quote(str(folder))} goes on from its result"


def read_asked(path: Path) -> _Asked:
    """What a run was asked, from its `RUN_FILE`; ConfigError: it is damaged."""
    with readable(path, "the arguments of a run", ConfigError, "start anew"):
        asked = json.loads(path.read_text(encoding="utf-8"))
        program = asked.get("program")
        return _Asked(
            [str(one) for one in asked["arguments"]],
            str(asked["working_directory"]),
            None if program is None else str(program),
        )


def is_finished(folder: Path) -> bool:
    """Whether the run in a folder has its result; while one goes on that of an earlier run may stand there."""
    from ptycho.workflows.unfinished import STATE

    return (folder / RESULT_FILE).exists() and not any((folder / name).exists() for name in (STATE, UNFINISHED))


def begin(command: Command, folder: Path, arguments: Sequence[str]) -> None:
    """Mark a folder as that of a run with these arguments, which is not finished: nothing of an earlier one stays.

    Only then is there anything to go on from.
    """
    from ptycho.core.files.atomic import atomic_path
    from ptycho.workflows.unfinished import begin_anew

    begin_anew(folder)
    facts = {"program": command.program, "arguments": list(arguments), "working_directory": str(Path.cwd())}
    with atomic_path(folder / RUN_FILE) as temporary:
        temporary.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


@contextmanager
def resumable(command: Command, folder: Path, resumes: bool) -> Iterator[None]:
    """Have an interrupt or a full disk say how to go on; what could not begin for faulty input leaves no file."""
    before, log = written(folder / RUN_FILE), (folder / LOG_FILE).exists()
    try:
        yield
    except KeyboardInterrupt as stop:
        begun = resumes or written(folder / RUN_FILE) != before
        stop.args = (_advice(command, folder),) if begun else ()
        raise
    except LostProcessError as lost:
        if resumes or written(folder / RUN_FILE) != before:
            lost.args = (f"{lost}; {_advice(command, folder)}",)
        raise
    except PtychoError as error:
        begun = written(folder / RUN_FILE) != before
        if not resumes and begun and _nothing_done(folder):
            for name in (RUN_FILE, *(() if log else (LOG_FILE,))):
                (folder / name).unlink(missing_ok=True)
        elif isinstance(error, OutputError) and (resumes or begun):
            error.args = (f"{error}; {_advice(command, folder)}",)
        raise


def _advice(command: Command, folder: Path) -> str:
    """What can be done about a run that was cut off."""
    from ptycho.workflows.unfinished import SO_FAR

    if is_finished(folder):  # what was cut off came after it
        adds = f"; ptycho frc SCAN -o {shlex.quote(str(folder))} adds the resolution"
        return f"the result is written{adds if hasattr(command.run, 'frc') else ''}"
    found = folder / SO_FAR
    kept = f"the object so far is in {found}; " if found.exists() else ""
    return f"{kept}go on with {command.program} --resume {shlex.quote(str(folder))}"


def _nothing_done(folder: Path) -> bool:
    """Whether a run has come to no state that it could go on from; the empty folder for that goes."""
    from ptycho.workflows.unfinished import STATE

    with suppress(OSError):
        (folder / STATE).rmdir()
    return not (folder / STATE).exists()
