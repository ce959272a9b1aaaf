"""Test objects: complex transmission functions drawn from a seed, by name.

A kind is a function `(shape, rng, ...) -> (amplitude field, phase field)`, two real `(H, W)` arrays of any range;
`make_object` brings each to the range that was asked for. A new kind is one function and one line in `OBJECTS`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, zoom

from ptycho.core.named_functions import chosen
from ptycho.core.simulation.textures import dead_leaves, gaussian_field, perlin, polyhedra
from ptycho.errors import ConfigError, DataError

__all__ = ["OBJECTS", "make_object", "object_from_images"]

Field = NDArray[np.float64]
Kind = Callable[..., tuple[Field, Field]]

_SMALLEST = 16
_LINES_PER_256_PX = 400
_LINE_BLURS = ((1.0, 1.0), (2.0, 5.0), (5.0, 10.0))
"""(weight, sigma in pixels)."""
_SMOOTH_BAND = 0.05


def make_object(
    kind: str,
    shape: tuple[int, int],
    rng: np.random.Generator,
    amplitude: tuple[float, float] = (0.4, 1.0),
    phase: tuple[float, float] = (-1.0, 1.0),
    **settings: Any,
) -> NDArray[np.complex64]:
    """Draw an object `O = a exp(i p)` whose amplitude and phase span the given ranges.

    Args:
        kind: 'lines', random straight lines at three blur scales, the phase a soft threshold of the
            amplitude;
            'smooth', two unrelated random fields without spatial frequencies above 0.05 cycles per pixel;
            'siemens_star', one material cut into spokes and rings, the phase high and the amplitude low where
            it is thick (`amplitude=(1, 1)` makes it a pure phase object);
            'dead_leaves', 'gaussian_field', 'perlin', 'polyhedra': see `ptycho.core.simulation.textures`.
        shape: (H, W) in pixels, each at least 16.
        rng: source of every random number; the star draws none.
        amplitude: (lowest, highest), dimensionless.
        phase: (lowest, highest), radians.
        settings: settings of the kind, as its function names them, for example `radii=(3, 20)` of 'dead_leaves'.

    Returns:
        complex64 (H, W), index [y, x].

    Raises:
        ConfigError: an unknown kind or setting, a shape that is too small, a reversed range or a negative amplitude.
    """
    draw = chosen(OBJECTS, "object", kind, settings, leading=2)
    if min(shape) < _SMALLEST:
        raise ConfigError(f"shape: expected at least {_SMALLEST} pixels a side, found {shape}; enlarge it")
    return _transmission(*draw(shape, rng, **settings), amplitude, phase)


def object_from_images(
    amplitude_image: NDArray[Any],
    phase_image: NDArray[Any],
    shape: tuple[int, int] | None = None,
    amplitude: tuple[float, float] = (0.4, 1.0),
    phase: tuple[float, float] = (-1.0, 1.0),
) -> NDArray[np.complex64]:
    """Make an object of two pictures, brightness as amplitude and as phase (twice the same for one material).

    Args:
        amplitude_image: (h, w) real.
        phase_image: (h', w') real.
        shape: (H, W) to bring both to, by linear interpolation after a Gaussian where that makes them smaller;
            None is the shape of the first.
        amplitude: (lowest, highest), dimensionless.
        phase: (lowest, highest), radians.

    Raises:
        DataError: a picture that is no real image of at least 2 x 2 finite numbers.
        ConfigError: a reversed range or a negative amplitude.
    """
    wanted = amplitude_image.shape if shape is None else shape
    fields = []
    for name, image in (("amplitude image", amplitude_image), ("phase image", phase_image)):
        if image.ndim != 2 or min(image.shape) < 2 or image.dtype.kind not in "biuf":
            found = f"{image.dtype} {image.shape}"
            raise DataError(f"{name}: expected one real image (h, w) of at least 2 x 2, found {found}; convert it")
        if not np.isfinite(image).all():
            raise DataError(f"{name}: expected finite numbers, found NaN or infinity; repair it")
        fields.append(_resized(image.astype(np.float64), (wanted[0], wanted[1])))
    return _transmission(fields[0], fields[1], amplitude, phase)


def _resized(image: Field, shape: tuple[int, int]) -> Field:
    if image.shape == shape:
        return image
    factors = [new / old for new, old in zip(shape, image.shape, strict=True)]
    soft = gaussian_filter(image, [max(0.0, (1 / factor - 1) / 2) for factor in factors])
    resized: Field = zoom(soft, factors, order=1, mode="nearest", grid_mode=True)
    return resized


def _transmission(
    amplitude_field: Field, phase_field: Field, amplitude: tuple[float, float], phase: tuple[float, float]
) -> NDArray[np.complex64]:
    for name, (low, high), least in (("amplitude", amplitude, 0.0), ("phase", phase, -math.inf)):
        if not least <= low <= high:
            raise ConfigError(
                f"{name}: expected (lowest, highest), lowest >= {least:g}, found ({low}, {high}); correct it"
            )
    values = _to_range(amplitude_field, *amplitude) * np.exp(1j * _to_range(phase_field, *phase))
    return values.astype(np.complex64)


def _to_range(field: Field, low: float, high: float) -> Field:
    """Map a field linearly onto [low, high]; a field without contrast becomes `high`."""
    smallest, span = field.min(), np.ptp(field)
    return low + (high - low) * (field - smallest) / span if span > 0 else np.full_like(field, high)


def lines(shape: tuple[int, int], rng: np.random.Generator) -> tuple[Field, Field]:
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


def smooth(shape: tuple[int, int], rng: np.random.Generator) -> tuple[Field, Field]:
    """Two independent fields of white noise, cut off by a disk in Fourier space."""
    radius = np.hypot(np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1])[None, :])
    # the lowest frequencies always stay, or a small shape would be flat
    keep = radius <= max(_SMOOTH_BAND, 1.5 / min(shape))
    noise = np.fft.rfft2(rng.standard_normal((2, *shape)))
    amplitude_field, phase_field = np.fft.irfft2(noise * keep, s=shape)
    return amplitude_field, phase_field


def siemens_star(
    shape: tuple[int, int], rng: np.random.Generator, spokes: int = 36, rings: int = 4
) -> tuple[Field, Field]:
    """Spokes that narrow towards the middle, cut by rings, in a rim; edges blurred by 0.7 pixels. Draws nothing."""
    del rng
    y, x = (np.arange(n) - n / 2 for n in shape)
    radius = np.hypot(y[:, None], x[None, :]) / (0.45 * min(shape))
    bars = np.sin(spokes * np.arctan2(y[:, None], x[None, :])) > 0
    gaps = np.abs(radius * rings - np.rint(radius * rings)) < 0.08
    rim = (radius > 1) & (radius < 1.06)
    thickness: Field = gaussian_filter(((bars & ~gaps & (radius < 1)) | rim).astype(np.float64), 0.7)
    return -thickness, thickness


OBJECTS: dict[str, Kind] = {
    "lines": lines,
    "smooth": smooth,
    "siemens_star": siemens_star,
    "dead_leaves": dead_leaves,
    "gaussian_field": gaussian_field,
    "perlin": perlin,
    "polyhedra": polyhedra,
}
"""Every kind of object by its name."""
