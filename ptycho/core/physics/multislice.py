"""Thick objects as slices with free space between them (`ptycho.core.physics.diffraction.diffract` has the formula)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.core.physics.near_field import NearField, fresnel_number
from ptycho.errors import ConfigError, DataError

__all__ = ["MOST_SLICES", "gap_distance_m", "gap_of", "projected"]

Array = NDArray[Any]

MOST_SLICES = 20


def projected(image: Array) -> Array:
    """The product of all slices `(K, H, W)` along the beam, what a thin object would be; `(H, W)` is returned as it is.

    >>> projected(np.array([[[2.0, 1j]], [[3.0, 1j]]]))
    array([[ 6.+0.j, -1.+0.j]])
    """
    return image if image.ndim == 2 else np.asarray(image.prod(axis=0))


def gap_of(slices: int, thickness_m: float, wavelength_m: float, pixel_m: float, n: int) -> NearField:
    """The free space between two of the slices that a sample is cut into: each stands in the middle of a K-th part.

    Args:
        slices: K, from 2 to 20.
        thickness_m: of the whole sample, metres.
        wavelength_m: metres.
        pixel_m: side of a pixel of the object, metres.
        n: side of a pattern, pixels.

    Raises:
        ConfigError: another number of slices, or a thickness that is not above 0, or that the pixels do not sample.
    """
    if not 2 <= slices <= MOST_SLICES:
        raise ConfigError(f"slices: expected 2 to {MOST_SLICES}, found {slices}; change it")
    if not 0 < thickness_m < math.inf:
        raise ConfigError(f"thickness: expected metres above 0, found {thickness_m}; for example 10e-6")
    gap = NearField(fresnel_number(wavelength_m, thickness_m / slices, pixel_m), wavelength_m / pixel_m)
    try:
        gap.transfer_function(n)
    except DataError:
        most = n * pixel_m**2 / wavelength_m
        needed = math.ceil(thickness_m / most)
        advice = f"take {needed} slices or more" if needed <= MOST_SLICES else "check thickness, pixel and energy"
        raise ConfigError(
            f"thickness: expected slices at most {most:.3g} m apart, the farthest that patterns of {n} pixels sample, "
            f"found {thickness_m / slices:.3g} m; {advice}"
        ) from None
    return gap


def gap_distance_m(gap: NearField, pixel_m: float | None) -> float | None:
    """Metres between two slices; None where the size of a pixel is not known, nor the wavelength."""
    if pixel_m is None or not gap.wavelength_px:
        return None
    return pixel_m / (gap.wavelength_px * gap.fresnel_number)
