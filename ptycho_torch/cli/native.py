"""The native command lines: the settings of the shared ones, the flags of PyTorch without their prefix."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from ptycho.cli.console import USER_ERRORS, complain, console_log, log_level
from ptycho.cli.flags import SHARED_WITH_EXECUTION, FlagParser
from ptycho.cli.settings import INFERENCE, TRAINING, Command, Settled, load_table
from ptycho.config.config import PyTorchExecutionConfig
from ptycho.config.options import changed_options
from ptycho.config.schema import settings_of
from ptycho.errors import ConfigError
from ptycho_torch.cli.shared import deprecated_settings

__all__ = ["NATIVE_INFERENCE", "NATIVE_TRAINING", "Request", "native_parser", "run_native"]

_FIXED = ("backend", "use_xla")
"""What these command lines do not leave open."""
_ONE_FLAG = (
    "run.learning_rate",
    "config.scheduler",
    "execution.gradient_clip_val",
    "execution.gradient_clip_algorithm",
)
"""What has a flag in another section, where none has a prefix."""

NATIVE_TRAINING = replace(TRAINING, prefix="", no_flags=(*_ONE_FLAG, *(f"config.{name}" for name in _FIXED)))
NATIVE_INFERENCE = replace(INFERENCE, prefix="", no_flags=tuple(f"config.{name}" for name in _FIXED))


class Request(NamedTuple):
    """What a command line asks for, as the factories take it."""

    overrides: dict[str, Any]
    """Flags and the configuration file."""
    execution: PyTorchExecutionConfig
    command_line: dict[str, Any]
    """Defaults of the flags that were not given."""
    settled: Settled
    """The same, and what is no configuration."""

    @property
    def reading(self) -> dict[str, Any]:
        """How scans are read: keywords of `RawData.from_file`."""
        return {"units": self.settled.run.units, "memory_map": self.settled.run.memory_map}

    def path(self, name: str, flag: str) -> Path:
        """A path that has to be given.

        Raises:
            ConfigError: it was not.
        """
        path = self.overrides.get(name)
        if path is None or path == Path():
            raise ConfigError(f"{flag} is required: name the file")
        return Path(path)


def native_parser(program: str, required: str, command: Command) -> FlagParser:
    """A parser with the flags that the native command lines share.

    Args:
        program: how it is called.
        required: the flags that cannot be left out, for the usage line.
        command: its settings.
    """
    summary = (command.config.__doc__ or "").strip()
    parser = FlagParser(prog=program, usage=f"{program} {required} [options]", description=summary)
    command.add_flags(parser)
    parser.add_argument("--device", metavar="NAME", help="deprecated name of --accelerator")
    return parser


def run_native(
    parser: FlagParser, settings: Command, command: Callable[[Request], None], argv: Sequence[str] | None = None
) -> int:
    """Parse, run the command and turn what it raises into one line on stderr.

    Returns:
        The exit status: 0, 2 for bad input, 130 for an interrupt.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    try:
        options = parser.parse_flags(arguments)
        table = load_table(options)
        debug = debug or table.get("debug") is True
        with console_log(log_level(debug=debug, quiet="quiet" in options or table.get("quiet") is True)):
            command(_request(settings, options, table))
    except USER_ERRORS as error:
        return complain(parser.prog, error, debug)
    return 0


def _request(command: Command, options: argparse.Namespace, table: Mapping[str, Any]) -> Request:
    source = str(getattr(options, "config", "command line"))
    names = [name for name in SHARED_WITH_EXECUTION if f"execution.{name}" in options]
    table = {name: value for name, value in table.items() if name not in names}
    if table.get("backend", "pytorch") != "pytorch":
        raise ConfigError(f"{source}: backend={table['backend']}: this command runs pytorch, remove 'backend'")
    for name, value in deprecated_settings(options).items():
        if f"execution.{name}" not in options:
            setattr(options, f"execution.{name}", value)
    settled = command.settle(options, {**table, "backend": "pytorch"})
    config, execution = settled.config, settled.execution
    assert execution is not None  # the backend is pytorch
    rate = getattr(settled.run, "learning_rate", None)
    if rate is not None:
        execution = replace(execution, learning_rate=rate)
    given = settled.stated | ({"n_groups"} if "n_images" in settled.stated else set())
    flat = {name: getattr(config.model, name) for name in settings_of(type(config.model))}
    flat |= {
        name: getattr(config, name)
        for name, declared in settings_of(command.config).items()
        if not declared.nested and name not in ("n_images", *_FIXED)
    }
    sections = {
        name: getattr(config, name) for name, declared in settings_of(command.config).items() if declared.section
    }
    return Request(
        overrides={name: value for name, value in flat.items() if name in given}
        | {name: section for name, section in sections.items() if changed_options(section)},
        execution=execution,
        command_line={name: value for name, value in flat.items() if name not in given | {"N"}},
        settled=settled,
    )
