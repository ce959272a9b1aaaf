"""Are the axes right, and is the probe? Short reconstructions of a few dozen patterns tell."""

from __future__ import annotations

from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.core.doctor.findings import Finding, Severity
from ptycho.core.doctor.samples import Sample
from ptycho.core.doctor.short_reconstruction import expected_intensity, noise_misfit, reconstruct
from ptycho.core.quality.orientation import ORIENTATIONS, Orientation
from ptycho.core.refinement.refinement import Refinement

__all__ = ["OrientationTest", "check_orientation", "check_probe", "compare_orientations", "compare_probe"]

Array = NDArray[Any]

_RANKING, _LONGER = 6, 15
"""Iterations of each orientation, and of the best one afterwards."""
_CLEAR = 1.15
"""Ratio of errors from which an orientation is better than another."""
_FLAT = 0.98
"""Likeness of probe and conjugate above which a half turn cannot be told."""
_UNEXPLAINED, _MISFIT = 0.06, 0.15
"""Share of what the object does to the patterns that may stay unexplained: a note, a warning."""
_LARGE = 0.02
"""Relative Fourier error beyond that of noise that no probe that fits leaves, where it gains by moving."""
_GAIN = 0.6
"""Error with the probe free over that with it held, below which it is the probe that does not fit."""
_NOISY = 0.2
"""Error of photon noise from which on nothing can be said."""


@dataclass(frozen=True)
class OrientationTest:
    """Short reconstructions of the same patterns in all eight orientations, and longer ones of the best."""

    ranking: tuple[tuple[Orientation, float], ...]
    """(orientation, relative Fourier error), best first."""
    given_probe: Refinement
    """The best orientation with the probe as it is."""
    free_probe: Refinement
    """The same while the probe moves."""
    noise: float
    """Error that photon noise alone leaves of `given_probe`; 0 when doses are unknown."""
    patterns: int
    seconds_per_pixel: float
    """Of one iteration on one pixel of one pattern, object and probe, one thread."""
    flatness: float
    """Likeness of the probe to its conjugate up to a phase plane, 1 for a flat phase."""

    def error(self, orientation: Orientation) -> float:
        """The relative Fourier error of one orientation."""
        return dict(self.ranking)[orientation]

    @property
    def twins(self) -> bool:
        """Whether half turns cannot be told apart."""
        return self.flatness > _FLAT

    @property
    def mistaken(self) -> bool:
        """Whether one orientation other than that of the file stands out from all that can be told from it."""
        best, lowest = self.ranking[0]
        rivals = [error for o, error in self.ranking[1:] if not (self.twins and o == best.half_turn)]
        as_is = {ORIENTATIONS[0], ORIENTATIONS[0].half_turn if self.twins else ORIENTATIONS[0]}
        return best not in as_is and rivals[0] > _CLEAR * lowest


def compare_orientations(sample: Sample) -> OrientationTest:
    """Reconstruct a sample in all eight orientations, and in the best one again, longer."""
    start = perf_counter()
    errors = [
        (orientation, _error(reconstruct(_turned(sample, orientation), _RANKING))) for orientation in ORIENTATIONS
    ]
    seconds = (perf_counter() - start) / (len(ORIENTATIONS) * _RANKING * sample.patterns.size)
    ranking = tuple(sorted(errors, key=lambda entry: entry[1]))
    best = _turned(sample, ranking[0][0])
    given = reconstruct(best, _LONGER, refine_probe=False)
    return OrientationTest(
        ranking=ranking,
        given_probe=given,
        free_probe=reconstruct(best, _LONGER),
        noise=noise_misfit(best, expected_intensity(best, given)) / best.energy,
        patterns=len(sample),
        seconds_per_pixel=seconds,
        flatness=_flatness(sample.probeGuess),
    )


