"""`ptycho batch` end to end: one scan that works, one that is not there, one with a fault; then again."""

import csv
import shutil

import numpy as np
import pytest

from ptycho.cli.command import main

QUICK = "--iterations 3 --modes none --refine-probe true"


@pytest.fixture
def scans(tmp_path, fixture_file, monkeypatch):
    """The list; the third scan has positions in metres."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(fixture_file, "good.npz")
    with np.load("good.npz") as file:
        stored = {key: file[key] for key in file.files}
    np.savez("metres.npz", **(stored | {"xcoords": stored["xcoords"] * 1e-7, "ycoords": stored["ycoords"] * 1e-7}))
    (tmp_path / "scans.txt").write_text("good.npz\nabsent.npz\nmetres.npz\n")
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
        ["good.npz", "done"],
        ["absent.npz", "failed"],
        ["metres.npz", "failed"],
    ]
    good, absent, metres = rows(scans / "out")
    assert (good["status"], good["width"]) == ("done", "128") and 0 < float(good["fourier_error"]) < 1
    assert "absent.npz: no such file" in absent["said"]
    assert "metre" in metres["said"]
    assert (scans / "out" / "good" / "summary.png").is_file()
    before = (scans / "out" / "good" / "reconstruction.npz").stat().st_mtime_ns
    shutil.copy("good.npz", "absent.npz")
    assert main([*asked, "--only", "2"]) == 0
    assert main([*asked, "--only", "1"]) == 0
    assert [row["status"] for row in rows(scans / "out")] == ["done", "done", "failed"]
    assert (scans / "out" / "good" / "reconstruction.npz").stat().st_mtime_ns == before


def test_the_number_of_a_scan_has_to_be_one(scans, capsys):
    assert main(["batch", "scans.txt", "--only", "4"]) == 2
    assert "--only 4: expected 1 to 3, the number of scans" in capsys.readouterr().err
