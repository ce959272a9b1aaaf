"""Scales: the factors between file, network and photons.

The network sees `X_norm = k A`, A the amplitude as in the file; `s X_norm` is in photon units; inside the
model the probe is `a P`. k, s and a are computed here and nowhere else; `ptycho.core.unit_decision` says whether a file
holds amplitudes or counts.
"""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator, Mapping
from math import isfinite, sqrt
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ptycho.errors import DataError

__all__ = [
    "Units",
    "energy_of_probe",
    "frame_blocks",
    "input_scale",
    "intensity_scale",
    "largest_amplitude",
    "mean_energy",
    "pattern_stack",
    "photons_per_frame",
    "probe_scale",
    "recorded_photons",
    "to_amplitude",
]

logger = logging.getLogger(__name__)

Units = Literal["amplitude", "counts"]
Mask = NDArray[np.bool_]

_BLOCK_PIXELS = 1 << 21


def frame_blocks(count: int, pixels: int) -> Iterator[slice]:
    """Slices over `count` frames of `pixels` pixels each, at most 16 MB of float64 or one frame."""
    step = max(1, _BLOCK_PIXELS // max(pixels, 1))
    for start in range(0, count, step):
        yield slice(start, min(start + step, count))


def mean_energy(patterns: ArrayLike, mask: Mask | None = None, units: Units = "amplitude") -> float:
    """Mean over patterns of their energy, `mean_j sum A_j^2`, over valid pixels, in float64.

    For patterns in counts this is the mean number of counts, since A^2 is the count. Read in blocks.

    Args:
        patterns: (n, N, N), amplitude or counts as `units` says.
        mask: (N, N) or (n, N, N), True where the pixel is valid; None takes every pixel.
        units: 'amplitude' (the default) or 'counts'.

    >>> mean_energy(np.array([[[3.0, 4.0], [0.0, 0.0]]]))
    25.0
    """
    data = pattern_stack(patterns)
    total = 0.0
    for block in frame_blocks(len(data), data[0].size):
        values = data[block].astype(np.float64)
        if mask is not None:
            values = np.where(mask[block] if mask.ndim == 3 else mask, values, 0.0)
        total += float(np.vdot(values, values) if units == "amplitude" else values.sum())
    return total / len(data)


def largest_amplitude(patterns: ArrayLike, mask: Mask | None = None, units: Units = "amplitude") -> float:
    """Largest amplitude over patterns and valid pixels; arguments as of `mean_energy`. Read in blocks.

    >>> largest_amplitude(np.array([[[3, 16], [0, 0]]]), units="counts")
    4.0
    """
    data = pattern_stack(patterns)
    largest = 0.0
    for block in frame_blocks(len(data), data[0].size):
        values = data[block] if mask is None else np.where(mask[block] if mask.ndim == 3 else mask, data[block], 0)
        largest = max(largest, float(values.max()))
    return largest if units == "amplitude" else sqrt(largest)


def input_scale(mean_energy: float, N: int) -> float:
    """Input scale k = sqrt((N/2)^2 / mean energy): brings patterns to the mean energy the network works at.

    Args:
        mean_energy: `mean_j sum A_j^2` of the training set, in the unit of the file squared.
        N: pattern side, pixels.

    >>> input_scale(4.0, 64)
    16.0
    """
    return _positive(N, "N") / 2 / sqrt(_positive(mean_energy, "mean energy of the patterns"))


def intensity_scale(nphotons: float, N: int) -> float:
    """Intensity scale s = sqrt(nphotons) / (N/2): from network units to the square root of photons.

    >>> intensity_scale(1e4, 64)
    3.125
    """
    return sqrt(_positive(nphotons, "nphotons")) / (_positive(N, "N") / 2)


def probe_scale(probe: ArrayLike, N: int) -> float:
    """Probe scale a = sqrt((N/2)^2 / sum |P|^2), over all modes: gives `a P` the energy the network works at.

    Args:
        probe: (N, N) or (M, N, N) complex.
        N: pattern side, pixels.
    """
    return _positive(N, "N") / 2 / sqrt(_positive(energy_of_probe(probe), "energy of the probe"))


def to_amplitude(
    patterns: ArrayLike, units: Units, background: NDArray[np.float64] | None = None
) -> NDArray[np.float32]:
    """Patterns as float32 amplitude: themselves, or the square root of counts.

    What is below 0, as interpolation over bad pixels leaves it, becomes 0.

    Args:
        patterns: (b, N, N).
        units: of the patterns.
        background: (N, N) added to counts first, where one was subtracted from them
            (`ptycho.core.scan.subtracted`).
    """
    data = np.asarray(patterns)
    if units == "amplitude":
        return np.maximum(data, 0).astype(np.float32)
    # Root in float64 where float32 could not hold the count.
    wide = data if data.dtype.kind == "f" and data.dtype.itemsize <= 4 else data.astype(np.float64)
    if background is not None:
        wide = wide + background
    return np.sqrt(np.maximum(wide, 0)).astype(np.float32)


def recorded_photons(metadata: Mapping[str, Any] | None) -> float | None:
    """The mean photons per pattern that the metadata of a scan record; None where they do not.

    Raises:
        DataError: `nphotons` is no positive finite number.
    """
    recorded = (metadata or {}).get("nphotons")
    if recorded is None:
        return None
    if isinstance(recorded, int | float | np.number) and 0 < recorded <= sys.float_info.max:
        return float(recorded)
    raise DataError(
        f"nphotons of the scan's metadata: expected a positive finite number, found {str(recorded)[:40]}; correct it"
    )


def photons_per_frame(
    mean_energy: float,
    units: Units,
    configured: float | None = None,
    recorded: float | None = None,
    photons: float | None = 1.0,
) -> float:
    """Mean photons per pattern of a scan.

    With counts the data say it: the mean count times the photons in a count; a configured value off by more than a
    factor of 2 gets one warning. With amplitude, and counts of unknown gain, it is the number recorded in the scan's
    metadata, else the configured one.

    Args:
        mean_energy: `mean_j sum A_j^2`, for counts the mean count.
        units: of the scan.
        configured: nphotons of the configuration.
        recorded: nphotons of the scan's metadata.
        photons: in a count (`UnitsDecision.photons`); None where that is not known.

    Raises:
        DataError: amplitudes, or counts of unknown gain, and neither number is there.
    """
    if units == "counts" and photons is not None:
        measured = photons * _positive(mean_energy, "mean count per pattern")
        if configured is not None and not 0.5 <= configured / measured <= 2:
            warnings.warn(
                f"nphotons={configured:g} was configured, the patterns hold {measured:g} counts on average; "
                "the patterns are believed",
                UserWarning,
                stacklevel=2,
            )
        return measured
    if recorded is not None:
        return _positive(recorded, "nphotons of the scan's metadata")
    if configured is not None:
        return _positive(configured, "nphotons")
    raise DataError(
        "nphotons: expected in the scan's metadata or the configuration, since the patterns do not tell it, "
        "found in neither; set nphotons"
    )


def pattern_stack(patterns: ArrayLike) -> NDArray[Any]:
    """Patterns `(n, N, N)` as an array.

    Raises:
        DataError: these are none.
    """
    data = np.asanyarray(patterns)
    if data.ndim != 3 or len(data) == 0:
        raise DataError(f"diffraction: expected (n, N, N) with n > 0, found shape {data.shape}; pass a stack")
    return data


def energy_of_probe(probe: ArrayLike) -> float:
    """Sum of |P|^2 over pixels and modes, float64."""
    field = np.asarray(probe)
    return float(np.sum(field.real.astype(np.float64) ** 2) + np.sum(field.imag.astype(np.float64) ** 2))


def _positive(value: float, name: str) -> float:
    if not (isfinite(value) and value > 0):
        raise DataError(f"{name}: expected a positive finite number, found {value}; check the scan and units")
    return float(value)
