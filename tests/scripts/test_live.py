"""The benchmark of a live scan: one command, a row for each source."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "benchmarks" / "live.py"


@pytest.mark.slow
def test_a_row_for_each_source(tmp_path: Path) -> None:
    command = [
        sys.executable,
        str(SCRIPT),
        "--output",
        "live.json",
        "--count",
        "100",
        "--repeats",
        "1",
        "--rate",
        "100",
    ]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    rows = json.loads((tmp_path / "live.json").read_text())
    assert [row["source"] for row in rows] == ["folder", "file"]
    for row in rows:
        assert row["joined"] >= 81 and row["pictures"] > 1
        assert 0 < row["latency_median_s"] <= row["latency_95_s"] < 60
        assert row["joined_per_second"] > 20
