"""A scan seen by another detector: cropped, binned, centred, masked, turned.

As in `scan_tools`, the result is made block by block when it is written, and object times probe still predicts the
patterns. A change of the detector's extent changes the object's pixel, and with it the positions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import gcd
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.core.files.scratch import scratch_array
from ptycho.core.physics.diffraction import far_field, propagate_back
from ptycho.core.physics.near_field import NearField
from ptycho.core.quality.orientation import Orientation
from ptycho.core.scaling import Units
from ptycho.core.scan.scan import ScanFile, own_sides
from ptycho.core.scan.stream import Frames, ScanStream
from ptycho.core.scan_edit.centre import at_corner, probe_shift
from ptycho.errors import ConfigError, DataError

__all__ = [
    "bin_detector",
    "crop_detector",
    "mask_pixels",
    "probe_on_sides",
    "recentre",
    "recentre_probe",
    "turn_detector",
]

Array = NDArray[Any]

_PER_POINT = ("xcoords", "ycoords", "xcoords_start", "ycoords_start")


def crop_detector(stream: ScanStream, size: int, centre: tuple[int, int] | None = None) -> ScanStream:
    """Keep `size` x `size` pixels of the detector around one of them; what lies beyond its rim is 0 and not valid.

    With (R, C) the sides that the scan belonged to (`own_sides`) an object pixel changes by R / size (C / size), so
    that positions are multiplied by size / R; the object, the true patches and the probe lose the frequencies that the
    new detector does not see, and have none at those that it sees newly.

    Args:
        stream: the scan, patterns (n, H, W).
        size: even, at most that of the detector, or more to widen it.
        centre: (row, column) of the pixel that becomes [size/2, size/2]; None is [H/2, W/2].

    Raises:
        ConfigError: a size that is odd or below 2.
        DataError: no pixel of the detector is left.
    """
    if size < 2 or size % 2:
        raise ConfigError(f"crop: expected an even size of at least 2, found {size}; for example {max(2, size + 1)}")
    height, width = stream.frames.shape[1:]
    row, column = (height // 2, width // 2) if centre is None else centre
    first = (row - size // 2, column - size // 2)
    if not all(-size < begin < side for begin, side in zip(first, (height, width), strict=True)):
        raise DataError(
            f"crop: expected pixels of the {height} x {width} detector, found none around {centre}; move it"
        )
    fields, sides = stream.fields, own_sides(stream.fields)
    _refuse_near(fields)
    by_y, by_x = (size / side for side in sides)
    scaled: dict[str, Any] = {
        key: _scaled(getattr(fields, key), by_x if key.startswith("x") else by_y) for key in _PER_POINT
    }

    def resample(values: Array) -> Array:
        return _resampled(values, (size, size))

    return ScanStream.joined(
        _window(stream.frames, first, size),
        stream.patches if sides == (size, size) else _mapped(stream.patches, resample, size),
        replace(
            fields,
            **scaled,
            probeGuess=None if fields.probeGuess is None else probe_on_sides(fields.probeGuess, size),
            objectGuess=_rescaled(fields.objectGuess, size, sides),
            mask=_window_mask(fields.mask, first, size, (height, width)),
            metadata=_geometry(fields.metadata, object_pixel_size_m=1 / by_x, origin_px=[by_x, by_y]),
        ),
    )


def bin_detector(stream: ScanStream, factor: int, units: Units) -> ScanStream:
    """Add up the intensity of `factor` x `factor` detector pixels.

    A pixel is valid where all that go into it are. The object's pixel stays; the window of a pattern shrinks to
    (R / factor, C / factor), (R, C) the sides that the scan belonged to (`own_sides`), and what the probe has outside
    of it is lost. The bin that begins with the zero frequency is centred (factor - 1) / 2 pixels beyond it; a phase
    ramp on the probe, `exp(-i pi (factor - 1) (x / C + y / R))`, accounts for that. Counts keep an integer type that
    holds the sums.

    Args:
        stream: the scan, patterns (n, H, W).
        factor: at least 1, a divisor of H, W, R and C with even quotients.
        units: of the patterns; amplitudes are squared before they are added.

    Raises:
        ConfigError: a factor that does not divide a side into an even number of pixels.
    """
    fields, probe = stream.fields, stream.fields.probeGuess
    _refuse_near(fields)
    (height, width), (rows, columns) = stream.frames.shape[1:], own_sides(fields)
    for side in {height, width} if probe is None else {height, width, rows, columns}:
        if factor < 1 or side % (2 * factor):
            raise ConfigError(f"bin: expected a factor that divides {side} into an even number, found {factor}; try 2")
    dtype = _sum_type(stream.frames.dtype, factor)

    def binned(values: Array) -> Array:
        wide = values.astype(np.float64)
        intensity = wide**2 if units == "amplitude" else wide
        summed = _blocks(intensity, factor).sum(axis=(-3, -1))
        return np.sqrt(summed) if units == "amplitude" else summed

    window = (rows // factor, columns // factor)

    def middle(values: Array) -> Array:
        return _resized(values, window)

    by_row, by_column = (
        np.exp(-1j * np.pi * (factor - 1) * (np.arange(n) - n // 2) / side)
        for n, side in zip(window, (rows, columns), strict=True)
    )
    mask = None
    if fields.mask is not None:
        mask = np.asarray(_blocks(fields.mask, factor).all(axis=(-3, -1)))
    return ScanStream.joined(
        stream.frames.map(binned, (height // factor, width // factor), dtype),
        _mapped(stream.patches, middle, window),
        replace(
            fields,
            probeGuess=None if probe is None else (middle(probe) * (by_row[:, None] * by_column)).astype(np.complex64),
            mask=mask,
            metadata=_geometry(fields.metadata, detector_pixel_size_m=factor),
        ),
    )


def recentre(stream: ScanStream, dy: int, dx: int) -> ScanStream:
    """Move the patterns (n, H, W) by whole pixels, (+dy, +dx), and the mask with them.

    From the corner (by more than 0.4 of both sides) they are rolled, as patterns whose zero frequency is at [0, 0] have
    it; otherwise what comes in from outside is 0 and marked as not valid.
    """
    fields, sides = stream.fields, stream.frames.shape[1:]
    if any(abs(by) >= side for by, side in zip((dy, dx), sides, strict=True)):
        raise ConfigError(
            f"recentre: expected a shift below {sides[0]} and {sides[1]} pixels, found ({dy}, {dx}); correct it"
        )
    inside = np.ones(sides, bool)
    if (dy or dx) and not at_corner((dy, dx), sides):
        inside = _moved(inside, dy, dx)

    def move(values: Array) -> Array:
        return np.where(inside, np.roll(values, (dy, dx), (-2, -1)), np.zeros((), values.dtype))

    mask = None if fields.mask is None else move(fields.mask)
    if mask is None and not inside.all():
        mask = inside
    return ScanStream.joined(
        stream.frames.map(move, None, stream.frames.dtype), stream.patches, replace(fields, mask=mask)
    )


def recentre_probe(stream: ScanStream) -> ScanStream:
    """Move the light of the probe to its middle by whole pixels, and the positions against it: it lights what it lit.

    From the corner, where a transform leaves it, the probe alone is moved: positions are those of its middle.

    Raises:
        DataError: no probe.
    """
    fields = stream.fields
    if fields.probeGuess is None:
        raise DataError("recentre: expected a scan with a probe, found none; leave out --probe")
    dy, dx = probe_shift(fields.probeGuess)
    moved: dict[str, Any] = {"probeGuess": np.roll(fields.probeGuess, (dy, dx), (-2, -1))}
    if not at_corner((dy, dx), fields.probeGuess.shape[-2:]):
        for key in _PER_POINT:
            values = getattr(fields, key)
            moved[key] = None if values is None else values - (dx if key.startswith("x") else dy)
    return ScanStream.joined(stream.frames, stream.patches, replace(fields, **moved))


def mask_pixels(stream: ScanStream, bad: Array, zero: bool = True) -> ScanStream:
    """Mark detector pixels as not valid, besides those that are already.

    Args:
        stream: the scan.
        bad: bool (N, N), True where the pixel is not to be used.
        zero: also set them to 0 in the patterns, so that a reader without masks is not misled.

    Raises:
        DataError: another shape, or no pixel left.
    """
    shape = stream.frames.shape[1:]
    if bad.shape != shape:
        raise DataError(f"mask: expected shape {shape} as the patterns, found {bad.shape}; correct it")
    fields = stream.fields
    valid = ~bad.astype(bool)
    mask = valid if fields.mask is None else fields.mask & valid
    if not mask.any():
        raise DataError("mask: expected valid pixels to remain, found none; True marks a bad pixel")
    frames = stream.frames
    if zero:
        frames = frames.map(lambda v: np.where(valid, v, np.zeros((), v.dtype)), None, frames.dtype)
    return ScanStream.joined(frames, stream.patches, replace(fields, mask=mask))


def turn_detector(stream: ScanStream, orientation: Orientation) -> ScanStream:
    """Exchange or reverse the axes of the patterns and of the mask about the zero frequency; nothing else moves.

    Raises:
        DataError: axes to exchange of patterns that are not square: an object pixel would have other sides.
    """
    frames, fields = stream.frames, stream.fields
    _, height, width = frames.shape
    if orientation.transpose and height != width:
        raise DataError(
            f"turn: expected square patterns to exchange the axes of, found {height} x {width}; "
            "crop them first: ptycho dataset crop"
        )
    return ScanStream.joined(
        frames.map(orientation.patterns, None, frames.dtype),
        stream.patches,
        replace(fields, mask=None if fields.mask is None else orientation.patterns(fields.mask)),
    )


def _refuse_near(fields: ScanFile) -> None:
    """Object pixels go with the detector's in near field, and not with its extent."""
    if NearField.of(fields.metadata) is not None:
        raise ConfigError(
            "crop, bin: expected patterns of the far field, found near field; crop them as they are reconstructed "
            "(ptycho reconstruct --crop), or make other frames"
        )


