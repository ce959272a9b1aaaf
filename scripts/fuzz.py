"""Damage whole files at random and read them: each has to be read, or to be refused in one line.

    python scripts/fuzz.py hdf5 --seconds 20
    python scripts/fuzz.py all --seconds 60 --seed 3 --keep findings
    python scripts/fuzz.py npz --only 1234          read input 1234 once more, with the whole traceback

Input i of a seed is the same at every time and place. Inputs are read in a child process with limits on time and
memory. A finding is a kind (the exception, a signal, Timeout or Memory) and a place (file and line); of each the
smallest input is kept. The exit status is 1 where there is one. Where atheris is installed, --atheris has it choose
the bytes instead. For POSIX systems.
"""

from __future__ import annotations

import argparse
import faulthandler
import gc
import json
import mmap
import os
import random
import re
import resource
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from fuzz_guided import guided
from fuzz_mutators import mutated
from fuzz_readers import READERS

from ptycho.errors import PtychoError

SECONDS, WAIT = 10, 120
"""An input may take so long of the processor, and on the clock of a machine that has other work."""
MEMORY = 640 << 20
"""Bytes that reading an input may add to the memory of the process: what any file may declare, 64 MiB
(`ptycho.core.files.damage.FREE_BYTES`), as bytes that become float64, and some."""
_ADDRESSES = 4 << 30
_MEMORY_DISK = "/dev/shm"
"""Where writing a file takes no time, on Linux."""
_FRAME = re.compile(r'File "[^"]*?((?:ptycho|ptycho_torch)/[\w/]+\.py)", line (\d+)')
_AGAIN, _BROKEN = 3, 4
_LATE = (signal.SIGPROF, signal.SIGALRM)


class Finding(NamedTuple):
    """What is wrong with a reader, by an input."""

    kind: str
    place: str
    number: int
    name: str


class Fuzzer:
    """The inputs of one reader and seed."""

    def __init__(self, reader: str, seed: int, folder: Path) -> None:
        self.reader, self.seed, self.folder = READERS[reader], seed, folder
        self.name = reader
        (folder / "whole").mkdir()
        self.reader.make(folder / "whole")
        self.golden = [(path.name, path.read_bytes()) for path in sorted((folder / "whole").iterdir())]
        for name, content in self.golden:  # also loads what reading needs, before there is a limit on time
            (folder / f"input-{name}").write_bytes(content)
            self.read(folder / f"input-{name}")

    def made(self, number: int) -> tuple[str, bytes]:
        """Name and content of an input."""
        rng = random.Random(f"{self.name} {self.seed} {number}")
        name, content = rng.choice(self.golden)
        return f"input-{name}", mutated(content, [each for _, each in self.golden], rng)

    def written(self, number: int) -> Path:
        """An input as a file."""
        name, content = self.made(number)
        path = self.folder / name
        path.write_bytes(content)
        return path

    def read(self, path: Path) -> None:
        """Read a file; an error of the library is as good as success, if it is one line."""
        try:
            self.reader.read(path)
        except PtychoError as error:
            if "\n" in str(error):
                raise AssertionError(f"an error of several lines: {str(error)!r}") from error

    def run(self, seconds: float, inputs: int) -> tuple[int, list[Finding]]:
        """Read inputs until the time is up or all are read; return their number and what was found."""
        at = mmap.mmap(-1, 16)
        end, findings = time.monotonic() + seconds, []
        done = 0
        while done < inputs and time.monotonic() < end:
            log = self.folder / "log"
            log.write_text("")
            child = os.fork()
            if child == 0:
                try:
                    self._child(at, done, inputs, end, log)
                finally:
                    os._exit(_BROKEN)
            status = os.waitpid(child, 0)[1]
            findings += [Finding(**json.loads(line)) for line in log.read_text().splitlines()]
            done = int.from_bytes(at[:8], "little")
            if os.WIFEXITED(status) and os.WEXITSTATUS(status) == _BROKEN:
                raise RuntimeError(f"the mutators fail at input {done} of {self.name}")
            if os.WIFSIGNALED(status):
                findings.append(self._ended(os.WTERMSIG(status), done))
                done += 1
        return done, findings

    def _child(self, at: mmap.mmap, first: int, inputs: int, end: float, log: Path) -> None:
        """Read inputs in this process, which ends with it."""
        addresses = _addresses() + _ADDRESSES
        resource.setrlimit(resource.RLIMIT_AS, (addresses, addresses))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        with (self.folder / "trace").open("w") as trace, log.open("a") as lines:
            faulthandler.enable(trace)
            for number_of_signal in _LATE:
                faulthandler.register(number_of_signal, trace, all_threads=False, chain=True)
            gc.freeze()  # what is loaded need not be looked through again for each input
            before = _peak()
            for number in range(first, inputs):
                at[:8] = number.to_bytes(8, "little")
                if time.monotonic() > end:
                    os._exit(0)
                peak = _peak()
                path = self.written(number)
                before += _peak() - peak  # a damage that takes much memory itself, not the reader
                _wake(SECONDS, WAIT)
                kind, place = self._tried(path)
                _wake(0, 0)
                if not kind and _peak() - before > MEMORY:
                    kind, place = "Memory", f"{(_peak() - before) >> 20} MiB"
                if kind:
                    found = Finding(kind, place, number, self.made(number)[0])
                    lines.write(json.dumps(found._asdict()) + "\n")
                    lines.flush()
                if kind == "Memory":
                    at[:8] = (number + 1).to_bytes(8, "little")
                    os._exit(_AGAIN)
            at[:8] = inputs.to_bytes(8, "little")
        os._exit(0)

    def _tried(self, path: Path) -> tuple[str, str]:
        """Kind and place of what an input raised, empty where all is well."""
        try:
            self.read(path)
        except Exception as error:  # noqa: BLE001  # whatever comes out is what is looked for
            return type(error).__name__, _place("".join(traceback.format_exception(error)))
        return "", ""

    def _ended(self, number_of_signal: int, number: int) -> Finding:
        """What ended a child."""
        trace = (self.folder / "trace").read_text()
        kind = "Timeout" if number_of_signal in _LATE else f"Signal{number_of_signal}"
        return Finding(kind, _place(trace, last=False), number, self.made(number)[0])


