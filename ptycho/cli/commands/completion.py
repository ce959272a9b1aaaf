"""`ptycho completion`: print what makes a shell complete subcommands, flags and their choices."""

from __future__ import annotations

import argparse
import sys

from ptycho.errors import BackendError

__all__ = ["SUMMARY", "add_arguments", "run"]

SUMMARY = 'print shell completion, for bash: eval "$(ptycho completion bash)"'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags; --quiet and --debug are there already."""
    parser.add_argument("shell", choices=("bash", "zsh", "tcsh"), help="the shell")
    parser.add_argument(
        "--program",
        choices=("ptycho", "ptycho_train", "ptycho_inference"),
        default="ptycho",
        help="the command to complete",
    )


def run(options: argparse.Namespace) -> int:
    """Print the script.

    Raises:
        BackendError: shtab is not installed.
    """
    try:
        import shtab
    except ImportError as error:
        raise BackendError("completion needs shtab, which is not installed: pip install shtab") from error
    from ptycho.cli.command import parser_of

    parser = parser_of(options.program)
    _offer_choices(parser)
    sys.stdout.write(shtab.complete(parser, shell=options.shell) + "\n")
    return 0


def _offer_choices(parser: argparse.ArgumentParser) -> None:
    """Give the flags the choices that their help shows, `{a,b}`; what parses checks them by the configuration."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                _offer_choices(inner)
        elif isinstance(action.metavar, str) and action.metavar.startswith("{"):
            action.choices = action.metavar.strip("{}").split(",")
