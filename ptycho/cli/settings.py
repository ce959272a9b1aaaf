"""What `ptycho_train` and `ptycho_inference` take: one list of settings, as flags and as a file.

The keys of a settings file are the fields of the configuration with its sections, those of the run, and the sections
`execution` and, for inference, `refinement`. Flags win over the file.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ptycho.cli.console import add_volume_flags
from ptycho.cli.flags import (
    CONFIG,
    EXECUTION,
    REFINEMENT,
    RUN,
    SHARED_WITH_EXECUTION,
    FlagParser,
    OtherName,
    add_config_flags,
    add_execution_flags,
    add_other_name,
    add_refinement_flags,
    add_run_flags,
    config_from_options,
    execution_from_options,
    given,
    warn_of_deprecated,
    with_flags,
)
from ptycho.config.config import (
    PyTorchExecutionConfig,
    TrainingConfig,
    config_from_dict,
    load_config_file,
    validate_execution_config,
)
from ptycho.config.run import RefinementSettings
from ptycho.config.schema import Setting, nearest, note_stated, settings_of
from ptycho.errors import ConfigError

__all__ = ["Command", "Settled", "load_table"]


@dataclass(frozen=True)
class Settled:
    """What a command was asked to do: the file under the flags."""

    config: Any
    run: Any
    execution: PyTorchExecutionConfig | None
    """None where TensorFlow runs, unless several processes are to share the work."""
    refinement: dict[str, Any]
    """The refinement settings that were given, as keywords of a backend's `refine`."""
    stated: frozenset[str]
    """Names of the settings of configuration and model that were given."""
    options: argparse.Namespace = field(default_factory=argparse.Namespace, compare=False)
    """What the command line gave that is no setting too, such as the scan."""
    arguments: tuple[str, ...] = field(default=(), compare=False)
    """The words of the command line."""


@dataclass(frozen=True)
class Command:
    """A command: its name and its settings."""

    program: str
    """As it is called."""
    required: str
    """The flags that cannot be left out, for the usage line."""
    summary: str
    config: type
    run: type
    execution: tuple[str, ...] | None = None
    """Fields of PyTorchExecutionConfig that it takes; None: all."""
    refines: bool = False
    skip: tuple[str, ...] = ()
    """Fields of the configuration that it does not take: they come with the model."""
    other_names: tuple[OtherName, ...] = ()
    prefix: str = "torch-"
    """What the flags of `execution` begin with."""
    no_flags: tuple[str, ...] = ()
    """Destinations without a flag, such as `config.scheduler`: another flag says the same."""
    backend: str | None = None
    """The only backend that it runs; None: the configuration says."""
    arguments: Callable[[argparse.ArgumentParser], None] | None = None
    """Adds what is no setting, such as the scan itself."""

    def parser(self) -> FlagParser:
        """The parser of its flags."""
        usage = f"{self.program} {self.required} [options]"
        parser = FlagParser(prog=self.program, usage=usage, description=self.summary)
        self.add_flags(parser)
        return parser

    def add_flags(self, parser: argparse.ArgumentParser) -> None:
        """Add every flag."""
        if self.arguments is not None:
            self.arguments(parser)
        parser.add_argument("--config", type=Path, metavar="FILE", help="settings from YAML, TOML or JSON; flags win")
        add_volume_flags(parser)
        add_run_flags(parser, self.run, self._without_flag(RUN))
        if self.refines:
            add_refinement_flags(parser)
        add_config_flags(parser, self.config, {*self.skip, "debug", *self._without_flag(CONFIG)})
        add_execution_flags(parser, set(self.members("execution")) - self._without_flag(EXECUTION), self.prefix)
        if self.backend is not None:
            text = "what this command runs"
            parser.add_argument("--backend", dest=f"{CONFIG}backend", choices=(self.backend,), help=text)
        for other in self.other_names:
            add_other_name(parser, other, self._declared(other.to))

    def _declared(self, destination: str) -> Setting:
        section, _, name = destination.partition(".")
        homes = {"config": self.config, "run": self.run, **self.sections}
        return settings_of(homes[section])[name]

    def _without_flag(self, section: str) -> set[str]:
        return {name.removeprefix(section) for name in self.no_flags if name.startswith(section)}

    @property
    def sections(self) -> dict[str, type]:
        """The sections of the settings file, by name."""
        inside = {name: one.nested for name, one in self.top_level(self.config).items() if one.nested}
        return {
            **inside,
            "execution": PyTorchExecutionConfig,
            **({"refinement": RefinementSettings} if self.refines else {}),
        }

    def top_level(self, cls: type) -> dict[str, Setting]:
        """The fields of the configuration or the run that the command takes."""
        return {name: one for name, one in settings_of(cls).items() if name not in self.skip}

    def members(self, section: str) -> dict[str, Setting]:
        """The fields of a section that the command takes."""
        taken = self.execution if section == "execution" else None
        return {
            name: one for name, one in settings_of(self.sections[section]).items() if taken is None or name in taken
        }

    def settle(self, options: argparse.Namespace, table: Mapping[str, Any]) -> Settled:
        """The flags and the table of the settings file, in one.

        Raises:
            ConfigError: an unknown key (with the nearest one and where it belongs), or a value that is not allowed.
        """
        source = str(getattr(options, "config", "command line"))
        table = {name: value for name, value in table.items() if value is not None or name not in self.sections}
        check_keys(self, table, source)
        table = self._with_backend(table, source)
        warn_of_deprecated(options)
        run = {name: table[name] for name in self.top_level(self.run) if name in table}
        inside = {name: value for name, value in table.items() if name in self.top_level(self.config)}
        config: Any = config_from_options(self.config, options, inside, source)
        run_settings: Any = config_from_dict(self.run, {**run, **given(options, RUN)}, source)
        run_settings.quiet = run_settings.quiet or "quiet" in options
        stated = frozenset({*given(options, CONFIG), *given(options, "model."), *table, *(table.get("model") or ())})
        note_stated(config, stated)
        return Settled(
            config=config,
            run=run_settings,
            execution=self._execution(options, config, run_settings, table.get("execution"), source),
            refinement=self._refinement(options, run_settings, table.get("refinement"), source),
            stated=stated,
        )

    def _with_backend(self, table: dict[str, Any], source: str) -> dict[str, Any]:
        """The table with the backend of a command that has only one."""
        if self.backend is None:
            return table
        if table.get("backend", self.backend) != self.backend:
            raise ConfigError(
                f"{source}: backend={table['backend']}: this command runs {self.backend}, remove 'backend'"
            )
        return {**table, "backend": self.backend}

    def _execution(
        self, options: argparse.Namespace, config: Any, run: Any, table: Any, source: str
    ) -> PyTorchExecutionConfig | None:
        if config.backend is None:
            from ptycho.api.backends import installed_backend

            config.backend = installed_backend()
        execution = execution_from_options(options, config, table, f"{source}: execution")
        if execution is None or config.backend != "pytorch":
            return execution
        if run.quiet and "execution.enable_progress_bar" not in options and "enable_progress_bar" not in (table or {}):
            execution.enable_progress_bar = False
        _one_learning_rate(options, run, execution)
        validate_execution_config(execution)
        _one_answer(config, execution)
        return execution

    def _refinement(self, options: argparse.Namespace, run: Any, table: Any, source: str) -> dict[str, Any]:
        """The keywords of a refinement that were given; a file may say how to refine without asking for it."""
        if not self.refines:
            return {}
        flags = given(options, REFINEMENT)
        asked = with_flags(table, flags)
        made = vars(config_from_dict(RefinementSettings, asked, f"{source}: refinement"))
        if flags and not run.refine:
            name = next(iter(flags))
            flag = settings_of(RefinementSettings)[name].doc.flag or name.replace("_", "-")
            raise ConfigError(f"--{flag} says how to refine, which is off: leave out --no-refine or --refine 0")
        return as_keywords({name: made[name] for name in asked}) if run.refine else {}