def _window(frames: Frames, first: tuple[int, int], size: int) -> Frames:
    """`size` x `size` pixels from `first` (row, column) on; of an array that has them all, a view of it."""
    inside = all(0 <= begin <= side - size for begin, side in zip(first, frames.shape[1:], strict=True))
    if inside and frames.array is not None:
        return Frames.of(_cut(frames.array, first, (size, size)))
    return frames.map(lambda values: _cut(values, first, (size, size)), size, frames.dtype)


def _window_mask(mask: Array | None, first: tuple[int, int], size: int, shape: tuple[int, int]) -> Array | None:
    """The window of a mask, not valid beyond the rim; None where all is valid."""
    if mask is not None and mask.ndim == 3:
        frames = _window(Frames.of(mask), first, size)
        return frames.into(scratch_array(frames.shape, bool, what="masks")) if frames.array is None else frames.array
    window = _cut(np.ones(shape, bool) if mask is None else mask, first, (size, size))
    return None if mask is None and window.all() else window


def _cut(images: Array, first: tuple[int, int], shape: tuple[int, int]) -> Array:
    """The part of images (..., H, W) that begins at `first`, with 0 beyond their rim; a view where there is none."""
    have = [slice(max(0, begin), max(0, begin + side)) for begin, side in zip(first, shape, strict=True)]
    inside = images[..., have[0], have[1]]
    if inside.shape[-2:] == shape:
        return inside
    made = np.zeros((*images.shape[:-2], *shape), images.dtype)
    row, column = (max(0, -begin) for begin in first)
    made[..., row : row + inside.shape[-2], column : column + inside.shape[-1]] = inside
    return made


