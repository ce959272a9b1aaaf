"""One line on a terminal, a line every tenth in a log, and all of them in the log of the run."""

import io
import logging

import pytest
from rich.console import Console

from ptycho.cli import console, progress
from ptycho.cli.console import console_log
from ptycho.cli.run import run_log


def go(shown=True):
    with progress.iteration_progress(40, shown) as report:
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
    assert lines[1].endswith("Iteration 4 of at most 40: relative error 0.2")


def test_a_terminal_shows_a_bar_and_the_file_the_lines(terminal, tmp_path):
    with console_log(logging.INFO), run_log(tmp_path / "run.log"):
        go()
    shown = terminal.getvalue()
    assert "40/40" in shown and "error 0.02439" in shown
    assert "Iteration" not in shown
    assert len((tmp_path / "run.log").read_text().splitlines()) == 11


def test_quiet_is_quiet(terminal):
    go(shown=False)
    assert terminal.getvalue() == ""
