"""A scan of any detector as the solver and the networks take it: square, centred, of a length with a fast transform.

The rule, where the caller says nothing. A scan whose patterns are square with a fast side (`is_fast_side`) is left as
it is. Of any other the zero frequency is looked for, by the probe's far field or the centre of mass, and the smallest
square of a fast side around it is kept that loses no light worth having: it leaves out at most 1e-4 of all, and beyond
it a detector pixel holds less than one unit of intensity (a photon, in counts) for each of the `patches` that the scan
could be divided into, hence for each number of the object that it could tell. Where light up to the rim asks for more
than the detector has, the new pixels are 0 and marked as not valid; but a detector is not widened for a fast length
alone where one up to 5 % shorter is found inside.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ptycho.core.files.scratch import scratch_array
from ptycho.core.physics.near_field import NearField
from ptycho.core.scaling import Units
from ptycho.core.scan.scan import ScanFile, is_fast_side, own_sides
from ptycho.core.scan.stream import Frames, ScanStream, stream_units
from ptycho.core.scan_edit.centre import at_corner, find_centre, mean_intensity
from ptycho.core.scan_edit.detector import bin_detector, crop_detector
from ptycho.core.scan_edit.guard_band import guarded
from ptycho.errors import ConfigError, DataError

__all__ = ["fit_stream", "fitted"]

Array = NDArray[Any]

_LOST, _FAINT = 1e-4, 1.0
"""Share of the light, and intensity per detector pixel and patch of the object, not worth a larger detector."""
_SHORTER = 0.95
"""How much shorter a fast side inside the detector may be than the light asks for before the detector is widened."""
_OFF_BY_PROBE, _OFF_BY_MASS = 1.5, 2.5
"""Pixels off the middle from which on the beam is followed; a tilt of the object's phase moves the mean pattern too."""
_FRAMES = 256
"""Patterns, spread over the scan, that tell centre and light."""
_HOT_RATIO = 4.0
"""How far above its third-brightest neighbour a pixel is believed."""
_NEIGHBOURS = np.ones((5, 5), bool)
_NEIGHBOURS[2, 2] = False


def fitted(
    scan: ScanFile, crop: int | None = None, bin: int = 1, sizes: Sequence[int] | None = None
) -> tuple[ScanFile, tuple[str, ...]]:
    """The scan with square patterns of a fast side, and what was done, a sentence each.

    Positions, probe, object, `Y`, mask and the geometry in the metadata follow, so that object times probe still
    predicts the patterns (`crop_detector`, `bin_detector`).

    Args:
        scan: patterns (n, H, W), in memory or memory maps.
        crop: side of the square of detector pixels to keep, before they are binned; None is the rule of this module.
        bin: `bin` x `bin` detector pixels become one.
        sizes: sides to choose from, in place of every fast one: the smallest that holds the light, else the largest.

    Returns:
        The scan: the same object where there is nothing to do. Its patterns are a view of the given ones where that is
        possible; else in memory, or, of memory maps above 256 MiB, in a temporary file.

    Raises:
        ConfigError: a crop or a bin that cannot be.
        DataError: patterns to bin in unknown units.
        OutputError: no room for the temporary file.

    >>> scan = ScanFile(np.ones((2, 30, 64)), np.zeros(2), np.zeros(2), np.ones((64, 64), complex), units="counts")
    >>> made, said = fitted(scan, crop=30)
    >>> made.diff3d.shape, said
    ((2, 30, 30), ('patterns of 30 x 64 pixels: 30 x 30 kept, 53 % of the light left out',))
    """
    stream, sentences = fit_stream(ScanStream.of(scan), crop, bin, sizes)
    if not sentences:
        return scan, ()
    patches = None if stream.patches is None or scan.Y is None else _held(stream.patches, scan.Y)
    return replace(stream.fields, diff3d=_held(stream.frames, scan.diff3d), Y=patches), sentences


