"""Commands killed at random moments: a few of those that `scripts/benchmarks/kill_runs.py` makes by the hundred."""

import importlib.util
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "benchmarks" / "kill_runs.py"


@pytest.fixture(scope="module")
def kills():
    spec = importlib.util.spec_from_file_location("kill_runs", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["kill_runs"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["kill_runs"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "signals", "moments"),
    [
        ("begin", "INT,TERM,USR1,KILL", 1),
        ("convert", "INT,TERM,USR1,KILL", 1),
        ("map", "INT,TERM,USR1,KILL", 1),
        ("reconstruct", "TERM", 1),
        ("train pytorch", "INT", 1),
        ("train tensorflow", "KILL", 1),
    ],
)
def test_what_is_killed_says_so_and_leaves_whole_files(kind, signals, moments, kills, tmp_path):
    tables = list(kills.experiments([kind], signals.split(","), moments, 1, tmp_path, seed=5))
    assert [table.wrong for *_, table in tables] == [[]] * len(tables)
    assert all(sum(table.outcomes.values()) == moments for *_, table in tables)


def test_broken_files_are_found(kills, tmp_path):
    np.savez(tmp_path / "a.npz", object=np.ones(999))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["object"] = np.ones(999)
    (tmp_path / "a.html").write_text("<html></html>\n")
    (tmp_path / "a.json").write_text("{}")
    (tmp_path / ".a.npz").write_bytes(b"")
    assert kills.broken_files(tmp_path) == []
    for path in tmp_path.glob("a.*"):
        path.write_bytes(path.read_bytes()[:-8] if path.suffix != ".json" else b"{")
    assert [line.split(":")[0] for line in kills.broken_files(tmp_path)] == ["a.h5", "a.html", "a.json", "a.npz"]


def test_a_wrong_end_is_found(kills):
    for name, status, text in (("INT", 130, "ptycho: interrupted: again"), ("KILL", -9, ""), ("TERM", 0, "")):
        assert kills.ended_as(name, status, text)[1] == []
    for name, status, text in (
        ("INT", 1, "Traceback"),
        ("TERM", 143, "Traceback\nptycho: terminated: again"),
        ("TERM", 143, ""),
        ("USR1", 143, "ptycho: terminated: again"),
        ("KILL", 139, ""),
    ):
        assert kills.ended_as(name, status, text)[1]
    assert kills.ended_as("TERM", -15, "") == ("before the first line of the library", [])


def test_files_of_two_results_are_found(kills, tmp_path):
    (tmp_path / "trust.png").touch()
    old = {"trust.png": (tmp_path / "trust.png").stat().st_mtime_ns, "summary.png": 5}
    (tmp_path / "summary.png").touch()
    assert kills.mixed(tmp_path, old, finished=False)
    assert kills.mixed(tmp_path, old, finished=True)
    (tmp_path / "unfinished.txt").touch()
    assert not kills.mixed(tmp_path, old, finished=False)
