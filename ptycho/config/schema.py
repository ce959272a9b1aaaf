"""What a configuration field is: its type, what it may hold, what it means.

A field is described once, where its dataclass declares it: `name: Annotated[type, Doc(...)] = default`.
Command line flags, configuration files, checks and tables read it here.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import math
import operator
import os
import re
import types
from collections.abc import Callable, Iterable, Mapping
from numbers import Integral, Real
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from ptycho.errors import ConfigError

__all__ = ["Doc", "Setting", "check_settings", "is_stated", "nearest", "note_stated", "settings_of", "strings_to_paths"]

_LIMITS: dict[str, tuple[str, Callable[[Any, Any], bool]]] = {
    "at_least": ("at least", operator.ge),
    "above": ("above", operator.gt),
    "at_most": ("at most", operator.le),
    "below": ("below", operator.lt),
}
_KINDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a finite number",
    str: "text",
    Path: "a path",
    object: "an array",
}
_LISTS = {int: "a list of whole numbers", float: "a list of numbers", Path: "a list of paths"}
_BOOLS = {
    "true": True,
    "yes": True,
    "on": True,
    "1": True,
    "false": False,
    "no": False,
    "off": False,
    "0": False,
}


@dataclasses.dataclass(frozen=True)
class Doc:
    """What a field means and what it may hold, beside its annotated type."""

    text: str
    """One sentence, in the words of the command line's help."""
    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    below: float | None = None
    choices: tuple[Any, ...] = ()
    """The values allowed, where the type is wider than what may be used (else a Literal says them)."""
    added: Callable[[], tuple[str, ...]] | None = None
    """Further values, of other packages; asked for where a value is not among the others."""
    flag: str | None = None
    """The name on the command line, where it is not the field's own."""
    basic: bool = False
    """Whether the short help shows it."""
    alone: str | None = None
    """What the flag means where no value follows it."""


@dataclasses.dataclass(frozen=True)
class Setting:
    """One field of a configuration dataclass, as checks, files and flags see it."""

    name: str
    kinds: tuple[type, ...]
    """Types the field may hold besides its choices; a field of choices alone has none."""
    choices: tuple[Any, ...]
    """Values the field may hold besides those types."""
    optional: bool
    """Whether None is allowed."""
    default: Any
    doc: Doc
    member: type = int
    """What a list holds, where the field may hold one."""

    @property
    def nested(self) -> type | None:
        """The dataclass that this field holds, if it holds one."""
        return self.kinds[0] if self.kinds and dataclasses.is_dataclass(self.kinds[0]) else None

    @property
    def section(self) -> type | None:
        """The dataclass of options that this field holds, if it holds one: such are frozen, a model is not."""
        nested: Any = self.nested
        return nested if nested is not None and nested.__dataclass_params__.frozen else None

    @property
    def expected(self) -> str:
        """What the field may hold, in words."""
        limits = " and ".join(f"{word} {limit}" for word, limit, _ in self._limits())
        words = {**_KINDS, tuple: _LISTS.get(self.member, "a list")}
        kinds = [f"{words.get(kind, kind.__name__)} {limits}".strip() for kind in self.kinds]
        known = (*self.choices, *self._added()) if self.choices else ()
        choices = [f"one of {', '.join(map(str, known))}"] if known else []
        return " or ".join(kinds + choices + ["none"] * self.optional)

    def check(self, value: Any) -> None:
        """Raise ConfigError, naming field, value and what is allowed, unless the field may hold `value`."""
        if value is None:
            allowed = self.optional
        elif isinstance(value, (str, Integral)) and not isinstance(value, bool) and value in self.choices:
            allowed = True
        else:
            allowed = any(_is_kind(value, kind, self.member) and self._within_limits(value) for kind in self.kinds)
            allowed = allowed or (isinstance(value, str) and value in self._added())
        if not allowed:
            raise ConfigError(f"{self.name}={value!r}: expected {self.expected}{self._nearest(value)}")

    def from_value(self, value: Any) -> Any:
        """A value from a file, checked and in the field's type: a path for text, a float for a whole number.

        A float may be text, because YAML 1.1 takes `1e9` for text.
        """
        if isinstance(value, str) and Path in self.kinds:
            value = _path(value)
        elif float in self.kinds and isinstance(value, (str, int)) and not isinstance(value, bool):
            value = _number(value, float)
        elif isinstance(value, list) and tuple in self.kinds:
            value = tuple(value)
        self.check(value)
        return value

    def from_text(self, text: str) -> Any:
        """A value from a command line: `none` where None is allowed, commas between the members of a list."""
        value: Any = text
        if self.optional and text.lower() == "none":
            value = None
        elif text in map(str, self.choices):
            value = next(choice for choice in self.choices if str(choice) == text)
        elif bool in self.kinds:
            value = _BOOLS.get(text.lower(), text)
        elif int in self.kinds:
            value = _number(text, int)
        elif tuple in self.kinds:
            value = [_number(item, self.member) for item in text.split(",")]
        return self.from_value(value)

    def _added(self) -> tuple[str, ...]:
        """What other packages add to the choices."""
        return self.doc.added() if self.doc.added else ()

    def _nearest(self, value: Any) -> str:
        """The names that look like a mistyped one, where the field is one that other packages add to."""
        return nearest(value, [*self.choices, *self._added()]) if self.doc.added and isinstance(value, str) else ""

    def _limits(self) -> list[tuple[str, float, Callable[[Any, Any], bool]]]:
        limits = [(word, getattr(self.doc, name), within) for name, (word, within) in _LIMITS.items()]
        return [entry for entry in limits if entry[1] is not None]

    def _within_limits(self, value: Any) -> bool:
        members = value if isinstance(value, (list, tuple)) else [value]
        return all(within(member, limit) for member in members for _, limit, within in self._limits())


