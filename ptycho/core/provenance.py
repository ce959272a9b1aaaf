"""What a result tells about itself: the geometry of its scan, and where it is from."""

from __future__ import annotations

import platform
import sys
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ptycho.core.archive import to_json
from ptycho.core.files.digest import file_digest
from ptycho.core.invocation import command
from ptycho.core.scan.identity import ScanIdentity
from ptycho.core.units import object_pixel_size_m
from ptycho.errors import ConfigError

__all__ = [
    "GEOMETRY",
    "file_sha256",
    "known_metadata",
    "provenance",
    "scan_source",
    "version_of",
    "with_geometry_of",
]

GEOMETRY = ("energy_eV", "particle", "distance_m", "detector_pixel_m", "object_pixel_m")
"""Entries of the metadata that tell lengths."""
_KNOWN = ("name", *GEOMETRY, "near_field", "nphotons")
_LIBRARIES = ("numpy", "scipy", "h5py", "torch", "lightning", "tensorflow", "keras")
_HASHED_BYTES = 1 << 30
"""Files up to 1 GiB are hashed as a whole; a larger scan is known by its content alone."""


def known_metadata(metadata: Mapping[str, Any] | None, N: int, name: str) -> dict[str, Any]:
    """What a result keeps of the metadata of its scan: `name`, `nphotons` and the `GEOMETRY`, as far as it is known.

    Where energy, distance and detector pixel are known, so is the object pixel (`object_pixel_size_m`).

    Args:
        metadata: of a `ptycho.raw_data.RawData`.
        N: side of the patterns, pixels.
        name: of the scan, where the metadata have none.
    """
    found = {key: metadata[key] for key in _KNOWN if metadata and metadata.get(key) is not None}
    if "object_pixel_m" not in found and all(found.get(key) for key in ("energy_eV", "distance_m", "detector_pixel_m")):
        energy, distance, pixel = (float(found[key]) for key in ("energy_eV", "distance_m", "detector_pixel_m"))
        found["object_pixel_m"] = object_pixel_size_m(energy, distance, pixel, N, found.get("particle", "photon"))
    return {"name": name, **found}


def with_geometry_of(metadata: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """The metadata with the geometry of another scan of the same set-up, where they have none of their own."""
    if any(metadata.get(key) is not None for key in GEOMETRY):
        return dict(metadata)
    return {**metadata, **{key: other[key] for key in GEOMETRY if other.get(key) is not None}}


def scan_source(path: Path | None, identity: ScanIdentity) -> dict[str, Any]:
    """A scan in a provenance block: its name, the sha256 of its file (None without one, and above 1 GiB) and of its
    content (`ScanIdentity`).
    """
    return {
        "name": identity.name,
        "sha256": None if path is None else file_sha256(path),
        "content_sha256": identity.sha256,
    }


def file_sha256(path: Path) -> str | None:
    """The hexadecimal sha256 of a file of at most 1 GiB; None for a larger one, a folder, and one that is gone."""
    try:
        if not path.is_file() or path.stat().st_size > _HASHED_BYTES:
            return None
        return file_digest(path)
    except OSError:
        return None


def provenance(
    *,
    scan: Mapping[str, Any],
    settings: Mapping[str, Any],
    seeds: Mapping[str, int | None],
    model: Mapping[str, Any] | None = None,
    device: str | None = None,
) -> dict[str, Any]:
    """Where a result is from, as plain JSON values.

    Args:
        scan: of `scan_source`.
        settings: as used; what JSON cannot hold is told in words.
        seeds: by name.
        model: the network, None without one.
        device: that computed it; None where that is not known.

    Returns:
        `version` of this library, `command` as shell text, `settings`, `seeds`, `model`, `scan`, `date` (ISO 8601, UTC,
        seconds), `device`, `platform` and `libraries` (the versions of those that were loaded).
    """
    return {
        "version": version_of("ptycho"),
        "command": command(),
        "settings": _plain(settings),
        "seeds": _plain(seeds),
        "model": None if model is None else _plain(model),
        "scan": _plain(scan),
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "device": device,
        "platform": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "libraries": {name: version_of(name) for name in _LIBRARIES if name in sys.modules},
    }


def version_of(name: str) -> str | None:
    """Of a package that is loaded."""
    found = getattr(sys.modules[name], "__version__", None)
    return None if found is None else str(found)


def _plain(value: Any) -> Any:
    """The value as JSON holds it; the entries that it cannot hold in words."""
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    try:
        return to_json(value)
    except ConfigError:
        shape = getattr(value, "shape", None)
        return repr(value) if shape is None else f"{type(value).__name__} of shape {tuple(shape)}"
