"""Processes that are started here: what they are told, and what is known of their end."""

import signal
import time

from ptycho.errors import ConfigError
from ptycho.workflows.sharing.started import end, fate_of, in_a_line, leave_signals_to_the_first, start


def fate(started, rank):
    until = time.monotonic() + 30
    while not (found := fate_of(started, rank)) and time.monotonic() < until:
        time.sleep(0.02)
    return found


def test_what_became_of_each():
    orders = {1: "import os, sys; sys.exit(os.environ['WORD'])", 2: "import time; time.sleep(60)"}
    started = start(3, orders.__getitem__, {"WORD": "two\nlines"})
    assert fate(started, 1) == "ended with status 1: lines"
    assert fate_of(started, 2) == fate_of(started, 3) == ""
    started[2][0].send_signal(signal.SIGTERM)
    assert fate(started, 2) == "was ended by SIGTERM"
    end(started, done=True)


def test_those_of_a_run_that_failed_are_ended():
    started = start(2, lambda _rank: "import time; time.sleep(60)", {})
    end(started, done=False)
    assert started[1][0].poll() == -signal.SIGKILL and started[1][1].closed


def test_what_an_error_says():
    assert in_a_line(ConfigError("devices=0:\n  expected more")) == "devices=0: expected more"
    assert in_a_line(ValueError("no\nluck")) == "ValueError: no luck"


def test_signals_of_a_terminal_are_for_the_first():
    before = {name: signal.getsignal(name) for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)}
    try:
        leave_signals_to_the_first()
        assert signal.getsignal(signal.SIGINT) is signal.getsignal(signal.SIGUSR1) is signal.SIG_IGN
        assert signal.getsignal(signal.SIGTERM) is before[signal.SIGTERM]
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
