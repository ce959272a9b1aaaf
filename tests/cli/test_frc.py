"""`ptycho frc`: from a scan to its resolution, in a folder of its own or into the report of a run."""

import json
import shutil

import pytest

from ptycho.cli.command import main

QUICK = ["--iterations", "4", "--modes", "none", "--refine-probe", "true"]


@pytest.fixture
def scan(tmp_path, fixture_file, monkeypatch):
    """A scan in the working directory."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(fixture_file, "scan.npz")
    return "scan.npz"


def test_no_flag_but_the_scan(scan, tmp_path, capsys):
    assert main(["frc", scan, *QUICK, "--pdf"]) == 0
    told = capsys.readouterr().err
    assert "Resolution: a period of " in told.splitlines()[-1]
    names = {path.name for path in (tmp_path / "scan_frc").iterdir()}
    assert names == {"frc.json", "frc.csv", "frc.png", "frc.pdf", "half_1.npz", "half_2.npz", "run.log"}
    stored = json.loads((tmp_path / "scan_frc" / "frc.json").read_text())
    assert 0 < stored["cutoff_half_bit"] <= 0.5 and stored["patterns"] == [32, 32]
    assert main(["frc", scan, *QUICK]) == 0
    assert (tmp_path / "scan_frc-2" / "frc.json").is_file()


@pytest.mark.slow
def test_the_report_of_a_run_gets_it(scan, tmp_path, capsys):
    assert main(["reconstruct", scan, *QUICK, "-o", "run"]) == 0
    report = tmp_path / "run" / "report.html"
    assert "ptycho frc SCAN" in report.read_text(encoding="utf-8")
    assert main(["frc", scan, *QUICK, "-o", "run"]) == 0
    assert "of 32 and 32 patterns" in report.read_text(encoding="utf-8")
    assert main(["reconstruct", scan, *QUICK, "-o", "both", "--frc"]) == 0
    assert "of 32 and 32 patterns" in (tmp_path / "both" / "report.html").read_text(encoding="utf-8")


def test_bad_input_is_one_line(tmp_path, capsys):
    assert main(["frc", str(tmp_path / "gone.npz")]) == 2
    assert "no such file" in capsys.readouterr().err
    assert main(["frc"]) == 2
    assert "SCAN is required" in capsys.readouterr().err
