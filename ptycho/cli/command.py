"""The command `ptycho SUBCOMMAND ...`: finds the subcommands, parses, runs one and reports."""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import sys
from collections.abc import Sequence
from typing import Protocol, cast

import ptycho
from ptycho.cli import commands
from ptycho.cli.console import (
    USER_ERRORS,
    DefaultsHelp,
    LineParser,
    add_volume_flags,
    complain,
    console_log,
    drawing_to_files,
    log_level,
)
from ptycho.cli.fourier import fourier_main
from ptycho.cli.frc import frc_main
from ptycho.cli.infer import inference_main
from ptycho.cli.live import live_main
from ptycho.cli.programs import FOURIER, FRC, INFERENCE, LIVE, RECONSTRUCTION, TRAINING
from ptycho.cli.reconstruct import reconstruct_main
from ptycho.cli.stopping import Stops
from ptycho.cli.train import train_main
from ptycho.config.schema import nearest
from ptycho.errors import ConfigError

__all__ = ["Subcommand", "main", "parser_of", "subcommands"]

_PROGRAM = "ptycho"
_ALIASES = {
    "reconstruct": (RECONSTRUCTION, reconstruct_main, "reconstruct a scan: one command, from the file to the object"),
    "frc": (FRC, frc_main, "find the resolution of a scan by its two halves"),
    "fourier": (FOURIER, fourier_main, "reconstruct a sample from microscope images under many LEDs"),
    "live": (LIVE, live_main, "reconstruct a scan while it is measured, with a picture that grows"),
    "train": (TRAINING, train_main, "train a network on a scan"),
    "inference": (INFERENCE, inference_main, "reconstruct a scan with a trained network"),
}
"""Subcommands that are commands of their own: their settings, their function, their summary."""


class Subcommand(Protocol):
    """What a module of `ptycho.cli.commands` has."""

    SUMMARY: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the flags; --quiet and --debug are there already."""

    def run(self, options: argparse.Namespace) -> int:
        """Do the work and return the exit status."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand.

    Args:
        argv: the arguments; those of the process when None.

    Returns:
        The exit status: that of the subcommand, 2 for bad input, that of `ptycho.cli.stopping.Stopped` for a signal.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    name = arguments[0] if arguments else "--help"
    if name in ("-h", "--help"):
        sys.stdout.write(_overview())
        return 0
    if name == "--version":
        sys.stdout.write(f"{_PROGRAM} {ptycho.__version__}\n")
        return 0
    if name in _ALIASES:
        return _ALIASES[name][1](arguments[1:])
    try:
        found = _find(name)
    except ConfigError as error:
        return complain(_PROGRAM, error, "--debug" in arguments)
    return _run(name, found, arguments[1:])


def parser_of(program: str) -> LineParser:
    """The whole parser of a program, with its subcommands if it has any; for those who look at flags.

    `program` is `ptycho` or one of the two commands of their own, `ptycho_train` and `ptycho_inference`.
    """
    own = {command.program: command for command, _, _ in _ALIASES.values()}
    parser = LineParser(prog=program)
    if program in own:
        own[program].add_flags(parser)
    else:
        several = parser.add_subparsers(dest="subcommand")
        for name in subcommands():
            inner = several.add_parser(name, help=_summary(name))
            if name in _ALIASES:
                _ALIASES[name][0].add_flags(inner)
            else:
                add_volume_flags(inner)
                _find(name).add_arguments(inner)
            inner.spell_with_dashes()
    parser.spell_with_dashes()
    return parser


def subcommands() -> list[str]:
    """The names of all subcommands, sorted."""
    modules = (module.name for module in pkgutil.iter_modules(commands.__path__))
    return sorted({*_ALIASES, *(module for module in modules if not module.startswith("_"))})


def _run(name: str, found: Subcommand, arguments: list[str]) -> int:
    parser = LineParser(
        prog=f"{_PROGRAM} {name}",
        description=f"{_summary(name)}.",
        formatter_class=DefaultsHelp,
    )
    add_volume_flags(parser)
    found.add_arguments(parser)
    debug = "--debug" in arguments
    try:
        options = parser.parse_flags(arguments)
        with Stops(), drawing_to_files(), console_log(log_level(debug=debug, quiet=options.quiet)):
            return found.run(options)
    except USER_ERRORS as error:
        return complain(parser.prog, error, debug)


def _find(name: str) -> Subcommand:
    if name.startswith("-") or name not in subcommands():
        known = ", ".join(subcommands())
        raise ConfigError(f"expected a subcommand, one of {known}, found {name}{nearest(name, subcommands())}")
    return cast(Subcommand, importlib.import_module(f"{commands.__name__}.{name}"))


def _summary(name: str) -> str:
    summary = _ALIASES[name][2] if name in _ALIASES else _find(name).SUMMARY.rstrip(".")
    return summary[:1].upper() + summary[1:]


def _overview() -> str:
    names = subcommands()
    width = max(map(len, names))
    lines = [f"  {name:<{width}}  {_summary(name)}" for name in names]
    return "\n".join(
        [f"usage: {_PROGRAM} SUBCOMMAND [flags]", "", *lines, "", f"{_PROGRAM} SUBCOMMAND --help lists its flags.\n"]
    )


if __name__ == "__main__":
    sys.exit(main())
