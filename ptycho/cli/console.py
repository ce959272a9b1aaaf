"""What every command line of the project shares: parsing in one line of complaint, logging, exit status."""

from __future__ import annotations

import argparse
import importlib.util
import logging
import os
import shlex
import signal
import sys
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ptycho.cli.stopping import BROKEN_PIPE, Stopped
from ptycho.config.schema import nearest
from ptycho.core.files.atomic import FULL
from ptycho.core.files.written import written
from ptycho.errors import ConfigError, LostProcessError, PtychoError

if TYPE_CHECKING:
    from rich.console import Console

__all__ = [
    "ON_A_TERMINAL",
    "USER_ERRORS",
    "DefaultsHelp",
    "FlagParser",
    "LineParser",
    "Switch",
    "add_volume_flags",
    "complain",
    "console_log",
    "drawing_to_files",
    "log_level",
    "resumable",
    "terminal",
]

_log = logging.getLogger(__name__)

ON_A_TERMINAL = "on_a_terminal"
"""Attribute of a log record; where it is False the record is for files, since a terminal shows the same otherwise."""

_BACKEND = "MPLBACKEND"

USER_ERRORS = (PtychoError, OSError, KeyboardInterrupt)
"""What a user can cause: `complain` reports it; anything else is a defect and shows its traceback."""


class LineParser(argparse.ArgumentParser):
    """An argument parser whose errors are ConfigErrors of one line; abbreviations of flags are not taken.

    Flags are shown with dashes; with underscores, or both, they are taken too.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, allow_abbrev=False)

    def parse_flags(self, arguments: Sequence[str]) -> argparse.Namespace:
        """The flags, each under its destination.

        Raises:
            ConfigError: an unknown flag (with the nearest valid ones), or a value that a flag may not have.
        """
        branches = any(action.nargs == argparse.PARSER for action in self._actions)
        parse = self.parse_known_args if branches else self.parse_known_intermixed_args  # `convert IN --to cxi OUT`
        options, unknown = parse([_dashed(word) for word in arguments])
        if unknown:
            flag = next((word for word in unknown if word.startswith("-")), unknown[0]).split("=")[0]
            raise ConfigError(f"unknown argument {flag}{nearest(flag, self._option_string_actions)}")
        return options

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As of the base class, with every flag spelled with dashes."""
        self.spell_with_dashes()
        return super().parse_known_args(args, namespace)

    def spell_with_dashes(self) -> None:
        """Rename the flags that were added with underscores; their destinations stay."""
        for action in self._actions:
            action.option_strings = list(dict.fromkeys(map(_dashed, action.option_strings)))
        actions = {flag: action for action in self._actions for flag in action.option_strings}
        self._option_string_actions.clear()  # the groups of flags hold this very dictionary
        self._option_string_actions.update(actions)

    def error(self, message: str) -> Any:
        """Raise what is wrong with the arguments, for the caller to report."""
        raise ConfigError(message)


def _dashed(word: str) -> str:
    """A flag, alone or with `=value`, spelled with dashes; any other word as it is."""
    if not word.startswith("--"):
        return word
    flag, equals, value = word.partition("=")
    return flag.replace("_", "-") + equals + value


class FlagParser(LineParser):
    """A parser that leaves out of its result what was not given, so that a file can stand in for it."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, argument_default=argparse.SUPPRESS, formatter_class=_Help)
        self.advanced: dict[argparse.Action, Any] = {}
        """Actions that the short help leaves out, with their help."""
        self.add_argument("--help-all", action=_HelpAll, nargs=0, help="show every flag, by section")

    def format_help(self) -> str:
        """The short help."""
        for action in self.advanced:
            action.help = argparse.SUPPRESS
        try:
            return super().format_help()
        finally:
            self._restore()

    def format_full_help(self) -> str:
        """The help of every flag, by section."""
        return super().format_help()

    def _restore(self) -> None:
        for action, text in self.advanced.items():
            action.help = text


class _HelpAll(argparse.Action):
    """Shows every flag and ends the program."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        assert isinstance(parser, FlagParser)
        sys.stdout.write(parser.format_full_help())
        parser.exit()


class _Help(argparse.HelpFormatter):
    """Shows the opposite of a switch without the value that it does not take."""

    def _format_action_invocation(self, action: argparse.Action) -> str:
        text = super()._format_action_invocation(action)
        if isinstance(action, Switch):
            text = text.partition(action.opposite)[0] + action.opposite
        return text


class Switch(argparse.Action):
    """A flag that turns something on, with an opposite that turns it off; it also takes the value as text."""

    def __init__(self, option_strings: Sequence[str], dest: str, opposite: str, **options: Any) -> None:
        super().__init__([*option_strings, opposite], dest, nargs="?", **options)
        self.opposite = opposite

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        """Keep the value, true for the flag alone."""
        if option_string != self.opposite:
            setattr(namespace, self.dest, True if values is None else values)
        elif values is None:
            setattr(namespace, self.dest, False)
        else:
            parser.error(f"argument {self.opposite}: expected no value, found {values}")


