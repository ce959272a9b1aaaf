"""Which format a file has, by its content, and reading and writing in any of them.

A package adds a format by an entry point of the group `ptychopinn.formats` (CONTRIBUTING.md); it is asked for files
that no format of this library knows.
"""

from __future__ import annotations

import importlib
import logging
import os
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from ptycho.core.files.atomic import RESULT_FILE
from ptycho.core.files.damage import check_regular, one_line, readable
from ptycho.core.formats.catalogue import FORMATS, SCAN_MAP, FormatEntry
from ptycho.core.plugins import FAILURES, plugins
from ptycho.core.scan.map_manifest import is_map
from ptycho.errors import ConfigError, DataError, MissingFileError

if TYPE_CHECKING:
    from ptycho.core.formats.record import ScanRecord
    from ptycho.core.scan.stream import Frames

__all__ = [
    "GROUP",
    "Format",
    "in_folder",
    "is_added",
    "is_hdf5",
    "known",
    "read",
    "recognise",
    "target",
    "write",
    "written",
]

logger = logging.getLogger(__name__)

GROUP = "ptychopinn.formats"

_MAGIC = {b"\x89HDF": "hdf5", b"PK\x03\x04": "npz", b"PK\x05\x06": "npz"}
_HDF5 = b"\x89HDF\r\n\x1a\n"
_SHOWN = 12


class Format(Protocol):
    """What a module of a format has; one that is only written has no `recognise` and `read`."""

    def recognise(self, file: Any) -> bool:
        """Whether an open h5py.File or NpzArchive is of this format, or where its container is "file", a path."""

    def read(self, path: Path) -> ScanRecord:
        """Read a file of this format."""

    def write(self, path: Path, record: ScanRecord) -> None:
        """Write a file of this format, whole or not at all."""


def recognise(path: Path) -> FormatEntry:
    """The format of a file by its content, its name does not count; or that of a scan map, which is a folder.

    Raises:
        MissingFileError: nothing there.
        DataError: one line with the formats that are read, and what was found.
    """
    path = Path(path)
    if not path.exists():
        raise MissingFileError(f"{path}: expected a file to read, found nothing there; correct the path")
    if is_map(path):
        return SCAN_MAP
    if path.is_dir():
        raise DataError(f"{path}: expected a file to read, found a folder; name the file in it")
    check_regular(path)
    container, head = _container(path)
    if container == "npz":
        return _recognise_npz(path)
    if container == "hdf5":
        return _recognise_hdf5(path)
    with readable(path, "a file of a known format"):
        entry = _first(path, "file")
    if entry is not None:
        return entry
    raise DataError(_unknown(path, f"a file that begins with {head!r}" if head else "an empty file"))


def in_folder(path: Path) -> Path:
    """The file that a path stands for: of the folder of a run its result; anything else, a scan map too, is itself."""
    return path / RESULT_FILE if path.is_dir() and not is_map(path) else path


def known(path: Path) -> FormatEntry | None:
    """The format of a file, None where none is known.

    Raises:
        MissingFileError: nothing there, or not what the file links to.
    """
    try:
        return recognise(path)
    except DataError:
        return None


def read(path: Path, fitting: bool = True) -> ScanRecord:
    """Read a file in whichever format it has.

    Args:
        path: the file.
        fitting: whether there have to be as many positions as patterns, and a probe of their size.

    Raises:
        MissingFileError, DataError: one line that names the file.
    """
    from ptycho.core.formats.record import check_record

    path = Path(path)
    entry = recognise(path)
    expected = f"a whole {entry.title} file"
    with readable(path, expected):
        record = _module(entry).read(path)
        if fitting:
            check_record(record, str(path))
    stacks: dict[str, Any] = {name: getattr(record, name) for name in ("patterns", "true_patches")}
    for name, found in stacks.items():
        stacks[name] = None if found is None else _guarded(found, path, expected)
    return replace(record, **stacks)


def target(path: Path, name: str | None = None) -> FormatEntry:
    """The format to write: by name, else by the suffix of the file.

    Raises:
        ConfigError: a suffix that none or several formats have, or a format that is only read.
    """
    if name is not None:
        return _writable(name)
    suffix = Path(path).suffix.lower()
    fitting = [entry for entry in FORMATS if entry.writes and suffix in entry.suffixes]
    fitting = fitting or [entry for entry in _added() if entry.writes and suffix in entry.suffixes]
    if not fitting:
        known = ", ".join(sorted({known for entry in _all() if entry.writes for known in entry.suffixes}))
        raise ConfigError(
            f"{path}: expected a suffix of a known format ({known}), found {suffix!r}; or say --to FORMAT"
        )
    if len(fitting) > 1 and fitting[0].name != "scan":
        names = ", ".join(entry.name for entry in fitting)
        raise ConfigError(f"{path}: expected --to with {suffix}, which several formats have; one of {names}")
    return fitting[0]


