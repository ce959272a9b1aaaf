"""Command line flags made from the configuration dataclasses, and the values that were given with them.

A flag is spelled with dashes; underscores are taken too (`ptycho.cli.console.LineParser`). The short help shows the
basic ones, `--help-all` all of them by section.
"""

from __future__ import annotations

import argparse
from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from ptycho.cli.console import FlagParser, Switch
from ptycho.config.config import PROCESSES, PyTorchExecutionConfig, TrainingConfig, config_from_dict
from ptycho.config.deprecation import warn_deprecated
from ptycho.config.run import RefinementSettings
from ptycho.config.schema import Setting, settings_of
from ptycho.errors import ConfigError

__all__ = [
    "OtherName",
    "add_config_flags",
    "add_execution_flags",
    "add_other_name",
    "add_refinement_flags",
    "add_run_flags",
    "config_from_options",
    "execution_from_options",
    "given",
    "warn_of_deprecated",
    "with_flags",
]

Config = TypeVar("Config")

_VALUES = {int: "N", float: "X", Path: "PATH", object: "PATH"}
"""What a help shows for a value of that kind."""
CONFIG, EXECUTION, REFINEMENT, RUN, DEPRECATED = "config.", "execution.", "refinement.", "run.", "deprecated."
"""What the destinations of flags begin with; a section of options has its own name."""
SHARED_WITH_EXECUTION = ("gradient_clip_val", "gradient_clip_algorithm", "scheduler")
_ALIASES = {"output_dir": ("-o",), "train_data_file": ("--train-data",), "test_data_file": ("--test-data",)}


class OtherName(NamedTuple):
    """A further name of a flag."""

    flag: str
    to: str
    """The destination, such as `run.find_probe`."""
    successor: str
    """The flag itself."""
    value: str | None = None
    """What the name stands for, where it takes no value."""
    deprecated: bool = True


class _Deprecated(argparse.Action):
    """An older name of a flag, which gives way to the flag itself; `warn_of_deprecated` tells."""

    def __init__(self, option_strings: Sequence[str], dest: str, successor: str, **options: Any) -> None:
        super().__init__(option_strings, dest, **options)
        self.successor = successor

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        value = self.const if self.nargs == 0 else values
        if not hasattr(namespace, self.dest):
            setattr(namespace, self.dest, value)
        setattr(namespace, f"{DEPRECATED}{option_string}", f"{self.successor} {'none' if value is None else value}")


def add_config_flags(parser: argparse.ArgumentParser, cls: type, skip: Container[str] = ()) -> None:
    """Add one flag for every field of a shared configuration, of its model and of its sections, named as the field."""
    group = parser.add_argument_group(_title(cls))
    for name, declared in settings_of(cls).items():
        if name in skip:
            continue
        if declared.nested is None:
            _add_flag(parser, group, declared, CONFIG + name)
        else:
            inner = parser.add_argument_group(_title(declared.nested))
            for key, member in settings_of(declared.nested).items():
                _add_flag(parser, inner, member, f"{name}.{key}")


def add_execution_flags(
    parser: argparse.ArgumentParser, names: Container[str] | None = None, prefix: str = "torch-"
) -> None:
    """Add flags for the fields of PyTorchExecutionConfig.

    Args:
        parser: where to add them.
        names: the fields to add; all when None.
        prefix: what every flag begins with, after its two dashes.
    """
    group = parser.add_argument_group("PyTorch execution")
    for name, declared in settings_of(PyTorchExecutionConfig).items():
        if names is None or name in names:
            _add_flag(parser, group, declared, EXECUTION + name, prefix)


def add_run_flags(parser: argparse.ArgumentParser, cls: type, skip: Container[str] = ()) -> None:
    """Add flags for what a command takes beside its configuration, all but `--quiet` and `--debug`."""
    group = parser.add_argument_group(_title(cls))
    for name, declared in settings_of(cls).items():
        if name not in ("quiet", "debug") and name not in skip:
            _add_flag(parser, group, declared, RUN + name)