def _is_kind(value: Any, kind: type, member: type = int) -> bool:
    if isinstance(value, bool) or kind is bool:
        return isinstance(value, bool) and kind is bool
    if kind is int:
        return isinstance(value, Integral)
    if kind is float:
        return isinstance(value, Real) and _finite(value)
    if kind is Path:
        return isinstance(value, (str, os.PathLike))
    if kind is tuple:
        return isinstance(value, (list, tuple)) and all(_is_kind(item, member) for item in value)
    return isinstance(value, kind)


def _finite(value: Any) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond all floats
        return False


def _number(value: str | int, kind: Callable[[str | int], Any]) -> Any:
    try:
        return kind(value)
    except (ValueError, OverflowError):
        return value  # `check` says what was expected


def settings_of(cls: type) -> Mapping[str, Setting]:
    """The fields of a configuration dataclass by name, in the order of their declaration; made once a class."""
    key: Any = cls  # mypy does not see that a class is hashable
    return _settings_of(key)


@functools.cache
def _settings_of(cls: type) -> Mapping[str, Setting]:
    hints = get_type_hints(cls, include_extras=True)
    return {declared.name: _describe(declared, hints[declared.name]) for declared in dataclasses.fields(cls)}


def _describe(declared: dataclasses.Field[Any], hint: Any) -> Setting:
    doc = Doc("")
    if get_origin(hint) is Annotated:
        hint, doc = get_args(hint)
    members = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    literals = [value for member in members if get_origin(member) is Literal for value in get_args(member)]
    kinds = [get_origin(member) or member for member in members if get_origin(member) is not Literal]
    lists = [get_args(member)[0] for member in members if get_origin(member) is tuple]
    made = declared.default_factory
    return Setting(
        name=declared.name,
        kinds=() if doc.choices else tuple(kind for kind in kinds if kind is not type(None)),
        choices=tuple(literals) + doc.choices,
        optional=type(None) in kinds,
        default=declared.default if made is dataclasses.MISSING else made(),
        doc=doc,
        member=lists[0] if lists else int,
    )


def check_settings(config: Any) -> None:
    """Check every field of a configuration, and of the configurations it holds, by itself.

    Raises:
        ConfigError: naming the first field whose value is not allowed, the value, and what is allowed.
    """
    for name, declared in settings_of(type(config)).items():
        value = getattr(config, name)
        declared.check(value)
        if declared.nested:
            check_settings(value)


def note_stated(config: Any, names: Iterable[str]) -> None:
    """Keep with a configuration which of its fields a user stated, as a command line knows it; no field of its own."""
    vars(config)["_stated"] = frozenset(names)


def is_stated(config: Any, name: str) -> bool:
    """Whether a field was stated: it was noted, or its value is another one than where nothing is said."""
    noted: frozenset[str] = vars(config).get("_stated", frozenset())
    return name in noted or getattr(config, name) != settings_of(type(config))[name].default


def _path(text: str) -> Path:
    """A path of a settings file, with ~ and ${VARIABLE} for what they stand for."""
    unknown = [name for name in re.findall(r"\$\{(\w+)\}", text) if name not in os.environ]
    if unknown:
        raise ConfigError(
            f"{text}: expected ${{{unknown[0]}}} in the environment, found none; set it or write the path"
        )
    return Path(os.path.expandvars(text)).expanduser()


def strings_to_paths(config: Any) -> None:
    """Turn the text that a caller gave for a path, or for the members of a list of paths, into a Path."""
    for name, declared in settings_of(type(config)).items():
        value = getattr(config, name)
        if Path in declared.kinds and isinstance(value, str):
            setattr(config, name, Path(value))
        elif tuple in declared.kinds and declared.member is Path and isinstance(value, (list, tuple)):
            setattr(config, name, tuple(Path(item) if isinstance(item, str) else item for item in value))


def nearest(name: str, known: Iterable[str]) -> str:
    """The known names that look like a mistyped one, as the end of an error message; '' when none does."""
    matches = difflib.get_close_matches(name, list(known), n=3)
    return f"; did you mean {' or '.join(matches)}?" if matches else ""
