"""Every signal ends a command with a line and a status of its own."""

import os
import signal
import threading
import time

import pytest

from ptycho.cli import stopping
from ptycho.cli.console import complain
from ptycho.cli.stopping import Stopped, Stops

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
