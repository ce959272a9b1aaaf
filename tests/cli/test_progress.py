"""One line on a terminal, a line every tenth in a log, and all of them in the log of the run."""

import io
import logging

import pytest
from rich.console import Console

from ptycho.cli import console, progress
from ptycho.cli.console import console_log
from ptycho.cli.run import run_log
from ptycho.core.progress import IterationReport, TrainingReport


def go(shown=True):
    with progress.shown_progress(shown) as watch:
        report = IterationReport(40, watch)
        for iteration in range(41):
            report(iteration, 1 / (1 + iteration))


@pytest.fixture
def terminal(monkeypatch):
    """A terminal of 100 columns, and what is written to it."""
    written = io.StringIO()
    made = Console(file=written, force_terminal=True, width=100)
    monkeypatch.setattr(console, "terminal", lambda: made)
    monkeypatch.setattr(progress, "terminal", lambda: made)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    return written


def test_no_terminal_no_bar(capsys):
    with console_log(logging.INFO):
        go()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 11 and "\x1b" not in "".join(lines)
    assert lines[1].endswith("iteration 4/40: relative error 0.2")


def test_a_terminal_shows_a_bar_and_the_file_the_lines(terminal, tmp_path):
    with console_log(logging.INFO), run_log(tmp_path / "run.log"):
        go()
    shown = terminal.getvalue()
    assert "iteration 40/40" in shown and "relative error 0.02439" in shown
    assert "INFO" not in shown
    assert len((tmp_path / "run.log").read_text().splitlines()) == 11


def test_quiet_is_quiet(terminal):
    go(shown=False)
    assert terminal.getvalue() == ""


def test_a_training_shows_losses_and_its_rate(terminal, tmp_path):
    with console_log(logging.INFO), run_log(tmp_path / "run.log"), progress.shown_progress() as watch:
        report = TrainingReport(epochs=3, groups=70, watch=watch)
        for epoch in range(3):
            report.begin_epoch()
            report.epoch(epoch + 1, {"train_loss": 0.5, "val_loss": 0.75})
    shown = terminal.getvalue()
    assert "epoch 3/3" in shown and "train_loss 0.5 val_loss 0.75" in shown and "groups/s" in shown
    lines = (tmp_path / "run.log").read_text().splitlines()
    assert [line.split("INFO ")[1].partition(":")[0] for line in lines] == [f"epoch {n}/3" for n in (1, 2, 3)]


def test_how_things_stand_is_one_line_on_a_terminal_and_now_and_then_in_a_log(terminal, tmp_path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with console_log(logging.INFO), run_log(tmp_path / "run.log"), progress.shown_line() as line:
        for seconds in range(25):
            now[0] = 100.0 + seconds
            line(f"{seconds} joined")
    assert "INFO" not in terminal.getvalue()
    logged = (tmp_path / "run.log").read_text().splitlines()
    assert [text.split()[-2] for text in logged] == ["0", "10", "20"]


def test_no_terminal_gets_the_lines_of_the_log(capsys):
    with console_log(logging.INFO), progress.shown_line() as line:
        line("7 joined")
        line("8 joined")
    assert [text.split()[-2] for text in capsys.readouterr().err.splitlines()] == ["7"]
