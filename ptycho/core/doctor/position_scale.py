"""Are the positions in pixels of the object? If not, they are off by a factor, which a few patterns tell."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ptycho.core.doctor.findings import Finding
from ptycho.core.doctor.held_out import Prediction, foretell, inner_points, significance
from ptycho.core.doctor.positions import neighbour_distance
from ptycho.core.doctor.samples import Sample, neighbourhood
from ptycho.core.physics.probes import probe_diameter

__all__ = ["ScaleTest", "check_scale", "rank_scales", "scaled"]

_COUNT, _FEWEST = 25, 12
"""Patterns that are tried, and without which nothing is said."""
_COARSE, _STEPS = 2 ** (1 / 3), 3
"""Ratio of neighbouring scales at first, and how many of them each way."""
_FINE, _FINE_AT_MOST = 1.08, 6
"""Ratio of neighbouring scales around the best of them, and how many there are."""
_SEARCHING, _REFINING, _LONGER = 4, 15, 20
"""Iterations for each of the first scales, of those around the best, and around one that is not 1."""
_SUSPECT, _TOLERANCE = 0.03, 0.06
"""Deviation of the scale from 1, in the logarithm, that is looked at again, and that is called an error."""
_SURE, _LIKELY = 4.0, 2.0
"""Standard deviations of photon noise by which another scale has to be better, and 1 than others."""
_EXPLAINED, _HOPELESS = 0.06, 0.25
"""Share of what the object does to the patterns that stays unexplained without an error of the probe: at most, and
from which on the search for a scale is given up."""
_LARGE = 0.01
"""Error beyond noise that no probe that fits leaves."""
_NO_WORSE, _ALL = 1.1, 0.01
"""How many times larger the error of the patterns that the object is made from may become, unless no more than this
share of what the object does to them stays unexplained: far apart, patterns explain themselves."""
_NOISY, _OVERLAP = 0.82, 0.4
"""Noise from which on, and overlap up to which, the patterns kept back favour denser positions than the true ones."""
_LEANING = 4.5
"""By how much at most, in the logarithm: this times noise and the cube of the distance of neighbours, in diameters of
the probe. Measured on 100 simulated scans with right positions, 1e4 and 3e4 photons, 17 to 65 % of a diameter apart; of
180 others none is called wrong."""


@dataclass(frozen=True)
class ScaleTest:
    """How well patterns foretell their neighbours when all positions are multiplied by a factor."""

    scale: float
    """The best factor; 1 where nothing was tried."""
    errors: tuple[tuple[float, float], ...]
    """(factor, relative Fourier error of the patterns kept back) of the factors searched first, ascending."""
    compared: tuple[float, float]
    """The same, after more iterations: with the best factor, and as they are or with the next best."""
    deviations: float
    """Standard deviations by which the first of these is lower."""
    trained_ratio: float
    """Error of the patterns that the object is made from, with the best factor over as they are; 1 if not compared."""
    unexplained: float
    """Share of what the object does to the patterns that the best factor leaves unexplained."""
    excess: float
    """Error beyond noise that it leaves."""
    noise: float
    """Error of photon noise over that of an object without contrast."""
    overlap: float
    """Linear overlap of nearest neighbours at the best factor."""
    patterns: int

    @property
    def explained(self) -> bool:
        """Whether probe and positions times the best factor explain the patterns."""
        return bool(self.errors) and self.unexplained < _EXPLAINED and self.excess < _LARGE

    @property
    def decided(self) -> bool:
        """Whether photons and overlap are enough to prefer the best factor."""
        sure = self.deviations > (_SURE if _off(self.scale, _TOLERANCE) else _LIKELY)
        no_worse = self.trained_ratio < _NO_WORSE or self.unexplained < _ALL
        enough = self.noise < _NOISY and self.overlap > _OVERLAP and not self.leans
        return self.explained and sure and no_worse and enough

    @property
    def leans(self) -> bool:
        """Whether the best factor makes the positions denser by no more than noise alone could."""
        distance = (1 - self.overlap) / self.scale
        leaning = _LEANING * self.noise * distance**3
        return bool(-_TOLERANCE - leaning < np.log(self.scale) < -_TOLERANCE)

    @property
    def wrong(self) -> bool:
        """Whether the positions are off by a factor."""
        return self.decided and _off(self.scale, _TOLERANCE)


def scaled(sample: Sample, factor: float) -> Sample:
    """The sample with all positions multiplied by a factor."""
    return replace(sample, xcoords=factor * sample.xcoords, ycoords=factor * sample.ycoords)


def rank_scales(sample: Sample) -> ScaleTest:
    """Find the factor for the positions with which patterns foretell their neighbours best, the probe as given.

    A few patterns are enough to find it. Where it is not 1, it is found again with all of the sample, and validated.
    """
    part = _part(sample)
    n = len(part.xcoords)
    if n < _FEWEST or not max(np.ptp(part.xcoords), np.ptp(part.ycoords)) > 0:
        return ScaleTest(1.0, (), (0.0, 0.0), 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, n)
    coarse = {float(f): _tried(part, f, _SEARCHING) for f in _COARSE ** np.arange(-_STEPS, _STEPS + 1.0)}
    errors = tuple((factor, found.error) for factor, found in coarse.items())
    best = _lowest(coarse)
    rival = min((f for f in coarse if f != best), key=lambda f: significance(coarse[f].squares, coarse[best].squares))
    worse, better = coarse[rival].squares, coarse[best].squares
    compared = (coarse[best].error, coarse[rival].error)
    scale, found, ratio = best, coarse[best], 1.0
    if found.unexplained < _HOPELESS:
        scale, found = _refined(part, best, _REFINING)
    if _off(scale, _SUSPECT) and found.unexplained < _EXPLAINED:
        scale, found = _refined(sample, scale, _LONGER)
        n = len(sample.xcoords)
    if _off(scale, _TOLERANCE) and found.unexplained < _EXPLAINED:
        pairs = [[_tried(sample, factor, _LONGER, first) for factor in (1.0, scale)] for first in (0, 1)]
        worse, better = (np.concatenate([p.squares for p in group]) for group in zip(*pairs, strict=True))
        compared = (pairs[0][1].error, pairs[0][0].error)
        ratio = pairs[0][1].trained / pairs[0][0].trained
    overlap = 1 - scale * neighbour_distance(part.xcoords, part.ycoords) / probe_diameter(part.probeGuess)
    return ScaleTest(
        scale=scale,
        errors=errors,
        compared=compared,
        deviations=significance(worse, better),
        trained_ratio=ratio,
        unexplained=found.unexplained,
        excess=found.trained - found.floor,
        noise=found.floor / max(found.flat, 1e-30),
        overlap=overlap,
        patterns=n,
    )


def check_scale(test: ScaleTest) -> Finding:
    """Are the positions off by a factor?"""
    error, other = test.compared
    numbers: dict[str, Any] = {
        "scale": test.scale,
        "errors": {f"{factor:.3g}": error for factor, error in test.errors},
        "error": error,
        "error_of_rival": other,
        "deviations": test.deviations,
        "trained_ratio": test.trained_ratio,
        "unexplained": test.unexplained,
        "excess": test.excess,
        "noise": test.noise,
        "overlap": test.overlap,
        "patterns": test.patterns,
    }
    if not test.errors:
        sentence = f"Not tested: {test.patterns} patterns at different places are too few."
        return Finding("position scale", "note", sentence, numbers)
    if test.wrong:
        mend = f"move --scale {test.scale:.3g}"
        sentence = (
            f"The positions are too {'small' if test.scale > 1 else 'large'}: {test.patterns} neighbouring patterns "
            f"foretell each other best with positions {test.scale:.3g} times as large (error {error:.3g}, as they are "
            f"{other:.3g}). Multiply xcoords and ycoords by {test.scale:.3g}: ptycho dataset {mend}; where they come "
            "from metres, pixel size, distance or energy was wrong: convert again with an object pixel "
            f"{1 / test.scale:.3g} times as large (ptycho convert --object-pixel-nm). A probe with {test.scale:.3g} "
            "times the true defocus looks alike."
        )
        return Finding("position scale", "fault", sentence, numbers, (mend,))
    cannot = "Whether the positions have the right scale cannot be told"
    if not test.explained:
        sentence = (
            f"{cannot}: with the probe given, whatever the scale, an error of {test.excess:.3g} beyond noise or more "
            f"stays, {100 * test.unexplained:.0f} % of that of a flat object. Refine the probe and look again."
        )
        return Finding("position scale", "note", sentence, numbers)
    if not test.decided:
        sentence = f"{cannot} by {test.patterns} neighbouring patterns: too few photons or too little overlap."
        return Finding("position scale", "note", sentence, numbers)
    sentence = (
        f"The positions have the right scale: {test.patterns} neighbouring patterns foretell each other best with "
        f"positions {test.scale:.3g} times as large, 1 within the {100 * _TOLERANCE:.0f} % that this test can tell."
    )
    return Finding("position scale", "ok", sentence, numbers)


def _off(scale: float, tolerance: float) -> bool:
    return bool(abs(np.log(scale)) > tolerance)


def _part(sample: Sample) -> Sample:
    """The patterns of a sample next to its middle."""
    return sample.only(neighbourhood(sample.xcoords, sample.ycoords, _COUNT))


def _tried(part: Sample, factor: float, iterations: int, first: int = 0) -> Prediction:
    kept_back = inner_points(part.xcoords, part.ycoords, first)
    return foretell(scaled(part, factor), kept_back, iterations, refine_probe=False)


def _lowest(tried: dict[float, Prediction]) -> float:
    return min(tried, key=lambda factor: tried[factor].error)


def _refined(part: Sample, start: float, iterations: int) -> tuple[float, Prediction]:
    """The best factor near `start`, and what the factor tried next to it came to."""
    tried = {factor: _tried(part, factor, iterations) for factor in (start / _FINE, start, start * _FINE)}
    while (best := _lowest(tried)) in (min(tried), max(tried)) and len(tried) < _FINE_AT_MOST:
        further = best * _FINE if best == max(tried) else best / _FINE
        tried[further] = _tried(part, further, iterations)
    factors = sorted(tried)
    index = factors.index(best)
    if not 0 < index < len(factors) - 1:
        return best, tried[best]
    below, here, above = (tried[factor].error for factor in factors[index - 1 : index + 2])
    offset = 0.5 * (below - above) / max(below - 2 * here + above, 1e-30)  # the vertex of the parabola through them
    return float(best * _FINE**offset), tried[best]
