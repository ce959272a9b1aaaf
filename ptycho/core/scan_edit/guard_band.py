"""Near-field patterns as the solver takes them: waves that leave the window on one side come back on the other.

Where light reaches the rim of the detector the window of the solver is larger than that, by the pixels that the finest
waves spread over on their way, and what is beyond the detector is marked as not measured.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.core.physics.near_field import NearField
from ptycho.core.scan.scan import next_fast_side
from ptycho.core.scan.stream import ScanStream, stream_units
from ptycho.core.scan_edit.centre import mean_intensity
from ptycho.errors import ConfigError

__all__ = ["guarded"]

Array = NDArray[Any]

_LIT = 0.02
"""Mean intensity at the rim over that of the detector from which on light counts as reaching it."""
_WIDEST = 4
"""The band is at most a so-manieth of the detector."""
_FRAMES = 64
"""Patterns, spread over the scan, that tell where light is."""


def guarded(stream: ScanStream, near_field: NearField, crop: int | None = None) -> tuple[ScanStream, tuple[str, ...]]:
    """The scan with square patterns of a fast side, with a guard band where it needs one, and what was done.

    Args:
        stream: patterns (n, H, W) of the near field.
        near_field: how waves go.
        crop: side of the square of detector pixels to keep; None keeps all.

    Raises:
        ConfigError: a crop that cannot be.
    """
    height, width = stream.frames.shape[1:]
    if crop is not None and not (0 < crop <= min(height, width) and crop % 2 == 0):
        raise ConfigError(f"crop: expected an even side up to {min(height, width)}, found {crop}; give another")
    sentences: tuple[str, ...] = ()
    if crop is not None and crop != max(height, width):
        stream = _windowed(stream, crop)
        sentences = (f"patterns of {height} x {width} pixels: {crop} x {crop} kept",)
    longer, band = max(stream.frames.shape[1:]), _band(stream, near_field)
    side = next_fast_side(longer + 2 * band)
    if side == longer and stream.frames.shape[1] == stream.frames.shape[2]:
        return stream, sentences
    made = _windowed(stream, side)
    why = (
        f"light up to the rim, which near-field waves cross by {band} pixels" if band else "a side of a fast transform"
    )
    return made, (*sentences, f"{longer} x {longer} pixels: {side} x {side} with what is beyond masked, for {why}")


def _band(stream: ScanStream, near_field: NearField) -> int:
    """Pixels that are needed around the detector."""
    frames, mask = stream.frames, stream.fields.mask
    some = np.unique(np.linspace(0, len(frames) - 1, min(len(frames), _FRAMES)).round().astype(np.intp))
    known = mask[some] if mask is not None and mask.ndim == 3 else mask
    mean = mean_intensity(frames.take(some), stream_units(stream), known)
    valid = np.ones(mean.shape, bool) if mask is None else np.asarray(mask.reshape(-1, *mean.shape).any(axis=0), bool)
    rim = np.ones(mean.shape, bool)
    rim[1:-1, 1:-1] = False
    if not valid[rim].any() or mean[rim & valid].mean() < _LIT * mean[valid].mean():
        return 0
    return min(near_field.spread_px, max(mean.shape) // _WIDEST)


def _windowed(stream: ScanStream, side: int) -> ScanStream:
    """The patterns about the middle of the detector in a window of `side` pixels, 0 and not valid beyond the detector.

    Positions are those of the middle of the window, and stay; so does the object.
    """
    fields, (height, width) = stream.fields, stream.frames.shape[1:]

    def placed(images: Array) -> Array:
        return _placed(images, side)

    mask = np.ones((height, width), bool) if fields.mask is None else fields.mask
    window = placed(mask)
    changed = replace(
        fields,
        probeGuess=None if fields.probeGuess is None else placed(fields.probeGuess),
        mask=None if fields.mask is None and window.all() else window,
    )
    patches = None if stream.patches is None else stream.patches.map(placed, side, stream.patches.dtype)
    return ScanStream.joined(stream.frames.map(placed, side, stream.frames.dtype), patches, changed)


def _placed(images: Array, side: int) -> Array:
    """Images (..., H, W) in a window of (side, side), the middles [H/2, W/2] and [side/2, side/2] the same."""
    made = np.zeros((*images.shape[:-2], side, side), images.dtype)
    here, there = [], []
    for size in images.shape[-2:]:
        first = size // 2 - side // 2
        here.append(slice(max(0, first), min(size, first + side)))
        there.append(slice(max(0, -first), max(0, -first) + min(size, first + side) - max(0, first)))
    made[..., there[0], there[1]] = images[..., here[0], here[1]]
    return made
