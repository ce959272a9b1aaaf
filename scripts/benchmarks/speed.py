"""How fast, in one table: the solver, the scan over processes, the costs of every step, a pass, a live scan, a GPU.

    python scripts/benchmarks/speed.py --output speed --real SCANS [--ptychi-python PYTHON [--ptychi-path PATH]] [--gpu]
    python scripts/benchmarks/speed.py --output speed --only solver live

Each part is a benchmark of this folder in a process of its own, with medians of three; what is in the output folder is
not measured again, so that an interrupted run goes on. `speed.md` has what was aimed at beside what was found, and
what each part printed. Some two hours on two idle cores, most of them `steps` and `pass`; without pty-chi what is
beside it is left out, without `--gpu` the GPU.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quality_cases import BASE
from quality_report import PEER_EPOCHS, seconds_to_quality

import ptycho
from ptycho.core.files.atomic import atomic_path

HERE = Path(__file__).parent
REPEATS = "3"
PROCESSES = ("1", "2", "4")


@dataclass(frozen=True)
class Figure:
    """What was found, and what was aimed at."""

    what: str
    found: float
    unit: str
    bar: float | None = None
    at_least: bool = True
    """Whether more is better."""

    @property
    def met(self) -> bool | None:
        """Whether it is what was aimed at; None where nothing was."""
        if self.bar is None:
            return None
        return self.found >= self.bar if self.at_least else self.found <= self.bar


@dataclass(frozen=True)
class Part:
    """A benchmark: its script, what it is called with, the file that it writes, and the figures in it."""

    script: str
    words: Callable[[argparse.Namespace, Path], list[str]]
    file: str
    figures: Callable[[Any], Iterator[Figure]]
    needs: str | None = None
    """The option without which it is left out."""


def of_solver(found: Any) -> Iterator[Figure]:
    """Patterns and iterations a second."""
    bars = {(64, False): 25_000.0, (64, True): 12_000.0}
    for row in found["rows"]:
        probe, key = "moving" if row["moving"] else "known", (row["n"], row["moving"])
        what = f"{row['backend']}, {row['n']} x {row['n']}, {probe} probe"
        bar = bars.get(key) if row["backend"] == "pytorch" else None
        yield Figure(what, row["whole"], "patterns x iterations / s", bar)


def of_peer(lines: Any) -> Iterator[Figure]:
    """How many times sooner the solver has the error of pty-chi."""
    table: dict[tuple[str, str], list[Any]] = {}
    for cell in lines[1:]:
        table.setdefault((cell["case"], cell["method"]), []).append(cell)
    for epoch in PEER_EPOCHS:
        found = seconds_to_quality(table, BASE, "refine", epoch)
        if found is not None and found[2] is not None:
            yield Figure(f"error {found[0]:.3g} (pty-chi, epoch {epoch})", found[1] / found[2], "times sooner")


def of_steps(found: Any) -> Iterator[Figure]:
    """Seconds at the largest number, and exponents."""
    for name, row in found.items():
        most = f"{name}, {row['sizes'][-1]:,}"
        yield Figure(most, row["cells"][-1]["seconds"], "s", row["bar"], at_least=False)
        yield Figure(f"{name}, exponent of the last decade", row["last"], "")


def of_pass(found: Any) -> Iterator[Figure]:
    """How many times sooner a pass on the scan's canvas is than in groups."""
    for row in found:
        ratio = row["groups"]["seconds"] / row["canvas"]["seconds"]
        yield Figure(f"{row['case']}, {row['patterns']} patterns", ratio, "times sooner", 5.0)


def of_processes(found: Any) -> Iterator[Figure]:
    """Memory of a process over that of one alone, times their number."""
    rows = found["rows"]
    for row in rows:
        which = f"{row['processes']} of them, {'strips' if row['strips'] else 'whole objects'}"
        most = max(row["MiB of the first"], row["most MiB of another"])
        yield Figure(f"{which}, {row['patterns']:,} patterns", most, "MiB in a process")
        yield Figure(which, row["MiB sent per iteration"], "MiB sent an iteration")


def of_many(found: Any) -> Iterator[Figure]:
    """What a reconstruction of so many patterns takes."""
    for row in found["rows"]:
        yield Figure(f"{row['patterns']:,} patterns, peak", row["MiB in the end"], "MiB")
        yield Figure(f"{row['patterns']:,} patterns, an iteration", row["CPU s per iteration"], "processor s")


def of_live(found: Any) -> Iterator[Figure]:
    """Patterns a second that are joined of those that come, and how old the picture is."""
    for row in found:
        yield Figure(f"from a {row['source']}", row["joined_per_second"], "patterns / s", row["rate"])
        yield Figure(f"from a {row['source']}, frame to picture", row["latency_median_s"], "s")


