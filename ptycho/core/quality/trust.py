"""How far a reconstruction can be trusted: every measured pattern against the one that the object predicts.

Two measures, each beside what photon noise alone would give (`ptycho.core.physics.poisson`), L the predicted counts:

* the deviance `D = 2 sum_valid [Y log(Y / L) - Y + L]` over its expectation `sum E[D](L)`: 1 for a correct model at
  any dose. It misses nothing, and at high dose it makes much of little: a model error of 0.7 % of the amplitude, as
  bilinear interpolation makes it, reads 52 at 1e9 photons per pattern.
* the relative Fourier error `sum (|F| - A)^2 / sum A^2` less its expectation: its root is the model error as a
  fraction of the amplitude. How much that matters depends on how much there is to explain, so it is also given as
  a fraction of what a uniform object leaves (`unexplained`).

Neither says whether there were enough patterns to tell one object from another: with enough freedom everything is
explained. So a few patterns are kept back and have to be foretold by the others (`ptycho.core.quality.foretold`).

`ptycho.core.refinement.trust` measures both. The prediction follows the `fourier` sub-pixel rule
(`ptycho.core.physics.diffraction.diffract`). An object that was fitted to the same patterns follows their noise a
little: its ratio lies below 1 by its free numbers over the pixels that see light.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from ptycho.core.quality.foretold import Foretold
from ptycho.core.quality.misfits import SIGNIFICANT, Misfits
from ptycho.core.result import percent, plural
from ptycho.errors import DataError

__all__ = ["NOISE", "USABLE", "Dose", "Grade", "Trust"]

Dose = Literal["measured", "stated", "nominal"]
"""Where the number of photons is from: counts, a number that came with the amplitudes, or an assumption."""
Grade = Literal["to the noise", "usable", "fails", "unknown"]
"""What the trust in a result comes down to."""

NOISE = 1.25
"""Ratio up to which a model explains the data to the noise: its error is then below half of the noise."""
USABLE = 0.4
"""Part of the structure in the patterns that a usable model may leave unexplained.

Mirrored or swapped axes, a transposed detector and a probe at half or twice its defocus leave 0.44 to 0.9 after a
refinement that tries to make up for them. Bilinear interpolation and positions scaled by 5 % leave 0.05 to 0.15, the
unknowns of real scans (partial coherence, motion) up to 0.35.
"""
QUANTITATIVE = 0.05
"""The same of a model that explains the data although its error stands out of the noise of a high dose.

Bilinear interpolation leaves 0.07, positions scaled by 5 % leave 0.05 to 0.15.
"""
FORETOLD, NOTHING = 0.35, 0.25
"""Share of unseen patterns that has to be foretold, and that below which nothing is known of the object.

Shuffled patterns, wrong axes and patterns without overlap leave 0 to 0.15; of a scan whose neighbours overlap by a
third 0.5 to 0.9 is foretold, of others 0.8 and more.
"""
FOLLOWED = 0.55
"""Ratio below which the numbers that were fitted are too many for the measured ones, or these are no counts.

