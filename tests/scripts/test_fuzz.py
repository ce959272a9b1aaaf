"""scripts/fuzz.py: damages the same at every time, tells what it finds, and finds nothing in any reader."""

import mmap
import random
import subprocess
import sys
from pathlib import Path

import pytest

from ptycho.errors import DataError

SCRIPTS = Path(__file__).parents[2] / "scripts"
SECONDS = 12
"""Of each reader; `make fuzz` takes longer."""

READERS = (
    ("hdf5", "npz", "images", "electron", "arrays", "map"),
    ("archive", "settings", "run", "records", "tensorflow", "torch"),
)
"""HDF5 scans, products and results; NPZ likewise; images of detectors; scans of electron microscopes; arrays and tables
that are named; scan maps. Model archives; settings; the steps of a run, and what it says of itself; the checkpoints of
both backends. Those of a row have one process, which loads the libraries once."""


@pytest.fixture
def fuzz(monkeypatch):
    """The script as a module."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import fuzz

    return fuzz


@pytest.fixture
def fuzzer(fuzz, monkeypatch, tmp_path):
    """A reader of short texts, that breaks in every way in which one can."""

    def make(folder):
        for number in range(4):
            (folder / f"{number}.txt").write_text("whole " * (number + 1))

    def read(path):
        content = path.read_bytes()
        if content.startswith(b"whole"):
            return
        kind = random.Random(content).randrange(5)
        if kind == 0:
            raise KeyError("no such thing")
        if kind == 1:
            raise DataError("a line\nand another")
        while kind == 2:
            pass
        if kind == 3:  # mapped anew: a heap may hold that much that is free
            mmap.mmap(-1, 100 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE).close()
        raise DataError("one line")

    monkeypatch.setitem(fuzz.READERS, "texts", fuzz.READERS["settings"]._replace(make=make, read=read))
    monkeypatch.setattr(fuzz, "SECONDS", 0.2)
    monkeypatch.setattr(fuzz, "MEMORY", 40 << 20)
    return fuzz.Fuzzer("texts", 3, tmp_path)


def test_inputs_are_the_same_at_every_time(fuzz, fuzzer, tmp_path):
    (tmp_path / "again").mkdir()
    again = fuzz.Fuzzer("texts", 3, tmp_path / "again")
    other = fuzz.Fuzzer.__new__(fuzz.Fuzzer)
    vars(other).update({**vars(again), "seed": 4})
    assert [fuzzer.made(number) for number in range(20)] == [again.made(number) for number in range(20)]
    assert [fuzzer.made(number) for number in range(20)] != [other.made(number) for number in range(20)]
    assert len({fuzzer.made(number)[1] for number in range(20)}) > 10


def test_what_breaks_is_told_with_its_smallest_input(fuzz, fuzzer):
    done, findings = fuzzer.run(60, 40)
    assert done == 40
    kept = fuzz.smallest(fuzzer, findings)
    assert {found.kind for found, _ in kept.values()} == {"KeyError", "AssertionError", "Timeout", "Memory"}
    for found, content in kept.values():
        alike = [one for one in findings if (one.kind, one.place) == (found.kind, found.place)]
        assert len(content) == min(len(fuzzer.made(one.number)[1]) for one in alike)


def test_every_reader_is_fuzzed(fuzz):
    assert {reader for row in READERS for reader in row} == set(fuzz.READERS)


@pytest.mark.slow
@pytest.mark.parametrize("readers", READERS)
def test_no_reader_falls_over(readers):
    command = [sys.executable, str(SCRIPTS / "fuzz.py"), *readers, "--seconds", str(SECONDS)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(" 0 kinds of findings") == len(readers)
