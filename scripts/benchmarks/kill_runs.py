"""Kill commands at random moments, and look at what they leave.

    python scripts/benchmarks/kill_runs.py --moments 50 --folder /tmp/kills
    python scripts/benchmarks/kill_runs.py --kinds convert,map --signals KILL --moments 5

Each kind of command is begun anew for every moment, in a process of its own, and gets a signal. Afterwards

* it has ended with the status of the signal and one line that says so, or had already ended well;
* every file is the old one or a whole new one, and only SIGKILL leaves temporary files, which the next run removes;
* where it can be resumed, it then ends bit by bit with what the uninterrupted command gives.

The imports are made once, and processes are forked from there; "begin" stands for commands started afresh, killed
within their first half second. The table of outcomes goes to standard output; the exit status is 1 where something was
wrong.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np

ROOT = Path(__file__).parents[2]
SCAN = ROOT / "tests" / "fixtures" / "pytorch_integration" / "minimal_dataset_v1.npz"
STATUS = {"INT": 130, "TERM": 143, "USR1": 138, "KILL": -9}
WORDS = {"INT": "interrupted", "TERM": "terminated", "USR1": "told to stop (SIGUSR1)"}
BEGIN = 0.5
"""Seconds within which commands that are started afresh are killed; on a busy machine as long as two take to say their
version."""
EARLIER, LATER = 0.9, 1.02
"""Factors of the time in which a command is killed, after one that had ended before and after one that had not: a
machine with other work is not always as fast."""
SHORT = 3.0
"""Seconds up to which a command is timed twice."""
SERVER = """
import importlib, json, os, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
from ptycho.cli.entry import ptycho
for line in sys.stdin:
    asked = json.loads(line)
    child = os.fork()
    if not child:
        os.dup2(os.open(asked["said"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
        sys.argv = ["ptycho", *asked["arguments"]]
        os._exit(ptycho())
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@dataclass(frozen=True)
class Kind:
    """A kind of command."""

    name: str
    modules: tuple[str, ...]
    """Loaded before the processes are forked."""
    arguments: Callable[[Path], list[str]]
    """Of the command, in a folder of its own."""
    resumed: Callable[[Path], list[str] | None] | None = None
    """Arguments that go on in such a folder; None where nothing was kept."""
    result: str = ""
    """File by which the outcomes of two runs are compared."""


def _training(backend: str) -> Kind:
    def arguments(folder: Path) -> list[str]:
        return [
            *("train", "--backend", backend, "--train-data-file", str(SCAN), "--output-dir", str(folder / "out")),
            *("--nepochs", "3", "--n-groups", "8", "--batch-size", "4", "--n-filters-scale", "1", "--overwrite"),
            *("--architecture", "unrolled", "--gridsize", "1", "--find-probe", "0"),
            *(("--torch-accelerator", "cpu") if backend == "pytorch" else ()),
        ]

    def resumed(folder: Path) -> list[str] | None:
        last = folder / "out" / "checkpoints" / "last.ckpt"
        return [*arguments(folder), "--resume", str(last)] if last.exists() else None

    package = "ptycho_torch.workflows.components" if backend == "pytorch" else "ptycho.workflows.components"
    own = ("lightning.pytorch",) if backend == "pytorch" else ("tensorflow",)
    return Kind(f"train {backend}", (package, *own), arguments, resumed, "out/wts.h5.zip")


def _reconstruct(folder: Path) -> list[str]:
    settings = ["--iterations", "8", "--modes", "none", "--backend", "pytorch", "--device", "cpu", "--overwrite"]
    return ["reconstruct", str(SCAN), "-o", str(folder / "out"), *settings]


def _resumed(folder: Path) -> list[str] | None:
    begun = (folder / "out" / "run.json").exists() and (folder / "out" / "state").exists()
    return ["reconstruct", "--resume", str(folder / "out")] if begun else None


def _convert(folder: Path) -> list[str]:
    beamline = ["--energy-keV", "8", "--distance-m", "2", "--detector-pixel-um", "75"]
    return ["convert", str(SCAN), str(folder / "scan.cxi"), *beamline]


def _map(folder: Path) -> list[str]:
    return ["dataset", "map", str(SCAN), "-o", str(folder / "scan.map"), "--renew"]


KINDS = [
    _training("pytorch"),
    _training("tensorflow"),
    Kind(
        "reconstruct",
        ("ptycho_torch.refine", "ptycho.workflows.outputs", "ptycho.workflows.front_door"),
        _reconstruct,
        _resumed,
        "out/reconstruction.npz",
    ),
    Kind("convert", ("ptycho.core.formats.cxi",), _convert),
    Kind("map", ("ptycho.core.scan_edit.map_write",), _map),
]


class Server:
    """Forks commands from a process that has made the imports."""

    def __init__(self, kind: Kind, environment: dict[str, str]) -> None:
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        line = [sys.executable, "-c", SERVER, *kind.modules]
        self.process = subprocess.Popen(line, env=environment, stderr=subprocess.DEVNULL, **pipes)

    def begin(self, arguments: Sequence[str], said: Path) -> int:
        """Begin a command; its process."""
        assert self.process.stdin is not None
        said.unlink(missing_ok=True)
        self.process.stdin.write(json.dumps({"arguments": list(arguments), "said": str(said)}) + "\n")
        self.process.stdin.flush()
        return self._answer()

    def _answer(self) -> int:
        assert self.process.stdout is not None
        return int(self.process.stdout.readline())

    def end(self) -> int:
        """Wait for the command; its exit status."""
        return self._answer()

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


@dataclass
class Table:
    """What came of the moments of a kind and a signal."""

    outcomes: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


@contextmanager
def served(kind: Kind, environment: dict[str, str]) -> Iterator[Server]:
    """A server of a kind."""
    server = Server(kind, environment)
    try:
        yield server
    finally:
        server.close()


def run_whole(server: Server, arguments: Sequence[str], folder: Path) -> float:
    """Run a command to its end; its seconds.

    Raises:
        RuntimeError: it failed.
    """
    said, begun = folder.parent / "said.txt", time.monotonic()
    server.begin(arguments, said)
    if server.end():
        raise RuntimeError(f"{' '.join(arguments)}: {said.read_text(encoding='utf-8')[-600:]}")
    return time.monotonic() - begun


def broken_files(folder: Path) -> list[str]:
    """Files that are not whole, each with what is wrong with it."""
    found = []
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts):
            try:
                _read(path)
            except (OSError, ValueError, KeyError, EOFError, RuntimeError, AssertionError, zipfile.BadZipFile) as error:
                found.append(f"{path.relative_to(folder)}: {error!r}"[:200])
    return found


def _read(path: Path) -> None:
    """Read a file to its end."""
    suffix = path.suffix
    if suffix in (".npz", ".zip", ".ckpt"):
        with zipfile.ZipFile(path) as archive:
            bad = archive.testzip()
            assert bad is None, bad
    elif suffix in (".h5", ".cxi"):
        with h5py.File(path) as file:
            file.visititems(lambda _, item: item[()] if isinstance(item, h5py.Dataset) else None)
    elif suffix == ".png":
        from PIL import Image

        with Image.open(path) as image:
            image.load()
    elif suffix == ".json":
        json.loads(path.read_text(encoding="utf-8"))
    elif suffix == ".npy":
        np.load(path, mmap_mode="r")
    elif suffix == ".html":
        assert path.read_text(encoding="utf-8").rstrip().endswith("</html>")


def arrays_of(path: Path) -> str:
    """A digest of the arrays in a file, so that dates and times do not count."""
    digest = hashlib.sha256()
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            digest.update(archive.read("weights.h5"))
    else:
        with np.load(path) as file:
            for name in ("object", "probe", "xcoords", "ycoords"):
                digest.update(file[name].tobytes())
    return digest.hexdigest()


def mixed(folder: Path, old: dict[str, int], finished: bool) -> bool:
    """Whether a folder holds files of two results, and does not say so."""
    now = {path.name: path.stat().st_mtime_ns for path in folder.glob("*.*") if path.name in old}
    same = {name for name, when in now.items() if old[name] == when}
    torn = 0 < len(same) < len(old) if not finished else bool(same)
    return torn and not (folder / "unfinished.txt").exists()


RESULT = ("reconstruction.npz", "reconstruction.h5", "trust.png", "summary.png", "report.html")


@dataclass
class Experiment:
    """The moments of one kind of command and one signal."""

    kind: Kind
    name: str
    server: Server
    environment: dict[str, str]
    old: Path
    """A folder with an earlier result, copied for each moment."""
    seconds: float
    """Of the whole command, about."""
    expected: str | None
    """Digest of what it gives."""
    table: Table = field(default_factory=Table)

    def moment(self, place: Path, draw: random.Random, resumes: bool) -> None:
        """Begin, signal, look, and go on."""
        folder, said = place / "run", place / "said.txt"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self.old, folder)
        times = {path.name: path.stat().st_mtime_ns for path in (folder / "out").glob("*.*") if path.name in RESULT}
        arguments, number = self.kind.arguments(folder), getattr(signal, f"SIG{self.name}")
        process = self.server.begin(arguments, said)
        wait = draw.uniform(0, 1.05 * self.seconds)
        time.sleep(wait)
        with suppress(ProcessLookupError):
            os.kill(process, number)
        status = self.server.end()
        text = said.read_text(encoding="utf-8", errors="replace") if said.exists() else ""
        self.seconds *= EARLIER if status == 0 else LATER
        outcome, problems = ended_as(self.name, status, text)
        problems += broken_files(folder)
        if self.kind.name == "reconstruct" and mixed(folder / "out", times, outcome == "ended before"):
            problems.append("files of two results, not marked")
        left = [path.name for path in folder.rglob(".*") if path.name != ".lock"]
        if left and self.name != "KILL":
            problems.append(f"temporary files {left}")
        if resumes and self.kind.resumed is not None and status:
            outcome += self._go_on(folder, problems)
        self.table.outcomes[outcome] += 1
        self.table.wrong += [f"{self.kind.name}, {self.name} after {wait:.3f} s: {one}" for one in problems]
        tell(self.kind.name, self.name, wait, outcome, problems)
        keep_wrong(problems, folder, text)

    def _go_on(self, folder: Path, problems: list[str]) -> str:
        """Resume, compare with the whole command; what to add to the outcome."""
        assert self.kind.resumed is not None
        arguments = self.kind.resumed(folder)
        if arguments is None:
            return ", nothing to resume"
        try:
            run_whole(self.server, arguments, folder)
        except RuntimeError as error:
            problems.append(f"resumed: {error}")
            return ", not resumed"
        problems += [f"left {path.name}" for path in folder.rglob(".*")]
        if arrays_of(folder / self.kind.result) != self.expected:
            problems.append("resumed: another result than that of the whole command")
            return ", resumed otherwise"
        return ", resumed to the same bits"


def ended_as(name: str, status: int, text: str) -> tuple[str, list[str]]:
    """The outcome by a status and what was said, and what is wrong with them."""
    lines = [line for line in text.splitlines() if line.strip()]
    last = lines[-1] if lines else ""
    if status == 0:
        return "ended before", []
    if name != "KILL" and status == -getattr(signal, f"SIG{name}") and not lines:
        return "before the first line of the library", []
    if status != STATUS[name]:
        return "another status", [f"status {status}, said: {' | '.join(lines[-3:])[:400]}"]
    if name == "KILL":
        return "killed", []
    problems = [] if WORDS[name] in last else [f"last line: {last[:300]!r}"]
    if "Traceback" in text:
        problems.append(f"a traceback: {' | '.join(lines[-3:])[:400]}")
    return "said and ended", problems


def tell(kind: str, name: str, wait: float, outcome: str, problems: Sequence[str]) -> None:
    """Say what came of one moment, on standard error: a run of hours may be ended, and what it saw counts."""
    sys.stderr.write(
        f"{kind}, SIG{name} after {wait:.3f} s: {'; '.join(['WRONG', *problems]) if problems else outcome}\n"
    )


def keep_wrong(problems: Sequence[str], folder: Path, said: str) -> None:
    """Keep a folder with which something was wrong, beside it as wrong_1, wrong_2, with all that was said."""
    if problems:
        number = sum(1 for _ in folder.parent.glob("wrong_*")) + 1
        kept = folder.parent / f"wrong_{number}"
        shutil.copytree(folder, kept)
        (kept / "said.txt").write_text("\n".join([*problems, "", said]), encoding="utf-8")


def beginnings(name: str, moments: int, environment: dict[str, str], place: Path, draw: random.Random) -> Table:
    """Commands started afresh, killed within the first half second."""
    table, begun = Table(), time.monotonic()
    subprocess.run([sys.executable, "-m", "ptycho", "--version"], env=environment, check=True, capture_output=True)
    window = max(BEGIN, 2 * (time.monotonic() - begun))
    for number in range(moments):
        kind = KINDS[number % len(KINDS)]
        folder = place / "run"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        line = [sys.executable, "-m", "ptycho", *kind.arguments(folder)]
        with subprocess.Popen(line, env=environment, stderr=subprocess.PIPE, text=True) as process:
            wait = draw.uniform(0, window)
            time.sleep(wait)
            process.send_signal(getattr(signal, f"SIG{name}"))
            text = process.communicate()[1]
        status, said = process.returncode, text
        if name == "INT" and "KeyboardInterrupt" in text and "in begin" not in text:
            status, text = -signal.SIGINT, ""  # Python's own answer to an interrupt
        outcome, problems = ended_as(name, status, text)
        problems += broken_files(folder)
        table.outcomes[outcome] += 1
        table.wrong += [f"begin ({kind.name}), {name} after {wait:.3f} s: {one}" for one in problems]
        tell(f"begin ({kind.name})", name, wait, outcome, problems)
        keep_wrong(problems, folder, said)
    return table


def experiments(
    kinds: Sequence[str], signals: Sequence[str], moments: int, resumed: int, place: Path, seed: int
) -> Iterator[tuple[str, str, Table]]:
    """All of them, each with its table.

    Args:
        kinds: names of `KINDS`, and 'begin'.
        signals: names without SIG.
        moments: of each.
        resumed: every so many moments the command is resumed.
        place: folder to work in.
        seed: of the moments.
    """
    draw = random.Random(seed)
    elsewhere = Path("/dev/shm")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_WAIT_POLICY": "PASSIVE", "OMP_NUM_THREADS": "1"}
    environment["TMPDIR"] = str(elsewhere if elsewhere.is_dir() else place)
    for name in signals if "begin" in kinds else ():
        yield "begin", name, beginnings(name, moments, environment, place / "begin", draw)
    for kind in KINDS:
        if kind.name not in kinds:
            continue
        old = place / kind.name.replace(" ", "_") / "old"
        shutil.rmtree(old.parent, ignore_errors=True)
        old.mkdir(parents=True)
        with served(kind, environment) as server:
            seconds = run_whole(server, kind.arguments(old), old)
            if seconds < SHORT:  # most of which was spent on files that are now in memory
                seconds = run_whole(server, kind.arguments(old), old)
            expected = arrays_of(old / kind.result) if kind.result else None
            for name in signals:
                made = Experiment(kind, name, server, environment, old, seconds, expected)
                for number in range(moments):
                    made.moment(old.parent, draw, number % resumed == 0)
                yield kind.name, name, made.table


def main(argv: Sequence[str] | None = None) -> int:
    """Run what the arguments say, write the table; 1 where something was wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = ["begin", *(kind.name for kind in KINDS)]
    parser.add_argument("--kinds", default=",".join(names), help=f"of {', '.join(names)}")
    parser.add_argument("--signals", default=",".join(STATUS), help="names without SIG")
    parser.add_argument("--moments", type=int, default=50, help="of each kind and signal")
    parser.add_argument("--resumed", type=int, default=1, help="every so many moments the command is resumed")
    parser.add_argument("--folder", type=Path, default=Path("kill_runs"), help="to work in")
    parser.add_argument("--seed", type=int, default=20261129)
    asked = parser.parse_args(argv)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell has its background jobs ignore it
    wrong: list[str] = []
    place = asked.folder.resolve()
    for kind, name, table in experiments(
        asked.kinds.split(","), asked.signals.split(","), asked.moments, asked.resumed, place, asked.seed
    ):
        told = ", ".join(f"{count} {outcome}" for outcome, count in sorted(table.outcomes.items()))
        sys.stdout.write(f"| {kind} | SIG{name} | {sum(table.outcomes.values())} | {len(table.wrong)} | {told} |\n")
        sys.stdout.flush()
        wrong += table.wrong
    sys.stdout.write("".join(f"{one}\n" for one in wrong))
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
