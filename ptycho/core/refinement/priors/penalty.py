"""The term that what is known of the object adds to the error of a refinement.

With the strength s, the prior R (`ptycho.core.refinement.priors.object_prior`) and n patterns seen, whose mean energy
is E,

    error = sum_j L_j / (n E) + s R(q O) / n

The sum over patterns grows with their number and R with that of pixels, so that one strength means the same on a part
of a scan and on all of it: `2 s` times the photons of a pattern is the weight of R in the logarithm of a probability.
q brings the object to the scale of the result (`ptycho.core.refinement.steps.gauge.hold`) wherever the split between
object and probe has gone, `|P| / |P_given|` or what makes bright pixels 1; so a descent gains nothing by making the
object small and the probe large.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ptycho.core.refinement.device.images import NumpyImages
from ptycho.core.refinement.device.kernels import Direction, Point
from ptycho.core.refinement.priors.object_prior import Prior
from ptycho.core.refinement.steps.preconditioner import ILLUMINATION_FLOOR
from ptycho.core.refinement.sums.passes import Passes

__all__ = ["Damping", "Penalty"]

Array = NDArray[Any]


class Penalty:
    """`s R(q O)` of points, in the units of the sums of `Passes`.

    Args:
        prior: R, of what this process has of the object.
        strength: s.
        passes: over the patterns.
        factor: q of a point, `ptycho.core.refinement.steps.gauge.scale_factor`, for the energy of its probe.
    """

    def __init__(self, prior: Prior, strength: float, passes: Passes, factor: Callable[[Point], float]) -> None:
        self._prior, self._strength, self._passes, self._factor = prior, strength, passes, factor
        self._share = passes.share
        self._reference: tuple[Point, float] | None = None

    def refer(self, point: Point) -> None:
        """Let q be what it is at this point, and go with the modulus of the probe from there on."""
        if self._reference is None or self._reference[0] is not point:
            self._reference = point, self._factor(point) / float(np.linalg.norm(point.probe))

    def value(self, point: Point) -> float:
        """The term of the error."""
        return self._strength * self._share.total(self._prior.gradient(self._scaled(point))[0]) / self._passes.count()

    def added(self, point: Point, gradient: Direction, group: int | None) -> tuple[float, Direction]:
        """The term of the error, and the gradient of a group with its share of that of the term."""
        weight, q = self._weight(group), self._q(point)
        values, slope = self._prior.gradient(self._scaled(point))
        value, slope, probe = self._share.total(values), self._share.mended(slope), gradient.probe
        if probe is not None:
            along = float(self._share.dot(NumpyImages(), [(slope, np.asarray(point.object))]))
            turn = along * q / float(np.linalg.norm(point.probe)) ** 2
            probe = probe.copy()
            probe[: len(point.probe)] += _like(weight * turn, probe) * point.probe  # not those of its variation
        return self._strength * value / self._passes.count(), Direction(
            gradient.object + _like(weight * q, slope) * slope, probe
        )

    def curvature(self, point: Point, direction: Direction, group: int | None) -> float:
        """What the term adds to the curvature along a direction."""
        q = self._q(point)
        move = q * direction.object
        if direction.probe is not None:
            own = direction.probe[: len(point.probe)]
            stretch = float(np.vdot(point.probe, own).real) / float(np.linalg.norm(point.probe)) ** 2
            move = move + _like(q * stretch, move) * point.object
        return self._weight(group) * self._share.total(self._prior.curvature(self._scaled(point), move))

    def damping(self, point: Point, light: Array) -> Damping:
        """What keeps the steps of a preconditioner for pixels of so much `light (H, W)` short where R is stiff."""
        factor = self._weight() * self._q(point) ** 2
        floored = light + ILLUMINATION_FLOOR * self._share.largest(light.max())
        along, round_ = (
            np.sqrt(floored / (floored + factor * self._share.mended(each))).astype(point.object.real.dtype)
            for each in self._prior.weights(self._scaled(point))
        )
        return Damping(along, round_)

    def _weight(self, group: int | None = None) -> float:
        """What R counts in the sums over a group of patterns: its share."""
        passes = self._passes
        share = passes.count(group) / passes.count()
        return self._strength * passes.energy / passes.count() * share

    def _q(self, point: Point) -> float:
        if self._reference is None:
            raise ValueError("expected a point to refer to, found none")
        return self._reference[1] * float(np.linalg.norm(point.probe))

    def _scaled(self, point: Point) -> Array:
        return _like(self._q(point), point.object) * point.object


class Damping(NamedTuple):
    """Factors `(H, W)` of a change of modulus and of phase."""

    along: Array
    round_: Array

    def apply(self, step: Array, image: Array) -> Array:
        """A change of an image, shorter; symmetric and positive definite."""
        modulus = abs(image)
        turn = np.where(modulus > 0, image / np.where(modulus > 0, modulus, 1), np.ones((), image.dtype))
        relative = step * turn.conj()
        relative.real *= self.along
        relative.imag *= self.round_
        return relative * turn


def _like(value: float, array: Array) -> Any:
    """A number that leaves the precision of an array as it is."""
    return array.real.dtype.type(value)
