"""Amplitude or photon counts? What the numbers of a scan mean, by themselves or beside its probe."""

from __future__ import annotations

import logging
import warnings
from dataclasses import dataclass
from itertools import pairwise
from math import inf, log
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ptycho.core.scaling import Units, energy_of_probe, pattern_stack
from ptycho.errors import ConfigError, DataError

__all__ = ["UnitsDecision", "decide_units"]

logger = logging.getLogger(__name__)

Mask = NDArray[np.bool_]

_SAMPLE_FRAMES = 32
_MOSTLY = 0.9
_MARGIN = log(2.0)
_PLAUSIBLE = log(1000.0)
_QUIET, _LEVELS, _ENOUGH = 0.7, (1.0, 2.0, 4.0, 8.0, inf), 1000
"""Variance over mean below which values are no photons, whose ratio is 1 and more, between which means it is taken,
and from how many values on."""


_FAR, _OFF = 50, 0.01
"""Differences between patterns that are looked at, in the smallest of them, and how far they may be off a whole one."""


@dataclass(frozen=True)
class UnitsDecision:
    """What the patterns of a scan are, and why.

    `rule` is the one that decided: 'declared', 'integers', 'integers against the probe', 'quiet integers',
    'whole squares', 'whole values', 'whole steps', 'below 0', 'probe' or 'undecidable'. The numbers are those of the
    sample looked at; None where no rule needed them.
    """

    units: Units
    rule: str
    whole_squares: float | None = None
    """Fraction of the non-whole values whose square is whole to rounding."""
    whole_values: float | None = None
    """Fraction of the non-zero values that are whole."""
    maximum: float | None = None
    mean_sum: float | None = None
    """mean_j sum X_j, the energy of a pattern if it holds counts."""
    mean_sum_of_squares: float | None = None
    """mean_j sum X_j^2, the energy of a pattern if it holds amplitude."""
    probe_energy: float | None = None
    photons: float | None = None
    """Photons in one unit of intensity, where the steps of the values show them: the inverse of the gain."""

    def __str__(self) -> str:
        numbers = (
            ("whole squares", self.whole_squares, 3),
            ("whole values", self.whole_values, 3),
            ("maximum", self.maximum, 6),
            ("sum", self.mean_sum, 6),
            ("sum of squares", self.mean_sum_of_squares, 6),
            ("probe energy", self.probe_energy, 6),
            ("photons per unit", None if self.photons == 1 else self.photons, 6),
        )
        seen = ", ".join(f"{name} {number:.{digits}g}" for name, number, digits in numbers if number is not None)
        return f"{self.units} (rule: {self.rule}{'; ' if seen else ''}{seen})"


def decide_units(
    patterns: ArrayLike,
    probe: ArrayLike | None,
    declared: str | None = None,
    undecidable: Literal["error", "amplitude"] = "error",
    mask: Mask | None = None,
) -> UnitsDecision:
    """Whether patterns hold amplitude or photon counts. The first rule that decides wins:

    1. `declared`: the scan says so.
    2. Integer dtype: counts, unless they vary far less than photons do and their squares have the energy of the probe
       (rule 7): amplitude, stored as integers.
    3. Non-whole values whose squares are whole to rounding: amplitude of counts.
    4. More than 90 % of the values whole, maximum above 1: counts (a few pixels may be interpolated).
    5. Rules 4 and 3 again in steps of the smallest value: counts times a gain, or amplitude of counts times
       a factor (a scan normalised to its probe).
    6. Values below 0 that differ from pattern to pattern by whole steps: counts that something was subtracted from.
    7. The probe: `mean_j sum X_j` (counts) or `mean_j sum X_j^2` (amplitude), whichever is nearer to
       `sum |P|^2` in the logarithm. It does not decide when the two are within a factor of 2 of being
       equally near, when the nearer is more than a factor of 1000 away, or when there is no probe.

    Zeros are whole in every unit and count for nothing. Rules 3 to 7 look at no more than 32 frames, evenly
    spaced over the scan, so that a memory-mapped scan is not read as a whole; masked pixels are left out.
    The decision is logged with its numbers.

    Args:
        patterns: (n, N, N).
        probe: (N, N) or (M, N, N); None where the scan has none.
        declared: 'amplitude', 'counts' or None.
        undecidable: what to do when no rule decides: raise, or take amplitude with one warning.
        mask: (N, N) or (n, N, N), True where valid.

    Raises:
        ConfigError: `declared` is neither.
        DataError: no rule decides, and `undecidable` is 'error'.
    """
    data = pattern_stack(patterns)
    decision = _decide(data, probe, declared, mask)
    if decision.rule == "undecidable":
        fact = f"amplitude or counts? The patterns do not tell: {decision}"
        if undecidable == "error":
            raise DataError(f"{fact}; say --units amplitude or --units counts")
        warnings.warn(f"{fact}; taken as amplitude, pass units= to say otherwise", UserWarning, stacklevel=2)
    logger.log(logging.DEBUG if declared else logging.INFO, "diffraction units: %s", decision)
    return decision


