"""How wrong a network's pass is, pixel by pixel: how far it lies from a reference, and what redrawn counts say of that.

A network smooths, leaves slow phases unfinished, and is wrong where it has learned nothing: most of its error is no
noise. The patterns themselves show it. Let P be the pass, R a refinement of it to the end, O the truth, e = P - O and
n = R - O, the noise. Of their difference d = P - R = e - n, for the parts along and across the object each,

    E e^2 = E d^2 + 2 E[e n] - E n^2

the covariance penalty: twice what pass and refinement have in common, less the noise. Both are seen where the truth is
known: counts are drawn from an object T, passed and refined, e* = P* - T and n* = R* - T. So with v the variance of n*
from pixel to pixel and rho = sum e* n* / sum n*^2 the scale of a pixel's error is

    s^2 = <d^2> + (2 rho - 1) v

with < > the average over a window of `ptycho.core.quality.uncertainty`. Errors are heavier in their tails than noise,
and not alike at edges and in the flat: how many s hold 68 and 95 % of them is counted on the draw, whose errors e* are
known, with scales s* that are made in the same way of P* - R*. The scan's own errors have no part in it.

R has more noise than the truth, P less of its structure, and a pass of counts drawn from either is worse or better than
that of the scan. What is drawn from is therefore the object between them that is nearest to the truth, for both parts

    T = R + (1 - a) d,    a = (E d^2 + E[e n] - E n^2) / E d^2    within 0 and 1

with E n^2 from counts that are drawn from R and refined, and E[e n] a fixed share of it (`COMMON`).

Source: B. Efron, The estimation of prediction error: covariance penalties and cross-validation, J. Am. Stat. Assoc. 99,
619 (2004).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.core.quality.uncertainty import NOTHING_KNOWN_RAD, ObjectSpread
from ptycho.errors import DataError

__all__ = ["Drawn", "PassBars", "PassErrors"]

Complex = NDArray[np.complexfloating[Any, Any]]
Real = NDArray[np.float64]
Mask = NDArray[np.bool_]

WITHIN = 0.6827, 0.95
"""Shares of the pixels that lie within a bar, and within the wide one."""
COMMON = 2 / 3
"""E[e n] over E n^2 for the choice of T, where it was not measured yet: 0.5 to 0.8 at 1e4 photons, near 1 at 1e8, where
it hardly matters."""
LEAST = 0.1
"""Of `<d^2> + v`, that s^2 is at least: a difference of estimates may come out at nothing."""


@dataclass(frozen=True, eq=False)
class Drawn:
    """What became of counts that were drawn from a known object."""

    truth: Complex
    """(H, W) what they were drawn from."""
    passed: Complex
    """(H, W) the pass of them."""
    refined: Complex
    """(H, W) their refinement, from the truth on."""


@dataclass(frozen=True, eq=False)
class PassBars:
    """Bars of a pass; NaN where nothing is said."""

    amplitude: Real
    """(H, W) that 68 % of the errors of the amplitude lie within, in the unit of the object."""
    phase: Real
    """(H, W) the same of the phase, radians."""
    wide_amplitude: float
    """So many bars hold 95 % of the errors of the amplitude."""
    wide_phase: float
    """The same of the phase."""
    noise: float
    """What the reference has of noise: rms, in bars."""


class PassErrors:
    """The errors of a pass, by what it differs from its refinement in and by draws.

    Global phase, phase plane and scale are taken out of every difference.

    Args:
        passed: (H, W) the pass.
        reference: (H, W) what refinement makes of it.
        light: (H, W) on each pixel, in any unit.
        within: (H, W) where something is to be said; None: everywhere that has light.

    Raises:
        DataError: two shapes, or no light.
    """

    def __init__(self, passed: Complex, reference: Complex, light: NDArray[Any], within: Mask | None = None) -> None:
        if passed.shape != reference.shape:
            raise DataError(
                f"uncertainty: expected a pass and its refinement of one shape, found {passed.shape} and "
                f"{reference.shape}; give those of one scan"
            )
        self._passed, self._light, self._within = passed, light, within
        self._compared = ObjectSpread(reference, light, True, within)
        self.known: Mask = self._compared.known
        self._off = self._parts(self._compared, passed)

    def nearest(self, refined: Complex) -> NDArray[np.complex128]:
        """(H, W) about the object between reference and pass that is nearest to the truth.

        Args:
            refined: (H, W) the refinement, from the reference on, of counts that were drawn from the reference.
        """
        distance, noise = self._total(self._off**2), self._total(self._parts(self._compared, refined) ** 2)
        share = 1 - (1 - COMMON) * noise / np.maximum(distance, np.finfo(float).tiny)
        along, across = (1 - np.clip(share, 0, 1))[:, None, None] * self._off
        return self._compared.image + self._compared.direction * (along + 1j * across)

    def bars(self, drawn: Sequence[Drawn]) -> PassBars:
        """Bars by draws from the nearest object, one or more."""
        pairs = [self._of(one) for one in drawn]
        variance = np.mean([self._averaged(noise**2) for _, noise in pairs], axis=0)
        common = np.sum([self._total(error * noise) for error, noise in pairs], axis=0)
        rho = (common / np.sum([self._total(noise**2) for _, noise in pairs], axis=0))[:, None, None]

        def scale(off: Real) -> Real:
            found = self._averaged(off**2)
            return np.sqrt(np.maximum(found + (2 * rho - 1) * variance, LEAST * (found + variance)))

        seen = np.stack([abs(error) / scale(error - noise) for error, noise in pairs], axis=1)[..., self.known]
        near, wide = np.quantile(seen.reshape(2, -1), WITHIN, axis=1)
        along, across = self._unit * near[:, None, None] * scale(self._off)
        with np.errstate(divide="ignore"):
            phase = np.minimum(across / np.abs(self._passed), NOTHING_KNOWN_RAD)
        known, (first, second) = self.known, wide / near
        noise = self._unit * float(np.sqrt(np.mean((variance / np.square([along, across]))[:, known])))
        maps = np.where(known, along, np.nan), np.where(known, phase, np.nan)
        return PassBars(*maps, float(first), float(second), noise)

    def moved(self, other: Complex, bars: PassBars) -> float:
        """How far another object is from the reference: rms over the light, in bars."""
        along, across = self._parts(self._compared, other)
        sizes = (size / self._unit for size in (bars.amplitude, bars.phase * np.abs(self._passed)))
        parts = [(part / size)[self.known] ** 2 for part, size in zip((along, across), sizes, strict=True)]
        return float(np.sqrt(np.average(np.mean(parts, axis=0), weights=self._compared.light[self.known])))

    @cached_property
    def _unit(self) -> float:
        """Of the pass, over that of the reference: a scale that was taken out."""
        brought = np.abs(self._compared.image + self._compared.direction * (self._off[0] + 1j * self._off[1]))
        both = np.stack([np.abs(self._passed), brought])
        own, reference = np.sqrt(self._total(both**2))
        return float(own / reference)

    def _of(self, drawn: Drawn) -> tuple[Real, Real]:
        """Errors of the pass of a draw and of its refinement, (2, H, W) each: along and across."""
        compared = ObjectSpread(drawn.truth, self._light, True, self._within)
        return self._parts(compared, drawn.passed), self._parts(compared, drawn.refined)

    def _parts(self, compared: ObjectSpread, image: Complex) -> Real:
        difference = compared.difference(image)
        return np.stack([difference.real, difference.imag])

    def _total(self, values: Real) -> Real:
        """(2,) sums over the light."""
        return np.sum(values * np.where(self.known, self._compared.light, 0), axis=(1, 2))

    def _averaged(self, squares: Real) -> Real:
        return np.stack([self._compared.averaged(part) for part in squares])
