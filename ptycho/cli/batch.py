"""Many scans, one or several at a time, each in a process and a folder of its own: a failure stops nothing."""

from __future__ import annotations

import csv
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import Field, asdict, dataclass, field, fields, replace
from itertools import takewhile
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from ptycho.cli.programs import RECONSTRUCTION
from ptycho.cli.resuming import is_finished, read_asked
from ptycho.cli.run import RUN_FILE
from ptycho.core.files.atomic import RESULT_FILE, atomic_path
from ptycho.core.files.damage import readable
from ptycho.core.formats.reconstruction_npz import read_npz
from ptycho.errors import ConfigError, MissingFileError

__all__ = ["TABLE_FILE", "Job", "Row", "jobs_of", "row_of", "run_job", "run_jobs", "write_table"]

ROW_FILE = "batch.json"
"""What came of a scan, in its folder."""
TABLE_FILE = "table.csv"
"""What came of all scans, in the folder of the batch."""
LOG_FILE = "batch.log"
"""What the reconstruction wrote to its terminal, in the folder of the scan."""
_LISTS = (".txt", ".lst", ".list")
_ANEW = "--overwrite"
_GRACE = 60.0
"""Seconds that a reconstruction has to save what it found when the batch is terminated."""


@dataclass(frozen=True)
class Job:
    """One scan of a batch, or several of one object."""

    scan: str
    flags: tuple[str, ...]
    """Of `ptycho reconstruct`, besides."""
    folder: Path
    others: tuple[str, ...] = ()
    """Further scans of the same object."""

    @property
    def arguments(self) -> list[str]:
        """Of `ptycho reconstruct`, from the beginning."""
        return [self.scan, *self.others, *self.flags, "--output-dir", str(self.folder)]

    @property
    def name(self) -> str:
        """Of the scans, as in a list."""
        return shlex.join([self.scan, *self.others]) if self.others else self.scan


@dataclass(frozen=True)
class Row:
    """What came of a scan: a row of the table."""

    scan: str
    folder: str
    status: str
    """'done', 'failed' or 'not yet'."""
    trust: str = ""
    """The grade."""
    fourier_error: float | None = None
    """Relative, of all patterns."""
    modes: int | None = None
    height: int | None = None
    width: int | None = None
    """Of the object, pixels."""
    pixel_nm: float | None = None
    seconds: float | None = None
    said: str = ""
    """The verdict, or what went wrong."""


def jobs_of(named: Sequence[str], flags: str, output: Path) -> list[Job]:
    """The jobs of a batch, in order.

    Args:
        named: scans, or files with one scan to a line, or several of one object, flags of their own behind; # begins a
            comment.
        flags: for all scans; those of a line win.
        output: folder of the folders, which have the names of the scans.

    Raises:
        MissingFileError: no such list. ConfigError: no scan, or flags that `ptycho reconstruct` does not take.
    """
    lines = [line for name in named for line in _lines(Path(name))]
    if not lines:
        raise ConfigError(f"{' '.join(named)}: expected a scan to a line, found none; name the scans")
    parser, jobs, taken = RECONSTRUCTION.parser(), [], set()
    for place, words in lines:
        name = stem = Path(words[0]).stem
        number = 1
        while name in taken:
            number += 1
            name = f"{stem}-{number}"
        taken.add(name)
        others = tuple(takewhile(lambda word: not word.startswith("-"), words[1:]))
        job = Job(words[0], (*shlex.split(flags), *words[1 + len(others) :]), output / name, others)
        try:
            asked = parser.parse_flags(job.arguments)
        except ConfigError as error:
            raise ConfigError(f"{place}: {error}") from error
        if "run.resume" in asked:
            raise ConfigError(f"{place}: a batch goes on by itself: leave out --resume")
        jobs.append(job)
    return jobs


def _lines(path: Path) -> list[tuple[str, list[str]]]:
    """Where each scan was named, and the words of its line; a path that is no list is a scan itself."""
    if path.suffix.lower() not in _LISTS:
        return [(str(path), [str(path)])]
    if not path.is_file():
        raise MissingFileError(f"{path}: no such list of scans; write one with a scan to a line")
    found = []
    with readable(path, "a list of scans, a line each", ConfigError, "write it as text"):
        lines = path.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines, 1):
        try:
            words = shlex.split(line, comments=True)
        except ValueError as error:
            raise ConfigError(f"{path}, line {number}: {error}; mend the quotes") from error
        if words:
            found.append((f"{path}, line {number}", words))
    return found


def row_of(job: Job, anew: bool = False) -> Row:
    """What is known of a scan by now; nothing where all is to be done `anew`.

    Raises:
        ConfigError: the folder has a run with other settings.
    """
    if anew:
        return Row(job.name, str(job.folder), "not yet")
    began = job.folder / RUN_FILE
    if began.is_file():
        arguments = [word for word in read_asked(began).arguments if word != _ANEW]
        if arguments != job.arguments:
            raise ConfigError(
                f"{job.folder}: expected a run of {shlex.join(job.arguments)}, found {shlex.join(arguments)}; name "
                "another folder (-o), or begin anew with --overwrite"
            )
    path = job.folder / ROW_FILE
    if not path.is_file():
        return Row(job.name, str(job.folder), "not yet")
    with readable(path, "what came of a scan", advice="remove it"):
        stored = json.loads(path.read_text(encoding="utf-8"))
        return Row(**{one.name: _of_kind(stored[one.name], one) for one in fields(Row)})


def _of_kind(value: Any, field: Field[Any]) -> Any:
    """A value of a row as it was written; TypeError where it is not of the kind of its field."""
    if not isinstance(value, (int, float, type(None)) if field.default is None else str):
        raise TypeError(f"{field.name} {value!r}")
    return value


