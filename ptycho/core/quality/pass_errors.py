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
    light: NDArray[Any]
    """(H, W) on each pixel, in the unit of that of the scan; of a part of the scan less."""
    within: Mask
    """(H, W) where something is known of their errors."""


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
        self._passed, self._seen = passed, _Seen(reference, light, within)
        self.known: Mask = self._seen.known
        self._off = self._seen.parts(passed)

    def nearest(self, refined: Complex) -> NDArray[np.complex128]:
        """(H, W) about the object between reference and pass that is nearest to the truth.

        Args:
            refined: (H, W) the refinement, from the reference on, of counts that were drawn from the reference.
        """
        distance, noise = (self._seen.total(part**2) for part in (self._off, self._seen.parts(refined)))
        share = 1 - (1 - COMMON) * noise / np.maximum(distance, np.finfo(float).tiny)
        along, across = (1 - np.clip(share, 0, 1))[:, None, None] * self._off
        return self._seen.compared.image + self._seen.compared.direction * (along + 1j * across)

    def bars(self, refined: Complex, drawn: Drawn) -> PassBars:
        """Bars by a draw from the nearest object, which may be of a part of the scan.

        Args:
            refined: as of `nearest`.
            drawn: what became of that draw.
        """
        there = _Seen(drawn.truth, drawn.light, drawn.within)
        error, noise = there.parts(drawn.passed), there.parts(drawn.refined)
        rho = (there.total(error * noise) / there.total(noise**2))[:, None, None]
        of_reference = self._seen.parts(refined)
        less = there.total(noise**2) / self._seen.total(of_reference**2, there.known)

        def scale(seen: _Seen, off: Real, noise: Real) -> Real:
            found, variance = seen.averaged(off**2), seen.averaged(noise**2)
            return np.sqrt(np.maximum(found + (2 * rho - 1) * variance, LEAST * (found + variance)))

        times = (abs(error) / scale(there, error - noise, noise))[:, there.known]
        near, wide = np.quantile(times, WITHIN, axis=1)
        of_scan = np.sqrt(less)[:, None, None] * of_reference
        along, across = self._unit * near[:, None, None] * scale(self._seen, self._off, of_scan)
        with np.errstate(divide="ignore"):
            phase = np.minimum(across / np.abs(self._passed), NOTHING_KNOWN_RAD)
        known, (first, second) = self.known, wide / near
        variance = self._seen.averaged(of_scan**2)
        left = self._unit * float(np.sqrt(np.mean((variance / np.square([along, across]))[:, known])))
        maps = np.where(known, along, np.nan), np.where(known, phase, np.nan)
        return PassBars(*maps, float(first), float(second), left)

    def moved(self, other: Complex, bars: PassBars) -> float:
        """How far another object is from the reference: rms over the light, in bars."""
        along, across = self._seen.parts(other)
        sizes = (size / self._unit for size in (bars.amplitude, bars.phase * np.abs(self._passed)))
        parts = [(part / size)[self.known] ** 2 for part, size in zip((along, across), sizes, strict=True)]
        return float(np.sqrt(np.average(np.mean(parts, axis=0), weights=self._seen.light[self.known])))

    @cached_property
    def _unit(self) -> float:
        """Of the pass, over that of the reference: a scale that was taken out."""
        compared = self._seen.compared
        brought = np.abs(compared.image + compared.direction * (self._off[0] + 1j * self._off[1]))
        own, reference = np.sqrt(self._seen.total(np.stack([np.abs(self._passed), brought]) ** 2))
        return float(own / reference)


class _Seen:
    """Differences from an object, where it has light."""

    def __init__(self, truth: Complex, light: NDArray[Any], within: Mask | None) -> None:
        self.compared, self.light = ObjectSpread(truth, light, True, within), light.astype(np.float64)
        self.known: Mask = self.compared.known

    def parts(self, image: Complex) -> Real:
        """(2, H, W) along and across, of an object less this one."""
        difference = self.compared.difference(image)
        return np.stack([difference.real, difference.imag])

    def total(self, values: Real, where: Mask | None = None) -> Real:
        """(2,) sums over the light."""
        return np.sum(
            values * np.where(self.known if where is None else where & self.known, self.light, 0), axis=(1, 2)
        )

    def averaged(self, squares: Real) -> Real:
        """(2, H, W) over the window."""
        return np.stack([self.compared.averaged(part) for part in squares])