A ratio lies below 1 by the fitted numbers over the pixels that see light.
"""
_LISTED = 5  # outliers in `Trust.verdict`


@dataclass(frozen=True, eq=False, repr=False)
class Trust(Misfits):
    """What the patterns of a scan say about an object, pattern by pattern, in the order of the scan.

    Raises:
        DataError: the parts are not of one length, or the dose is of no known kind.
    """

    dose: Dose
    """Where the number of photons is from; with 'nominal' nothing is known about the noise."""
    foretold: Foretold | None = None
    """What the others foretell of some patterns; None where that was not measured."""
    faults: tuple[str, ...] = ()
    """What speaks against the object although it explains its patterns, a clause each: it is never green with one."""
    advice: str = ""
    """What to do next, a clause; empty where nothing is known."""

    def __post_init__(self) -> None:
        shapes = {field.name: getattr(self, field.name).shape for field in fields(Misfits)}
        if len(set(shapes.values())) != 1 or self.deviance.ndim != 1:
            raise DataError(f"trust: expected one number per pattern, (n,) each, found {shapes}; measure it again")
        if self.dose not in get_args(Dose):
            raise DataError(f"trust: expected a dose of {get_args(Dose)}, found {self.dose!r}; measure it again")

    def __repr__(self) -> str:
        return f"Trust({plural(len(self.deviance), 'pattern')}, {self.summary})"

    def only(self, patterns: NDArray[np.bool_]) -> Trust:
        """The same with 0 in the places of the others, (n,) bool, so that they do not count."""
        return replace(
            self,
            deviance=self.deviance * patterns,
            expected=self.expected * patterns,
            deviation=self.deviation * patterns,
            misfit=self.misfit * patterns,
            noise=self.noise * patterns,
            uniform=self.uniform * patterns,
            counts=self.counts * patterns,
        )

    @property
    def summary(self) -> str:
        """The grade and the numbers behind it, on part of a line; `verdict` says more."""
        left = f"{percent(self.unexplained)} of the structure unexplained"
        told = ""
        if self.foretold is not None:
            dim = np.isnan(self._share)
            told = (
                "nothing in unseen patterns above the noise"
                if dim
                else f"{percent(self._share)} of unseen patterns foretold"
            )
            told = f", {told}"
        return f"{self.grade}, deviance {self.overall_ratio:.3g} times that of noise, {left}{told}, dose {self.dose}"

    @property
    def grade(self) -> Grade:
        """'to the noise' where patterns are explained, unseen ones foretold, and nothing speaks against it.

        'fails' where significant structure is left or nothing is foretold; 'unknown' where the dose is not known.
        """
        if self._nothing_foretold or (self.dose != "nominal" and self._structure_left):
            return "fails"
        if self.dose == "nominal":
            return "unknown"
        told = self.foretold is None or self._share >= FORETOLD
        return "to the noise" if self.explained and told and not self.faults else "usable"

    @property
    def explained(self) -> bool:
        """Whether the patterns leave nothing that matters: noise, or hardly a part of their structure."""
        near = self.overall_ratio <= NOISE or self.unexplained <= QUANTITATIVE
        return near and not self.too_well

    @property
    def too_well(self) -> bool:
        """Whether less is left than photon noise would leave: noise was fitted, or the values are not photons."""
        return self.overall_ratio < FOLLOWED and self.overall_z < -SIGNIFICANT

    @property
    def _structure_left(self) -> bool:
        return self.overall_z > SIGNIFICANT and self.unexplained > USABLE

    @property
    def _share(self) -> float:
        return float("nan") if self.foretold is None else min(self.foretold.share, 1.0)

    @property
    def _nothing_foretold(self) -> bool:
        return self._share < NOTHING

    @property
    def verdict(self) -> str:
        """One line in plain words: what the object is worth, why, and what to do next."""
        said = [self._opening, *self.faults, *([self._listed] if self.outliers.size else [])]
        return "; ".join([*said, *([self.advice] if self.advice else [])])

    @property
    def _opening(self) -> str:
        model, noise = percent(self.model_error), percent(self.noise_level)
        if self.overall_z <= SIGNIFICANT or not self.model_error:
            model = f"below {percent(self.model_error_limit)}"
        error = f"model error {model} of the amplitude, noise {noise}"
        left = f"{percent(self.unexplained)} of the structure unexplained"
        if self.unexplained >= 0.995:
            left = "nothing of the structure explained"
        grade = self.grade
        if grade == "fails" and not self._structure_left:
            return f"means nothing: {self._told}"
        if grade == "unknown":
            differ = percent(float(np.sqrt(self.fourier_error)))
            return (
                "cannot tell noise from model error, the dose is not known: amplitudes differ by "
                f"{differ}; at the nominal dose {left}{self._and_told}"
            )
        if grade == "fails":
            return f"does not explain the data: {error}, {left}{self._and_told}"
        usable = "" if grade == "to the noise" else "usable, not quantitative; "
        if self.too_well:
            return f"{usable}explains the data better than photon noise allows: {error}{self._and_told}"
        if self.explained:
            near = "to the noise" if self.overall_ratio <= NOISE else f"to {model} of the amplitude"
            return f"{usable}explains the data {near}: {error}{self._and_told}"
        return f"{usable}does not explain the data to the noise: {error}, {left}{self._and_told}"

    @property
    def _and_told(self) -> str:
        return "" if self.foretold is None else f"; {self._told}"

    @property
    def _told(self) -> str:
        """What unseen patterns say."""
        if self.foretold is None:
            return ""
        count = len(self.foretold.patterns)
        if not self.foretold.telling:
            return f"{count} unseen patterns have nothing above the noise to be foretold"
        if self._nothing_foretold:
            return (
                f"the patterns foretell {percent(max(self._share, 0))} of the structure of {count} that were kept back"
            )
        return f"{percent(self._share)} of the structure of {count} unseen patterns is foretold"

    @property
    def _listed(self) -> str:
        worst, count = self.outliers, f"{len(self.outliers)} of {len(self.ratio)} patterns"
        times = [f"{ratio:.2g} x" for ratio in self.ratio[worst[:_LISTED]] / np.median(self.ratio)]
        they = self.only(np.isin(np.arange(len(self.ratio)), worst))
        if self.grade == "to the noise" and they.unexplained <= QUANTITATIVE:
            error = percent(they.model_error)
            return f"{count} leave up to {times[0]} what the rest does, and are explained all the same, to {error}"
        named = ", ".join(f"{j} ({ratio})" for j, ratio in zip(worst, times, strict=False))
        more = f" and {len(worst) - _LISTED} more" if len(worst) > _LISTED else ""
        return f"{count} stand out of the scan: {named}{more}"
