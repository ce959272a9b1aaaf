"""What a detector does not see: module gaps, bad pixels, a beam stop. Masks are True where a pixel is valid."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.errors import ConfigError

__all__ = ["bad_pixel_mask", "beam_stop_mask", "detector_mask", "gap_mask", "without_rim"]

Mask = NDArray[np.bool_]


def gap_mask(N: int, width: int, offset: int = 0) -> Mask:
    """A cross of gaps between four modules: `width` rows and columns around index `N/2 + offset` are blind.

    The first blind index is `N/2 + offset - width // 2`.

    Raises:
        ConfigError: a negative width, or gaps that do not lie on the detector.
    """
    first = N // 2 + offset - width // 2
    if width < 0 or first < 0 or first + width > N:
        found = f"width {width}, offset {offset}"
        raise ConfigError(f"gap: expected width >= 0 and a gap on the {N} pixels, found {found}; correct them")
    valid = np.ones((N, N), bool)
    valid[first : first + width] = False
    valid[:, first : first + width] = False
    return valid


def bad_pixel_mask(N: int, fraction: float, rng: np.random.Generator) -> Mask:
    """`round(fraction N^2)` different pixels, evenly distributed, are bad.

    Raises:
        ConfigError: a fraction outside of [0, 1).
    """
    if not 0 <= fraction < 1:
        raise ConfigError(f"bad pixels: expected a fraction of at least 0 and below 1, found {fraction}; correct it")
    valid = np.ones(N * N, bool)
    valid[rng.choice(N * N, round(fraction * N * N), replace=False)] = False
    return valid.reshape(N, N)


def beam_stop_mask(N: int, diameter: float) -> Mask:
    """Pixels up to `diameter / 2` from the zero frequency at [N/2, N/2] are behind the stop; 0 is no stop.

    Raises:
        ConfigError: a negative diameter.
    """
    if not diameter >= 0:
        raise ConfigError(f"beam stop: expected a diameter of 0 or more pixels, found {diameter}; correct it")
    line = np.arange(N) - N // 2
    stopped: Mask = np.hypot(line[:, None], line[None, :]) <= diameter / 2 if diameter else np.zeros((N, N), bool)
    return ~stopped


def without_rim(mask: Mask | None, N: int, width: int) -> Mask | None:
    """The mask (None: all valid) with `width` pixels along every side of the detector not valid."""
    if not width:
        return mask
    valid = np.zeros((N, N), bool)
    valid[width:-width, width:-width] = True
    return valid if mask is None else valid & mask


def detector_mask(
    N: int,
    rng: np.random.Generator,
    gap_width: int = 0,
    gap_offset: int = 0,
    bad_pixels: float = 0.0,
    beam_stop: float = 0.0,
) -> Mask | None:
    """All of it together, `(N, N)`; None where every pixel is valid.

    Raises:
        ConfigError: a part that cannot be, or no valid pixel left.
    """
    parts: list[NDArray[Any]] = [
        gap_mask(N, gap_width, gap_offset),
        bad_pixel_mask(N, bad_pixels, rng),
        beam_stop_mask(N, beam_stop),
    ]
    valid: Mask = np.logical_and.reduce(parts)
    if not valid.any():
        raise ConfigError(f"detector: expected valid pixels, found none of {N} x {N}; make gaps and stop smaller")
    return None if valid.all() else valid