def _place(trace: str, last: bool = True) -> str:
    """The innermost line of this project in a traceback, which comes last, or first where the process ended."""
    found = _FRAME.findall(trace)
    return "nowhere" if not found else ":".join(found[-1 if last else 0])


def _wake(processor: float, clock: float) -> None:
    """Have this process ended after so many seconds of each; 0 is never."""
    signal.setitimer(signal.ITIMER_PROF, processor)
    signal.setitimer(signal.ITIMER_REAL, clock)


def _peak() -> int:
    """Bytes of memory that this process had at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << (0 if sys.platform == "darwin" else 10)


def _addresses() -> int:
    try:
        return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    except OSError:
        return 1 << 34


def smallest(fuzzer: Fuzzer, findings: Sequence[Finding]) -> dict[str, tuple[Finding, bytes]]:
    """The smallest input of each kind and place."""
    kept: dict[str, tuple[Finding, bytes]] = {}
    for found in findings:
        content, key = fuzzer.made(found.number)[1], f"{found.kind} {found.place}"
        if key not in kept or len(content) < len(kept[key][1]):
            kept[key] = (found, content)
    return kept


def fuzz(reader: str, options: argparse.Namespace) -> int:
    """Fuzz one reader and say what was found; return the number of kinds."""
    place = _MEMORY_DISK if os.access(_MEMORY_DISK, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="fuzz-", dir=place) as folder:
        os.chdir(folder)
        fuzzer = Fuzzer(reader, options.seed, Path(folder))
        if options.atheris:
            return guided(fuzzer, options, WAIT, MEMORY)
        if options.only is not None:
            fuzzer.read(fuzzer.written(options.only))
            return 0
        begun = time.monotonic()
        done, findings = fuzzer.run(options.seconds, options.inputs)
        kept = smallest(fuzzer, findings)
        print(f"{reader}: {done} inputs in {time.monotonic() - begun:.0f} s, {len(kept)} kinds of findings", flush=True)
        for key, (found, content) in sorted(kept.items()):
            print(
                f"  {key}: --seed {options.seed} --only {found.number}, {found.name}, {len(content)} bytes", flush=True
            )
            if options.keep is not None:
                options.keep.mkdir(parents=True, exist_ok=True)
                safe = re.sub(r"[^\w.]+", "-", f"{reader}__{found.kind}__{found.place}")
                (options.keep / f"{safe}__{found.name.removeprefix('input-')}").write_bytes(content)
        return len(kept)


def main(arguments: Sequence[str] | None = None) -> int:
    """Fuzz the readers that are named."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n", 1)[0])
    parser.add_argument("reader", choices=[*READERS, "all"], nargs="+")
    parser.add_argument("--seconds", type=float, default=20, help="of each reader")
    parser.add_argument("--inputs", type=int, default=100_000, help="of each reader, at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=lambda text: Path(text).absolute(), help="folder for the smallest inputs")
    parser.add_argument("--only", type=int, help="read one input in this process")
    parser.add_argument("--atheris", action="store_true", help="let atheris choose the bytes")
    options = parser.parse_args(arguments)
    warnings.simplefilter("ignore")
    np.seterr(all="ignore")
    here = Path.cwd()
    try:
        names: Any = READERS if "all" in options.reader else options.reader
        return int(sum(fuzz(name, options) for name in names) > 0)
    finally:
        os.chdir(here)


if __name__ == "__main__":
    import logging

    logging.disable(logging.CRITICAL)
    sys.exit(main())
