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

from ptycho.core.physics.diffraction import far_field, propagate_back
from ptycho.core.quality.orientation import Orientation
from ptycho.core.scaling import Units
from ptycho.core.scan.stream import Frames, ScanStream
from ptycho.errors import ConfigError, DataError

__all__ = ["bin_detector", "crop_detector", "mask_pixels", "recentre", "turn_detector"]

Array = NDArray[Any]

_PER_POINT = ("xcoords", "ycoords", "xcoords_start", "ycoords_start")


def crop_detector(stream: ScanStream, size: int) -> ScanStream:
    """Keep the central `size` x `size` pixels of the detector.

    An object pixel becomes larger by N / size, so that positions are multiplied by size / N; the object, the true
    patches and the probe lose the frequencies that the smaller detector does not see.

    Raises:
        ConfigError: a size that is odd, below 2 or above N.
    """
    N = stream.frames.shape[-1]
    if not 2 <= size <= N or size % 2:
        raise ConfigError(f"crop: expected an even size from 2 to {N}, found {size}; for example {N // 2}")
    low = (N - size) // 2
    window = np.s_[..., low : low + size, low : low + size]
    fields = stream.fields
    chosen: dict[str, Any] = {key: _scaled(getattr(fields, key), size / N) for key in _PER_POINT}
    return ScanStream.joined(
        stream.frames.map(lambda values: values[window], size, stream.frames.dtype),
        _mapped(stream.patches, lambda values: _low_pass(values, (size, size)), size),
        replace(
            fields,
            **chosen,
            probeGuess=None if fields.probeGuess is None else _fewer_frequencies(fields.probeGuess, window),
            objectGuess=_shrunk(fields.objectGuess, size, N),
            mask=None if fields.mask is None else fields.mask[window],
            metadata=_geometry(fields.metadata, object_pixel_size_m=N / size, origin_px=size / N),
        ),
    )


def _fewer_frequencies(probe: Array, window: tuple[Any, ...]) -> Array:
    """A probe of the frequencies in a window of the detector, in as many pixels."""
    made = propagate_back(far_field(probe)[window])
    return np.asarray(made.astype(probe.dtype if np.iscomplexobj(probe) else np.complex64))


