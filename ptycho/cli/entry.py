"""Where the commands begin: signals and closed streams are seen to before anything else is loaded."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from importlib import import_module

from ptycho.cli.stopping import BROKEN_PIPE, end_at_once, leave_at_once

__all__ = ["begin", "ptycho", "ptycho_inference", "ptycho_train"]


def ptycho() -> int:
    """The command `ptycho`."""
    return begin("ptycho", "ptycho.cli.command", "main")


def ptycho_train() -> int:
    """The command `ptycho_train`."""
    return begin("ptycho_train", "ptycho.cli.train", "train_main")


def ptycho_inference() -> int:
    """The command `ptycho_inference`."""
    return begin("ptycho_inference", "ptycho.cli.infer", "inference_main")


def begin(program: str, module: str, function: str) -> int:
    """Run a function of a module as the command of this process; return its exit status.

    Args:
        program: its name, for a signal that comes before it can say so itself.
        module: where it is, loaded here.
        function: takes the arguments from the process and returns the exit status.
    """
    leave_at_once(program)
    _open_closed_streams()
    try:
        status: int = getattr(import_module(module), function)()
        sys.stdout.flush()
    except SystemExit as stop:  # of --help
        status = stop.code if isinstance(stop.code, int) else 1 if stop.code else 0
    except OSError as error:  # the commands catch those of their work
        status = _unsaid(program, error)
    end_at_once(status)
    return status


def _open_closed_streams() -> None:
    """Where standard input, output or error is closed (`2>&-`), have it be the null device.

    Else the next file that is opened takes its number, and what a library says there is written into that file.
    """
    descriptor = os.open(os.devnull, os.O_RDWR)
    while descriptor <= 2:
        os.set_inheritable(descriptor, True)
        descriptor = os.open(os.devnull, os.O_RDWR)
    os.close(descriptor)
    for name, number, mode in (("stdin", 0, "r"), ("stdout", 1, "w"), ("stderr", 2, "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, mode, encoding="utf-8", closefd=False))


def _unsaid(program: str, error: OSError) -> int:
    """The exit status where standard output cannot be written."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # Python flushes once more as it ends
    if isinstance(error, BrokenPipeError):
        return BROKEN_PIPE
    with suppress(OSError):
        sys.stderr.write(f"{program}: error: standard output: {error.strerror}; free some space\n")
    return 2
