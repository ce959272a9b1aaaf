"""Command line flags made from the configuration dataclasses, and the configuration that they make."""

from __future__ import annotations

import argparse
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from ptycho.cli.console import LineParser
from ptycho.config.config import PyTorchExecutionConfig, TrainingConfig, config_from_dict
from ptycho.config.schema import Doc, Setting, settings_of
from ptycho.errors import ConfigError

__all__ = [
    "FlagParser",
    "add_config_flags",
    "add_diagnostics_flags",
    "add_execution_flags",
    "add_learning_rate_flag",
    "add_reading_flags",
    "add_refinement_flags",
    "config_from_options",
    "diagnostics_from_options",
    "execution_from_options",
    "reading_from_options",
    "refinement_from_options",
]

Config = TypeVar("Config")

_CONFIG, _MODEL, _EXECUTION, _REFINEMENT = "config.", "model.", "execution.", "refinement."
_ALIASES = {"train_data_file": ("--train_data",), "test_data_file": ("--test_data",)}
_SHARED_WITH_EXECUTION = ("gradient_clip_val", "gradient_clip_algorithm", "scheduler")


class FlagParser(LineParser):
    """A parser that leaves out of its result what was not given, so that a file can stand in for it."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, argument_default=argparse.SUPPRESS, formatter_class=_Help)


class _Help(argparse.HelpFormatter):
    """Shows the opposite of a switch without the value that it does not take."""

    def _format_action_invocation(self, action: argparse.Action) -> str:
        text = super()._format_action_invocation(action)
        if isinstance(action, _Switch):
            text = text.partition(action.opposite)[0] + action.opposite
        return text


class _Switch(argparse.Action):
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
        if option_string != self.opposite:
            setattr(namespace, self.dest, True if values is None else values)
        elif values is None:
            setattr(namespace, self.dest, False)
        else:
            parser.error(f"argument {self.opposite}: expected no value, found {values}")


def add_config_flags(parser: argparse.ArgumentParser, cls: type, skip: Container[str] = ()) -> None:
    """Add one flag for every field of a shared configuration and of its model, named as the field."""
    group = parser.add_argument_group(_title(cls))
    for name, declared in settings_of(cls).items():
        if name in skip:
            continue
        if declared.nested is None:
            _add_flag(group, declared, [f"--{name}", *_ALIASES.get(name, ())], _CONFIG + name, f"--no-{name}")
        else:
            inner = parser.add_argument_group(_title(declared.nested))
            for key, member in settings_of(declared.nested).items():
                _add_flag(inner, member, [f"--{key}"], _MODEL + key, f"--no-{key}")


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
            stem = declared.doc.flag or name.replace("_", "-")
            off = "disable-" + stem.removeprefix("enable-") if stem.startswith("enable-") else "no-" + stem
            _add_flag(group, declared, [f"--{prefix}{stem}"], _EXECUTION + name, f"--{prefix}{off}")


def add_learning_rate_flag(parser: argparse.ArgumentParser) -> None:
    """Add `--learning_rate`, which either backend takes; it is no field of the shared configuration."""
    declared = settings_of(PyTorchExecutionConfig)["learning_rate"]
    _add_flag(parser, declared, ["--learning_rate"], "learning_rate", "--no-learning_rate")


def add_reading_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that say how scans are read."""
    parser.add_argument(
        "--units",
        choices=("amplitude", "counts"),
        help="what the diffraction patterns hold (default: what the file says, or its numbers show)",
    )
    parser.add_argument(
        "--memory_map",
        choices=("auto", "always", "never"),
        help="leave the patterns in the file and read them batch by batch (auto, the default: where they are large)",
    )


def reading_from_options(options: argparse.Namespace) -> dict[str, Any]:
    """How scans are read: the keywords of `RawData.from_file` that were given."""
    return {name: getattr(options, name) for name in ("units", "memory_map") if name in options}


@dataclass
class _Refinement:
    """Refinement."""

    refine_probe: Annotated[bool, Doc("let the probe move too")] = True
    refine_positions: Annotated[bool, Doc("let the scan positions move too, by fractions of a pixel")] = False
    likelihood: Annotated[
        Literal["amplitude", "poisson"], Doc("what is fitted (poisson: for few counts)", flag="refine_likelihood")
    ] = "amplitude"
    holdout: Annotated[
        float,
        Doc(
            "patterns that stay unseen and choose the result, a fraction below 1 or a number",
            at_least=0,
            flag="refine_holdout",
        ),
    ] = 0.0
    beyond_noise: Annotated[
        bool, Doc("go on where photon noise is all that is left to explain", flag="refine_beyond_noise")
    ] = False


