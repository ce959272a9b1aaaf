"""Where commands begin: signals that come at once, and streams that are closed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}
BEGIN = """
import sys, types
{before}
work = types.ModuleType("work")
def main():
    {work}
work.main = main
sys.modules["work"] = work
from ptycho.cli.entry import begin
sys.exit(begin("ptycho", "work", "main"))
"""


def run(work: str, redirect: str = "", before: str = "", folder: Path | None = None) -> subprocess.CompletedProcess:
    code = BEGIN.format(work=work, before=before)
    line = ["bash", "-c", f'exec "$0" "$@" {redirect}', sys.executable, "-c", code]
    return subprocess.run(line, capture_output=True, text=True, check=False, cwd=folder, env=ENVIRONMENT, timeout=60)


@pytest.mark.parametrize(
    ("name", "status", "words"),
    [
        ("SIGINT", 130, "interrupted"),
        ("SIGTERM", 143, "terminated"),
        ("SIGUSR1", 138, "told to stop (SIGUSR1)"),
        ("SIGHUP", 129, "cut off from its terminal (SIGHUP)"),
    ],
)
def test_a_signal_before_the_command_can_say_so_itself(name, status, words) -> None:
    done = run(f"import os, signal; signal.raise_signal(signal.{name}); return 0", before="import signal")
    assert (done.returncode, done.stderr) == (status, f"ptycho: {words}: start again with the same command\n")


def test_a_signal_after_the_work_changes_nothing() -> None:
    late = "import atexit, signal; atexit.register(signal.raise_signal, signal.SIGTERM)"
    done = run("print('done'); return 3", before=late)
    assert (done.returncode, done.stdout, done.stderr) == (3, "done\n", "")


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_while_python_takes_its_modules_apart_changes_nothing(name) -> None:
    """By then signals do again what they do by themselves: without a word, and with a status of their own."""
    last = (
        "import os, signal\n"
        "class Last:\n"
        f"    def __del__(self, kill=os.kill, own=os.getpid(), number=signal.{name}):\n"
        "        kill(own, number)\n"
        "sys.last = Last()"
    )
    done = run("print('done'); return 3", before=last)
    assert (done.returncode, done.stdout, done.stderr) == (3, "done\n", "")


@pytest.mark.parametrize("redirect", [">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_a_closed_stream_is_no_file_of_ours(redirect, tmp_path) -> None:
    """The first file that is opened would take its number, and get what is said to it."""
    work = (
        "import os; file = open('data', 'w'); file.write('data'); print('said'); "
        "print('said', file=sys.stderr); os.write(1, b''); file.close(); return 0"
    )
    done = run(work, redirect, folder=tmp_path)
    assert done.returncode == 0
    assert (tmp_path / "data").read_text() == "data"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_standard_output_that_is_full_is_said() -> None:
    done = run("print('said'); return 0", "> /dev/full")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "ptycho: error: standard output: No space left on device" in done.stderr
    assert run("print('said'); return 0", "2> /dev/full").returncode == 0


def test_standard_output_that_nobody_reads_is_silent() -> None:
    code = BEGIN.format(before="import time", work="time.sleep(0.3); print('said' * 10000); return 0")
    done = subprocess.run(
        ["bash", "-c", '"$0" -c "$1" | true; echo ${PIPESTATUS[0]}', sys.executable, code],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("141\n", "")


def test_the_way_out_of_help_is_a_status() -> None:
    assert run("sys.exit(0)").returncode == 0
    assert run("sys.exit()").returncode == 0
    assert run("sys.exit(2)").returncode == 2


def test_commands_are_those_of_the_package() -> None:
    done = subprocess.run([sys.executable, "-m", "ptycho", "--version"], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and done.stdout.startswith("ptycho ")
