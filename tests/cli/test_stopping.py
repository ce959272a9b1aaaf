"""Every signal ends a command with a line and a status of its own."""

import os
import signal
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from ptycho.cli import stopping
from ptycho.cli.console import complain
from ptycho.cli.stopping import Stopped, Stops
from ptycho.core.files.atomic import atomic_path
from ptycho.core.files.whole_set import UNFINISHED, whole_set
from ptycho.core.scan_edit.map_write import make_map
from ptycho.errors import DataError
from ptycho.raw_data import RawData

STATUS = {"SIGINT": 130, "SIGTERM": 143, "SIGUSR1": 138, "SIGHUP": 129}


@pytest.mark.parametrize(("name", "status"), STATUS.items())
@pytest.mark.usefixtures("interrupts")
def test_a_signal_raises_and_has_its_own_line_and_status(name, status, capsys) -> None:
    number = getattr(signal, name)
    before = signal.getsignal(number)
    with pytest.raises(Stopped) as stop, Stops():
        os.kill(os.getpid(), number)
        time.sleep(1)
    assert isinstance(stop.value, KeyboardInterrupt)
    assert complain("ptycho", stop.value, False) == status
    said = capsys.readouterr().err
    assert said == f"ptycho: {stopping.WORDS[name]}: start again with the same command\n"
    assert signal.getsignal(number) is before


@pytest.mark.usefixtures("interrupts")
def test_a_signal_that_was_heeded_is_not_what_fails_later() -> None:
    with pytest.raises(DataError, match="found none"), Stops():
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1)
        except Stopped as stop:
            stop.heeded = True
        raise DataError("expected frames, found none")


@pytest.mark.usefixtures("interrupts")
def test_what_a_signal_makes_fail_is_the_signal() -> None:
    with pytest.raises(Stopped) as stop, Stops():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(1)
        except KeyboardInterrupt:
            raise ImportError("initialization failed") from None
    assert stop.value.status == 143
    with pytest.raises(ImportError), Stops():
        raise ImportError("of its own")


@pytest.mark.usefixtures("interrupts")
def test_the_same_signal_again_at_once_is_the_same_one(monkeypatch) -> None:
    with Stops():
        with pytest.raises(Stopped):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(1)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.01)
        monkeypatch.setattr(stopping, "_AGAIN_SECONDS", 0.0)
        with pytest.raises(Stopped):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(1)


def test_a_signal_that_is_ignored_stays_so() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Stops():
            os.kill(os.getpid(), signal.SIGHUP)
            time.sleep(0.01)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_other_threads_handle_no_signals() -> None:
    before, done = signal.getsignal(signal.SIGTERM), []

    def other() -> None:
        with Stops():
            done.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert done == [before]


def test_nobody_reads(capsys) -> None:
    assert complain("ptycho", BrokenPipeError(32, "Broken pipe"), False) == 141
    assert not capsys.readouterr().err
    assert complain("ptycho", OSError(28, "No space left on device", "metrics.csv"), False) == 2
    said = capsys.readouterr().err
    assert said == "ptycho: error: [Errno 28] No space left on device: 'metrics.csv'; free some space\n"


def one_file(place: Path) -> None:
    with atomic_path(place / "result.txt") as path:
        path.write_text("whole")


def several_files(place: Path) -> None:
    with whole_set(place, replaced=["older.txt", "result.txt"]) as made:
        (made / "result.txt").write_text("whole")


def map_of_a_scan(place: Path) -> None:
    make_map(place.parent / "scan.npz", place / "scan.map", renew=True)


@pytest.mark.slow
@pytest.mark.usefixtures("interrupts")
@pytest.mark.parametrize("write", [one_file, several_files, map_of_a_scan])
def test_wherever_a_signal_comes_nothing_half_written_is_left(write, tmp_path) -> None:
    coords = np.arange(7.0)
    scan = RawData.from_coords_without_pc(coords, coords[::-1], np.ones((7, 9, 9)), np.ones((9, 9)), np.zeros(7, int))
    scan.to_file(tmp_path / "scan.npz")
    place = tmp_path / "out"
    place.mkdir()
    write(place)
    (place / "older.txt").touch()
    lines, reached = 0, True
    while reached:
        lines += 1
        reached = stopped_at(lines, lambda: write(place))
        left = [path.name for path in place.iterdir() if path.name not in ("result.txt", "older.txt", "scan.map")]
        assert left == [], f"the signal came at line {lines} of the modules that write"
    assert lines > 20
    assert not (place / UNFINISHED).exists()


def stopped_at(line: int, work) -> bool:
    """Whether a signal came at a line of the modules that write, as they are run, counted from 1."""
    count = 0

    def trace(frame, event, argument):
        nonlocal count
        if not frame.f_code.co_filename.endswith(("atomic.py", "temporaries.py", "whole_set.py", "map_write.py")):
            return None
        if event == "line":
            count += 1
            if count == line:
                os.kill(os.getpid(), signal.SIGTERM)
        return trace

    with suppress(Stopped), Stops():
        before = sys.gettrace()
        sys.settrace(trace)
        try:
            work()
        finally:
            sys.settrace(before)
    return count >= line
