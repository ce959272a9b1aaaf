"""Whether the values of a scan were taken for what they are: counts for amplitudes, or amplitudes for counts; photons.

The numbers tell it most often (`ptycho.core.scaling.decide_units`), and of whole amplitudes, or of counts that were
interpolated, they do not. With modes enough such patterns are explained, by an object that means nothing; unseen
patterns are foretold far better by the values as they are.
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.core.physics.diffraction import diffract
from ptycho.core.physics.patches import extract_rounded
from ptycho.core.reconstruction import Reconstruction
from ptycho.raw_data import RawData
from ptycho.workflows.scan_part import ScanPart, like, mask_of, telling_part
from ptycho.workflows.solver import Refine
from ptycho.workflows.trust import NOMINAL_PHOTONS, photon_scale

__all__ = ["noise_factor", "other_units"]

logger = logging.getLogger(__name__)

Array = NDArray[Any]

ITERATIONS = 14
"""Of a short reconstruction."""
FEWEST = 12
"""Patterns of a part below which nothing is said."""
BETTER, LEFT = 6.0, 0.15
"""Ratio of what is left of unseen patterns from which on the other unit is believed, and what it may leave of them.

Of values read wrongly 0.26 to 0.9 is left, 15 to 22 times as much as of the right ones; on clean scans that few
iterations do not explain the wrong reading leaves up to 3.3 times less than the right one.
"""
LOOKED_AT, BRIGHT = 40, 20.0
"""Patterns, and the photons of a pixel from which on it is looked at, for the noise."""


def other_units(data: RawData, refine: Refine) -> str:
    """A clause with what the values are, where unseen patterns say that they are the other; empty where they do not.

    Args:
        data: the scan, with a probe.
        refine: of a backend.
    """
    part = telling_part(data)
    if len(part.scan) < FEWEST or data.background is not None:
        return ""
    given, other = _unseen(part, data, refine), _unseen(_read_as_other(part, data), data, refine)
    logger.debug("units: %.3g of unseen patterns left as %s, %.3g as the other", given, data.units, other)
    if other > LEFT or given < BETTER * other:
        return ""
    is_not, units = ("counts", "amplitude") if data.units == "counts" else ("amplitudes", "counts")
    return (
        f"the values are not {is_not}: add --units {units}, by which unseen patterns are foretold "
        f"{given / max(other, 1e-30):.2g} times better"
    )


def _read_as_other(part: ScanPart, data: RawData) -> ScanPart:
    """The part with its values taken for the other unit, as bright as it was."""
    scan = part.scan
    amplitude = scan.amplitude(np.arange(len(scan))).astype(np.float64)
    values = np.square(amplitude) if data.units == "counts" else np.sqrt(amplitude)
    values *= np.linalg.norm(amplitude) / max(float(np.linalg.norm(values)), 1e-30)
    read = like(data, scan.xcoords, scan.ycoords, values.astype(np.float32), scan.probeGuess, scan.mask)
    read.scan_probes = scan.scan_probes
    return ScanPart(read, part.unseen, part.places)


def _unseen(part: ScanPart, data: RawData, refine: Refine) -> float:
    """What a short reconstruction leaves of unseen patterns, relative to what the mean pattern leaves: squares differ
    more from each other than roots, so that errors of both are not to be compared.
    """
    amplitude = part.scan.amplitude(np.arange(len(part.scan))).astype(np.float64)
    unseen = amplitude[part.unseen]
    differ = float(np.sum((unseen - amplitude.mean(axis=0)) ** 2) / np.sum(unseen**2))
    found = refine(
        part.scan,
        None,
        ITERATIONS,
        probe=data.probeGuess,
        likelihood="amplitude",
        refine_probe=True,
        holdout=part.unseen,
        patience=ITERATIONS + 1,
    )
    return min(found.unseen_history) / max(differ, 1e-30)


def noise_factor(found: Reconstruction, data: RawData) -> tuple[float, float]:
    """How much noisier bright pixels are than photon counting makes them, and how alike neighbouring pixels are.

    Of `2 (A - |F|)` in roots of photons, the variance, 1 for photon noise, and the larger of the correlations along x
    and along y: near 0 for noise, whatever its size, and some tenths for what a wrong model leaves.
    """
    some = np.unique(np.linspace(0, len(data) - 1, LOOKED_AT).round().astype(int))
    scale, _ = photon_scale(data, NOMINAL_PHOTONS)
    patches, dx, dy = extract_rounded(found.layers, found.xcoords[some], found.ycoords[some], data.N)
    recording = data.recorded(found.recording.of(some))
    expected = scale * diffract(found.probe.astype(np.complex128), patches, dx, dy, recording)
    left = 2 * (np.sqrt(scale) * data.amplitude(some) - np.sqrt(expected))
    bright = expected > BRIGHT
    mask = mask_of(data, some)
    if mask is not None:
        bright &= mask
    if np.count_nonzero(bright) < 100:
        return float("nan"), float("nan")
    variance = float(np.mean(left[bright] ** 2))
    return variance, max(abs(_likeness(left, bright, axis)) for axis in (1, 2)) / variance


def _likeness(left: Array, bright: Array, axis: int) -> float:
    """Mean product of neighbours along an axis."""
    values, known = np.moveaxis(left, axis, -1), np.moveaxis(bright, axis, -1)
    both = known[..., 1:] & known[..., :-1]
    return float((values[..., 1:] * values[..., :-1])[both].mean()) if both.any() else 0.0