class DefaultsHelp(argparse.HelpFormatter):
    """Help that ends with the default, where there is one to tell."""

    def _get_help_string(self, action: argparse.Action) -> str:
        text, default = action.help or "", action.default
        untold = default is None or default is False or default in (argparse.SUPPRESS, [], ())
        if untold or "default" in text:
            return text
        shown = default if isinstance(default, (tuple, list)) else (default,)
        numbers = (f"{value:g}" if isinstance(value, float) else str(value) for value in shown)
        return f"{text} (default: {','.join(numbers).replace('%', '%%')})"


def add_volume_flags(parser: argparse.ArgumentParser) -> None:
    """Add --quiet and --debug, of which one may be given."""
    volume = parser.add_mutually_exclusive_group()
    volume.add_argument("--quiet", action="store_true", help="report warnings and errors only")
    volume.add_argument("--debug", action="store_true", help="log every step, and show the traceback of an error")


def log_level(*, debug: bool, quiet: bool) -> int:
    """The level that the two volume flags ask for."""
    return logging.DEBUG if debug else logging.WARNING if quiet else logging.INFO


def complain(program: str, error: BaseException, debug: bool) -> int:
    """Report one of USER_ERRORS in one line on stderr, after its traceback with `debug`.

    Returns:
        The exit status: that of `Stopped` for a signal, 141 where nobody reads the output any more, else 2.
    """
    if debug:
        traceback.print_exc()
    if isinstance(error, BrokenPipeError):
        return BROKEN_PIPE
    if isinstance(error, KeyboardInterrupt):
        stop = error if isinstance(error, Stopped) else Stopped(signal.SIGINT)
        message, status = f"{stop.words}: {str(error) or 'start again with the same command'}", stop.status
    else:
        full = isinstance(error, OSError) and error.errno in FULL
        message, status = f"error: {error}{'; free some space' if full else ''}", 2
    with suppress(OSError):
        sys.stderr.write(f"{program}: {' '.join(message.split())}\n")
    return status


@contextmanager
def resumable(checkpoint: Path) -> Iterator[None]:
    """Have an interrupt, or a process that is lost, say how to go on, once this run has written its checkpoint.

    One of an older run is no help.
    """
    before = written(checkpoint)
    try:
        yield
    except (KeyboardInterrupt, LostProcessError) as stop:
        if written(checkpoint) not in (None, before):
            lost = f"{stop}; " if isinstance(stop, LostProcessError) else ""
            stop.args = (f"{lost}go on with the same command and --resume {shlex.quote(str(checkpoint))}",)
        raise


@cache
def terminal() -> Console:
    """The console that log and progress share, so that neither writes over the other."""
    from rich.console import Console

    return Console(stderr=True)


@contextmanager
def console_log(level: int) -> Iterator[None]:
    """Send the library's log and warnings to stderr, and leave logging as it was."""
    handler: logging.Handler = logging.StreamHandler()
    if sys.stderr.isatty():
        from rich.logging import RichHandler

        handler = RichHandler(console=terminal(), show_path=False)
        handler.addFilter(lambda record: getattr(record, ON_A_TERMINAL, True))
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s", datefmt="%H:%M:%S"))
    loggers = {logger: logger.level for logger in map(logging.getLogger, ("ptycho", "ptycho_torch"))}
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(level)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("always", category=DeprecationWarning, module="ptycho")
            warnings.showwarning = _log_warning  # type: ignore[assignment]
            yield
    finally:
        for logger, former in loggers.items():
            logger.removeHandler(handler)
            logger.setLevel(former)


@contextmanager
def drawing_to_files() -> Iterator[None]:
    """Pictures are written to files, whatever MPLBACKEND says, and nothing is said of fonts and cache folders.

    In a terminal or a child process of Jupyter the variable names a module of Jupyter's, without which matplotlib is
    not even imported.
    """
    drawing = logging.getLogger("matplotlib")
    former = drawing.level
    drawing.setLevel(logging.ERROR)
    try:
        with _backend_for_files():
            yield
    finally:
        drawing.setLevel(former)


@contextmanager
def _backend_for_files() -> Iterator[None]:
    named = os.environ.get(_BACKEND, "")
    module = named.partition(":")[2].removeprefix("//")
    if not named.startswith("module:") or importlib.util.find_spec(module.partition(".")[0]) is not None:
        yield
        return
    os.environ[_BACKEND] = "agg"
    try:
        yield
    finally:
        os.environ[_BACKEND] = named


def _log_warning(message: Warning | str, *_: Any) -> None:
    _log.warning("%s", message)