def _decide(data: NDArray[Any], probe: ArrayLike | None, declared: str | None, mask: Mask | None) -> UnitsDecision:
    if declared is not None and declared not in get_args(Units):
        raise ConfigError(f"units={declared!r}: expected 'amplitude' or 'counts'; correct or omit it")
    energy = None if probe is None else energy_of_probe(probe)
    if data.dtype.kind in "iu":
        return _of_integers(data, energy, declared, mask)
    values, frames = _sample(data, mask)
    values = values if declared is None else values[np.isfinite(values)]
    nonzero = values[values != 0]
    # Never finer than float32: a root taken in float32 and stored as float64 is no better for it.
    eps = max(float(np.finfo(data.dtype).eps), float(np.finfo(np.float32).eps))
    squares, informative = _whole_squares(nonzero, eps)
    whole = float(np.mean(nonzero == np.rint(nonzero))) if nonzero.size else 0.0
    maximum = float(values.max(initial=0.0))
    sums = (float(values.sum()) / frames, float(np.vdot(values, values)) / frames)
    numbers = (squares, whole, maximum, *sums, energy)
    found = None
    if informative and squares > _MOSTLY:
        found = UnitsDecision("amplitude", "whole squares", *numbers, photons=1 / _whole_step(nonzero, eps))
    elif whole > _MOSTLY and maximum > 1:
        found = UnitsDecision("counts", "whole values", *numbers, photons=1.0)
    elif (stepped := _units_by_steps(nonzero, eps)) is not None:
        smallest = float(nonzero[nonzero > 0].min())
        step = smallest if stepped == "counts" else smallest**2
        found = UnitsDecision(stepped, "whole steps", *numbers, photons=1 / step)
    elif values.min(initial=0.0) < 0 and (below := _step_between_patterns(data, mask)) is not None:
        found = UnitsDecision("counts", "below 0", *numbers, photons=1 / below)
    if declared is not None:
        units: Units = "amplitude" if declared == "amplitude" else "counts"
        if found is not None and found.units == units:
            return UnitsDecision(units, "declared", photons=found.photons)
        # values that only corrections keep from being whole are near to photons; those up to 1 are normalised
        return UnitsDecision(units, "declared", photons=1.0 if units == "counts" and maximum > 1 else None)
    if found is not None:
        return found
    nearer = None if energy is None else _units_by_probe(*sums, energy)
    if nearer is not None:
        return UnitsDecision(nearer, "probe", *numbers, photons=1.0 if nearer == "counts" and maximum > 1 else None)
    return UnitsDecision("amplitude", "undecidable", *numbers)


def _of_integers(
    data: NDArray[Any], probe_energy: float | None, declared: str | None, mask: Mask | None
) -> UnitsDecision:
    """Counts, unless they are declared amplitude, or their noise and the energy of the probe say so."""
    if declared is not None:
        units: Units = "amplitude" if declared == "amplitude" else "counts"
        return UnitsDecision(units, "declared", photons=1.0 if units == "counts" else None)
    if probe_energy is not None:
        values, frames = _sample(data, mask)
        sums = (float(values.sum()) / frames, float(np.vdot(values, values)) / frames)
        if _units_by_probe(*sums, probe_energy) == "amplitude":
            numbers = (None, 1.0, float(values.max()), *sums, probe_energy)
            if _quieter_than_photons(data, mask):
                return UnitsDecision("amplitude", "quiet integers", *numbers)
            return UnitsDecision("counts", "integers against the probe", *numbers, photons=1.0)
    return UnitsDecision("counts", "integers", photons=1.0)


def _quieter_than_photons(data: NDArray[Any], mask: Mask | None) -> bool:
    """Whether pixels vary from pattern to pattern far less than counts of photons, to which the sample only adds."""
    chosen = _some_frames(data)
    values = data[chosen].astype(np.float64)
    valid = np.ones(values.shape[1:], bool) if mask is None else mask[chosen].all(axis=0) if mask.ndim == 3 else mask
    mean, variance = values.mean(axis=0), values.var(axis=0)
    levels = (valid & (mean >= low) & (mean < high) for low, high in pairwise(_LEVELS))
    enough = (level for level in levels if np.count_nonzero(level) * (len(chosen) - 1) >= _ENOUGH)
    unbiased = _QUIET * (1 - 1 / len(chosen))
    return any(bool(variance[level].sum() < unbiased * mean[level].sum()) for level in enough)


