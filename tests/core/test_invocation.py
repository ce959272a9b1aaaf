"""The command of a result, as a shell takes it."""

import shlex
import sys

from ptycho.core.invocation import command, command_line


def test_a_command_is_told_as_a_shell_takes_it() -> None:
    with command_line("ptycho_inference", ["--test-data", "my scan.npz"]):
        assert command() == "ptycho_inference --test-data 'my scan.npz'"
    assert command() == shlex.join(sys.argv)
