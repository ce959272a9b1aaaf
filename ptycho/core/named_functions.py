"""Functions chosen by name from a table, with settings of their own."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from numbers import Integral, Real
from typing import Any, TypeVar

from ptycho.errors import ConfigError

__all__ = ["chosen"]

Result = TypeVar("Result")


def chosen(
    kinds: Mapping[str, Callable[..., Result]],
    what: str,
    name: str,
    settings: Mapping[str, Any] | None = None,
    leading: int = 0,
) -> Callable[..., Result]:
    """The function `kinds[name]`, after a check that it exists and takes the settings.

    Args:
        kinds: the functions by name.
        what: what they are, for the error.
        name: the one asked for.
        settings: what it is to be given by keyword; each must be of the type of its default.
        leading: how many of its parameters are no settings.

    Raises:
        ConfigError: an unknown name or setting, or a value of another type; the line says what there is.
    """
    if name not in kinds:
        raise ConfigError(f"{what}: expected one of {', '.join(kinds)}, found {name!r}; choose one")
    known = dict(list(inspect.signature(kinds[name]).parameters.items())[leading:])
    for key, value in (settings or {}).items():
        if key not in known:
            allowed = ", ".join(known) or "none"
            raise ConfigError(f"{name}: expected settings among {allowed}, found {key}; correct it")
        default = known[key].default
        if not _is_like(value, default):
            raise ConfigError(f"{name}: expected {key} as in {key}={default}, found {value!r}; correct it")
    return kinds[name]


def _is_like(value: Any, default: Any) -> bool:
    if isinstance(default, tuple):
        return isinstance(value, (tuple, list)) and len(value) == len(default) and all(map(_is_like, value, default))
    if isinstance(default, Integral):
        return isinstance(value, Integral)
    return isinstance(value, Real) if isinstance(default, Real) else True