def fit_stream(
    stream: ScanStream, crop: int | None = None, bin: int = 1, sizes: Sequence[int] | None = None
) -> tuple[ScanStream, tuple[str, ...]]:
    """As `fitted`, of a scan whose frames are made when they are asked for."""
    _, height, width = stream.frames.shape
    near = NearField.of(stream.fields.metadata)
    if near is not None:
        if bin != 1 or sizes is not None:
            raise ConfigError(
                "near field: expected detector pixels as they are, and no network, found "
                f"{'a network' if sizes is not None else f'bin {bin}'}; leave that out"
            )
        return guarded(stream, near, crop)
    if bin < 1:
        raise ConfigError(f"bin: expected a factor of at least 1, found {bin}; for example 2")
    as_it_is = height == width and own_sides(stream.fields) == (height, width)
    fits = height % bin == 0 and (is_fast_side(height // bin) if sizes is None else height // bin in sizes)
    if as_it_is and fits and crop in (None, height):
        return _binned(stream, bin, ())
    light = _Light.of(stream)
    side = _side(light, crop, bin, sizes)
    made = crop_detector(stream, side, light.centre)
    return _binned(made, bin, (_cropped(light, side), *_moved(light)))


@dataclass(frozen=True)
class _Light:
    """Where on a detector the light is."""

    mean: NDArray[np.float64]
    """(H, W) mean intensity without hot pixels."""
    centre: tuple[int, int]
    """(row, column) of the zero frequency."""
    by_probe: bool
    looks: float
    """Patterns for each patch of the object that they cover."""

    @classmethod
    def of(cls, stream: ScanStream) -> _Light:
        """Look at some patterns of a scan."""
        fields, frames = stream.fields, stream.frames
        some = np.unique(np.linspace(0, len(frames) - 1, min(len(frames), _FRAMES)).round().astype(np.intp))
        mask = fields.mask[some] if fields.mask is not None and fields.mask.ndim == 3 else fields.mask
        mean = mean_intensity(frames.take(some), _units(stream), mask)
        mean = np.minimum(mean, _HOT_RATIO * ndimage.rank_filter(mean, -3, footprint=_NEIGHBOURS, mode="nearest"))
        height, width = mean.shape
        found = find_centre(mean, fields.probeGuess)
        dy, dx = found.offset
        # patterns that are not centred are the doctor's
        if at_corner((dy, dx), (height, width)) or math.hypot(dy, dx) <= (
            _OFF_BY_PROBE if found.fits else _OFF_BY_MASS
        ):
            dy = dx = 0.0
        centre = (height // 2 + round(dy), width // 2 + round(dx))
        return cls(mean, centre, found.fits, len(frames) / _patches(fields))

    @property
    def middle(self) -> tuple[int, int]:
        """[H/2, W/2]."""
        return self.mean.shape[0] // 2, self.mean.shape[1] // 2

    @property
    def reach(self) -> int:
        """Side of the smallest square around the centre that holds every pixel."""
        ends = (max(at, side - at) for at, side in zip(self.centre, self.mean.shape, strict=True))
        return 2 * max(ends)

    @property
    def inside(self) -> int:
        """Side of the largest square around the centre without a pixel beyond the rim."""
        return 2 * min(min(at, side - at) for at, side in zip(self.centre, self.mean.shape, strict=True))

    def lost(self, side: int) -> float:
        """Share of the light outside of a square around the centre."""
        rows, columns = (slice(max(0, at - side // 2), at + side // 2) for at in self.centre)
        total = float(self.mean.sum())
        return 1 - float(self.mean[rows, columns].sum()) / total if total > 0 else 0.0

    def needed(self) -> int:
        """Side of the smallest square that loses no light worth having."""
        rows, columns = (np.arange(side) - at for at, side in zip(self.centre, self.mean.shape, strict=True))
        # the square of side 2 r holds the offsets from -r to r - 1
        ring = np.maximum(
            *np.meshgrid(
                np.where(rows < 0, -rows, rows + 1), np.where(columns < 0, -columns, columns + 1), indexing="ij"
            )
        )
        light, pixels = np.bincount(ring.ravel(), self.mean.ravel()), np.bincount(ring.ravel())
        beyond = np.append(np.cumsum(light[::-1])[::-1][1:], 0.0)
        worth = (light * self.looks >= _FAINT * np.maximum(pixels, 1)) & (light > 0)
        worth[1:] |= beyond[:-1] > _LOST * light.sum()
        return 2 * int(np.flatnonzero(worth).max(initial=1))


def _patches(fields: ScanFile) -> float:
    """How many windows of the detector's extent the positions span, at least one."""
    sides = own_sides(fields)
    spans = [float(np.ptp(coords)) / side for coords, side in zip((fields.ycoords, fields.xcoords), sides, strict=True)]
    return max(1.0, spans[0] * spans[1])


def _side(light: _Light, crop: int | None, bin: int, sizes: Sequence[int] | None) -> int:
    """Side of the square to keep, detector pixels."""
    if crop is not None:
        if crop < 2 * bin or crop % (2 * bin) or crop > light.reach:
            limit = light.reach - light.reach % (2 * bin)
            raise ConfigError(f"crop: expected a multiple of {2 * bin} up to {limit}, found {crop}; give {limit}")
        return crop
    needed = light.needed()
    if sizes is not None:
        return bin * next((size for size in sorted(sizes) if size * bin >= needed), max(sizes))
    enough = _fast(needed, bin, 1)
    shorter = _fast(light.inside, bin, -1)
    return shorter if shorter < enough and enough > light.inside and shorter >= _SHORTER * needed else enough


def _fast(side: int, bin: int, step: int) -> int:
    """The nearest multiple of `bin` from `side` on, upwards or downwards, that binned has a fast side; 0 is none."""
    count = -(-side // bin) if step > 0 else side // bin
    while count > 0 and not is_fast_side(count):
        count += step
    return bin * count


def _binned(stream: ScanStream, factor: int, sentences: tuple[str, ...]) -> tuple[ScanStream, tuple[str, ...]]:
    if factor == 1:
        return stream, sentences
    made = bin_detector(stream, factor, stream_units(stream))
    return made, (*sentences, f"{factor} x {factor} detector pixels added up: patterns of {_size(made.frames)} pixels")


def _cropped(light: _Light, side: int) -> str:
    """What became of the detector."""
    height, width = light.mean.shape
    missing = [
        max(0, side // 2 - at) + max(0, at + side // 2 - end)
        for at, end in zip(light.centre, (height, width), strict=True)
    ]
    masked = [
        f"{count} {name}{'s' * (count > 1)}" for count, name in zip(missing, ("row", "column"), strict=True) if count
    ]
    said = f"patterns of {height} x {width} pixels: {side} x {side} kept"
    if masked:
        said += f", {' and '.join(masked)} beyond the detector masked"
    lost = light.lost(side)
    return said + (f", {100 * lost:.2g} % of the light left out" if lost > 1e-9 else "")


def _moved(light: _Light) -> tuple[str, ...]:
    """Where the beam was, where not in the middle."""
    if light.centre == light.middle:
        return ()
    how = "the probe" if light.by_probe else "its centre of mass"
    row, column = light.centre
    return (f"the zero frequency is at row {row} and column {column} by {how}: moved to the middle",)


def _units(stream: ScanStream) -> Units:
    """What the patterns hold; where nothing tells, what loses less light."""
    try:
        return stream_units(stream)
    except DataError:
        return "counts"


def _held(frames: Frames, source: Array) -> Array:
    """The frames as an array: a view, in memory, or as their source on disk."""
    if frames.array is not None:
        return frames.array
    return frames.into(scratch_array(frames.shape, frames.dtype)) if isinstance(source, np.memmap) else frames.whole()


def _size(frames: Frames) -> str:
    return f"{frames.shape[1]} x {frames.shape[2]}"
