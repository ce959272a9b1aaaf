"""The bridge from the configuration dataclasses to the flat legacy dictionary `ptycho.params.cfg`."""

from __future__ import annotations

from collections.abc import MutableMapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from ptycho.errors import ConfigError

__all__ = ["KEY_MAPPINGS", "dataclass_to_legacy_dict", "update_legacy_dict"]

KEY_MAPPINGS = {
    "object_big": "object.big",
    "probe_big": "probe.big",
    "probe_mask": "probe.mask",
    "probe_trainable": "probe.trainable",
    "intensity_scale_trainable": "intensity_scale.trainable",
    "positions_provided": "positions.provided",
    "output_dir": "output_prefix",
    "train_data_file": "train_data_file_path",
    "test_data_file": "test_data_file_path",
}
"""Legacy name of every field that has another name there."""


def dataclass_to_legacy_dict(obj: Any) -> dict[str, Any]:
    """A configuration as a flat dictionary under the legacy names.

    The model inside is flattened, sections of options (`ptycho.config.options`) are left out: there are no legacy names
    for them. A path becomes text and a tuple of paths a list of texts; `Path()` for a file counts as None.

    Raises:
        ConfigError: `obj` is not an instance of a dataclass.
    """
    if not is_dataclass(obj) or isinstance(obj, type):
        raise ConfigError(f"expected an instance of a configuration dataclass, found {obj!r}")
    flat: dict[str, Any] = {}
    for declared in fields(obj):
        value = getattr(obj, declared.name)
        if declared.name == "model":
            flat.update(dataclass_to_legacy_dict(value))
        elif is_dataclass(value):
            continue
        elif isinstance(value, Path):
            no_file = value == Path() and declared.name != "output_dir"
            flat[_legacy_name(declared.name)] = None if no_file else str(value)
        elif isinstance(value, tuple):
            flat[_legacy_name(declared.name)] = [str(item) if isinstance(item, Path) else item for item in value]
        else:
            flat[_legacy_name(declared.name)] = value
    return flat


def update_legacy_dict(cfg: MutableMapping[str, Any], obj: Any) -> None:
    """Write every value of a configuration that is not None into the legacy dictionary; other keys stay."""
    cfg.update({key: value for key, value in dataclass_to_legacy_dict(obj).items() if value is not None})


def _legacy_name(name: str) -> str:
    return KEY_MAPPINGS.get(name, name)
