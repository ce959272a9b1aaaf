"""A scan of any format: as a stream, in memory, or with its frames on disk."""

from __future__ import annotations

import logging
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from ptycho.core.files.damage import check_regular, readable
from ptycho.core.files.scratch import scratch_array
from ptycho.core.formats import registry
from ptycho.core.formats.record import ScanRecord
from ptycho.core.formats.scan_npz import stream_of
from ptycho.core.scan.detector_values import counts_of_stream
from ptycho.core.scan.map_manifest import is_map
from ptycho.core.scan.map_read import map_beside, open_map
from ptycho.core.scan.npz_file import read_scan
from ptycho.core.scan.npz_mapped import mapped_scan, pattern_member
from ptycho.core.scan.scan import ScanFile, check_shapes, check_values
from ptycho.core.scan.stream import Frames, ScanStream
from ptycho.errors import ConfigError, DataError

__all__ = ["MEMORY_MAP_BYTES", "MemoryMap", "is_npz", "load_record", "load_scan", "open_record", "open_scan"]

logger = logging.getLogger(__name__)

MemoryMap = Literal["auto", "always", "never"]
"""Whether frames stay on disk: where the patterns are larger than MEMORY_MAP_BYTES, in any case, in no case."""

MEMORY_MAP_BYTES = 1 << 30
"""With 'auto', patterns above 1 GiB stay on disk."""


_PARTS = {"patterns": "patterns", "xcoords": "positions"}


def open_scan(path: Path | str, units: str | None = None, fitting: bool = True) -> ScanStream:
    """A scan whose frames are read when they are asked for; shapes are checked, values are not.

    Args:
        path: NPZ file, scan map, or a file of another format that has patterns and positions; without a probe the
            scan has none.
        units: 'amplitude' or 'counts', instead of what the file says or leaves open.
        fitting: whether there have to be as many positions as patterns, and a probe of their size.

    Raises:
        MissingFileError, DataError: one line that names the file.
    """
    path = Path(path)
    if is_map(path):
        return ScanStream.of(open_map(path, units))
    if is_npz(path):
        return ScanStream.of(mapped_scan(path, units, fitting=fitting))
    return open_record(registry.read(path, fitting), path, units, fitting)


def open_record(record: ScanRecord, path: Path | str, units: str | None = None, fitting: bool = True) -> ScanStream:
    """A scan that was read, or put together, as `open_scan` gives it.

    Args:
        record: patterns, positions and whatever else is known.
        path: its file, or what stands for it in errors.
        units, fitting: as in `open_scan`.

    Raises:
        DataError: one line that names the file.
    """
    missing = [what for name, what in _PARTS.items() if getattr(record, name) is None]
    if missing:
        fact = f"expected patterns and positions, found no {' and no '.join(missing)}"
        raise DataError(f"{path}: {fact}; join it with the file that has them: ptycho convert IN OTHER scan.npz")
    with readable(Path(path), "a scan"):
        stream = stream_of(record if units is None else replace(record, units=_known(units)))
        check_shapes(stream.fields, fitting)
        return counts_of_stream(stream)


def is_npz(path: Path) -> bool:
    """Whether a path is to be read as an NPZ file, which also says what is wrong where nothing is there."""
    if path.exists() and not path.is_dir():
        check_regular(path)
    found = not path.exists() or zipfile.is_zipfile(path) or path.suffix == ".npz"
    return found and not registry.is_added(path)


