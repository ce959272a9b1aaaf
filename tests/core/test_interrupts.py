"""Steps that are not cut in two."""

import os
import signal
import threading
import time

import pytest

from ptycho.cli.stopping import Stopped, Stops
from ptycho.core.interrupts import hold, uninterrupted


@pytest.mark.usefixtures("interrupts")
def test_a_signal_waits_until_the_step_is_over() -> None:
    done = []
    with pytest.raises(Stopped), Stops(), uninterrupted():
        with uninterrupted():
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.01)
        done.append("inner")
        time.sleep(0.01)
        done.append("outer")
    assert done == ["inner", "outer"]
    with Stops(), uninterrupted():
        pass


def test_where_no_step_is_under_way_nothing_waits() -> None:
    assert not hold(KeyboardInterrupt())
    held = []

    def other() -> None:
        with uninterrupted():
            held.append(hold(KeyboardInterrupt()))

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert held == [False]
