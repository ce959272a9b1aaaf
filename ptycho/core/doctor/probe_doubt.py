"""Whether the probe given can have made the patterns: what is said of its size is worth no more than that."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.core.doctor.statistics import ScanStatistics
from ptycho.core.physics.diffraction import as_modes
from ptycho.core.scan.stream import ScanStream
from ptycho.core.scan_edit.centre import FITS

__all__ = ["lag_reach", "probe_doubt"]

Array = NDArray[Any]

_SAMPLE = 32
_REACH = 0.9
"""Share of the power of the correlations within the reach."""
_BEYOND = 2.0
"""How much further the correlations of patterns reach than those of a probe that is too small to have made them. Of
45 simulated scans with their own probe, 1e3 to 1e8 photons, none is above 1.7."""


def probe_doubt(stream: ScanStream, statistics: ScanStatistics, likeness: float) -> str:
    """Why the probe of a scan is not to be believed, in half a sentence; '' where nothing speaks against it.

    Args:
        stream: the scan, with a probe.
        statistics: of it.
        likeness: of the mean pattern to the probe's far field, from 0 to 1 (`PatternCentre.likeness`).
    """
    if likeness < FITS:
        return f"the probe given does not explain the mean pattern (likeness {likeness:.2f} of 1)"
    power = np.sum(np.abs(as_modes(stream.fields.probe)) ** 2, axis=0, dtype=np.float64)
    own = _radius(np.abs(np.fft.ifft2(np.abs(np.fft.fft2(power)) ** 2)))
    seen = lag_reach(stream, statistics)
    if seen > _BEYOND * max(own, 1.0):
        return f"the patterns show light {seen:.0f} pixels apart to interfere, of a wider probe than that given"
    return ""


def lag_reach(stream: ScanStream, statistics: ScanStatistics) -> float:
    """Distance in pixels within which lies 90 % of what points of the exit waves show of each other.

    Of the differences of some patterns from their mean, the mean power spectrum: it reaches as far as the exit waves
    are wide where the object scatters strongly, less far where it hardly does. Photon noise, which is white, is taken
    off as seen at the rim.
    """
    frames = stream.frames
    chosen = np.unique(np.linspace(0, len(frames) - 1, min(len(frames), _SAMPLE)).round().astype(np.intp))
    values = frames.read(chosen).astype(np.float64)
    values = np.where(np.isfinite(values) & statistics.valid, np.maximum(values, 0), 0)
    intensity = values**2 if statistics.units == "amplitude" else values
    intensity /= np.maximum(intensity.sum(axis=(1, 2), keepdims=True), 1e-30)
    spectra = np.fft.ifft2(intensity - intensity.mean(axis=0))
    power = np.mean(np.abs(spectra) ** 2, axis=0)
    middle = len(power) // 2
    noise = float(np.median(np.concatenate([power[middle], power[:, middle]])))
    return _radius(np.maximum(power - 2 * noise, 0))


def _radius(power: Array) -> float:
    """Radius of the disk around [0, 0], periodic, that holds 90 % of a power (N, N)."""
    N = len(power)
    line = np.minimum(np.arange(N), N - np.arange(N))
    radius = np.hypot(line[:, None], line).ravel()
    order = np.argsort(radius, kind="stable")
    held = np.cumsum(power.ravel()[order])
    return float(radius[order][np.searchsorted(held, _REACH * held[-1])])