def load_scan(path: Path, units: str | None = None, memory_map: MemoryMap = "auto") -> ScanFile:
    """A checked scan, its frames in memory or, as memory maps, on disk.

    A scan map beside the file is used instead of it where frames may stay on disk. Frames that cannot be mapped where
    they lie (compressed, or in chunks) go to a temporary file without a name.

    Args:
        path: as in `open_scan`.
        units: as in `open_scan`.
        memory_map: whether frames stay on disk (`MemoryMap`).

    Raises:
        ConfigError: another `memory_map`.
        MissingFileError, DataError: one line with the file, what was expected, what was found and what to do; also for
            a scan map that is older than its scan.
        OutputError: no room for the temporary file.
    """
    _check_memory_map(memory_map)
    path = Path(path)
    folder = path if is_map(path) else None
    if folder is None and memory_map != "never":
        folder = map_beside(path)
    if folder is None and _reads_as_npz(path):
        return _load_npz(path, units, memory_map)
    with readable(path, "a scan"):
        if folder is None:
            stream = open_scan(path, units)
        else:
            stream = ScanStream.of(open_map(folder, units, None if folder == path else path))
        return _checked(stream, path, memory_map)


def _reads_as_npz(path: Path) -> bool:
    """Whether a file is read as an NPZ scan, also in order to say what is wrong with a file of no kind."""
    try:
        return is_npz(path) or (registry.known(path) is None and not registry.is_hdf5(path))
    except OSError:
        return True


def load_record(
    record: ScanRecord, path: Path | str, units: str | None = None, memory_map: MemoryMap = "auto"
) -> ScanFile:
    """A scan that was read, or put together, as `load_scan` gives it; arguments as of `open_record`.

    Raises:
        ConfigError, DataError, OutputError: as `load_scan`.
    """
    _check_memory_map(memory_map)
    with readable(Path(path), "a scan"):
        return _checked(open_record(record, path, units), Path(path), memory_map)


def _checked(stream: ScanStream, path: Path, memory_map: MemoryMap) -> ScanFile:
    scan = _held(stream, path, _on_disk(memory_map, stream.frames.nbytes))
    check_values(scan)
    return scan


def _check_memory_map(memory_map: str) -> None:
    if memory_map not in get_args(MemoryMap):
        known = ", ".join(get_args(MemoryMap))
        raise ConfigError(f"memory_map={memory_map!r}: expected one of {known}; correct it")


def _load_npz(path: Path, units: str | None, memory_map: MemoryMap) -> ScanFile:
    member = None if memory_map == "never" else pattern_member(path)
    if member is None or not _on_disk(memory_map, member.file_size):
        return read_scan(path, units)
    scan = mapped_scan(path, units, checked=True)
    if member.compress_type != zipfile.ZIP_STORED:
        _advise(path, "compressed, and unpacked to a temporary file", member.file_size)
    elif scan.diff3d.strides[0] < scan.diff3d.strides[-1]:
        _advise(path, "stored pixel by pixel, so that each needs the whole file", member.file_size)
    return scan


def _held(stream: ScanStream, path: Path, on_disk: bool) -> ScanFile:
    """The scan with its frames as arrays: in memory, or memory maps."""
    if on_disk and stream.frames.array is None:
        _advise(path, "compressed or in chunks, and copied to a temporary file", stream.frames.nbytes)
    truth, mask = stream.patches, stream.fields.mask
    return replace(
        stream.fields,
        diff3d=_stack(stream.frames, on_disk),
        Y=None if truth is None else _stack(truth, on_disk),
        mask=mask if mask is None or on_disk else np.array(mask),
    )


def _stack(frames: Frames, on_disk: bool) -> NDArray[Any]:
    if not on_disk:
        return frames.whole()
    if frames.array is not None:
        return frames.array
    return frames.into(scratch_array(frames.shape, frames.dtype, budget_bytes=0))


def _on_disk(memory_map: MemoryMap, pattern_bytes: int) -> bool:
    return memory_map == "always" or (memory_map == "auto" and pattern_bytes > MEMORY_MAP_BYTES)


def _advise(path: Path, how: str, size: int) -> None:
    text = "%s: its patterns (%.2g GiB) are %s, each time anew; `ptycho dataset map %s` does it once for all"
    logger.warning(text, path, size / 2**30, how, path)


def _known(units: str) -> Literal["amplitude", "counts"]:
    if units not in ("amplitude", "counts"):
        raise DataError(f"units: expected 'amplitude' or 'counts', found {units!r}; correct it")
    return units  # type: ignore[return-value]