def check_orientation(test: OrientationTest) -> Finding:
    """Are the axes of the detector those of the positions?"""
    as_is = ORIENTATIONS[0]
    (best, lowest), (_, next_error) = test.ranking[:2]
    given = test.error(as_is)
    twins = test.twins
    numbers: dict[str, Any] = {
        "errors": {orientation.name: error for orientation, error in test.ranking},
        "margin": next_error / max(lowest, 1e-30),
        "best": best.name,
        "patterns": test.patterns,
        "half_turn_degenerate": twins,
    }
    if best != as_is and given > _CLEAR * lowest:
        command = " ".join(f"--{word}" for word in best.name.split("+"))
        tie = "; the half turn of it is as likely, since the probe has a flat phase" if twins else ""
        sentence = (
            f"The axes of the patterns do not go with the positions: in {test.patterns} neighbouring patterns the "
            f"error is {given:.3g} as they are and {lowest:.3g} with {best.name}{tie}. Turn them: ptycho dataset turn "
            f"{command}, or exchange or negate the positions accordingly."
        )
        return Finding("orientation", "fault", sentence, numbers, (f"turn {command}",))
    others = [(o, error) for o, error in test.ranking if o != as_is and not (twins and o == as_is.half_turn)]
    rival, rival_error = others[0]
    if rival_error < _CLEAR * given:
        sentence = (
            f"The eight orientations of the detector cannot be told apart by {test.patterns} neighbouring patterns "
            f"(error {given:.3g} as they are, {rival_error:.3g} with {rival.name}): too few photons, too little "
            "overlap, or too symmetric a probe."
        )
        return Finding("orientation", "note", sentence, numbers)
    sentence = (
        f"The axes are right: error {given:.3g} as they are, {rival_error:.3g} in the next best orientation "
        f"({rival.name}), {rival_error / max(given, 1e-30):.1f} times as much."
    )
    if twins:
        sentence += " A half turn gives the conjugate object and cannot be told, since the probe has a flat phase."
    return Finding("orientation", "ok", sentence, numbers)


def compare_probe(sample: Sample) -> Finding:
    """`check_probe` of a sample whose axes are right."""
    given = reconstruct(sample, _LONGER, refine_probe=False)
    noise = noise_misfit(sample, expected_intensity(sample, given)) / sample.energy
    return check_probe(given, reconstruct(sample, _LONGER), noise)


def check_probe(given: Refinement, moved: Refinement, floor: float) -> Finding:
    """Does the probe explain the patterns, or does it have to be refined?

    Args:
        given: short reconstruction with the probe as it is.
        moved: the same while the probe moves.
        floor: error that photon noise alone leaves; 0 when doses are unknown.
    """
    fixed, free = _error(given), _error(moved)
    flat = given.error_history[0]
    signal = max(flat - floor, 1e-30)
    unexplained = max(fixed - floor, 0.0) / signal
    change = 1 - _likeness(given.probe, moved.probe) ** 2
    numbers = {
        "error": fixed,
        "error_probe_free": free,
        "error_of_noise": floor,
        "error_flat_object": flat,
        "unexplained": unexplained,
        "probe_change": change,
    }
    if floor > _NOISY:
        sentence = f"Too few photons to tell whether the probe fits: noise alone leaves an error of {floor:.2g}."
        return Finding("probe", "note", sentence, numbers)
    excess = fixed - floor
    if excess < 0.3 * floor:
        sentence = f"The probe fits: error {fixed:.3g} where photon noise alone makes about {floor:.3g}."
        return Finding("probe", "ok", sentence, numbers)
    text = (
        f"With the probe given, an error of {fixed:.3g} remains, {100 * unexplained:.0f} % of the {flat:.3g} "
        f"of a flat object; with the probe free {free:.3g} (it changes by {100 * change:.0f} % of its energy)"
    )
    gains = free < _GAIN * fixed
    # without a dose the noise is part of what is unexplained
    misfit = _MISFIT if floor > 0 else 2 * _MISFIT
    if unexplained > misfit or (excess > _LARGE and gains):
        todo = (
            "refine the probe along with the object"
            if gains
            else "positions or distances are wrong, or the probe is of another kind, which the patterns tell"
        )
        mend = "reconstruct" if gains else "reconstruct --probe patterns"
        return Finding("probe", "warning", f"{text}: it does not fit; {todo}: ptycho {mend}.", numbers, (mend,))
    severity: Severity = "note" if unexplained > _UNEXPLAINED else "ok"
    return Finding("probe", severity, f"{text}.", numbers)


def _turned(sample: Sample, orientation: Orientation) -> Sample:
    return replace(
        sample,
        patterns=np.ascontiguousarray(orientation.patterns(sample.patterns)),
        mask=np.ascontiguousarray(orientation.patterns(sample.mask)),
    )


def _error(found: Refinement) -> float:
    return found.error_history[found.kept]


def _flatness(probe: Array) -> float:
    """`max_k |sum P^2 exp(i k r)| / sum |P|^2`: 1 when the conjugate is the probe times a phase plane."""
    strongest = probe[0].astype(np.complex128)
    squared = np.abs(np.fft.fft2(strongest**2)).max()
    return float(squared / np.sum(np.abs(strongest) ** 2))


def _likeness(first: Array, second: Array) -> float:
    """Largest correlation of two probes, mode by mode, over shifts."""
    product = np.fft.fft2(first.astype(np.complex128)) * np.conj(np.fft.fft2(second.astype(np.complex128)))
    peak = np.abs(np.fft.ifft2(product.sum(axis=0))).max()
    return float(peak / (np.linalg.norm(first) * np.linalg.norm(second)))
