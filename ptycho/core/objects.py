"""Test objects: complex transmission functions drawn from a seed, by name.

A kind is a function `(shape, rng) -> (amplitude field, phase field)`, two real `(H, W)` arrays of any range;
`make_object` brings each to the range that was asked for. A new kind is one function and one line in
`OBJECT_KINDS`.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from ptycho.errors import ConfigError

__all__ = ["OBJECT_KINDS", "make_object"]

Field = NDArray[np.float64]
Kind = Callable[[tuple[int, int], np.random.Generator], tuple[Field, Field]]

_SMALLEST = 16
_LINES_PER_256_PX = 400
_LINE_BLURS = ((1.0, 1.0), (2.0, 5.0), (5.0, 10.0))
"""(weight, sigma in pixels)."""
_SMOOTH_BAND = 0.05
_STAR_SPOKES = 36
_STAR_RINGS = 4


def make_object(
    kind: str,
    shape: tuple[int, int],
    rng: np.random.Generator,
    amplitude: tuple[float, float] = (0.4, 1.0),
    phase: tuple[float, float] = (-1.0, 1.0),
) -> NDArray[np.complex64]:
    """Draw an object `O = a exp(i p)` whose amplitude and phase span the given ranges.

    Args:
        kind: 'lines', random straight lines at three blur scales, the phase a soft threshold of the
            amplitude;
            'smooth', two unrelated random fields without spatial frequencies above 0.05 cycles per pixel;
            'siemens_star', one material cut into spokes and rings, the phase high and the amplitude low where
            it is thick (`amplitude=(1, 1)` makes it a pure phase object).
        shape: (H, W) in pixels, each at least 16.
        rng: source of every random number; the star draws none.
        amplitude: (lowest, highest), dimensionless.
        phase: (lowest, highest), radians.

    Returns:
        complex64 (H, W), index [y, x].

    Raises:
        ConfigError: an unknown kind, a shape that is too small, a reversed range or a negative amplitude.
    """
    if kind not in OBJECT_KINDS:
        raise ConfigError(f"kind: expected one of {', '.join(OBJECT_KINDS)}, found {kind!r}; choose one")
    if min(shape) < _SMALLEST:
        raise ConfigError(f"shape: expected at least {_SMALLEST} pixels a side, found {shape}; enlarge it")
    for name, (low, high), least in (("amplitude", amplitude, 0.0), ("phase", phase, -math.inf)):
        if not least <= low <= high:
            raise ConfigError(
                f"{name}: expected (lowest, highest), lowest >= {least:g}, found ({low}, {high}); correct it"
            )
    amplitude_field, phase_field = OBJECT_KINDS[kind](shape, rng)
    values = _to_range(amplitude_field, *amplitude) * np.exp(1j * _to_range(phase_field, *phase))
    return values.astype(np.complex64)


def _to_range(field: Field, low: float, high: float) -> Field:
    """Map a field linearly onto [low, high]."""
    smallest = field.min()
    return low + (high - low) * (field - smallest) / (field.max() - smallest)


def _lines(shape: tuple[int, int], rng: np.random.Generator) -> tuple[Field, Field]:
    """Lines between random points of a canvas of twice the size, blurred, the middle kept.

    The number of lines grows with the side, 400 at 256 pixels, so that every size has the same texture.
    """
    height, width = shape
    canvas = np.zeros((2 * height, 2 * width))
    along = np.linspace(0.0, 1.0, 2 * max(shape))[:, None]
    for _ in range(round(_LINES_PER_256_PX * math.sqrt(height * width) / 256)):
        start, end = rng.random((2, 2)) * canvas.shape
        rows, cols = (start + along * (end - start)).astype(np.intp).T
        canvas[rows, cols] = 1.0
    blurred = sum((weight * gaussian_filter(canvas, sigma) for weight, sigma in _LINE_BLURS), np.zeros(()))
    field = blurred[height // 2 : height // 2 + height, width // 2 : width // 2 + width]
    return field, np.tanh((field - field.max() / 2) / (3 * field.mean()))


def _smooth(shape: tuple[int, int], rng: np.random.Generator) -> tuple[Field, Field]:
    """Two independent fields of white noise, cut off by a disk in Fourier space."""
    radius = np.hypot(np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1])[None, :])
    # the lowest frequencies always stay, or a small shape would be flat
    keep = radius <= max(_SMOOTH_BAND, 1.5 / min(shape))
    noise = np.fft.rfft2(rng.standard_normal((2, *shape)))
    amplitude_field, phase_field = np.fft.irfft2(noise * keep, s=shape)
    return amplitude_field, phase_field


def _siemens_star(shape: tuple[int, int], rng: np.random.Generator) -> tuple[Field, Field]:
    """Spokes that narrow towards the middle, cut by rings, in a rim; edges blurred by 0.7 pixels."""
    del rng
    y, x = (np.arange(n) - n / 2 for n in shape)
    radius = np.hypot(y[:, None], x[None, :]) / (0.45 * min(shape))
    spokes = np.sin(_STAR_SPOKES * np.arctan2(y[:, None], x[None, :])) > 0
    gaps = np.abs(radius * _STAR_RINGS - np.rint(radius * _STAR_RINGS)) < 0.08
    rim = (radius > 1) & (radius < 1.06)
    thickness: Field = gaussian_filter(((spokes & ~gaps & (radius < 1)) | rim).astype(np.float64), 0.7)
    return -thickness, thickness


OBJECT_KINDS: dict[str, Kind] = {"lines": _lines, "smooth": _smooth, "siemens_star": _siemens_star}
"""Every kind of object by its name."""
