"""The legacy dictionary of parameters: a mirror of the configuration for callers that read `cfg` or `get`.

`update_legacy_dict` writes it. Besides the configuration it holds three computed keys, which the library
writes once they are known: `probe`, `intensity_scale` and `input_scale`. `bigN` is computed when asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from ptycho.config.config import InferenceConfig, TrainingConfig, update_legacy_dict
from ptycho.errors import ConfigError

__all__ = ["REPORTED", "cfg", "get", "get_bigN", "get_padded_size", "left_alone", "mirror", "params", "set", "validate"]

_REQUIRED = object()
_AT_LEAST = {"N": 1, "gridsize": 1, "offset": 0, "max_position_jitter": 0}

REPORTED = {"offset": 4, "max_position_jitter": 10}
"""Numbers that sizes are reported by, unless a caller sets others."""

cfg: dict[str, Any] = dict(REPORTED)
"""The dictionary itself; at first the defaults of TrainingConfig under their legacy names."""
update_legacy_dict(cfg, TrainingConfig())


_left_alone = ContextVar("left_alone", default=False)


@contextmanager
def left_alone() -> Iterator[None]:
    """Within, and in this thread, `mirror` writes nothing: the dictionary is the caller's. Also a decorator."""
    before = _left_alone.set(True)
    try:
        yield
    finally:
        _left_alone.reset(before)


def mirror(config: TrainingConfig | InferenceConfig | None = None, /, **values: Any) -> None:
    """Write a configuration and computed keys to the dictionary, for callers who read them there."""
    if _left_alone.get():
        return
    if config is not None:
        update_legacy_dict(cfg, config)
    cfg.update(values)


def get(key: str, default: Any = _REQUIRED) -> Any:
    """The value of a key, `bigN` among them.

    Raises:
        KeyError: the key is not set and no default is given.
    """
    if key == "bigN":
        return get_bigN()
    if default is _REQUIRED:
        return cfg[key]
    return cfg.get(key, default)


def set(key: str, value: Any) -> None:
    """Set the value of a key.

    Raises:
        ConfigError: `bigN` is computed, so it cannot be set.
    """
    if key == "bigN":
        raise ConfigError("bigN is computed as N + (gridsize - 1) * offset: set one of those")
    cfg[key] = value


def params() -> dict[str, Any]:
    """All parameters as a new dictionary, with `bigN`."""
    return {**cfg, "bigN": get_bigN()}


def get_bigN() -> int:
    """Nominal side of a group of patches in pixels, `N + (gridsize - 1) * offset`; reported only."""
    return int(cfg["N"] + (cfg["gridsize"] - 1) * cfg["offset"])


def get_padded_size() -> int:
    """Nominal side of the padded canvas in pixels, `bigN + max_position_jitter`; reported only."""
    return int(get_bigN() + cfg["max_position_jitter"])


def validate() -> None:
    """Check the numbers that sizes are computed from.

    Raises:
        ConfigError: one is missing, is not a whole number or is too small.
    """
    for key, least in _AT_LEAST.items():
        value = cfg.get(key)
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise ConfigError(f"params.cfg[{key!r}]={value!r}: expected a whole number at least {least}")
