"""Checks of small sets of options, in the words of the configuration's own."""

from __future__ import annotations

from typing import Any, get_args

from ptycho.errors import ConfigError

__all__ = ["require", "require_choice"]


def require(fits: bool, name: str, value: Any, expected: str) -> None:
    """Raise ConfigError, naming option, value and what is expected, unless the value fits."""
    if not fits:
        raise ConfigError(f"{name}={value!r}: expected {expected}")


def require_choice(name: str, value: Any, choices: Any) -> None:
    """Raise ConfigError unless the value is one of a `Literal`."""
    require(value in get_args(choices), name, value, f"one of {', '.join(map(str, get_args(choices)))}")