def of_gpu(found: Any) -> Iterator[Figure]:
    """As the card did it."""
    for row in found["rows"]:
        yield Figure(f"{row['part']}: {row['what']}", row["figure"], row["unit"], row["bar"], row["unit"] != "s")


def peer_words(args: argparse.Namespace) -> list[str]:
    """Where pty-chi is."""
    found = [] if args.ptychi_python is None else ["--ptychi-python", str(args.ptychi_python)]
    return found if args.ptychi_path is None else [*found, "--ptychi-path", args.ptychi_path]


def real_words(args: argparse.Namespace) -> list[str]:
    """Where the real scans are."""
    return [] if args.real is None else ["--real", str(args.real)]


PARTS = {
    "solver": Part(
        "refinement.py",
        lambda args, out: ["--rates", "--repeats", REPEATS, "--json", str(out)],
        "solver.json",
        of_solver,
    ),
    "peer": Part(
        "quality.py",
        lambda args, out: [
            *("--output", str(out.parent), "--cases", BASE.name, "--methods", "refine", "pty-chi", *peer_words(args))
        ],
        "cells.jsonl",
        of_peer,
        "ptychi_python",
    ),
    "steps": Part("scaling.py", lambda args, out: ["--output", str(out), "--runs", REPEATS], "steps.json", of_steps),
    "pass": Part(
        "one_pass.py",
        lambda args, out: ["--output", str(out.parent), "--runs", REPEATS, *real_words(args)],
        "passes.json",
        of_pass,
    ),
    "processes": Part(
        "large_scan.py",
        lambda args, out: [
            *("--output", str(out), "--folder", str(out.parent), "--gigabytes", "1", "--processes", *PROCESSES)
        ],
        "processes.json",
        of_processes,
    ),
    "many": Part(
        "large_scan.py",
        lambda args, out: [
            *("--output", str(out), "--folder", str(out.parent), "--patterns", "1e5", "1e6", "--iterations", "3")
        ],
        "many.json",
        of_many,
    ),
    "live": Part("live.py", lambda args, out: ["--output", str(out), "--repeats", REPEATS], "live.json", of_live),
    "gpu": Part("gpu.py", lambda args, out: ["--output", str(out), *peer_words(args)], "gpu.json", of_gpu, "gpu"),
}


def run(name: str, args: argparse.Namespace) -> Path | None:
    """Measure a part unless that was done; its folder, or None where it ended badly."""
    part, folder = PARTS[name], args.output / name
    if (folder / "printed.txt").exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, str(HERE / part.script), *part.words(args, folder / part.file)]
    print(f"{name}: {' '.join(command[1:])}", flush=True)
    ended = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if ended.returncode:
        print(f"{name}: expected status 0, found {ended.returncode}; it is left out", flush=True)
        return None
    with atomic_path(folder / "printed.txt") as temporary:
        temporary.write_text(ended.stdout)
    return folder


def read(path: Path) -> Any:
    """What a part has written."""
    text = path.read_text()
    return [json.loads(line) for line in text.splitlines()] if path.suffix == ".jsonl" else json.loads(text)


def page(folders: dict[str, Path]) -> str:
    """The table of all parts, and what they printed."""
    lines = [
        f"# Speed\n\nptychopinn {ptycho.__version__}, {platform.machine()}, {os.cpu_count()} cores; medians of 3.\n",
        "| part | what | found | aimed at | |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, folder in folders.items():
        for figure in PARTS[name].figures(read(folder / PARTS[name].file)):
            bar = "" if figure.bar is None else f"{'>=' if figure.at_least else '<='} {figure.bar:,.4g}"
            met = {None: "", True: "met", False: "**not met**"}[figure.met]
            lines.append(f"| {name} | {figure.what} | {figure.found:,.4g} {figure.unit} | {bar} | {met} |")
    for name, folder in folders.items():
        lines += [f"\n## {name}\n", "```", (folder / "printed.txt").read_text().rstrip(), "```"]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure what is missing, write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="folder of the parts and of speed.md")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), help="these parts")
    parser.add_argument("--real", type=Path, help="folder of the real scans")
    parser.add_argument("--ptychi-python", type=Path, help="interpreter with pty-chi (default: left out)")
    parser.add_argument("--ptychi-path", help="PYTHONPATH for it")
    parser.add_argument("--gpu", action="store_true", help="there is a CUDA GPU")
    args = parser.parse_args()
    folders: dict[str, Path] = {}
    for name in args.only:
        needs = PARTS[name].needs
        if needs is not None and not getattr(args, needs):
            print(f"{name}: left out without --{needs.replace('_', '-')}", flush=True)
            continue
        found = run(name, args)
        if found is not None:
            folders[name] = found
        with atomic_path(args.output / "speed.md") as temporary:
            temporary.write_text(page(folders))
    if not folders:
        sys.exit("expected a part that can be measured, found none; see --only")
    print(args.output / "speed.md")


if __name__ == "__main__":
    main()