def add_refinement_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that say how to refine."""
    group = parser.add_argument_group(_title(RefinementSettings))
    for name, declared in settings_of(RefinementSettings).items():
        _add_flag(parser, group, declared, REFINEMENT + name)


def add_other_name(parser: argparse.ArgumentParser, other: OtherName, declared: Setting) -> None:
    """Add a further name of a flag; one that is deprecated works, with a DeprecationWarning."""
    options: dict[str, Any] = {"dest": other.to, "type": _reader(declared), "metavar": _metavar(declared)}
    if other.value is not None:
        options |= {"nargs": 0, "const": declared.from_text(other.value)}
    if other.deprecated:
        options |= {"action": _Deprecated, "successor": other.successor}
    elif other.value is not None:
        options = {"dest": other.to, "action": "store_const", "const": declared.from_text(other.value)}
    text = f"{'deprecated name of' if other.deprecated else 'the same as'} {other.successor} {other.value or ''}"
    action = parser.add_argument(other.flag, help=text.rstrip(), **options)
    if isinstance(parser, FlagParser) and other.deprecated:
        parser.advanced[action] = action.help


def warn_of_deprecated(options: argparse.Namespace) -> None:
    """A DeprecationWarning for every older name of a flag that was used."""
    for flag, successor in given(options, DEPRECATED).items():
        warn_deprecated(flag, f"use {successor}")


def given(options: argparse.Namespace, section: str) -> dict[str, Any]:
    """The values of one section that were given as flags, by field; `section` ends with a dot."""
    return {key.removeprefix(section): value for key, value in vars(options).items() if key.startswith(section)}


def with_flags(table: Any, flags: Mapping[str, Any]) -> Any:
    """A table of a settings file under the flags of its section; one that is no table stays, for its error."""
    inside = {} if table is None else table
    return {**inside, **flags} if isinstance(inside, Mapping) else inside


def config_from_options(
    cls: type[Config], options: argparse.Namespace, table: Mapping[str, Any], source: str
) -> Config:
    """A shared configuration from a file's table and the flags; flags win.

    Args:
        cls: the dataclass.
        options: the flags given.
        table: what the configuration file says.
        source: the file, for its errors.

    Raises:
        ConfigError: the file names a field that is not there or gives a value that the field may not hold.
    """
    values, flags = dict(table), given(options, CONFIG)
    if "n_images" in flags and "n_groups" not in flags:
        values.pop("n_groups", None)  # a flag under its deprecated name still wins over the file
    values.update(flags)
    for name, declared in settings_of(cls).items():
        inside = given(options, f"{name}.") if declared.nested else {}
        if inside:
            values[name] = with_flags(values.get(name), inside)
    return config_from_dict(cls, values, source)


def execution_from_options(
    options: argparse.Namespace, config: Any, table: Any = None, source: str = "command line"
) -> PyTorchExecutionConfig | None:
    """The PyTorch settings that go with a configuration, or None when another backend is to run and nothing is asked.

    TensorFlow takes those that say how many processes share the work.

    Args:
        options: the flags given; what TrainingConfig also has (gradient clipping, scheduler) counts here too, unless
            its own flag is given.
        config: the configuration.
        table: the section `execution` of the settings file.
        source: the file, for its errors.

    Raises:
        ConfigError: PyTorch flags with another backend, or a value that is not allowed.
    """
    flags = given(options, EXECUTION)
    if config.backend != "pytorch":
        of_pytorch = ", ".join(flag.replace("_", "-") for flag in flags if flag not in PROCESSES)
        if of_pytorch:
            raise ConfigError(f"settings of PyTorch need --backend pytorch, found {of_pytorch} with {config.backend}")
        unknown = [name for name in table or () if name not in PROCESSES]
        if unknown:
            raise ConfigError(
                f"{source}: {', '.join(unknown)} needs backend: pytorch, found backend={config.backend}: leave it out"
            )
        return config_from_dict(PyTorchExecutionConfig, with_flags(table, flags), source) if flags or table else None
    if isinstance(config, TrainingConfig):
        stated = given(options, CONFIG)
        flags = {name: stated[name] for name in SHARED_WITH_EXECUTION if name in stated} | flags
    return config_from_dict(PyTorchExecutionConfig, with_flags(table, flags), source)


def _title(cls: type) -> str:
    return (cls.__doc__ or cls.__name__).splitlines()[0].rstrip(".")


def _add_flag(
    parser: argparse.ArgumentParser, group: Any, declared: Setting, dest: str, prefix: str = ""
) -> argparse.Action:
    stem = declared.doc.flag or declared.name.replace("_", "-")
    shown = "" if declared.default in (None, ()) else f" (default: {_text(declared.default)})"
    options: dict[str, Any] = {
        "dest": dest,
        "type": _reader(declared),
        "help": (declared.doc.text + shown).replace("%", "%%"),
        "metavar": _metavar(declared),
    }
    if declared.doc.alone is not None:
        options |= {"nargs": "?", "const": declared.from_text(declared.doc.alone)}
    if bool in declared.kinds:
        enables = dest.startswith(EXECUTION) and stem.startswith("enable-")
        off = "disable-" + stem.removeprefix("enable-") if enables else "no-" + stem
        options |= {"action": Switch, "opposite": f"--{prefix}{off}"}
    action: argparse.Action = group.add_argument(f"--{prefix}{stem}", *_ALIASES.get(declared.name, ()), **options)
    if isinstance(parser, FlagParser) and not declared.doc.basic:
        parser.advanced[action] = action.help
    return action


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ",".join(map(_text, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _metavar(declared: Setting) -> str:
    if bool in declared.kinds:
        return "|".join(["true", "false", *map(str, declared.choices)])
    known = [*map(str, declared.choices), *["none"] * declared.optional]
    if declared.choices:
        value = [_VALUES.get(kind, "NAME") for kind in declared.kinds]
        return "|".join([*value, *known]) if value else "{" + ",".join(known) + "}"
    if declared.kinds[0] is tuple:
        return ",".join([_VALUES[declared.member]] * 2)
    return _VALUES.get(declared.kinds[0], "NAME")


def _reader(declared: Setting) -> Any:
    def read(text: str) -> Any:
        try:
            return declared.from_text(text)
        except ConfigError:
            raise argparse.ArgumentTypeError(f"expected {declared.expected}, found {text}") from None

    return read
