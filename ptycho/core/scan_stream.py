"""Scans larger than memory: patterns read from the file and written to another, block by block."""

from __future__ import annotations

import json
import shutil
import struct
import tempfile
import zipfile
from collections import ChainMap
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import DTypeLike, NDArray

from ptycho.core.atomic import atomic_path
from ptycho.core.scaling import Units, decide_units, frame_blocks
from ptycho.core.scan_checks import ScanFile, check_shapes
from ptycho.core.scan_file import PATTERN_KEYS, parse_scan, scan_archive
from ptycho.errors import DataError

__all__ = ["Frames", "ScanStream", "open_stream", "stand_in", "stream_units", "write_stream"]

Array = NDArray[Any]

_SAMPLE = 32
"""Frames by which units are decided, as in `decide_units`."""
_LOCAL_HEADER = struct.Struct("<4s22xHH")
"""What precedes a member of a ZIP archive: signature, ..., length of the name, length of the extra field."""


@dataclass(frozen=True)
class Frames:
    """n frames of (N, N) pixels that are made when they are asked for."""

    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    read: Callable[[NDArray[np.intp]], Array]
    """Indices (b,) -> (b, N, N)."""

    @classmethod
    def of(cls, array: Array) -> Frames:
        """Frames of an array or memory map (n, N, N)."""
        n, height, width = array.shape
        return cls((n, height, width), array.dtype, lambda indices: np.asarray(array[indices]))

    def __len__(self) -> int:
        return self.shape[0]

    def blocks(self) -> Iterator[tuple[slice, Array]]:
        """All frames in order, some MB at a time, with the slice they are."""
        for block in frame_blocks(len(self), self.shape[1] * self.shape[2]):
            yield block, self.read(np.arange(block.start, block.stop))

    def take(self, indices: NDArray[np.intp]) -> Frames:
        """Some of the frames, in the order of `indices`."""
        return Frames((len(indices), *self.shape[1:]), self.dtype, lambda chosen: self.read(indices[chosen]))

    def map(self, function: Callable[[Array], Array], side: int, dtype: DTypeLike) -> Frames:
        """Every block of frames through `function`, which gives (b, side, side) of this type."""
        made = np.dtype(dtype)
        return Frames((len(self), side, side), made, lambda indices: function(self.read(indices)).astype(made))


@dataclass(frozen=True)
class ScanStream:
    """A scan whose frames stay in the file."""

    frames: Frames
    """Patterns, amplitude or counts as in the file."""
    patches: Frames | None
    """The true patches `Y`, where the file has them."""
    fields: ScanFile
    """Everything else; `diff3d` and `Y` are stand-ins of the right shape that hold zeros and no memory."""

    @classmethod
    def of(cls, scan: ScanFile) -> ScanStream:
        """A scan in memory as a stream."""
        patches = None if scan.Y is None else Frames.of(scan.Y)
        return cls.joined(Frames.of(scan.diff3d), patches, scan)

    @classmethod
    def joined(cls, frames: Frames, patches: Frames | None, fields: ScanFile) -> ScanStream:
        """Frames and fields as one scan, the stand-ins made to fit."""
        truth = None if patches is None else stand_in(patches.shape, patches.dtype)
        return cls(frames, patches, replace(fields, diff3d=stand_in(frames.shape, frames.dtype), Y=truth))

    def scan(self) -> ScanFile:
        """The scan in memory."""
        everything = np.arange(len(self.frames))
        truth = None if self.patches is None else self.patches.read(everything)
        return replace(self.fields, diff3d=self.frames.read(everything), Y=truth)


def stand_in(shape: tuple[int, ...], dtype: DTypeLike) -> Array:
    """Zeros of a shape that take no memory."""
    return np.broadcast_to(np.zeros((), dtype), shape)


def stream_units(stream: ScanStream) -> Units:
    """What the patterns of a scan hold: as declared, else by the rules of `decide_units` on a sample of them.

    Raises:
        DataError: no rule decides; it names --units.
    """
    frames, mask = stream.frames, stream.fields.mask
    chosen = np.unique(np.linspace(0, len(frames) - 1, min(len(frames), _SAMPLE)).round().astype(np.intp))
    valid = mask[chosen] if mask is not None and mask.ndim == 3 else mask
    return decide_units(frames.read(chosen), stream.fields.probeGuess, stream.fields.units, "error", valid).units


