"""Scans larger than memory: patterns read from the file and written to another, block by block."""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import DTypeLike, NDArray

from ptycho.core.files.atomic import atomic_path
from ptycho.core.scaling import Units, frame_blocks
from ptycho.core.scan.scan import ScanFile, check_shapes
from ptycho.core.unit_decision import decide_units

__all__ = [
    "Frames",
    "ScanStream",
    "field_arrays",
    "stand_in",
    "stream_units",
    "write_frames",
    "write_stream",
]

Array = NDArray[Any]
Sides = tuple[int, int]

_SAMPLE = 32
"""Frames by which units are decided, as in `decide_units`."""


@dataclass(frozen=True)
class Frames:
    """n frames of (N, N), or (H, W), pixels that are made when they are asked for."""

    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    read: Callable[[NDArray[np.intp]], Array]
    """Indices (b,) -> (b, N, N)."""
    array: Array | None = field(default=None, repr=False, compare=False)
    """What they are read from, where that is one array or memory map."""

    @classmethod
    def of(cls, array: Array) -> Frames:
        """Frames of an array or memory map (n, N, N)."""
        n, height, width = array.shape
        return cls((n, height, width), array.dtype, lambda indices: np.asarray(array[indices]), array)

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def nbytes(self) -> int:
        """Size of all frames in memory."""
        return math.prod(self.shape) * self.dtype.itemsize

    def blocks(self) -> Iterator[tuple[slice, Array]]:
        """All frames in order, some MB at a time, with the slice they are."""
        for block in frame_blocks(len(self), self.shape[1] * self.shape[2]):
            yield block, self.read(np.arange(block.start, block.stop))

    def into(self, room: Array) -> Array:
        """All frames written block by block to `room` (n, N, N), which is returned."""
        for block, values in self.blocks():
            room[block] = values
        return room

    def whole(self) -> Array:
        """All frames in memory."""
        return self.into(np.empty(self.shape, self.dtype))

    def take(self, indices: NDArray[np.intp]) -> Frames:
        """Some of the frames, in the order of `indices`."""
        return Frames((len(indices), *self.shape[1:]), self.dtype, lambda chosen: self.read(indices[chosen]))

    def map(self, function: Callable[[Array], Array], side: int | Sides | None, dtype: DTypeLike) -> Frames:
        """Every block of frames through `function`, which gives (b, *side), or keeps the size, of this type."""
        made = np.dtype(dtype)
        height, width = (side, side) if isinstance(side, int) else side or self.shape[1:]
        return Frames((len(self), height, width), made, lambda indices: function(self.read(indices)).astype(made))


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
        truth = None if self.patches is None else self.patches.whole()
        return replace(self.fields, diff3d=self.frames.whole(), Y=truth)


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
    with atomic_path(Path(path)) as temporary, zipfile.ZipFile(temporary, "w", kind) as archive:
        for key, value in field_arrays(stream.fields).items():
            with archive.open(f"{key}.npy", "w", force_zip64=True) as member:
                npy.write_array(member, value, allow_pickle=False)
        for key, stack in frames.items():
            if stack is not None:
                with archive.open(f"{key}.npy", "w", force_zip64=True) as member:
                    write_frames(member, stack)
    return Path(path)


def field_arrays(fields: ScanFile) -> dict[str, Array]:
    """Everything of a scan but patterns and `Y` as arrays by the keys of a scan file; what is None is left out."""
    others = {key: value for key, value in vars(fields).items() if key not in ("diff3d", "Y") and value is not None}
    metadata = others.pop("metadata", None)
    if metadata is not None:
        others["_metadata"] = json.dumps(metadata)
    return {key: np.asarray(value) for key, value in others.items()}


def write_frames(member: IO[bytes], frames: Frames) -> None:
    """Write frames as one NPY array, block by block."""
    header = {"descr": npy.dtype_to_descr(frames.dtype), "fortran_order": False, "shape": frames.shape}
    npy.write_array_header_1_0(member, header)
    for _, block in frames.blocks():
        member.write(np.ascontiguousarray(block).data)