def add_refinement_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that say how to refine."""
    group = parser.add_argument_group(_title(_Refinement))
    for name, declared in settings_of(_Refinement).items():
        flag = declared.doc.flag or name
        _add_flag(group, declared, [f"--{flag}"], _REFINEMENT + name, f"--no-{flag}")


def refinement_from_options(options: argparse.Namespace, iterations: int) -> dict[str, Any]:
    """The keywords of a refinement that were given as flags.

    Raises:
        ConfigError: a flag without a refinement to go with.
    """
    given = _given(options, _REFINEMENT)
    if given and not iterations:
        name = next(iter(given))
        flag = settings_of(_Refinement)[name].doc.flag or name
        raise ConfigError(f"--{flag} says how to refine: give --refine N too, for example --refine 40")
    if given.pop("beyond_noise", False):
        given["noise"] = 0.0
    return given


def add_diagnostics_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that ask for statistics of predicted patches."""
    group = parser.add_argument_group("Diagnostics")
    group.add_argument(
        "--log-patch-stats", action="store_true", help="write statistics of predicted patches to OUTPUT_DIR/analysis"
    )
    group.add_argument(
        "--patch-stats-limit", type=_at_least_one, metavar="N", help="batches to write them for (default: all)"
    )
    group.add_argument("--debug-dump", type=Path, metavar="DIR", help="write what stitching works with to a folder")


def diagnostics_from_options(options: argparse.Namespace, stitches: bool) -> dict[str, Any]:
    """What was asked for: `log_patch_stats`, `patch_stats_limit`, `debug_dump`, those that were given.

    Args:
        options: the flags given.
        stitches: whether the run stitches patches.

    Raises:
        ConfigError: a limit without statistics, or a dump of a stitching that does not take place.
    """
    if "patch_stats_limit" in options and "log_patch_stats" not in options:
        raise ConfigError("--patch-stats-limit limits what --log-patch-stats writes: give that flag too")
    if "debug_dump" in options and not stitches:
        raise ConfigError("--debug-dump shows what stitching works with: give --do_stitching too")
    names = ("log_patch_stats", "patch_stats_limit", "debug_dump")
    return {name: getattr(options, name) for name in names if name in options}


def _at_least_one(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number at least 1, found {text}")
    return int(text)


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
    values, model = dict(table), _given(options, _MODEL)
    flags = _given(options, _CONFIG)
    if "n_images" in flags and "n_groups" not in flags:
        values.pop("n_groups", None)  # a flag under its deprecated name still wins over the file
    values.update(flags)
    if model:
        inside = values.get("model", {})
        values["model"] = {**inside, **model} if isinstance(inside, Mapping) else inside
    return config_from_dict(cls, values, source)


def execution_from_options(options: argparse.Namespace, config: Any) -> PyTorchExecutionConfig | None:
    """The PyTorch settings that go with a configuration, or None when another backend is to run.

    What TrainingConfig also has (gradient clipping, scheduler) comes from there unless its own flag is given.

    Raises:
        ConfigError: PyTorch flags with another backend, or a value that is not allowed.
    """
    given = _given(options, _EXECUTION)
    if config.backend != "pytorch":
        if given:
            raise ConfigError(f"the --torch- flags need --backend pytorch, found backend={config.backend}")
        return None
    if isinstance(config, TrainingConfig):
        given = {name: getattr(config, name) for name in _SHARED_WITH_EXECUTION} | given
    return config_from_dict(PyTorchExecutionConfig, given, "command line")


def _given(options: argparse.Namespace, section: str) -> dict[str, Any]:
    return {key.removeprefix(section): value for key, value in vars(options).items() if key.startswith(section)}


def _title(cls: type) -> str:
    return (cls.__doc__ or cls.__name__).splitlines()[0].rstrip(".")


def _add_flag(group: Any, declared: Setting, flags: list[str], dest: str, opposite: str) -> None:
    shown = "" if declared.default in (None, ()) else f" (default: {_text(declared.default)})"
    options: dict[str, Any] = {
        "dest": dest,
        "type": _reader(declared),
        "help": (declared.doc.text + shown).replace("%", "%%"),
        "metavar": _metavar(declared),
    }
    if bool in declared.kinds:
        options |= {"action": _Switch, "opposite": opposite}
    group.add_argument(*flags, **options)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def _metavar(declared: Setting) -> str:
    if bool in declared.kinds:
        return "|".join(["true", "false", *map(str, declared.choices)])
    if declared.choices:
        return "{" + ",".join([*map(str, declared.choices), *["none"] * declared.optional]) + "}"
    one = {int: "N", float: "X", Path: "PATH"}
    if declared.kinds[0] is tuple:
        return ",".join([one[declared.member]] * 2)
    return one.get(declared.kinds[0], "NAME")


def _reader(declared: Setting) -> Any:
    def read(text: str) -> Any:
        try:
            return declared.from_text(text)
        except ConfigError:
            raise argparse.ArgumentTypeError(f"expected {declared.expected}, found {text}") from None

    return read
