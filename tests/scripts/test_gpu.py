"""The benchmark of a GPU, on a CPU: what its rates are of, and what becomes of a part that the time cuts off."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

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
    assert gpu.rate(None, range(10)) == pytest.approx(5000)


def test_a_scan_has_about_as_many_patterns_as_asked_for(gpu):
    job = gpu.Job("cpu", 0.001, None)
    assert len(job.scan(64)) == 16
    assert job.scan(64, (0.8, 0.2)).probeGuess.shape == (2, 64, 64)


def test_the_table_says_bar_and_share_where_there_are_any(gpu):
    rows = [gpu.Row("solver", "64 x 64", 1234567.0, "a second", 2e6, 0.25), gpu.Row("stitching", "9 patches", 0.5, "s")]
    *_, first, second = gpu.table(rows).splitlines()
    assert first == "| solver | 64 x 64 | 1.235e+06 a second | 2e+06 | 25% |"
    assert second == "| stitching | 9 patches | 0.5 s |  |  |"


@pytest.mark.slow
def test_what_the_time_does_not_allow_is_named_and_the_rest_is_written(tmp_path):
    output = tmp_path / "gpu.json"
    command = [sys.executable, SCRIPTS / "gpu.py", "--output", output, "--device", "cpu", "--scale", "0.001"]
    told = subprocess.run(
        [*command, "--parts", "stitching", "solver", "--seconds", "8"], capture_output=True, text=True, check=True
    )
    found = json.loads(output.read_text())
    assert found["rows"][0]["part"] == "stitching"
    assert any(name.startswith("solver: not whole") for name in found["left out"]), told.stdout