def _one_learning_rate(options: argparse.Namespace, run: Any, execution: PyTorchExecutionConfig) -> None:
    """Let the run and the execution not both have a learning rate; a flag wins over the file."""
    if execution.learning_rate is None or getattr(run, "learning_rate", None) is None:
        return
    flags = ["run.learning_rate" in options, "execution.learning_rate" in options]
    if flags[0] == flags[1]:
        raise ConfigError("--learning-rate and --torch-learning-rate are the same setting: give one of them")
    if flags[0]:
        execution.learning_rate = None
    else:
        run.learning_rate = None


def _one_answer(config: Any, execution: PyTorchExecutionConfig) -> None:
    """Let the configuration say what acts, where both have a setting: the model is archived with it."""
    for name in SHARED_WITH_EXECUTION if isinstance(config, TrainingConfig) else ():
        value = getattr(execution, name)
        if value is not None and value in (settings_of(TrainingConfig)[name].choices or (value,)):
            setattr(config, name, value)


def as_keywords(refinement: dict[str, Any]) -> dict[str, Any]:
    """Refinement settings as the keywords of a backend's `refine`: beyond the noise is a noise of 0."""
    return {**refinement, "noise": 0.0} if refinement.pop("beyond_noise", False) else refinement


def check_keys(command: Command, table: Mapping[str, Any], source: str) -> None:
    """Raise ConfigError where a settings file has a key that is none, with the nearest one and where it belongs."""
    top = {**command.top_level(command.config), **command.top_level(command.run), **command.sections}
    for name, value in table.items():
        if name not in top:
            if name == "model":
                raise ConfigError(f"{source}: the settings of the model come with --model-path, remove {name!r}")
            raise ConfigError(f"{source}: unknown key {name!r}{_hint(command, str(name), '')}")
        if name in command.sections and isinstance(value, Mapping):
            for key in value:
                if key not in command.members(name):
                    raise ConfigError(f"{source}: {name}: unknown key {key!r}{_hint(command, str(key), name)}")


def _hint(command: Command, name: str, section: str) -> str:
    """Where a key belongs, or what it may have been meant to be, as the end of an error message."""
    homes: dict[str, str] = dict.fromkeys([*command.top_level(command.run), *command.top_level(command.config)], "")
    for home in command.sections:
        homes |= {key: home for key in command.members(home) if key not in homes}
    if name in homes:
        return f"; put it under {homes[name]!r}" if homes[name] else "; put it at the top level"
    own = command.members(section) if section else {}
    close = nearest(name, own) or nearest(name, {key: None for key, home in homes.items() if not home})
    if close:
        return close
    matches = nearest(name, homes)
    return matches.replace("?", f", under {_home_of(matches, homes)!r}?") if matches else ""


def _home_of(matches: str, homes: Mapping[str, str]) -> str:
    first = matches.removeprefix("; did you mean ").split(" or ")[0].rstrip("?")
    return homes[first]


def load_table(options: argparse.Namespace) -> dict[str, Any]:
    """The settings file that was named, if one was."""
    return load_config_file(options.config) if "config" in options else {}
