"""Is one mode of the probe enough, and if not, is it a fly scan? Patterns that were kept back tell.

Light that is not fully coherent, vibrations, and a stage that moves while the detector counts all wash out the
patterns, as several incoherent modes of the probe do. Of these only motion along the scan lines blurs along them alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.core.doctor.findings import Finding
from ptycho.core.doctor.held_out import Prediction, foretell, inner_points, significance
from ptycho.core.doctor.positions import neighbour_distance
from ptycho.core.doctor.samples import Sample
from ptycho.core.doctor.short_reconstruction import reconstruct
from ptycho.core.physics.diffraction import fourier_shift
from ptycho.core.physics.probes import with_modes

__all__ = ["BlurTest", "ModesTest", "check_fly_scan", "check_modes", "compare_modes", "line_step"]

Array = NDArray[Any]

_FEWEST, _MOST_MODES = 12, 3
"""Patterns without which nothing is said, and modes from which on no further one is tried."""
_SEARCHING, _LONGER = 10, 30
"""Iterations at first, and where a further mode seems to help: on the way a further mode hurries what one does too."""
_SURE = 8.0
"""Standard deviations by which a further mode, or blur, has to foretell better."""
_SEEMS, _GAIN, _CLEAR_GAIN = 0.05, 0.1, 0.3
"""Share of the error beyond noise that a further mode has to save at first, for a note, and for a warning."""
_LEFT, _CLEARLY_LEFT = 0.005, 0.01
"""Share of what the object does that has to stay unexplained without it, likewise; coherent light leaves 0.004."""
_EXPLAINED = 0.4
"""What may stay of that with a further mode; where more does, it stands for something else."""
_BLUR = 0.75
"""Error beyond noise with blur along the scan, over that without it, across it, and with a free mode more."""
_PLACES = 3
"""Places of the probe that blur is made of."""
_IN_ORDER = 2.0
_STRAIGHT = 0.75
"""Share of the squares of steps that lies along one direction in a scan of lines."""


@dataclass(frozen=True)
class BlurTest:
    """Errors beyond noise of patterns kept back, the probe held as found by a short reconstruction."""

    still: float
    along: float
    """The probe blurred over a step of the scan lines."""
    across: float
    """The probe blurred as much across them."""
    deviations: float
    """Standard deviations by which `along` is better than `still`."""
    step: tuple[float, float]
    """(x, y) object pixels of the sample."""


@dataclass(frozen=True)
class ModesTest:
    """How well patterns kept back are foretold with the modes given and with one more."""

    modes: int
    """That are given."""
    given: float
    """Error beyond noise with these."""
    more: float
    """The same with one more."""
    deviations: float
    """Standard deviations by which that is better."""
    left: float
    """Share of what the object does to the patterns it was made from that stays unexplained with the modes given."""
    left_with_more: float
    """The same with one more."""
    patterns: int
    blur: BlurTest | None = None
    """Where one more mode is better and the scan runs in lines."""

    @property
    def gain(self) -> float:
        """Share of the error beyond noise that one more mode saves."""
        return 1 - max(self.more, 0.0) / self.given if self.given > 0 else 0.0

    @property
    def better(self) -> bool:
        """Whether one more mode foretells better."""
        return self.deviations > _SURE and self.gain > _GAIN and self.left > _LEFT

    @property
    def missing(self) -> bool:
        """Whether it is a mode that is missing, and not anything else that does not fit."""
        clearly = self.gain > _CLEAR_GAIN and self.left > _CLEARLY_LEFT
        return self.better and clearly and self.left_with_more < _EXPLAINED * self.left

    @property
    def flies(self) -> bool:
        """Whether the stage moved while the detector counted."""
        blur = self.blur
        if blur is None or blur.deviations <= _SURE:
            return False
        return blur.along < _BLUR * min(blur.still, blur.across) and blur.along < self.more


def compare_modes(sample: Sample, step: tuple[float, float] | None) -> ModesTest | None:
    """Foretell patterns with the modes given and with one more; None for too few patterns or modes enough.

    Args:
        sample: with positions and axes that are right.
        step: (x, y) of `line_step`.
    """
    modes = len(sample.probeGuess)
    if len(sample) < _FEWEST or modes >= _MOST_MODES:
        return None
    test = _compared(sample, modes, _SEARCHING)
    if test.deviations > _SURE and test.gain > _SEEMS:
        test = _compared(sample, modes, _LONGER, held=True)
    return replace(test, blur=_compare_blur(sample, step)) if test.better and modes == 1 and step else test


def _compared(sample: Sample, modes: int, iterations: int, held: bool = False) -> ModesTest:
    """With `held`, the modes given may do better where they are held: a good probe is spoilt by moving early."""
    given, more = (
        _foretold(sample, with_modes(sample.probeGuess, count), iterations, refine_probe=True)
        for count in (modes, modes + 1)
    )
    if held:
        still = _foretold(sample, sample.probeGuess, iterations, refine_probe=False)
        given = min(given, still, key=lambda prediction: prediction.error)
    return ModesTest(
        modes=modes,
        given=given.excess,
        more=more.excess,
        deviations=significance(given.squares, more.squares),
        left=given.unexplained,
        left_with_more=more.unexplained,
        patterns=len(sample),
    )


def check_modes(test: ModesTest | None) -> Finding:
    """Are there modes enough?"""
    if test is None:
        return Finding("modes", "note", "Not tested: too few patterns, or a probe of several modes already.", {})
    numbers: dict[str, Any] = {
        "modes": test.modes,
        "error": test.given,
        "error_one_more": test.more,
        "deviations": test.deviations,
        "gain": test.gain,
        "unexplained": test.left,
        "unexplained_one_more": test.left_with_more,
        "patterns": test.patterns,
    }
    many, more = _count(test.modes), _count(test.modes + 1)
    text = f"unseen patterns are foretold to {test.given:.3g} beyond noise with {many}, {test.more:.3g} with {more}"
    if not test.better:
        return Finding("modes", "ok", f"{many[:1].upper()}{many[1:]} will do: {text}.", numbers)
    if test.flies:
        sentence = f"One more mode would help ({text}), since this is a fly scan."
        return Finding("modes", "note", sentence, numbers)
    if not test.missing:
        sentence = (
            f"One more mode helps a little ({text}), or stands for a probe or positions that do not fit: ptycho "
            "reconstruct --modes auto tries how many there are."
        )
        return Finding("modes", "note", sentence, numbers, ("reconstruct --modes auto",))
    sentence = (
        f"Too few modes: {text}. The light is not fully coherent, or something moved: ptycho reconstruct --modes auto "
        "finds how many there are."
    )
    return Finding("modes", "warning", sentence, numbers, ("reconstruct --modes auto",))


def check_fly_scan(test: ModesTest | None) -> Finding | None:
    """Did the stage move while the detector counted? None where there was nothing to explain."""
    if test is None or test.blur is None:
        return None
    blur = test.blur
    numbers: dict[str, Any] = {
        "error": blur.still,
        "error_blurred_along": blur.along,
        "error_blurred_across": blur.across,
        "deviations": blur.deviations,
        "step": list(blur.step),
    }
    text = (
        f"unseen patterns are foretold to {blur.along:.3g} beyond noise by a probe that moves by a step along the scan "
        f"lines, to {blur.still:.3g} by one at rest, {blur.across:.3g} by one that moves across them"
    )
    if not test.flies:
        return Finding("fly scan", "ok", f"No blur along the scan lines is seen: {text}.", numbers)
    sentence = (
        f"A fly scan: {text}. Each pattern is a sum over the way of the stage: ptycho reconstruct --fly finds how far "
        "it goes, and undoes it."
    )
    return Finding("fly scan", "warning", sentence, numbers, ("reconstruct --fly",))


def line_step(xcoords: Array, ycoords: Array) -> tuple[float, float] | None:
    """(x, y) of a step along the lines of a scan, of either sign; None where it does not run in straight lines.

    Args:
        xcoords, ycoords: (n,) in the order of the scan. Steps more than 1.5 times the median, from line to line, do
            not count; where the median is more than twice the distance of neighbours, points are in another order.
    """
    steps = np.column_stack([np.diff(xcoords), np.diff(ycoords)])
    length = np.hypot(*steps.T)
    if len(steps) < _FEWEST or not 0 < np.median(length) < _IN_ORDER * neighbour_distance(xcoords, ycoords):
        return None
    steps = steps[length < 1.5 * np.median(length)]
    shares, axes = np.linalg.eigh(steps.T @ steps)
    if shares[1] < _STRAIGHT * shares.sum():
        return None
    x, y = axes[:, 1] * np.median(np.abs(steps @ axes[:, 1]))
    return float(x), float(y)


def _compare_blur(sample: Sample, step: tuple[float, float]) -> BlurTest:
    x, y = step
    probe = reconstruct(sample, _SEARCHING).probe[:1]
    still, along, across = (
        _foretold(sample, made, _SEARCHING, refine_probe=False)
        for made in (probe, _blurred(probe, x, y), _blurred(probe, -y, x))
    )
    deviations = significance(still.squares, along.squares)
    return BlurTest(still.excess, along.excess, across.excess, deviations, step)


def _blurred(probe: Array, dx: float, dy: float) -> Array:
    """Modes (_PLACES, N, N) of a probe (1, N, N) that moves by (dx, dy) pixels while the detector counts."""
    parts = (np.arange(_PLACES) - (_PLACES - 1) / 2) / _PLACES
    return np.concatenate([fourier_shift(probe, dx * part, dy * part) for part in parts]) / np.sqrt(_PLACES)


def _foretold(sample: Sample, probe: Array, iterations: int, refine_probe: bool) -> Prediction:
    made = replace(sample, probeGuess=probe.astype(np.complex64))
    return foretell(made, inner_points(sample.xcoords, sample.ycoords), iterations, refine_probe)


def _count(modes: int) -> str:
    return "one mode" if modes == 1 else f"{modes} modes"
