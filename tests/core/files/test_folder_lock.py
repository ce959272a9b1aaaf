"""One run at a time in a folder."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from ptycho.core.files.folder_lock import LOCK_FILE, one_run_in
from ptycho.errors import OutputError

HOLDING = """
import sys, time
from pathlib import Path
from ptycho.core.files.folder_lock import one_run_in
with one_run_in(Path(sys.argv[1])):
    print(flush=True)
    time.sleep(60)
"""


def test_another_process_is_refused_by_name_and_a_killed_one_blocks_nobody(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLDING, tmp_path], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        expected = f"no other run is writing to, found that of process {other.pid} on .* since 20.*; wait until"
        with pytest.raises(OutputError, match=expected), one_run_in(tmp_path):
            pass
        other.send_signal(signal.SIGKILL)
    assert (tmp_path / LOCK_FILE).exists()
    with one_run_in(tmp_path):
        assert json.loads((tmp_path / LOCK_FILE).read_bytes())["process"] == os.getpid()
    assert not list(tmp_path.iterdir())


def test_another_thread_is_refused_and_the_same_is_not(tmp_path: Path) -> None:
    said: list[str] = []

    def other() -> None:
        try:
            with one_run_in(tmp_path):
                said.append("in")
        except OutputError as error:
            said.append(str(error))

    with one_run_in(tmp_path), one_run_in(tmp_path / "." / ""):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert f"process {os.getpid()}" in said[0]
    other()
    assert said[1] == "in"


def test_a_lock_that_nobody_signed_yet(tmp_path: Path) -> None:
    fcntl = pytest.importorskip("fcntl")
    with (tmp_path / LOCK_FILE).open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(OutputError, match="found one that has just begun"), one_run_in(tmp_path):
            pass


@pytest.mark.parametrize(
    ("signed", "said"),
    [
        ("[" * 1024, "one that has just begun"),
        ('{"process": 1, "host": "a\\nb", "since": "now"}', "that of process 1 on a b, which has written since now"),
    ],
)
def test_a_lock_that_is_damaged(signed: str, said: str, tmp_path: Path) -> None:
    fcntl = pytest.importorskip("fcntl")
    (tmp_path / LOCK_FILE).write_text(signed)
    with (tmp_path / LOCK_FILE).open("r+") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(OutputError, match=f"found {said};"), one_run_in(tmp_path):
            pass


def test_a_file_system_without_locks_holds_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(descriptor: int) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr("ptycho.core.files.folder_lock._lock", no_locks)
    with one_run_in(tmp_path):
        pass
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / LOCK_FILE).mkdir()
    with pytest.raises(OutputError, match="expected a folder that can be written"), one_run_in(tmp_path):
        pass
