"""A scan made from a scan: fewer patterns, another detector, another orientation, several joined.

Every function takes a `ScanStream` and returns one; nothing is read before the result is written, block by block.
Units, positions, probe, object and mask stay consistent: the object of the result times its probe predicts its
patterns. Changes of the detector are in `scan_detector`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ptycho.core.scan.scan import ScanFile
from ptycho.core.scan.stream import Frames, ScanStream
from ptycho.errors import ConfigError, DataError

__all__ = [
    "change_dtype",
    "merge",
    "move_positions",
    "split_by_position",
    "subsample",
    "subset",
    "turned_positions",
]

Array = NDArray[Any]

_PER_POINT = ("xcoords", "ycoords", "xcoords_start", "ycoords_start", "scan_index")
_SAME_PROBE = 1e-2
"""Largest relative difference between probes that are taken for one."""


def subset(stream: ScanStream, indices: NDArray[np.intp], points: NDArray[np.intp] | None = None) -> ScanStream:
    """Some points of a scan, in the order of `indices` (b,); DataError when there are none.

    `points` (b,) are their positions, in a scan that has more of the ones than of the others; None are the same.
    """
    points = indices if points is None else points
    if len(indices) == 0:
        raise DataError("subset: expected at least one scan point to keep, found none; ask for more")
    fields = stream.fields
    chosen: dict[str, Any] = {key: _taken(getattr(fields, key), points) for key in _PER_POINT}
    if fields.mask is not None and fields.mask.ndim == 3:
        chosen["mask"] = fields.mask[indices]
    numbers = (fields.metadata or {}).get("indexes")
    if numbers is not None:
        chosen["metadata"] = {**(fields.metadata or {}), "indexes": np.asarray(numbers)[points].tolist()}
    patches = None if stream.patches is None else stream.patches.take(indices)
    return ScanStream.joined(stream.frames.take(indices), patches, replace(fields, **chosen))


def move_positions(
    stream: ScanStream, scale: float = 1.0, frames: int = 0, first: int = 0, last: int | None = None
) -> ScanStream:
    """Positions multiplied by a factor, and moved along the patterns by some frames.

    An object in the scan is that of the positions it came with, and is left out where they are scaled.

    Args:
        stream: the scan.
        scale: factor for all coordinates, above 0.
        frames: pattern j gets position j + frames; patterns that get none are left out, and positions that no pattern
            gets, as where there are more of the ones than of the others.
        first: the pattern from which on that is so; those before keep their positions.
        last: the last pattern for which it is so, and those after keep theirs; None: all from `first` on.

    Raises:
        ConfigError: a factor that is not positive, more frames than there are, or a first pattern that is not there.
    """
    fields, total, places = stream.fields, len(stream.frames), stream.fields.xcoords.size
    if not 0 < scale < np.inf or abs(frames) >= total:
        raise ConfigError(
            f"move: expected a factor above 0 and frames below {total}, found {scale:g} and {frames}; correct them"
        )
    last = total - 1 if last is None else last
    if not 0 <= first <= last < total:
        raise ConfigError(
            f"move: expected a first and a last pattern from 0 to {total - 1}, found {first} and {last}; correct them"
        )
    place = np.arange(total)
    place[first : last + 1] += frames
    kept = np.flatnonzero((place >= 0) & (place < places))
    made = subset(stream, kept, kept if total == places else place[kept])
    moved = {key: _taken(getattr(fields, key), place[kept]) for key in _PER_POINT if key != "scan_index"}
    scaled: dict[str, Any] = {key: None if values is None else values * scale for key, values in moved.items()}
    object = fields.objectGuess if scale == 1 else None
    return ScanStream.joined(made.frames, made.patches, replace(made.fields, objectGuess=object, **scaled))


def turned_positions(scan: ScanFile, flip_x: bool = False, flip_y: bool = False, transpose: bool = False) -> ScanFile:
    """The scan with the sign of x or y turned at every position, and then, where that is asked for, x and y exchanged.

    For positions that count along other axes than the patterns. An object in the scan is that of the positions it came
    with, and is left out.
    """
    if not (flip_x or flip_y or transpose):
        return scan
    changes: dict[str, Any] = {"objectGuess": None}
    for end in ("", "_start"):
        x, y = getattr(scan, f"xcoords{end}"), getattr(scan, f"ycoords{end}")
        if x is not None and y is not None:
            x, y = -x if flip_x else x, -y if flip_y else y
            changes |= (
                {f"xcoords{end}": y, f"ycoords{end}": x} if transpose else {f"xcoords{end}": x, f"ycoords{end}": y}
            )
    return replace(scan, **changes)


def subsample(stream: ScanStream, n: int | None = None, every: int | None = None, seed: int = 0) -> ScanStream:
    """A share of the patterns, in scan order.

    Args:
        stream: the scan.
        n: number to draw at random, at most all.
        every: or keep each `every`-th, beginning with the first.
        seed: of the draw.

    Raises:
        ConfigError: neither or both are given, or a number below 1.
    """
    if (n is None) == (every is None):
        raise ConfigError(f"subsample: expected either n or every, found n={n} and every={every}; give one")
    step = every if every is not None else n
    if step is None or step < 1:
        raise ConfigError(f"subsample: expected a number of at least 1, found {step}; raise it")
    total = len(stream.frames)
    if every is not None:
        return subset(stream, np.arange(0, total, every))
    drawn = np.random.default_rng(seed).choice(total, min(step, total), replace=False)
    return subset(stream, np.sort(drawn))


def split_by_position(
    stream: ScanStream, fraction: float = 0.2, axis: Literal["x", "y"] = "y", gap: float = 0.0
) -> tuple[ScanStream, ScanStream]:
    """Split a scan into a training and a test part that lie side by side, so that they show different places.

    Args:
        stream: the scan.
        fraction: share of the points in the test part, those with the largest coordinate.
        axis: along which coordinate the cut runs.
        gap: points of the training part nearer than this to the cut, in pixels, are left out; with the size of the
            probe the parts share no light.

    Returns:
        (training, test).

    Raises:
        ConfigError: a fraction outside (0, 1), or an axis other than x and y.
        DataError: a part that would be empty.
    """
    if not 0 < fraction < 1 or axis not in ("x", "y") or not gap >= 0:
        found = f"fraction={fraction}, axis={axis!r}, gap={gap}"
        raise ConfigError(f"split: expected 0 < fraction < 1, axis x or y and gap >= 0, found {found}; correct it")
    coords = stream.fields.xcoords if axis == "x" else stream.fields.ycoords
    order = np.argsort(coords, kind="stable")
    tested = round(fraction * len(coords))
    if not 0 < tested < len(coords):
        raise DataError(
            f"split: expected points in both parts, found {tested} of {len(coords)} in one; change fraction"
        )
    cut = coords[order[-tested]]
    rest = order[:-tested]
    return subset(stream, np.sort(rest[coords[rest] <= cut - gap])), subset(stream, np.sort(order[-tested:]))


def change_dtype(stream: ScanStream, dtype: DTypeLike) -> ScanStream:
    """Patterns in another type; integers are rounded.

    Raises:
        ConfigError: a type that is neither integer nor real.
        DataError, while it is written: a value that the type cannot hold.
    """
    wanted = np.dtype(dtype)
    if wanted.kind not in "iuf":
        raise ConfigError(f"dtype: expected an integer or real type, found {wanted}; for example float32 or uint16")

    def convert(values: Array) -> Array:
        rounded = np.rint(values) if wanted.kind in "iu" and values.dtype.kind == "f" else values
        with np.errstate(over="ignore"):
            limits = np.iinfo(wanted) if wanted.kind in "iu" else np.finfo(wanted)
        outside = ~((rounded >= limits.min) & (rounded <= limits.max))
        if wanted.kind == "f":
            outside &= np.isfinite(rounded)
        if outside.any():
            worst = rounded[outside].reshape(-1)[0]
            raise DataError(f"dtype: expected values that {wanted} can hold, found {worst}; choose a wider type")
        return rounded

    frames = stream.frames.map(convert, None, wanted)
    return ScanStream.joined(frames, stream.patches, stream.fields)


def merge(streams: Sequence[ScanStream], one_probe: bool = True) -> ScanStream:
    """Several scans of one sample as one, and unless `one_probe` is False of one probe; `scan_index` says which scan a
    point came from.

    The probe is that of the first. `objectGuess` is kept where all scans have the same, metadata where they agree;
    patterns take the type that holds them all.

    Raises:
        DataError: fewer than two scans, other pattern sizes, other units, or another probe.
    """
    if len(streams) < 2:
        raise DataError(f"merge: expected two scans or more, found {len(streams)}; name another file")
    first = streams[0].fields
    for number, stream in enumerate(streams[1:], 2):
        _check_alike(first, stream.fields, number, one_probe)
    everyone = [stream.fields for stream in streams]
    lengths = [len(stream.frames) for stream in streams]
    starts = any(fields.xcoords_start is not None for fields in everyone)
    fields = replace(
        first,
        xcoords=np.concatenate([f.xcoords for f in everyone]),
        ycoords=np.concatenate([f.ycoords for f in everyone]),
        xcoords_start=np.concatenate([_or(f.xcoords_start, f.xcoords) for f in everyone]) if starts else None,
        ycoords_start=np.concatenate([_or(f.ycoords_start, f.ycoords) for f in everyone]) if starts else None,
        scan_index=np.repeat(np.arange(len(streams)), lengths),
        objectGuess=_common([f.objectGuess for f in everyone]),
        mask=_merged_masks(everyone, lengths),
        metadata=first.metadata if all(f.metadata == first.metadata for f in everyone) else None,
    )
    stacks = [stream.patches for stream in streams]
    whole = [stack for stack in stacks if stack is not None]
    patches = _chained(whole) if len(whole) == len(stacks) else None
    return ScanStream.joined(_chained([stream.frames for stream in streams]), patches, fields)


def _check_alike(first: ScanFile, other: ScanFile, number: int, one_probe: bool) -> None:
    for what, a, b in (
        ("patterns", first.diff3d.shape[1:], other.diff3d.shape[1:]),
        ("units", first.units, other.units),
        *([("probe", _shape(first.probeGuess), _shape(other.probeGuess))] if one_probe else []),
    ):
        if a != b:
            raise DataError(f"merge: expected scans alike, found {what} {a} in scan 1 and {b} in scan {number}")
    if not one_probe or first.probeGuess is None or other.probeGuess is None:
        return
    apart = np.linalg.norm(first.probeGuess - other.probeGuess) / np.linalg.norm(first.probeGuess)
    if not apart <= _SAME_PROBE:
        raise DataError(
            f"merge: expected one probe, found that of scan {number} to differ by {100 * apart:.3g} % from that of "
            "scan 1; ptycho reconstruct SCAN SCAN gives each its own"
        )


def _shape(array: Array | None) -> tuple[int, ...] | None:
    return None if array is None else array.shape


def _chained(stacks: Sequence[Frames]) -> Frames:
    bounds = np.cumsum([0, *(len(stack) for stack in stacks)])
    dtype = np.result_type(*(stack.dtype for stack in stacks))

    def read(indices: NDArray[np.intp]) -> Array:
        made = np.empty((len(indices), *stacks[0].shape[1:]), dtype)
        for stack, low, high in zip(stacks, bounds[:-1], bounds[1:], strict=True):
            here = (indices >= low) & (indices < high)
            if here.any():
                made[here] = stack.read(indices[here] - low)
        return made

    return Frames((int(bounds[-1]), *stacks[0].shape[1:]), dtype, read)


def _merged_masks(scans: Sequence[ScanFile], lengths: Sequence[int]) -> Array | None:
    """One mask (N, N) where all scans have the same, else one per pattern; None where none has one."""
    masks = [scan.mask for scan in scans]
    if all(mask is None for mask in masks):
        return None
    shared = _common(masks)
    if shared is not None and shared.ndim == 2:
        return shared
    shape = scans[0].diff3d.shape[1:]
    return np.concatenate(
        [
            np.broadcast_to(np.True_ if mask is None else mask, (length, *shape))
            for mask, length in zip(masks, lengths, strict=True)
        ]
    )


def _common(arrays: Sequence[Array | None]) -> Array | None:
    """The array that all are equal to, or None."""
    first = arrays[0]
    if first is None or not all(other is not None and np.array_equal(first, other) for other in arrays[1:]):
        return None
    return first


def _taken(array: Array | None, indices: NDArray[np.intp]) -> Array | None:
    return None if array is None else array[indices]


def _or(array: Array | None, other: Array) -> Array:
    return other if array is None else array
