"""The benchmark of the one command: its table from a program that is a stand-in, and a scan without its probe."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

import ptycho

SCRIPTS = Path(__file__).parents[2] / "scripts" / "benchmarks"


@pytest.fixture
def bench(monkeypatch):
    """The script as a module."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import one_command

    return one_command


@pytest.fixture
def asked(bench, monkeypatch, fixture_file):
    """What is typed; the program is a stand-in that writes one result and needs 5, 1 and 3 seconds by the clock."""
    found, typed = ptycho.reconstruct(fixture_file, iterations=2, modes=None, refine_probe=True), []

    def run(command, check):
        typed.append(command)
        folder = Path(command[command.index("-o") + 1])
        folder.mkdir(exist_ok=True)
        found.save(folder / "reconstruction.npz")

    ticks = iter([0.0, 5.0, 5.0, 6.0, 6.0, 9.0])
    monkeypatch.setattr(bench.subprocess, "run", run)
    monkeypatch.setattr(bench.time, "perf_counter", lambda: next(ticks))
    return typed, found


def test_the_table(bench, asked, fixture_file, tmp_path, monkeypatch):
    table = tmp_path / "table.json"
    flags = ["--output", str(table), "--backends", "pytorch", "--repeats", "3"]
    monkeypatch.setattr(sys, "argv", ["one_command.py", str(fixture_file), *flags])
    bench.main()
    typed, found = asked
    assert [command[2:6] for command in typed] == [["ptycho", "reconstruct", str(fixture_file), "--backend"]] * 3
    (row,) = json.loads(table.read_text())
    assert (row["seconds"], row["all_seconds"]) == (3.0, [5.0, 1.0, 3.0])
    assert row["relative_fourier_error"] == found.trust.fourier_error and row["modes"] == 1


def test_the_probe_is_taken_away(bench, fixture_file, tmp_path):
    assert bench.prepared(fixture_file, tmp_path, without_probe=False) == fixture_file
    with np.load(bench.prepared(fixture_file, tmp_path, without_probe=True)) as left, np.load(fixture_file) as whole:
        assert set(whole.files) - set(left.files) == {"probeGuess"}
        assert np.array_equal(left["xcoords"], whole["xcoords"])
