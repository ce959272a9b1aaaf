"""A scan map, made from any scan and removed again (specs/data_contracts.md, section 5)."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.core.files.atomic import atomic_path
from ptycho.core.files.npz import write_arrays
from ptycho.core.files.temporaries import remove_left, temporary_path
from ptycho.core.formats import registry, scan_npz
from ptycho.core.formats.opening import open_scan
from ptycho.core.interrupts import uninterrupted
from ptycho.core.scan.map_manifest import (
    MANIFEST,
    Layout,
    Manifest,
    Source,
    is_map,
    manifest_content,
    map_folder,
)
from ptycho.core.scan.map_read import FIELDS, STACKS, open_map
from ptycho.core.scan.stream import Frames, ScanStream, field_arrays, write_frames
from ptycho.errors import DataError, MissingFileError, OutputError

__all__ = ["make_map", "remove_map"]

logger = logging.getLogger(__name__)


_TOLD_BYTES = 1 << 30
"""Stacks from this size on are reported on while they are written."""


def make_map(source: Path | str, folder: Path | str | None = None, renew: bool = False) -> Path:
    """Make the map of a scan, block by block, whole or not at all, and return its folder.

    A map that is there and fresh is left as it is.

    Args:
        source: scan of any format that is read; values are not checked, which reading does.
        folder: of the map; None is `<scan file name>.map` beside the scan.
        renew: make it again, whatever is in the map that is there.

    Raises:
        MissingFileError, DataError: no scan; or a map that is there is stale or damaged.
        OutputError: no room, a place that cannot be written, or a folder there that is no map.
    """
    source = Path(source)
    folder = map_folder(source) if folder is None else Path(folder)
    if is_map(source):
        raise DataError(f"{source}: expected a scan file to make a map of, found a map; name its scan")
    if not source.is_file():
        raise MissingFileError(f"{source}: expected a scan file, found none there; correct the path")
    if folder.exists() or folder.is_symlink():
        if not is_map(folder):
            fact = "expected nothing there or a scan map, found something else"
            raise OutputError(f"cannot write {folder}: {fact}; choose another folder")
        if not renew:
            open_map(folder, source=source)
            logger.info("%s: already there and fresh", folder)
            return folder
        _check_removable(folder)
    before, stream = source.stat(), open_scan(source)
    with _new_folder(folder) as temporary:
        _check_room(folder, stream)
        _write(temporary, stream, source, folder.name)
        now = Manifest.read(temporary).source
        if (now.size, now.mtime_ns) != (before.st_size, before.st_mtime_ns):
            raise DataError(f"{source}: expected a file that stays as it is, found it changed meanwhile; try again")
    logger.info("%s: %d patterns of %d x %d, %s", folder, *stream.frames.shape, stream.frames.dtype)
    return folder


def remove_map(folder: Path | str) -> None:
    """Remove a map: its members, its manifest and the folder, and nothing that is not the map's.

    Raises:
        DataError: no map, or a folder with something else in it; nothing was removed then.
    """
    folder = Path(folder)
    _check_removable(folder)
    _delete(folder)


def _write(folder: Path, stream: ScanStream, source: Path, title: str) -> None:
    """Write all members and the manifest."""
    stacks = _stacks(stream)
    for name, frames in stacks.items():
        with atomic_path(folder / f"{name}.npy") as path, path.open("wb") as file:
            write_frames(file, _reported(frames, f"{title}: {name}"))
    with atomic_path(folder / FIELDS) as path, path.open("wb") as file:
        write_arrays(file, _fields(stream, source))
    members = {name: Layout(frames.shape, frames.dtype.str) for name, frames in stacks.items()}
    Manifest(Source.of(source), members, stream.fields.units).write(folder)


def _fields(stream: ScanStream, source: Path) -> dict[str, Any]:
    """Arrays of `fields.npz`; what an older NPZ scan has of the geometry beside its metadata is put into that."""
    fields = stream.fields
    if registry.recognise(source).name == "scan":
        metadata = scan_npz.geometry_numbers(source) | (fields.metadata or {})
        fields = replace(fields, metadata=metadata or None)
    arrays = field_arrays(replace(fields, units=None))
    return {key: array for key, array in arrays.items() if key != "mask" or array.ndim == 2}


def _stacks(stream: ScanStream) -> dict[str, Frames]:
    """Members with a frame per pattern, in the byte order of this machine."""
    mask = stream.fields.mask
    found = {
        "diffraction": stream.frames,
        "Y": stream.patches,
        "mask": None if mask is None or mask.ndim < 3 else Frames.of(mask),
    }
    return {name: _native(frames) for name, frames in found.items() if frames is not None}


def _native(frames: Frames) -> Frames:
    if frames.dtype.isnative:
        return frames
    return frames.map(lambda block: block, None, frames.dtype.newbyteorder("="))


def _reported(frames: Frames, name: str) -> Frames:
    """The same frames; when they are many, each tenth is logged as it is read."""
    if frames.nbytes < _TOLD_BYTES:
        return frames

    def read(indices: NDArray[np.intp]) -> NDArray[Any]:
        tenths = 10 * (indices[-1] + 1) // len(frames)
        if tenths > 10 * indices[0] // len(frames):
            logger.info("%s: %d %% of %.1f GiB", name, 10 * tenths, frames.nbytes / 2**30)
        return frames.read(indices)

    return Frames(frames.shape, frames.dtype, read)


@contextmanager
def _new_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder beside `folder`; when the block ends well it becomes `folder`, else it is removed.

    A map that was there before stays until then.
    """
    remove_left(folder)
    temporary = temporary_path(folder)
    try:
        temporary.mkdir()
    except OSError as error:
        fact = f"expected a writable folder {folder.parent}, found: {error.strerror}"
        raise OutputError(f"cannot write {folder}: {fact}; choose another place") from error
    try:
        yield temporary
        with uninterrupted():
            _take_place(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _take_place(made: Path, folder: Path) -> None:
    """Have a folder become `folder`, and the map that was there go; it is there again where that fails."""
    if not folder.exists():
        made.rename(folder)
        return
    old = temporary_path(folder)
    try:
        folder.rename(old)
        made.rename(folder)
    finally:
        if old.exists() and not folder.exists():
            old.rename(folder)
        elif old.exists():
            _delete(old)


def _check_room(folder: Path, stream: ScanStream) -> None:
    needed = sum(frames.nbytes for frames in _stacks(stream).values())
    free = shutil.disk_usage(folder.parent).free
    if needed > free:
        sizes = f"{needed / 2**30:.1f} GiB, found {free / 2**30:.1f} GiB free"
        raise OutputError(f"cannot write {folder}: expected room for {sizes}; free some, or choose another disk")


def _check_removable(folder: Path) -> None:
    if folder.is_symlink():
        raise DataError(f"{folder}: expected the folder of a scan map, found a link to one; name the folder itself")
    if not is_map(folder):
        raise DataError(f"{folder}: expected a scan map, a folder with {MANIFEST}, found none; nothing was removed")
    manifest_content(folder)
    others = sorted(member.name for member in folder.iterdir() if member.name not in _NAMES or not member.is_file())
    if others:
        fact = f"found {', '.join(others[:3])} as well"
        raise DataError(f"{folder}: expected only the members of a scan map, {fact}; move that away first")


_NAMES = {MANIFEST, FIELDS, *(f"{name}.npy" for name in STACKS)}


def _delete(folder: Path) -> None:
    """Remove the members of a map, the manifest last, so that what an interrupt leaves can still be removed."""
    for name in sorted(_NAMES, key=lambda name: name == MANIFEST):
        (folder / name).unlink(missing_ok=True)
    folder.rmdir()
