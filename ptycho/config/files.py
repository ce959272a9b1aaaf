"""Configuration files: YAML, TOML or JSON to a dictionary, a dictionary to a configuration dataclass."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml

from ptycho.config.options import changed_options
from ptycho.config.schema import nearest, settings_of
from ptycho.core.files.damage import DAMAGE
from ptycho.errors import ConfigError, MissingFileError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["config_from_dict", "config_to_dict", "load_config_file", "load_yaml_config"]

Config = TypeVar("Config")

_MOST = 100_000
"""Values in a file of settings, what aliases stand for counted each time."""
_DEPTH = 100
_DIGITS = 1000
"""Bits of a whole number, more than any setting has."""


class _Loader(yaml.SafeLoader):
    """YAML's own loader, which takes time with the square of the depth of brackets, with a bound to that."""

    def fetch_flow_collection_start(self, token_class: Any) -> None:
        if self.flow_level >= _DEPTH:
            raise ValueError(f"expected brackets in at most {_DEPTH} others")
        super().fetch_flow_collection_start(token_class)


def load_yaml(text: str) -> Any:
    """The value of a YAML text.

    Raises:
        ValueError, yaml.YAMLError: damaged syntax, or aliases that stand for more than `_MOST` values.
    """
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _unfolded(node, {})
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _unfolded(node: yaml.Node, sizes: dict[int, int]) -> int:
    """The number of values that a node stands for; a node that holds itself has none."""
    if isinstance(node, yaml.ScalarNode):
        return 1
    if id(node) not in sizes:
        sizes[id(node)] = _MOST  # what holds itself is too large
        inner = node.value if isinstance(node, yaml.SequenceNode) else [one for pair in node.value for one in pair]
        sizes[id(node)] = 1 + sum(_unfolded(one, sizes) for one in inner)
    if sizes[id(node)] > _MOST:
        raise ValueError(f"expected at most {_MOST} values, found aliases that stand for more")
    return sizes[id(node)]


def _check_numbers(content: Any) -> None:
    """Raise for a whole number that cannot even be written in an error."""
    if isinstance(content, dict):
        content = [*content, *content.values()]
    if isinstance(content, (list, set, tuple)):
        for one in content:
            _check_numbers(one)
    elif isinstance(content, int) and content.bit_length() > _DIGITS:
        raise ValueError(f"expected a number, found one of {content.bit_length()} bits")


_READERS: dict[str, Callable[[str], Any]] = {
    ".yaml": load_yaml,
    ".yml": load_yaml,
    ".toml": tomllib.loads,
    ".json": json.loads,
}


def load_config_file(path: Path | str) -> dict[str, Any]:
    """The settings in a YAML, TOML or JSON file, as its extension says; nothing is checked but the syntax.

    Raises:
        MissingFileError: there is no such file.
        ConfigError: another extension, damaged syntax, or a file that is not a table of names and values.
    """
    path = Path(path)
    if path.suffix.lower() not in _READERS:
        raise ConfigError(f"{path}: expected a configuration file ending in {', '.join(_READERS)}")
    return _load(path, _READERS[path.suffix.lower()])


def load_yaml_config(path: Path | str) -> dict[str, Any]:
    """The settings in a YAML file, whatever its extension; raises as `load_config_file` does."""
    return _load(Path(path), load_yaml)


def config_from_dict(cls: type[Config], mapping: Mapping[str, Any], source: str = "configuration") -> Config:
    """Make a configuration dataclass from names and values, a nested mapping for each configuration inside.

    Text becomes a path and a whole number a float where the field is one; fields left out keep defaults.

    Args:
        cls: the dataclass.
        mapping: values by field name.
        source: where they come from, for the error message.

    Raises:
        ConfigError: an unknown name (with the nearest valid ones), or a value that the field may not hold.
    """
    if not isinstance(mapping, Mapping):
        raise ConfigError(f"{source}: expected names and values, found {mapping!r}")
    settings = settings_of(cls)
    values: dict[str, Any] = {}
    for name, value in mapping.items():
        if name not in settings:
            raise ConfigError(f"{source}: unknown key {name!r}{_hint(cls, str(name))}")
        nested = settings[name].nested
        if nested is None:
            try:
                values[name] = settings[name].from_value(value)
            except ConfigError as error:
                raise ConfigError(f"{source}: {error}") from None
        else:
            values[name] = value if isinstance(value, nested) else config_from_dict(nested, value, f"{source}: {name}")
    return cls(**values)


def config_to_dict(config: Any) -> dict[str, Any]:
    """A configuration as names and values, as archives and checkpoints keep it; `config_from_dict` reads it again.

    A section of options holds those that are not at their defaults and is left out where there are none. The section
    `network` is left out always: the options of a network are kept with its weights.
    """
    found: dict[str, Any] = {}
    for name, declared in settings_of(type(config)).items():
        value = getattr(config, name)
        if declared.section is None:
            found[name] = config_to_dict(value) if declared.nested else value
        elif name != "network" and changed_options(value):
            found[name] = changed_options(value)
    return found


def _hint(cls: type, name: str) -> str:
    settings = settings_of(cls)
    homes = [key for key, declared in settings.items() if declared.nested and name in settings_of(declared.nested)]
    return f"; put it under {homes[0]!r}" if homes else nearest(name, settings)


def _load(path: Path, read: Callable[[str], Any]) -> dict[str, Any]:
    if not path.is_file():
        raise MissingFileError(f"{path}: no such configuration file")
    try:
        content = read(path.read_text(encoding="utf-8"))
        _check_numbers(content)
    except (*DAMAGE, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: cannot be read: {' '.join(str(error).split())}") from error
    if content is None:  # an empty YAML file
        return {}
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: expected a table of names and values, found {type(content).__name__}")
    return content
