"""The benchmark of a GPU, on a CPU: what its rates are of, and what becomes of a part that the time cuts off."""

import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from ptycho.core.quality.arithmetic import IN_NUMPY
from ptycho.core.stitching.sums import NumpySums
from ptycho_torch import backend as torch_backend

SCRIPTS = Path(__file__).parents[2] / "scripts" / "benchmarks"


@pytest.fixture
def gpu(monkeypatch):
    """The benchmark, found as a script finds those beside it."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import gpu

    return gpu


def test_a_rate_is_of_further_iterations(gpu, monkeypatch):
    """Ten patterns, 2 ms an iteration, whatever the first launches take."""

    def refined(job, scan, iterations, **settings):
        return SimpleNamespace(iterations=iterations, seconds=5 + 0.002 * iterations)

    monkeypatch.setattr(gpu, "refined", refined)
    assert gpu.rate(gpu.Job("cpu", 1.0, None), range(10)) == pytest.approx(5000)


def test_a_rate_that_was_not_to_be_measured_is_not_negative(gpu, monkeypatch):
    """Fewer iterations took longer than many: once, and always."""
    seconds = iter([0.0, 9.0, 3.0, 2.0, 4.0, 2.0, 4.0] + [0.0] + [5.0, 4.0] * 3)

    def refined(job, scan, iterations, **settings):
        return SimpleNamespace(iterations=iterations, seconds=next(seconds))

    monkeypatch.setattr(gpu, "refined", refined)
    job = gpu.Job("cpu", 1.0, None)
    assert gpu.rate(job, range(10)) == pytest.approx(100)
    assert math.isnan(gpu.rate(job, range(10)))


def test_a_scan_has_about_as_many_patterns_as_asked_for(gpu):
    job = gpu.Job("cpu", 0.001, None)
    assert len(job.scan(64)) == 16
    assert job.scan(64, (0.8, 0.2)).probeGuess.shape == (2, 64, 64)


def test_the_table_says_bar_and_share_where_there_are_any(gpu):
    rows = [gpu.Row("solver", "64 x 64", 1234567.0, "a second", 2e6, 0.25), gpu.Row("stitching", "9 patches", 0.5, "s")]
    *_, first, second = gpu.table(rows).splitlines()
    assert first == "| solver | 64 x 64 | 1.235e+06 a second | 2e+06 | 25% |"
    assert second == "| stitching | 9 patches | 0.5 s |  |  |"


def test_a_scan_is_simulated_once(gpu, tmp_path):
    """Parts are processes; of several modes there are fewer patterns."""
    one, other = (gpu.Job("cpu", 0.004, None, tmp_path).scan(64) for _ in range(2))
    assert [path.name for path in tmp_path.iterdir()] == ["64_1.npz"]
    assert len(one) == 64 and (one.diff3d == other.diff3d).all() and (one.units, other.units) == (one.units,) * 2
    assert len(gpu.Job("cpu", 0.004, None, tmp_path).scan(64, (0.8, 0.2))) == 16


def test_what_is_not_installed_is_told(gpu, monkeypatch, tmp_path):
    monkeypatch.setattr(gpu, "find_spec", lambda name: None)
    output = tmp_path / "rows.json"
    for part in ("pty-chi", "networks in TensorFlow"):
        gpu.run_part(gpu.parser().parse_args(["--output", str(output), "--quick", "--only", part]))
        found = json.loads(output.read_text())
        assert found["rows"] == [] and "not installed" in found["left out"][0]


def test_stitching_and_halves_go_the_way_of_a_run(gpu, monkeypatch, tmp_path):
    """The backend says what adds the patches, and what correlates the halves."""
    asked, output = [], tmp_path / "rows.json"
    monkeypatch.setattr(torch_backend, "canvas_sums", lambda run: asked.append(run.execution.accelerator) or NumpySums)
    monkeypatch.setattr(torch_backend, "image_arithmetic", lambda run: asked.append("halves") or IN_NUMPY)
    monkeypatch.setattr(gpu, "QUICK", replace(gpu.QUICK, many=2))
    for part in ("stitching", "half scans"):
        asked_for = ["--output", str(output), "--device", "cpu", "--scale", "0.002", "--quick", "--only", part]
        gpu.run_part(gpu.parser().parse_args(asked_for))
        rows = json.loads(output.read_text())["rows"]
        assert len(rows) == 2 and all(row["figure"] > 0 for row in rows)
    assert asked == ["cpu", "halves"]


@pytest.mark.slow
def test_all_of_the_solver_runs_in_its_quick_form(tmp_path):
    output = tmp_path / "gpu.json"
    command = [sys.executable, SCRIPTS / "gpu.py", "--output", output, "--quick", "--parts", "solver", "verdict"]
    subprocess.run(command, capture_output=True, text=True, check=True)
    found = json.loads(output.read_text())
    assert found["left out"] == []
    # so short a run has rates that the machine's noise may turn negative: there they have to be, not how large
    assert len(found["rows"]) == 1 + 6 + 1 + 1 + 3 + 1 and all(math.isfinite(row["figure"]) for row in found["rows"])


def test_what_the_time_does_not_allow_is_named_and_the_rest_is_written(gpu, monkeypatch):
    """A part that ends, one that is cut off after a row, one that falls over at once."""

    def run(command, timeout, check):
        name, output = (command[command.index(flag) + 1] for flag in ("--only", "--output"))
        assert timeout <= 8
        if name != "networks":
            row = {"part": name, "what": "all of it", "figure": 1.0, "unit": "s"}
            Path(output).write_text(json.dumps({"rows": [row], "left out": []}))
        if name == "solver":
            raise subprocess.TimeoutExpired(command, timeout)
        return SimpleNamespace(returncode=3 * (name == "networks"))

    monkeypatch.setattr(gpu.subprocess, "run", run)
    monkeypatch.setattr(sys, "argv", ["gpu.py"])
    rows, left_out = gpu.run_parts(SimpleNamespace(seconds=8.0, parts=["stitching", "solver", "networks"]))
    assert [row.part for row in rows] == ["stitching", "solver"]
    assert left_out[0].startswith("solver: not whole, ") and left_out[1:] == ["networks: not whole, status 3"]


def test_without_a_gpu_it_ends_before_it_begins(gpu, monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--output", str(tmp_path / "gpu.json")])
    monkeypatch.setattr(gpu.subprocess, "run", pytest.fail)
    with pytest.raises(SystemExit, match="expected a CUDA device, found none"):
        gpu.main()


def test_a_card_whose_driver_nothing_tells_is_measured_all_the_same(gpu, monkeypatch, tmp_path):
    """In a container without nvidia-smi; the figures are written before they are printed."""
    for name, value in {
        "is_available": lambda: True,
        "get_device_name": lambda: "a card",
        "get_device_properties": lambda _number: SimpleNamespace(total_memory=80 << 30),
    }.items():
        monkeypatch.setattr(torch.cuda, name, value)
    monkeypatch.setattr(gpu.shutil, "which", lambda _name: None)
    monkeypatch.setattr(gpu, "run_parts", lambda args: ([gpu.Row("solver", "64 x 64", 2.0, "a second")], []))
    output = tmp_path / "gpu.json"
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--output", str(output)])
    gpu.main()
    on = json.loads(output.read_text())["on"]
    assert (on["card"], on["driver"]) == ("a card, 80 GiB", None)


def test_a_rate_of_no_further_iterations_is_none(gpu, monkeypatch):
    """Where a search has ended before."""
    monkeypatch.setattr(gpu, "refined", lambda *_arguments: SimpleNamespace(iterations=7, seconds=next(seconds)))
    seconds = iter(range(20))
    assert math.isnan(gpu.rate(gpu.Job("cpu", 1.0, None), range(10)))