def _some_frames(data: NDArray[Any]) -> NDArray[np.intp]:
    """Indices of at most 32 frames, evenly spaced."""
    return np.unique(np.linspace(0, len(data) - 1, _SAMPLE_FRAMES).round().astype(np.intp))


def _sample(data: NDArray[Any], mask: Mask | None) -> tuple[NDArray[np.float64], int]:
    """Valid values of at most 32 frames, evenly spaced, as one vector, and the number of frames."""
    chosen = _some_frames(data)
    frames = data[chosen].astype(np.float64)
    if mask is None:
        return frames.reshape(-1), len(chosen)
    valid = np.broadcast_to(mask[chosen] if mask.ndim == 3 else mask, frames.shape)
    return frames[valid], len(chosen)


def _whole_squares(values: NDArray[np.float64], eps: float) -> tuple[float, bool]:
    """Fraction of the non-whole values whose square is whole, and whether that could not be chance.

    A value rounded to relative accuracy eps / 2 has a square good to `eps * square`; squares so large that
    this tells nothing (above 1 % of a step) are left out. Chance is ruled out below one in 10^6.
    """
    squares = values[values != np.rint(values)] ** 2
    tolerance = 2 * eps * squares
    squares, tolerance = squares[tolerance < 0.01], tolerance[tolerance < 0.01]
    hits = (np.abs(squares - np.rint(squares)) <= tolerance) & (squares > 0.5)
    if not hits.any():
        return 0.0, False
    return float(hits.mean()), _beyond_chance(tolerance[hits])


def _whole_step(values: NDArray[np.float64], eps: float) -> float:
    """How many times a whole number the squares of amplitudes are, where all are multiples of it; 1 where not."""
    step = np.rint(values[values > 0].min() ** 2)
    return float(step) if step > 1 and _units_by_steps(values, eps) == "amplitude" else 1.0


def _units_by_steps(values: NDArray[np.float64], eps: float) -> Units | None:
    """The unit in which the values are whole multiples of the smallest one; None if neither is."""
    positive = values[values > 0]
    if positive.size == 0:
        return None
    # Larger steps are not told apart at this accuracy; they go first, since they may overflow.
    small = positive[positive < positive.min() * (0.01 / (4 * eps))]
    ratio = small / positive.min()
    choices: tuple[tuple[Units, NDArray[np.float64]], ...] = (("counts", ratio), ("amplitude", ratio**2))
    for units, steps in choices:
        steps = steps[(steps > 1.5) & (4 * eps * steps < 0.01)]
        tolerance = 4 * eps * steps
        hits = np.abs(steps - np.rint(steps)) <= tolerance
        if hits.any() and hits.mean() > _MOSTLY and _beyond_chance(tolerance[hits]):
            return units
    return None


def _step_between_patterns(data: NDArray[Any], mask: Mask | None) -> float | None:
    """The step by which values of a pixel differ from pattern to pattern; None where there is none.

    A number that each pixel has of its own, the background that was subtracted, is in no difference. They are looked at
    up to 50 steps, of values that float32 holds well.
    """
    chosen = _some_frames(data)
    frames = data[chosen].astype(np.float64)
    good = np.isfinite(frames)
    if mask is not None:
        good &= mask[chosen] if mask.ndim == 3 else mask
    above = (frames - np.where(good, frames, np.inf).min(axis=0))[good]
    above = above[above > np.finfo(np.float32).eps * float(np.abs(frames[good]).max(initial=0.0))]
    if above.size == 0:
        return None
    least = float(above.min())
    steps = above[above < _FAR * least] / least
    whole = np.rint(steps)
    hits = np.abs(steps - whole) <= _OFF
    further = np.count_nonzero(hits & (whole > 1))
    if hits.mean() <= _MOSTLY or not _beyond_chance(np.full(further, _OFF)):
        return None
    step = least * float(np.median(steps / whole))
    return 1.0 if abs(step - 1) < _OFF else step


def _beyond_chance(tolerance: NDArray[np.float64]) -> bool:
    """Whether numbers this near to whole numbers would come about by chance less than once in 10^6."""
    return float(np.log(2 * tolerance).sum()) < log(1e-6)


def _units_by_probe(mean_sum: float, mean_sum_of_squares: float, probe_energy: float) -> Units | None:
    """The unit whose energy is nearer to the probe's in the logarithm; None where that would be a guess."""
    counts, amplitude = (
        abs(log(energy / probe_energy)) if energy > 0 and probe_energy > 0 else inf
        for energy in (mean_sum, mean_sum_of_squares)
    )
    if min(counts, amplitude) > _PLAUSIBLE or abs(counts - amplitude) < _MARGIN:
        return None
    return "counts" if counts < amplitude else "amplitude"
