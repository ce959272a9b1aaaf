"""The benchmark of a large scan: what is mapped does not count as memory, what is read does."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "benchmarks" / "large_scan.py"
GIGABYTES = 0.1


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """Few groups and points of a scan of 0.1 GiB, one row per backend and mode."""
    folder = tmp_path_factory.mktemp("large")
    output = folder / "rows.json"
    few = ["--groups", "8", "--inference_points", "16", "--repeat", "1"]
    line = [sys.executable, str(SCRIPT), "--output", str(output), "--folder", str(folder)]
    subprocess.run([*line, "--gigabytes", str(GIGABYTES), *few], check=True, stdout=subprocess.DEVNULL)
    found = json.loads(output.read_text())["rows"]
    return {(row["backend"], row["mode"]): row for row in found}


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="reads the memory of a Linux process")
@pytest.mark.parametrize("backend", ["pytorch", "tensorflow"])
def test_a_mapped_scan_is_not_in_memory(rows, backend):
    mapped, held, data = rows[backend, "mapped"], rows[backend, "in memory"], 1024 * GIGABYTES
    assert held["opening MiB"] > 0.9 * data
    assert mapped["opening MiB"] < 0.2 * data
    assert mapped["anonymous MiB"] < held["anonymous MiB"] - 0.5 * data
    assert mapped["anonymous MiB"] + mapped["shared MiB"] < 1024
    assert mapped["training groups/s"] > 0 and mapped["points"] == 16
