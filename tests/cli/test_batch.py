"""The jobs of a batch, what is known of each, and what came of it."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from ptycho.cli import batch
from ptycho.cli.batch import Job, Row, jobs_of, row_of, run_job, write_table
from ptycho.cli.programs import RECONSTRUCTION
from ptycho.errors import ConfigError, DataError, MissingFileError


@pytest.fixture
def scans(tmp_path, monkeypatch):
    """A list with three scans, two of one name."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scans.txt").write_text(
        "# of Monday\n\na/one.npz\n'b/one.npz' --modes 2   # with more modes\n\"c/two scans.cxi\"\n"
    )
    return "scans.txt"


def test_jobs_have_folders_of_their_own_and_flags_of_their_line(scans, tmp_path):
    jobs = jobs_of([scans, "d/three.h5"], "--iterations 5", tmp_path / "out")
    assert [job.folder.relative_to(tmp_path / "out").name for job in jobs] == ["one", "one-2", "two scans", "three"]
    assert jobs[1].arguments == [
        *("b/one.npz", "--iterations", "5", "--modes", "2"),
        *("--output-dir", str(tmp_path / "out" / "one-2")),
    ]
    assert jobs[0].flags == ("--iterations", "5")


def test_several_scans_in_a_line_are_one_object(tmp_path, monkeypatch):
    """Whatever flags go for all; the folder is named after the first of them."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "list.txt").write_text("a.npz\na.npz 'b 2.npz' --no-scan-offsets\n")
    alone, both = jobs_of(["list.txt"], "--iterations 5", tmp_path)
    assert both.arguments[:5] == ["a.npz", "b 2.npz", "--iterations", "5", "--no-scan-offsets"]
    assert (alone.folder.name, both.folder.name) == ("a", "a-2")
    assert row_of(both).scan == "a.npz 'b 2.npz'" and row_of(alone).scan == "a.npz"
    assert RECONSTRUCTION.parser().parse_flags(both.arguments).others == [Path("b 2.npz")]


@pytest.mark.parametrize(
    ("line", "flags", "message"),
    [
        ("scan.npz --iteratoins 3", "", r"list.txt, line 1: unknown argument --iteratoins.*--iterations"),
        ("scan.npz 'open", "", r"list.txt, line 1: No closing quotation; mend the quotes"),
        ("# nothing", "", r"expected a scan to a line, found none"),
        ("scan.npz", "--resume old", r"leave out --resume"),
    ],
)
def test_what_is_wrong_is_said_before_anything_runs(line, flags, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "list.txt").write_text(line)
    with pytest.raises(ConfigError, match=message):
        jobs_of(["list.txt"], flags, tmp_path)


def test_a_list_has_to_be_there(tmp_path):
    with pytest.raises(MissingFileError, match="no such list of scans"):
        jobs_of([str(tmp_path / "absent.txt")], "", tmp_path)


class TestOneJob:
    """A job whose reconstruction is a stand-in."""

    @pytest.fixture
    def job(self, tmp_path):
        return Job("scan.npz", ("--modes", "2"), tmp_path / "scan")

    def stand_in(self, monkeypatch, calls, status=2, text="12:00:00 INFO Scan: ...\nptycho reconstruct: error: no\n"):
        def reconstruct(arguments, log, place):
            calls.append(arguments)
            log.write_text(text)
            return status

        monkeypatch.setattr(batch, "_reconstruct", reconstruct)

    def test_a_failure_is_a_row(self, job, monkeypatch):
        calls = []
        self.stand_in(monkeypatch, calls)
        row = run_job(job)
        assert calls == [[*job.arguments, "--overwrite"]]
        assert (row.status, row.said, row.trust) == ("failed", "no", "")
        assert row_of(job) == row

    def test_what_was_cut_off_goes_on(self, job, monkeypatch):
        calls = []
        self.stand_in(monkeypatch, calls)
        job.folder.mkdir()
        (job.folder / "run.json").write_text(
            json.dumps({"arguments": [*job.arguments, "--overwrite"], "working_directory": "."})
        )
        assert row_of(job).status == "not yet"
        run_job(job)
        run_job(job, anew=True)
        assert calls == [["--resume", str(job.folder)], [*job.arguments, "--overwrite"]]

    def test_a_run_with_other_settings_is_not_taken_for_this_one(self, job):
        job.folder.mkdir()
        (job.folder / "run.json").write_text(json.dumps({"arguments": ["scan.npz"], "working_directory": "."}))
        with pytest.raises(ConfigError, match=r"expected a run of scan.npz --modes 2 .*found scan.npz; name another"):
            row_of(job)
        assert row_of(job, anew=True).status == "not yet"

    @pytest.mark.parametrize("text", ["{", "[]", '{"scan": "scan.npz"}'])
    def test_a_damaged_row_is_named(self, job, text):
        job.folder.mkdir()
        (job.folder / "batch.json").write_text(text)
        with pytest.raises(DataError, match=r"batch\.json: expected .*remove it"):
            row_of(job)


def test_an_interrupt_is_passed_on_once_and_waited_for(tmp_path, monkeypatch):
    """The child saves for a second when it is interrupted; the batch ends after it."""
    script = (
        "import sys, time\n"
        "try:\n    print('begun', flush=True); time.sleep(60)\n"
        "except KeyboardInterrupt:\n    time.sleep(0.5); print('saved', flush=True); sys.exit(130)\n"
    )
    started = subprocess.Popen

    def interrupt_once_it_runs():
        while not (tmp_path / "log").exists() or "begun" not in (tmp_path / "log").read_text():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    interrupter = threading.Thread(target=interrupt_once_it_runs)
    interrupter.start()
    monkeypatch.setattr(
        batch.subprocess, "Popen", lambda _, **options: started([sys.executable, "-c", script], **options)
    )
    with pytest.raises(KeyboardInterrupt):
        batch._reconstruct(["scan.npz"], tmp_path / "log")
    interrupter.join()
    assert (tmp_path / "log").read_text().split() == ["begun", "saved"]


def test_several_at_once_have_a_gpu_each_and_one_interrupt_ends_all(tmp_path, monkeypatch):
    """Three scans, two at once: the first ends, the others are cut off together, and leave no row."""
    script = (
        "import os, sys, time\n"
        "print('begun', os.environ['CUDA_VISIBLE_DEVICES'], flush=True)\n"
        "if sys.argv[1] == 'a.npz': sys.exit(2)\n"
        "try:\n    time.sleep(60)\n"
        "except KeyboardInterrupt:\n    print('saved', flush=True); sys.exit(130)\n"
    )
    started = subprocess.Popen
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6")
    monkeypatch.setattr(
        batch.subprocess, "Popen", lambda line, **asked: started([sys.executable, "-c", script, line[4]], **asked)
    )
    jobs = [Job(f"{name}.npz", (), tmp_path / name) for name in "abc"]
    logs = [job.folder / "batch.log" for job in jobs]
    told, found = [], batch.run_jobs(jobs, 2, False, lambda number: told.append(number))
    assert [(number, row.status) for number, row in [next(found)]] == [(0, "failed")]
    until = time.monotonic() + 30
    while not all(log.exists() and "begun" in log.read_text() for log in logs) and time.monotonic() < until:
        time.sleep(0.01)
    found.close()
    assert [log.read_text().split()[2:] for log in logs] == [[], ["saved"], ["saved"]]
    assert {log.read_text().split()[1] for log in logs[1:]} == {"4", "6"} and sorted(told) == [0, 1, 2]
    assert [(job.folder / "batch.json").exists() for job in jobs] == [True, False, False]


@pytest.mark.parametrize(("named", "given"), [(None, "1"), ("", ""), ("4,6,7", "6"), ("MIG-a", "MIG-a")])
def test_the_gpu_of_the_second_of_two_is_among_those_that_may_be_used(named, given, monkeypatch):
    """Empty means none, for both."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if named is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
    assert batch._Place(1, 2).environment["CUDA_VISIBLE_DEVICES"] == given


def test_the_table(tmp_path):
    rows = [Row("a, b.npz", "out/a", "done", "usable", 0.5, said='says "so"'), Row("c.npz", "out/c", "not yet")]
    lines = write_table(rows, tmp_path / "table.csv").read_text().splitlines()
    assert lines[0].startswith("scan,folder,status,trust,fourier_error,modes")
    assert lines[1] == '"a, b.npz",out/a,done,usable,0.5,,,,,,"says ""so"""'
    assert lines[2] == "c.npz,out/c,not yet,,,,,,,,"
