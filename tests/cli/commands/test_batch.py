"""`ptycho batch` end to end: one scan that works, one that is not there; then again."""

import csv
import shutil

import pytest

from ptycho.cli.command import main

QUICK = "--iterations 3 --modes none --refine-probe true"


@pytest.fixture
def scans(tmp_path, fixture_file, monkeypatch):
    """The list."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(fixture_file, "good.npz")
    (tmp_path / "scans.txt").write_text("absent.npz\ngood.npz\nlater.npz\n")
    return tmp_path


def rows(folder):
    with (folder / "table.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.mark.slow
def test_a_failure_stops_nothing_and_what_is_done_is_not_done_again(scans, capsys):
    asked = ["batch", "scans.txt", "-o", "out", f"--flags={QUICK}"]
    assert main(asked) == 1
    shown = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in shown[1:]] == [
        ["absent.npz", "failed"],
        ["good.npz", "done"],
        ["later.npz", "failed"],
    ]
    absent, good, _ = rows(scans / "out")
    assert (good["status"], good["width"]) == ("done", "128") and 0 < float(good["fourier_error"]) < 1
    assert "absent.npz: no such file" in absent["said"]
    assert (scans / "out" / "good" / "summary.png").is_file()
    before = (scans / "out" / "good" / "reconstruction.npz").stat().st_mtime_ns
    shutil.copy("good.npz", "later.npz")
    assert main([*asked, "--only", "3"]) == 0
    assert main([*asked, "--only", "2"]) == 0
    assert [row["status"] for row in rows(scans / "out")] == ["failed", "done", "done"]
    assert "3 scans" in (scans / "out" / "index.html").read_text(encoding="utf-8")
    assert (scans / "out" / "good" / "reconstruction.npz").stat().st_mtime_ns == before


def test_the_number_of_a_scan_has_to_be_one(scans, capsys):
    assert main(["batch", "scans.txt", "--only", "4"]) == 2
    assert "--only 4: expected 1 to 3, the number of scans" in capsys.readouterr().err
