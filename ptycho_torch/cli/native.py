"""The native command lines: the flags of the shared ones, those of PyTorch without their prefix."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Container, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ptycho.cli.console import USER_ERRORS, add_volume_flags, complain, console_log, log_level
from ptycho.cli.flags import (
    FlagParser,
    add_config_flags,
    add_diagnostics_flags,
    add_execution_flags,
    add_reading_flags,
    config_from_options,
    reading_from_options,
)
from ptycho.config.config import PyTorchExecutionConfig, load_config_file
from ptycho.config.schema import settings_of
from ptycho.errors import ConfigError
from ptycho_torch.cli.shared import build_execution_config_from_args

__all__ = ["Request", "native_parser", "run_native"]

_FIXED = ("backend", "use_xla")
"""What these command lines do not leave open."""
_SHARED = ("scheduler", "gradient_clip_val", "gradient_clip_algorithm")
"""Fields that the shared configuration and PyTorch's both have; a flag of either wins over the file."""


class Request(NamedTuple):
    """What a command line asks for, as the factories take it."""

    overrides: dict[str, Any]
    """Flags and the configuration file."""
    execution: PyTorchExecutionConfig
    command_line: dict[str, Any]
    """Defaults of the flags that were not given."""
    options: argparse.Namespace
    """The other flags."""

    @property
    def reading(self) -> dict[str, Any]:
        """How scans are read: the keywords of `RawData.from_file` that were given."""
        return reading_from_options(self.options)

    def path(self, name: str, flag: str) -> Path:
        """A path that has to be given.

        Raises:
            ConfigError: it was not.
        """
        path = self.overrides.get(name)
        if path is None or path == Path():
            raise ConfigError(f"{flag} is required: name the file")
        return Path(path)


def native_parser(
    program: str, required: str, cls: type, skip: Container[str] = (), execution: Container[str] | None = None
) -> FlagParser:
    """A parser with the flags that the native command lines share.

    Args:
        program: how it is called.
        required: the flags that cannot be left out, for the usage line.
        cls: the shared configuration whose fields are flags.
        skip: fields of it that are none.
        execution: fields of PyTorchExecutionConfig that are flags; all when None.
    """
    parser = FlagParser(prog=program, usage=f"{program} {required} [options]", description=(cls.__doc__ or "").strip())
    parser.add_argument("--config", type=Path, metavar="FILE", help="settings from YAML, TOML or JSON; flags win")
    add_reading_flags(parser)
    add_volume_flags(parser)
    hidden = {name for name in settings_of(cls) if name in skip} | {*_FIXED, "scheduler"}
    add_config_flags(parser, cls, skip=hidden)
    add_execution_flags(parser, execution, prefix="")
    add_diagnostics_flags(parser)
    parser.add_argument("--device", metavar="NAME", help="deprecated name of --accelerator")
    return parser


def run_native(
    parser: FlagParser, cls: type, command: Callable[[Request], None], argv: Sequence[str] | None = None
) -> int:
    """Parse, run the command and turn what it raises into one line on stderr.

    Returns:
        The exit status: 0, 2 for bad input, 130 for an interrupt.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    try:
        options = parser.parse_flags(arguments)
        with console_log(log_level(debug=debug, quiet="quiet" in options)):
            command(_request(options, cls))
    except USER_ERRORS as error:
        return complain(parser.prog, error, debug)
    return 0


def _request(options: argparse.Namespace, cls: type) -> Request:
    source = str(getattr(options, "config", "command line"))
    table = load_config_file(options.config) if "config" in options else {}
    table = {name: value for name, value in table.items() if f"execution.{name}" not in options or name not in _SHARED}
    if table.get("backend", "pytorch") != "pytorch":
        raise ConfigError(f"{source}: backend={table['backend']}: this command runs pytorch, remove 'backend'")
    config: Any = config_from_options(cls, options, table, source)
    given = _names(options, table)
    flat = {name: getattr(config.model, name) for name in settings_of(type(config.model))}
    flat |= {name: getattr(config, name) for name in settings_of(cls) if name not in ("model", "n_images", *_FIXED)}
    return Request(
        overrides={name: value for name, value in flat.items() if name in given},
        execution=build_execution_config_from_args(options),
        command_line={name: value for name, value in flat.items() if name not in given | {"N"}},
        options=options,
    )


def _names(options: argparse.Namespace, table: Mapping[str, Any]) -> set[str]:
    """The settings that were given, as flags or in the file; n_images is n_groups by now."""
    flags = {key.partition(".")[2] for key in vars(options) if key.startswith(("config.", "model."))}
    inside = table.get("model", {})
    given = flags | set(table) | set(inside if isinstance(inside, Mapping) else ())
    return given | ({"n_groups"} if "n_images" in given else set())
