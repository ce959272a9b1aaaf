"""A probe from the patterns alone: several starts on a part of the scan, ranked by how well they foretell the rest.

The mean of all patterns is nearly the pattern of the bare beam, so that its root is the modulus of the pupil. What is
missing is the pupil's phase, in most set-ups a defocus: that is searched for. Beside it a disk is tried, the far field
of which has signs that no mean pattern tells. What counts is the error of patterns that a short reconstruction of their
neighbours did not see; that of patterns seen falls for any probe.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.core.doctor.held_out import inner_points
from ptycho.core.geometry import object_frame
from ptycho.core.physics.diffraction import diffract
from ptycho.core.physics.patches import extract_rounded
from ptycho.core.physics.probe_estimates import (
    carried_back,
    defocused_pupil,
    filled_modulus,
    light_radius,
    light_side,
    matching_disk,
)
from ptycho.core.physics.resample import resampled_probe
from ptycho.core.refinement.refinement import Refinement
from ptycho.core.scan.stream import Frames
from ptycho.core.scan_edit.centre import mean_intensity
from ptycho.errors import DataError
from ptycho.raw_data import RawData
from ptycho.workflows.scan_part import taken, telling_part
from ptycho.workflows.solver import Refine

__all__ = ["Tried", "searched_probe"]

logger = logging.getLogger(__name__)

Array = NDArray[Any]

_FEWEST = 5
"""Patterns that tell anything."""
_LARGEST = 256
"""Side of the central square of the detector that is looked at: bounds time and memory."""
_LIGHT, _SIDES = 0.95, (32, 128)
"""Share of the light in the central square that the defocus is searched in, and its smallest and largest side."""
_WIDTHS = 1.43 / 1.3 ** np.arange(11)
"""Geometric widths of the defocused beam that are tried, over the side of the window; of either sign."""
_BETWEEN = (1.3 ** (1 / 3), 1.3 ** (-1 / 3))
_GLANCE, _LOOK, _MORE = 2, 6, 12
"""Iterations of each defocus with the probe held, of each finalist with the probe free, and of the best beyond."""
_NEAR = 1.6
"""Ratio of errors below which a glance does not decide between two."""
_BLIND = 0.95
"""Error, in units of what the mean pattern leaves, from which on a probe foretells nothing."""


@dataclass(frozen=True)
class Tried:
    """One start that was reconstructed from."""

    name: str
    error: float
    """Error of the unseen patterns, over the error of taking their mean modulus for each of them: 1 knows nothing."""
    iterations: int


@dataclass(frozen=True)
class _Part:
    """Neighbouring patterns, some of which are kept back."""

    seen: RawData
    unseen: RawData
    everyone: RawData
    blind: float
    """`sum (mean modulus - A)^2` over the unseen patterns."""
    modulus: Array
    """(N, N) of the mean pattern."""

    @classmethod
    def of(cls, data: RawData, modulus: Array) -> _Part:
        kept_back = inner_points(data.xcoords, data.ycoords)
        unseen = taken(data, np.flatnonzero(kept_back))
        mean = modulus if data.background is None else np.sqrt(modulus**2 + data.background)
        blind = float(np.sum(_valid(unseen) * np.square(mean - unseen.diff3d, dtype=np.float64)))
        return cls(taken(data, np.flatnonzero(~kept_back)), unseen, data, blind, modulus)

    def cropped(self, side: int) -> _Part:
        """The same seen by the central square of the detector: pixels of the object become larger."""
        N = len(self.modulus)
        low, scale = (N - side) // 2, side / N
        window = np.s_[..., low : low + side, low : low + side]
        data, mask = self.everyone, self.everyone.mask
        cut = RawData(
            data.xcoords * scale,
            data.ycoords * scale,
            None,
            None,
            np.ascontiguousarray(data.diff3d[window]),
            None,
            mask=None if mask is None else mask[window],
            units="amplitude",
        ).with_recording(data.flux, None if data.background is None else data.background[window], data.blur)
        return _Part.of(cut, self.modulus[window])

    def tried(self, name: str, probe: Array, refine: Refine, iterations: int, free: bool) -> tuple[Tried, Refinement]:
        """Reconstruct what is seen from a probe, and foretell what is not."""
        frame = object_frame(self.everyone.xcoords, self.everyone.ycoords, self.everyone.N)
        found = refine(
            self.seen.with_probe(probe), None, iterations, frame=frame, refine_probe=free, patience=iterations + 1
        )
        x, y = frame.local(self.unseen.xcoords, self.unseen.ycoords)
        patches = extract_rounded(found.object, x, y, self.unseen.N)
        expected = np.sqrt(diffract(found.probe, *patches, self.unseen.recording))
        error = float(np.sum(_valid(self.unseen) * np.square(expected - self.unseen.diff3d, dtype=np.float64)))
        tried = Tried(name, error / max(self.blind, 1e-30), found.iterations)
        logger.debug("probe: %s leaves %.3f of the error of unseen patterns", name, tried.error)
        return tried, found


def searched_probe(data: RawData, refine: Refine) -> tuple[NDArray[np.complex64], str, tuple[Tried, ...]]:
    """Find a probe from the patterns of a scan; in near field the mean pattern itself, carried back to the sample.

    Deterministic: nothing is drawn at random.

    Args:
        data: a scan, with or without a probe, which is not looked at.
        refine: `refine(scan, start, iterations, *, frame, refine_probe, patience)` of a backend.

    Returns:
        The probe (1, N, N); what it is and how well it foretells, as half a sentence; and every start, the best first.

    Raises:
        DataError: too few patterns, or no light.
    """
    if len(data) < _FEWEST:
        raise DataError(f"a probe from the patterns: expected {_FEWEST} or more, found {len(data)}; give one: --probe")
    mean = mean_intensity(Frames.of(data.diff3d), data.units, data.mask)
    if not mean.any():
        raise DataError("a probe from the patterns: expected light in them, found none; check detector data and mask")
    modulus = filled_modulus(mean, np.asarray(data.valid_mask.reshape(-1, *mean.shape).any(axis=0)))
    if data.near_field is not None:
        return carried_back(modulus, data.near_field), "the mean pattern of the near field, carried back", ()
    part = _Part.of(telling_part(data).scan, modulus).cropped(min(data.N, _LARGEST))
    glances = _defocus_search(part, refine)
    finalists = {_named(width): _beam(part.modulus, width) for width in _best_two(glances)}
    disk, diameter = matching_disk(part.modulus)
    finalists[f"disk {diameter / part.everyone.N:.2f} windows wide"] = disk
    looks = _ranked(part, finalists, refine)
    best, found = looks[0]
    everything = (*(tried for tried, _ in looks), *sorted((tried for tried, _ in glances), key=_by_error))
    text = (
        f"{best.name}, which leaves {best.error:.2f} of the error with which the mean pattern foretells "
        f"{len(part.unseen)} unseen of {len(part.everyone)} patterns; {len(everything)} starts"
    )
    if best.error > _BLIND:
        text += "; that is no better than chance: give a probe with --probe, or look for wrong axes or positions"
    return resampled_probe(found.probe, part.everyone.N / data.N, data.N), text, everything


def _ranked(part: _Part, finalists: dict[str, Array], refine: Refine) -> list[tuple[Tried, Refinement]]:
    """Finalists with the probe free, the best first; the best, and those that come near to it, have gone on.

    Unseen patterns stay unseen to the end, so that others can decide by them what to do with the probe.
    """
    looks = [part.tried(name, probe, refine, _LOOK, free=True) for name, probe in finalists.items()]
    looks.sort(key=_look_error)
    near = [look for look in looks if look[0].error < _NEAR * looks[0][0].error]
    longer = [part.tried(tried.name, found.probe, refine, _MORE, free=True) for tried, found in near]
    better = [min(pair, key=_look_error) for pair in zip(near, longer, strict=True)]
    return sorted(better, key=_look_error) + looks[len(near) :]


def _look_error(look: tuple[Tried, Refinement]) -> float:
    return look[0].error


def _by_error(tried: Tried) -> float:
    return tried.error


def _defocus_search(part: _Part, refine: Refine) -> list[tuple[Tried, float]]:
    """Short reconstructions from the pupil out of focus by various widths, and the widths; the last are fine steps."""
    cropped = part.cropped(_search_side(part.modulus))
    radius = light_radius(part.modulus)

    def glance(width: float) -> tuple[Tried, float]:
        # in a crop of the detector the phase of its pixels stays what it is
        probe = defocused_pupil(cropped.modulus, _strength(width, radius))
        return cropped.tried(_named(width), probe, refine, _GLANCE, free=False)[0], width

    found = [glance(0.0), *(glance(sign * width) for width in _WIDTHS for sign in (1, -1))]
    _, best = min(found, key=lambda entry: entry[0].error)
    return found + [glance(best * factor) for factor in _BETWEEN if best]


def _best_two(glances: list[tuple[Tried, float]]) -> list[float]:
    """The best width, and the best of those that are not neighbours of it."""
    ranked = [width for _, width in sorted(glances, key=lambda entry: entry[0].error)]
    best = ranked[0]
    apart = [width for width in ranked if width * best <= 0 or not 1 / 1.5 < width / best < 1.5]
    return [best, next(width for width in apart if width != best)]


def _named(width: float) -> str:
    return f"mean modulus, out of focus by {width:+.2f} windows" if width else "mean modulus in focus"


def _beam(modulus: Array, width: float) -> NDArray[np.complex64]:
    return defocused_pupil(modulus, _strength(width, light_radius(modulus)))


def _strength(width: float, radius: float) -> float:
    """The defocus of a beam that is `width` windows wide."""
    return width / (2 * radius)


def _search_side(modulus: Array) -> int:
    low, high = _SIDES
    return min(len(modulus), max(low, min(high, light_side(modulus, _LIGHT))))


def _valid(data: RawData) -> Array:
    return np.ones(1, bool) if data.mask is None else data.mask