def bin_detector(stream: ScanStream, factor: int, units: Units) -> ScanStream:
    """Add up the intensity of `factor` x `factor` detector pixels.

    A pixel is valid where all that go into it are. The object's pixel stays; the window of a pattern shrinks to
    N / factor, and what the probe has outside of it is lost. The bin that begins with the zero frequency is centred
    (factor - 1) / 2 pixels beyond it; a phase ramp on the probe, `exp(-2 pi i (factor - 1)/2 (x + y) / N)`, accounts
    for that. Counts keep an integer type that holds the sums.

    Args:
        stream: the scan.
        factor: at least 1, a divisor of N with an even quotient.
        units: of the patterns; amplitudes are squared before they are added.

    Raises:
        ConfigError: a factor that does not divide N into an even number of pixels.
    """
    N = stream.frames.shape[-1]
    if factor < 1 or N % (2 * factor):
        raise ConfigError(f"bin: expected a factor that divides {N} into an even number, found {factor}; try 2")
    size, fields, probe = N // factor, stream.fields, stream.fields.probeGuess
    dtype = _sum_type(stream.frames.dtype, factor)

    def binned(values: Array) -> Array:
        wide = values.astype(np.float64)
        intensity = wide**2 if units == "amplitude" else wide
        summed = _blocks(intensity, factor).sum(axis=(-3, -1))
        return np.sqrt(summed) if units == "amplitude" else summed

    low = (N - size) // 2
    window = np.s_[..., low : low + size, low : low + size]
    ramp = np.exp(-1j * np.pi * (factor - 1) * (np.arange(size) - size // 2) / N)
    mask = None
    if fields.mask is not None:
        mask = np.asarray(_blocks(fields.mask, factor).all(axis=(-3, -1)))
    return ScanStream.joined(
        stream.frames.map(binned, size, dtype),
        _mapped(stream.patches, lambda values: values[window], size),
        replace(
            fields,
            probeGuess=None if probe is None else (probe[window] * (ramp[:, None] * ramp)).astype(np.complex64),
            mask=mask,
            metadata=_geometry(fields.metadata, detector_pixel_size_m=factor),
        ),
    )


def recentre(stream: ScanStream, dy: int, dx: int) -> ScanStream:
    """Move the patterns by whole pixels, (+dy, +dx), and the mask with them.

    By exactly N/2 along both axes they are rolled (the zero frequency was at the corner); otherwise what comes in
    from outside is 0 and marked as not valid.
    """
    N = stream.frames.shape[-1]
    if max(abs(dy), abs(dx)) >= N:
        raise ConfigError(f"recentre: expected a shift below {N} pixels, found ({dy}, {dx}); correct it")
    fields = stream.fields
    rolled = abs(dy) == abs(dx) == N // 2
    inside = np.ones((N, N), bool)
    if not rolled and (dy or dx):
        inside = _moved(inside, dy, dx)

    def move(values: Array) -> Array:
        return np.where(inside, np.roll(values, (dy, dx), (-2, -1)), np.zeros((), values.dtype))

    mask = None if fields.mask is None else move(fields.mask)
    if mask is None and not inside.all():
        mask = inside
    return ScanStream.joined(
        stream.frames.map(move, N, stream.frames.dtype), stream.patches, replace(fields, mask=mask)
    )


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
        frames = frames.map(lambda v: np.where(valid, v, np.zeros((), v.dtype)), shape[-1], frames.dtype)
    return ScanStream.joined(frames, stream.patches, replace(fields, mask=mask))


def turn_detector(stream: ScanStream, orientation: Orientation) -> ScanStream:
    """Exchange or reverse the axes of the patterns and of the mask about the zero frequency; nothing else moves."""
    frames, fields = stream.frames, stream.fields
    return ScanStream.joined(
        frames.map(orientation.patterns, frames.shape[-1], frames.dtype),
        stream.patches,
        replace(fields, mask=None if fields.mask is None else orientation.patterns(fields.mask)),
    )


def _low_pass(images: Array, shape: tuple[int, int]) -> Array:
    """Images (..., H, W) sampled on `shape` over the same extent: the high frequencies cut off."""
    height, width = images.shape[-2:]
    low = [n // 2 - m // 2 for n, m in zip((height, width), shape, strict=True)]
    spectrum = np.fft.fftshift(np.fft.fft2(images), axes=(-2, -1))
    kept = spectrum[..., low[0] : low[0] + shape[0], low[1] : low[1] + shape[1]]
    gain = shape[0] * shape[1] / (height * width)
    return np.fft.ifft2(np.fft.ifftshift(kept, axes=(-2, -1))) * gain


def _shrunk(image: Array | None, size: int, N: int) -> Array | None:
    """An object on pixels larger by N / size, padded at its far ends to a whole number of them."""
    if image is None:
        return None
    unit = N // gcd(N, size)
    short = [-n % unit for n in image.shape]
    padded = np.pad(image, [(0, short[0]), (0, short[1])], mode="edge")
    height, width = (n * size // N for n in padded.shape)
    return _low_pass(padded, (height, width)).astype(np.complex64)


def _blocks(images: Array, factor: int) -> Array:
    """(..., N, N) -> (..., N/f, f, N/f, f)."""
    size = images.shape[-1] // factor
    return images.reshape(*images.shape[:-2], size, factor, size, factor)


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


def _geometry(metadata: dict[str, Any] | None, **factors: float) -> dict[str, Any] | None:
    """The metadata with these of its numbers multiplied, those that are there."""
    if metadata is None:
        return None
    found = {key: (np.asarray(metadata[key], float) * by).tolist() for key, by in factors.items() if metadata.get(key)}
    return metadata | found


def _mapped(frames: Frames | None, function: Callable[[Array], Array], side: int) -> Frames | None:
    return None if frames is None else frames.map(function, side, frames.dtype)
