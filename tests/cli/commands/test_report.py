"""`ptycho report`: the page of a result, made anew."""

from pathlib import Path

import numpy as np
import pytest

from ptycho.cli.command import main
from ptycho.core.refinement.run import refine_scan
from ptycho.raw_data import RawData


def test_the_page_of_a_result(fixture_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scan = RawData.from_file(fixture_file)
    refine_scan(scan, iterations=1, dtype=np.float32).save(tmp_path / "reconstruction.npz")
    assert main(["report", str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"report: {tmp_path / 'report.html'}\n"
    other = tmp_path / "other.html"
    result = str(tmp_path / "reconstruction.npz")
    assert main(["report", result, "--scan", str(fixture_file), "--output", str(other)]) == 0
    assert "Mean pattern" in other.read_text(encoding="utf-8")
    assert main(["report", str(tmp_path), "--compare", str(fixture_file)]) == 0
    assert f"With {fixture_file.name}" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_nothing_to_compare_with_is_one_line(
    fixture_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(fixture_file), "--compare", str(tmp_path / "gone.npz")]) == 2
    assert capsys.readouterr().err == f"ptycho report: error: --compare {tmp_path / 'gone.npz'}: no such file\n"


def test_no_result_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(tmp_path)]) == 2
    assert "expected a reconstruction (.npz), found no such file" in capsys.readouterr().err
