"""What a log gets of a training and of an iteration, and what who watches is told, with known clocks."""

import itertools
import logging
import math

import pytest

from ptycho.core import progress as progress_module
from ptycho.core.progress import IterationReport, Progress, TrainingReport, log_progress


@pytest.fixture
def clock(monkeypatch):
    """Each look at the clock is a second after the one before."""
    ticks = itertools.count()
    monkeypatch.setattr(progress_module.time, "perf_counter", lambda: float(next(ticks)))


def test_an_iteration_tells_its_rate_and_what_is_left(clock):
    told = []
    report = IterationReport(11, told.append)
    for iteration in (3, 4, 6):
        report(iteration, 0.5)
    assert [one.rate for one in told] == [0, 1, 1.5]
    assert [one.seconds_left for one in told] == [math.inf, 7, pytest.approx(5 / 1.5)]
    assert told[0].line == "iteration 3/11: relative error 0.5"
    assert not IterationReport(1, told.append, "trial")(1, 0.5) and not told[-1].noteworthy


def test_a_log_gets_a_tenth_of_the_iterations_and_the_last(caplog):
    with caplog.at_level(logging.INFO, "ptycho.core.progress"):
        report = IterationReport(47)
        for iteration in range(48):
            report(iteration, 1.0)
    numbers = [int(line.split("/")[0].split()[1]) for line in caplog.messages]
    assert numbers == [*range(0, 45, 4), 47]


def test_a_training_keeps_its_losses_and_looks_inside_an_epoch(clock):
    told: list[Progress] = []
    report = TrainingReport(epochs=4, groups=10, watch=told.append)
    begun = report._begun
    report.begin_epoch()
    report.batch(0, 5, lambda: 0.25)
    report.epoch(1, {"train_loss": 0.5, "val_loss": 0.75})
    inside, after = told
    assert (inside.done, inside.values, inside.noteworthy) == (0.5, {"loss": 0.25}, False)
    assert (after.done, after.noteworthy) == (1, True)
    spent = report.history["seconds"][0]
    assert report.history == {"train_loss": [0.5], "val_loss": [0.75], "seconds": [spent]}
    # three epochs are left, each of the seconds of the first
    assert after.seconds_left == pytest.approx(3 * spent)
    assert begun + spent == 4


def test_the_limit_of_time_is_what_is_left(clock):
    told = []
    report = TrainingReport(epochs=100, groups=10, max_seconds=7, watch=told.append)
    report.epoch(1, {"train_loss": 1.0}, groups=3)
    assert told[0].seconds_left == 7 - report.history["seconds"][0]


def test_a_loss_is_read_only_where_somebody_looks(monkeypatch):
    monkeypatch.setattr(progress_module.time, "perf_counter", lambda: 5.0)
    read = []
    report = TrainingReport(epochs=1, groups=100)
    for seen in (10, 20, 30, 100):
        report.batch(0, seen, lambda: read.append(1) or 1.0)
    assert len(read) == 1


def test_a_line_of_the_log_of_an_epoch(caplog):
    with caplog.at_level(logging.INFO, "ptycho.core.progress"):
        log_progress(Progress("epoch", 2.5, 3, {"loss": 1.0}, 10, 1))
        log_progress(Progress("epoch", 3, 3, {"train_loss": 0.125}, 10.4, 0))
    assert caplog.messages == ["epoch 3/3: train_loss 0.125, 10 groups/s, 0 s left"]