@dataclass
class _Place:
    """Where one of several reconstructions at once computes, and how all of them are ended."""

    number: int
    of: int
    ended: list[bool] = field(default_factory=list)
    """Not empty once they are to end."""
    running: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str] | None:
        """Of its process, with a GPU of its own and its share of the cores."""
        if self.of == 1:
            return None
        named = os.environ.get("CUDA_VISIBLE_DEVICES")
        # empty: there are to be none
        gpus = [str(number) for number in range(self.of)] if named is None else named.split(",")
        threads = str(max(1, (os.cpu_count() or 1) // self.of))
        return {"OMP_NUM_THREADS": threads, **os.environ, "CUDA_VISIBLE_DEVICES": gpus[self.number % len(gpus)]}


_HERE = _Place(0, 1)
"""The place of a reconstruction that is the only one."""


def run_jobs(
    jobs: Sequence[Job], devices: int, anew: bool, told: Callable[[int], None]
) -> Generator[tuple[int, Row], None, None]:
    """`run_job` for several, so many at once; the number of each with its row, as they are done.

    Args:
        jobs: in order.
        devices: how many at once, each with a GPU of its own where there are any.
        anew: as of `run_job`.
        told: called with the number of each as it begins.

    Raises:
        KeyboardInterrupt, OutputError: as `run_job`; all that run have ended then.
    """
    if devices == 1:
        for number, job in enumerate(jobs):
            told(number)
            yield number, run_job(job, anew)
        return
    free: SimpleQueue[_Place] = SimpleQueue()
    places = [_Place(0, devices)]
    places += [replace(places[0], number=number) for number in range(1, devices)]
    for place in places:
        free.put(place)

    def one(number: int) -> tuple[int, Row]:
        place = free.get()
        try:
            told(number)
            return number, run_job(jobs[number], anew, place)
        finally:
            free.put(place)

    with ThreadPoolExecutor(devices) as pool:
        waiting = [pool.submit(one, number) for number in range(len(jobs))]
        try:
            for done in as_completed(waiting):
                yield done.result()
        finally:
            places[0].ended.append(True)
            for each in waiting:
                each.cancel()
            still = list(places[0].running)
            for process in still:
                process.send_signal(signal.SIGINT)
            for process in still:
                _wait_or_kill(process)


def run_job(job: Job, anew: bool = False, place: _Place = _HERE) -> Row:
    """Reconstruct a scan, or go on where that was cut off unless `anew`, and write what came of it beside the result.

    Args:
        job: which.
        anew: whether to begin anew.
        place: where to compute, of several at once.

    Raises:
        KeyboardInterrupt: the reconstruction was interrupted too, and has saved what it found.
        OutputError: the folder cannot be written.
    """
    begun = time.monotonic()
    job.folder.mkdir(parents=True, exist_ok=True)
    (job.folder / ROW_FILE).unlink(missing_ok=True)
    going_on = not anew and (job.folder / RUN_FILE).is_file()
    status = 0
    if not (going_on and is_finished(job.folder)):
        arguments = ["--resume", str(job.folder)] if going_on else [*job.arguments, _ANEW]
        status = _reconstruct(arguments, job.folder / LOG_FILE, place)
    row = _row_of_result(job, status, time.monotonic() - begun)
    with atomic_path(job.folder / ROW_FILE) as temporary:
        temporary.write_text(json.dumps(asdict(row), indent=1) + "\n", encoding="utf-8")
    return row


def _reconstruct(arguments: Sequence[str], log: Path, place: _Place = _HERE) -> int:
    """Run `ptycho reconstruct` in a process of its own; its exit status."""
    if place.ended:
        raise KeyboardInterrupt
    with log.open("w", encoding="utf-8") as written:
        # a session of its own: the terminal's Ctrl-C comes here alone, and is passed on once
        process = subprocess.Popen(
            [sys.executable, "-m", "ptycho", "reconstruct", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=written,
            stderr=written,
            start_new_session=True,
            env=place.environment,
        )
        place.running.append(process)
        try:
            status = process.wait()
        except KeyboardInterrupt:
            process.send_signal(signal.SIGINT)
            _wait_or_kill(process)
            raise
        finally:
            place.running.remove(process)
    if place.ended:  # by an interrupt, which came to another thread
        raise KeyboardInterrupt
    return status


def _wait_or_kill(process: subprocess.Popen[bytes]) -> None:
    """Let a process that was interrupted save what it found, for a while."""
    try:
        process.wait(_GRACE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _row_of_result(job: Job, status: int, seconds: float) -> Row:
    failed = Row(job.name, str(job.folder), "failed", seconds=round(seconds, 1))
    if status:
        return replace(failed, said=_last_line(job.folder / LOG_FILE) or f"ended with status {status}")
    found = read_npz(job.folder / RESULT_FILE)
    pixel, trust = found.metadata.get("object_pixel_m"), found.trust
    return replace(
        failed,
        status="done",
        trust="" if trust is None else trust.grade,
        fourier_error=None if trust is None else trust.fourier_error,
        modes=len(found.probe),
        height=found.object.shape[0],
        width=found.object.shape[1],
        pixel_nm=None if pixel is None else 1e9 * pixel,
        said="" if trust is None else trust.verdict,
    )


def _last_line(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return lines[-1].removeprefix("ptycho reconstruct: ").removeprefix("error: ") if lines else ""


def write_table(rows: Sequence[Row], path: Path) -> Path:
    """Write the rows as CSV, whole or not at all, and return the path."""
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
        table = csv.DictWriter(stream, [one.name for one in fields(Row)])
        table.writeheader()
        table.writerows(asdict(row) for row in rows)
    return path