def write(path: Path, record: ScanRecord, name: str | None = None) -> FormatEntry:
    """Write a record in the format that `target` finds, and return that.

    Raises:
        ConfigError: no such format.
        DataError: the record lacks what the format needs; the line names the field and what gives it.
        OutputError: a place that cannot be written.
    """
    entry = target(path, name)
    if record.near_field and entry.reads and entry.name != "scan":
        raise DataError(
            f"{path}: expected patterns of the far field, found near field, which {entry.title} would not say; write a "
            "scan NPZ"
        )
    _module(entry).write(Path(path), record)
    return entry


def written(path: Path, entry: FormatEntry) -> tuple[Path, ...]:
    """The files that `write` makes of `path` in a format: itself, or for images those of amplitude and phase."""
    if entry.container != "tiff":
        return (path,)
    from ptycho.core.formats.tiff import tiff_paths

    return tiff_paths(path)


def _writable(name: str) -> FormatEntry:
    found = next((entry for entry in _all() if entry.writes and entry.name == name), None)
    if found is None:
        known = ", ".join(entry.name for entry in _all() if entry.writes)
        raise ConfigError(f"--to: expected one of {known}, found {name!r}")
    return found


def is_added(path: Path) -> bool:
    """Whether a file has a format of another package."""
    added = _added()
    try:
        return bool(added) and recognise(path) in added
    except (DataError, OSError):
        return False


def _guarded(frames: Frames, path: Path, expected: str) -> Frames:
    """Frames of a file that are read later: what a damaged one raises then is one line, too."""

    def load(indices: Any) -> Any:
        with readable(path, expected):
            return frames.read(indices)

    return replace(frames, read=load)


def is_hdf5(path: Path) -> bool:
    """Whether a file is HDF5, also behind a userblock: its signature lies at 0, 512, 1024, 2048, .. bytes."""
    try:
        with path.open("rb") as stream:
            offset, size = 0, stream.seek(0, os.SEEK_END)
            while offset < size:
                stream.seek(offset)
                if stream.read(len(_HDF5)) == _HDF5:
                    return True
                offset = max(512, 2 * offset)
    except OSError:
        pass  # what is wrong with it is said where it is opened
    return False


def _container(path: Path) -> tuple[str | None, bytes]:
    """What holds the content of a file, None for a file of its own kind, and its first bytes."""
    with path.open("rb") as stream:
        head = stream.read(4)
    container = _MAGIC.get(head)
    return "hdf5" if container is None and is_hdf5(path) else container, head


def _recognise_npz(path: Path) -> FormatEntry:
    from ptycho.core.files.npz import open_npz

    with readable(path, "a whole NPZ archive"), open_npz(path) as file:
        entry, names = _first(file, "npz"), list(file)
    if entry is None:
        raise DataError(_unknown(path, f"an NPZ archive with {_listed(names)}"))
    return entry


def _recognise_hdf5(path: Path) -> FormatEntry:
    from ptycho.core.files.hdf5_values import open_hdf5

    with readable(path, "a whole HDF5 file"), open_hdf5(path) as file:
        entry = _first(file, "hdf5")
        names = _names(file) if entry is None else []
        if file.swmr_mode:
            logger.warning("%s: is being written in SWMR mode; it is read as far as it is there now", path)
    if entry is None:
        raise DataError(_unknown(path, f"an HDF5 file with {_listed(names)}"))
    return entry


def _first(file: Any, container: str) -> FormatEntry | None:
    fitting = (entry for entry in _all() if entry.container == container and entry.reads)
    return next((entry for entry in fitting if _is_of(entry, file)), None)


def _is_of(entry: FormatEntry, file: Any) -> bool:
    """What the module of a format says of a file; one of another package that fails is left out with one line."""
    if entry in FORMATS:
        return _module(entry).recognise(file)
    try:
        return bool(_module(entry).recognise(file))
    except FAILURES as error:
        fact = " ".join(f"{type(error).__name__}: {error}".split())
        logger.warning("format %s of %s is left out: %s; update or remove it", entry.name, entry.module, fact)
        return False


def _added() -> tuple[FormatEntry, ...]:
    """The formats of other packages."""
    return tuple(plugins(GROUP, FormatEntry, tuple(entry.name for entry in FORMATS)).values())


def _all() -> Iterator[FormatEntry]:
    """Every format, those of other packages last, and only where somebody gets to them."""
    yield from FORMATS
    yield from _added()


def _names(file: Any) -> list[str]:
    """The first names of a tree, groups with what is directly in them."""
    import h5py

    names: list[str] = []
    for name in file:
        own = file.get(name, getclass=True, getlink=True) is h5py.HardLink
        inner: Any = file.get(name) if own and len(names) <= _SHOWN else None
        names += [f"{name}/{part}" for part in islice(inner, _SHOWN + 1)] if isinstance(inner, h5py.Group) else [name]
    return names


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return (", ".join(names[:_SHOWN]) + more) or "nothing in it"


def _unknown(path: Path, found: str) -> str:
    known = ", ".join(entry.title for entry in _all() if entry.reads)
    return one_line(f"{path}: expected one of {known}, found {found}; convert it with its own program first")


def _module(entry: FormatEntry) -> Format:
    return cast(Format, importlib.import_module(entry.module))