@contextmanager
def open_stream(path: Path | str, units: str | None = None) -> Iterator[ScanStream]:
    """Open a scan file whose frames are read when they are asked for, while the block runs.

    Members that are stored plainly are memory-mapped; compressed ones are unpacked to a temporary file first.
    Shapes are checked, values are not.

    Args:
        path: NPZ file, any layout that `read_scan` reads and any pattern size.
        units: 'amplitude' or 'counts', instead of what the file says or leaves open.

    Raises:
        MissingFileError, DataError: as `read_scan`.
    """
    with ExitStack() as kept:
        with scan_archive(path) as archive:
            patterns = next((key for key in PATTERN_KEYS if key in archive), None)
            found = [key for key in (patterns, "Y") if key is not None and key in archive]
            n = next((np.size(archive[key]) for key in ("xcoords", "xcoords_start") if key in archive), 0)
            stacks = {key: _frames_first(_map_member(Path(path), archive, key, kept), n) for key in found}
            held = {key: stand_in(stack.shape, stack.dtype) for key, stack in stacks.items()}
            fields = parse_scan(ChainMap(held, archive), units)  # type: ignore[arg-type]  # it is only read
            check_shapes(fields)
        assert patterns is not None  # or parse_scan had raised
        yield ScanStream(Frames.of(stacks[patterns]), Frames.of(stacks["Y"]) if "Y" in stacks else None, fields)


def write_stream(path: Path | str, stream: ScanStream, compress: bool = False) -> Path:
    """Write a scan file block by block, whole or not at all, and return its path.

    Args:
        path: NPZ file.
        stream: what to write.
        compress: deflate the arrays: smaller, slower, and no longer memory-mapped when it is read.

    Raises:
        DataError: shapes that do not fit together.
        OutputError: a place that cannot be written.
    """
    check_shapes(stream.fields)
    kind = zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED
    frames = {"diff3d": stream.frames, "Y": stream.patches}
    others = {key: value for key, value in vars(stream.fields).items() if key not in frames}
    metadata = others.pop("metadata")
    if metadata is not None:
        others["_metadata"] = np.array(json.dumps(metadata))
    with atomic_path(Path(path)) as temporary, zipfile.ZipFile(temporary, "w", kind) as archive:
        for key, value in others.items():
            if value is not None:
                with archive.open(f"{key}.npy", "w", force_zip64=True) as member:
                    npy.write_array(member, np.asarray(value), allow_pickle=False)
        for key, stack in frames.items():
            if stack is not None:
                with archive.open(f"{key}.npy", "w", force_zip64=True) as member:
                    _write_frames(member, stack)
    return Path(path)


def _write_frames(member: IO[bytes], frames: Frames) -> None:
    header = {"descr": npy.dtype_to_descr(frames.dtype), "fortran_order": False, "shape": frames.shape}
    npy.write_array_header_1_0(member, header)
    for _, block in frames.blocks():
        member.write(np.ascontiguousarray(block).data)


def _map_member(path: Path, archive: np.lib.npyio.NpzFile, key: str, kept: ExitStack) -> Array:
    """The array of an archive as a memory map of the file itself, or of an unpacked copy."""
    assert archive.zip is not None
    name = key if key in archive.zip.namelist() else f"{key}.npy"
    info = archive.zip.getinfo(name)
    if info.compress_type == zipfile.ZIP_STORED:
        stream: IO[bytes] = kept.enter_context(path.open("rb"))
        stream.seek(info.header_offset)
        _, name_length, extra_length = _LOCAL_HEADER.unpack(stream.read(_LOCAL_HEADER.size))
        stream.seek(name_length + extra_length, 1)
    else:
        stream = kept.enter_context(tempfile.TemporaryFile())  # noqa: SIM115  # the stack closes it
        with archive.zip.open(info) as member:
            shutil.copyfileobj(member, stream, 1 << 22)
        stream.seek(0)
    try:
        version = npy.read_magic(stream)
        read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, fortran, dtype = read_header(stream)
        if dtype.hasobject:
            raise ValueError("it holds Python objects")
        order = "F" if fortran else "C"
        return np.memmap(stream, dtype, "r", stream.tell(), shape, order)  # type: ignore[call-overload]
    except ValueError as error:
        raise DataError(f"{key}: expected a plain array, found one that is damaged or pickled ({error})") from error


def _frames_first(stack: Array, n: int) -> Array:
    """A view (n, H, W) of the legacy layouts (n, H, W, 1) and (H, W, n), told by the number of positions."""
    if stack.ndim == 4 and stack.shape[-1] == 1:
        stack = stack[..., 0]
    if stack.ndim == 3 and len(stack) != n and stack.shape[-1] == n:
        return np.moveaxis(stack, -1, 0)
    return stack