def _resized(spectra: Array, shape: tuple[int, int]) -> Array:
    """Spectra, or probes, (..., H, W) with their middle at [H/2, W/2], cut or filled with zeros to `shape`."""
    height, width = spectra.shape[-2:]
    return _cut(spectra, (height // 2 - shape[0] // 2, width // 2 - shape[1] // 2), shape)


def _resampled(images: Array, shape: tuple[int, int]) -> Array:
    """Images (..., H, W) sampled on `shape` over the same extent: high frequencies cut off, or none added."""
    height, width = images.shape[-2:]
    spectrum = np.fft.fftshift(np.fft.fft2(images), axes=(-2, -1))
    gain = shape[0] * shape[1] / (height * width)
    return np.fft.ifft2(np.fft.ifftshift(_resized(spectrum, shape), axes=(-2, -1))) * gain


def probe_on_sides(probe: Array, size: int) -> Array:
    """A probe (..., R, C) as a detector of size x size pixels sees it."""
    if probe.shape[-2:] == (size, size):
        return probe
    made = propagate_back(_resized(far_field(probe), (size, size)))
    return np.asarray(made.astype(probe.dtype if np.iscomplexobj(probe) else np.complex64))


def _rescaled(image: Array | None, size: int, sides: tuple[int, int]) -> Array | None:
    """An object on pixels larger by R / size and C / size, padded at its far ends to a whole number of them."""
    if image is None or sides == (size, size):
        return image
    units = [side // gcd(side, size) for side in sides]
    short = [-n % unit for n, unit in zip(image.shape, units, strict=True)]
    padded = np.pad(image, [(0, short[0]), (0, short[1])], mode="edge")
    height, width = (n * size // side for n, side in zip(padded.shape, sides, strict=True))
    return _resampled(padded, (height, width)).astype(np.complex64)


def _blocks(images: Array, factor: int) -> Array:
    """(..., H, W) -> (..., H/f, f, W/f, f)."""
    height, width = images.shape[-2:]
    return images.reshape(*images.shape[:-2], height // factor, factor, width // factor, factor)


def _sum_type(dtype: np.dtype[Any], factor: int) -> np.dtype[Any]:
    """An integer type that holds sums of factor^2 values, or the real type as it is."""
    if dtype.kind == "f":
        return dtype
    largest = int(np.iinfo(dtype).max) * factor**2
    return next((np.dtype(t) for t in (dtype, np.uint32, np.uint64) if largest <= np.iinfo(t).max), np.dtype(np.uint64))


def _moved(flags: Array, dy: int, dx: int) -> Array:
    """Flags moved by whole pixels; False comes in from outside."""
    result = np.zeros_like(flags)
    h, w = flags.shape
    result[max(0, dy) : h + min(0, dy), max(0, dx) : w + min(0, dx)] = flags[
        max(0, -dy) : h + min(0, -dy), max(0, -dx) : w + min(0, -dx)
    ]
    return result


def _scaled(coords: Array | None, factor: float) -> Array | None:
    return None if coords is None else coords * factor


def _geometry(metadata: dict[str, Any] | None, **factors: float | list[float]) -> dict[str, Any] | None:
    """The metadata with these of its numbers multiplied, those that are there."""
    if metadata is None:
        return None
    found = {
        key: (np.asarray(metadata[key], float) * np.asarray(by)).tolist()
        for key, by in factors.items()
        if metadata.get(key)
    }
    return metadata | found


def _mapped(frames: Frames | None, function: Callable[[Array], Array], side: int | tuple[int, int]) -> Frames | None:
    return None if frames is None else frames.map(function, side, frames.dtype)
