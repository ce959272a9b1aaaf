"""The command lines of the library: their names, their functions, and the parsers behind them."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import sys
from collections.abc import Callable, Iterator, Sequence
from unittest import mock

__all__ = ["COMMANDS", "find_command", "operations_of", "parser_of", "subcommands"]

Main = Callable[[Sequence[str]], int]

COMMANDS = {
    "ptycho": "ptycho.cli.command:main",
    "ptycho_train": "ptycho.cli.train:train_main",
    "ptycho_inference": "ptycho.cli.infer:inference_main",
    "python -m ptycho_torch.train": "ptycho_torch.train:main",
    "python -m ptycho_torch.inference": "ptycho_torch.inference:main",
}
"""Name -> module:function. `pyproject.toml` installs the first three."""


def find_command(name: str) -> Main:
    """The function that runs a command, with its arguments as a list."""
    module, _, function = COMMANDS[name].partition(":")
    main: Main = getattr(importlib.import_module(module), function)
    return main


def subcommands() -> list[str]:
    """The subcommands of `ptycho`, without those that are commands of their own."""
    module = sys.modules[find_command("ptycho").__module__]
    return [name for name in module.subcommands() if f"ptycho_{name}" not in COMMANDS]


def parser_of(name: str) -> argparse.ArgumentParser:
    """The parser of a command or, as `ptycho doctor`, of a subcommand, with all of its flags."""
    command, *rest = [name] if name in COMMANDS else name.split()
    return _asked(find_command(command), [*rest, "--help"])


def operations_of(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """The parsers of what a command offers to do, by their names, as those of `ptycho dataset`."""
    found = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    return {name: inner for action in found for name, inner in action.choices.items()}


def _asked(main: Main, arguments: Sequence[str]) -> argparse.ArgumentParser:
    """The parser that prints help when a command is asked for it."""
    with _seen() as seen, contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
        main(arguments)
    if not seen:
        raise LookupError(f"expected a parser that prints the help of {arguments}, found none")
    return seen[-1]


@contextlib.contextmanager
def _seen() -> Iterator[list[argparse.ArgumentParser]]:
    seen: list[argparse.ArgumentParser] = []
    with mock.patch.object(argparse.ArgumentParser, "print_help", lambda parser, file=None: seen.append(parser)):
        yield seen
