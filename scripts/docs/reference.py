"""The generated parts of the reference: settings from the dataclasses, commands from their parsers."""

from __future__ import annotations

import argparse
import dataclasses
import html
import importlib
import re
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from commands import COMMANDS, operations_of, parser_of, subcommands

from ptycho.config.schema import Setting, settings_of

__all__ = ["CONFIGURATIONS", "command_reference", "config_reference", "settings_anchor"]

CONFIGURATIONS = ("ptycho.config.config", "ptycho.config.options", "ptycho.config.run", "ptycho_torch.config_params")
"""Modules whose public dataclasses are the configuration, in the order in which they are shown."""


def config_reference() -> str:
    """Every setting of every configuration dataclass, with its default, what it may hold and what it means."""
    parts = []
    for name in CONFIGURATIONS:
        module = importlib.import_module(name)
        parts += [f"## `{name}`", *(_config_class(name, cls) for cls in dataclasses_of(module))]
    return "\n\n".join(parts)


def dataclasses_of(module: ModuleType) -> list[type]:
    """The dataclasses among the public names of a module."""
    public = [getattr(module, name) for name in module.__all__]
    return [cls for cls in public if isinstance(cls, type) and dataclasses.is_dataclass(cls)]


def settings_anchor(module: str, name: str) -> str:
    """The anchor of a dataclass in the configuration reference."""
    return f"{module}-{name}-settings".replace(".", "-").lower()


def _config_class(module: str, cls: type) -> str:
    summary = (cls.__doc__ or "").strip().splitlines()[0]
    entries = [_setting(setting) for setting in settings_of(cls).values()]
    return "\n\n".join([f"### {cls.__name__} {{: #{settings_anchor(module, cls.__name__)} }}", summary, *entries])


def _setting(setting: Setting) -> str:
    """One entry of a definition list: name and default, then the meaning and what is allowed."""
    if setting.nested:
        return f"`{setting.name}`\n:   {_text(setting.nested.__name__)}, see there."
    meaning = _text(setting.doc.text)
    allowed = "" if setting.expected == "true or false" else f" Allowed: {_text(setting.expected)}."
    return f"`{setting.name}` = `{_value(setting.default)}`\n:   {_sentence(meaning)}{allowed}"


def _value(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "none"}[value]
    if isinstance(value, float):
        return f"{value:g}"
    return ", ".join(map(str, value)) or "(empty)" if isinstance(value, (tuple, list)) else str(value)


def command_reference() -> str:
    """Every command in a line, and then with its usage and flags, group by group."""
    names = [*(f"ptycho {name}" for name in subcommands()), *(name for name in COMMANDS if name != "ptycho")]
    return "\n\n".join([_overview(names), *(_command(name) for name in names)])


def _overview(names: list[str]) -> str:
    """A table of the commands, each with what it does."""
    rows = [f"| [`{name}`](#{_anchor(name)}) | {_text(parser_of(name).description or '')} |" for name in names]
    return "\n".join(["| command | what it does |", "| --- | --- |", *rows])


def _anchor(title: str) -> str:
    """The anchor of a command."""
    return re.sub(r"\W+", "-", title)


def _command(name: str) -> str:
    parser = parser_of(name)
    inner = [_parser(f"{name} {operation}", found, "###") for operation, found in operations_of(parser).items()]
    return "\n\n".join([_parser(name, parser, "##"), *inner])


def _parser(name: str, parser: argparse.ArgumentParser, heading: str) -> str:
    usage = " ".join(parser.format_usage().split()).removeprefix("usage: ")
    title = f"{heading} {name} {{: #{_anchor(name)} }}"
    parts = [title, _text(parser.description or ""), f"```text\n{_wrapped(usage)}\n```"]
    return "\n\n".join([*parts, *_groups(parser)])


def _groups(parser: argparse.ArgumentParser) -> Iterator[str]:
    for group in parser._action_groups:
        shown = [action for action in group._group_actions if _is_told(action)]
        if shown:
            title = (group.title or "").capitalize() if (group.title or "").islower() else group.title
            yield "\n\n".join([f"**{title}**", *(_flag(parser, action) for action in shown)])


def _is_told(action: argparse.Action) -> bool:
    """Whether a flag is one to read of here: not help, which all have, nor operations, which come after."""
    return action.help != argparse.SUPPRESS and not isinstance(
        action, (argparse._HelpAction, argparse._SubParsersAction)
    )


def _flag(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    formatter = parser._get_formatter()
    invocation = formatter._format_action_invocation(action)
    meaning = formatter._expand_help(action) if action.help else ""
    return f"`{invocation}`\n:   {_sentence(_text(meaning)) or 'Not described.'}"


def _wrapped(usage: str, width: int = 76) -> str:
    """A usage line broken before its brackets."""
    lines = [""]
    for word in usage.replace(" [", "\n[").split("\n"):
        if lines[-1] and len(lines[-1]) + len(word) > width:
            lines.append("    ")
        lines[-1] += word if not lines[-1].strip() else f" {word}"
    return "\n".join(lines)


def _sentence(text: str) -> str:
    return text if not text or text.endswith((".", "!")) else f"{text}."


def _text(text: str) -> str:
    """Text as Markdown shows it: nothing in it is markup except code between single backticks."""
    parts = html.escape(text, quote=False).split("`")
    escaped = [part if place % 2 else _escaped(part) for place, part in enumerate(parts)]
    return "`".join(escaped)


def _escaped(text: str) -> str:
    for character in "\\*_[]":
        text = text.replace(character, "\\" + character)
    return text
