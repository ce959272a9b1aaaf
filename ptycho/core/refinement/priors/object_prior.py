"""What may be known of an object before any pattern is seen, each as a function of the object that is 0 where it holds.

A prior R is a sum over pixels: it brings what each of them has of R, its gradient, its curvature along a move and the
weight of every pixel. It sees no farther than the next row, so that a strip of an object knows all of them but in its
outermost rows. A refinement adds `strength R(O)` to its error (`ptycho.core.refinement.priors.penalty`). O is in the
scale of the result: 1 where nothing absorbs. Gradients are with respect to conj O and curvatures half of the second
derivative, as those of the likelihood (`ptycho.core.refinement.device.likelihood`). A new prior is a class here and a
line in `PRIORS`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from ptycho.core.geometry import ObjectFrame
from ptycho.errors import ConfigError

__all__ = ["PRIORS", "Belief", "Near", "ObjectPrior", "Prior", "PriorName", "Sample"]

Array = NDArray[Any]
PriorName = Literal["tv", "l1", "absorbing", "phase", "support", "network"]

SMOOTH = 0.02
"""Differences of the object below which a sum of moduli is one of squares: what photon noise leaves at usual doses."""


class Prior(Protocol):
    """A function R of an object `(H, W)`, 0 where what is known holds, not negative."""

    def gradient(self, image: Array) -> tuple[Array, Array]:
        """What every pixel has of R `(H, W)`, and its derivative `(H, W)` with respect to conj O."""

    def curvature(self, image: Array, move: Array) -> Array:
        """What every pixel has `(H, W)` of half of the second derivative of R along a move, in all not negative."""

    def weights(self, image: Array) -> tuple[Array, Array]:
        """Twice the curvature along a change of each pixel by itself, `(H, W)` each: of its modulus, of its phase."""


class TotalVariation:
    """`R = sum sqrt(|O(y, x + 1) - O(y, x)|^2 + |O(y + 1, x) - O(y, x)|^2 + e^2) - e`: few edges, for flat pieces.

    Source: L. I. Rudin, S. Osher and E. Fatemi, Physica D 60, 259 (1992), of a complex image.
    """

    def gradient(self, image: Array) -> tuple[Array, Array]:
        """R and its derivative."""
        across, down = _slopes(image)
        length = _length(across, down)
        weight = 0.5 / length
        return length - SMOOTH, _slopes_adjoint(across * weight, down * weight)

    def curvature(self, image: Array, move: Array) -> Array:
        """Half of the second derivative."""
        slopes, moves = _slopes(image), _slopes(move)
        length = _length(*slopes)
        along = sum(_real_product(one, other) for one, other in zip(slopes, moves, strict=True))
        squares = sum(_squares(one) for one in moves)
        return np.asarray((squares - (along / length) ** 2) / (2 * length))

    def weights(self, image: Array) -> tuple[Array, Array]:
        """Of the four differences that a pixel takes part in."""
        weight = 1 / _length(*_slopes(image))
        total = np.zeros_like(weight)
        total[:, :-1] += weight[:, :-1]
        total[:, 1:] += weight[:, :-1]
        total[:-1] += weight[:-1]
        total[1:] += weight[:-1]
        return total, total


class FewPixels:
    """`R = sum sqrt(|O - 1|^2 + e^2) - e`, the l1 norm of O - 1: few pixels differ from the empty beam."""

    def gradient(self, image: Array) -> tuple[Array, Array]:
        """R and its derivative."""
        length = _length(image - 1)
        return length - SMOOTH, (image - 1) / (2 * length)

    def curvature(self, image: Array, move: Array) -> Array:
        """Half of the second derivative."""
        length = _length(image - 1)
        along = _real_product(image - 1, move) / length
        return np.asarray((_squares(move) - along**2) / (2 * length))

    def weights(self, image: Array) -> tuple[Array, Array]:
        """Those of the nearest parabola above."""
        weight = 1 / _length(image - 1)
        return weight, weight


class _Distance(ABC):
    """`R = sum |O - p(O)|^2`, p the nearest object of a set: the square of the distance to it."""

    @abstractmethod
    def projected(self, image: Array) -> Array:
        """The nearest object of the set."""

    @abstractmethod
    def held(self, image: Array) -> tuple[Array, Array]:
        """1 where modulus and phase of a pixel are held, else 0, `(H, W)` each."""

    def gradient(self, image: Array) -> tuple[Array, Array]:
        """R and its derivative."""
        away = image - self.projected(image)
        return _squares(away), away

    def curvature(self, image: Array, move: Array) -> Array:
        """Of the Gauss-Newton kind: what p does to a phase is of second order."""
        radial, round_ = self.held(image)
        turned = move * _phase(image).conj()
        return np.asarray(radial * turned.real**2 + round_ * turned.imag**2)

    def weights(self, image: Array) -> tuple[Array, Array]:
        """Two where a pixel is held."""
        radial, round_ = self.held(image)
        return 2 * radial, 2 * round_


class Absorbing(_Distance):
    """`|O| <= 1`: nothing of the sample makes light."""

    def projected(self, image: Array) -> Array:
        """Moduli above 1 become 1."""
        return image / np.maximum(abs(image), 1)

    def held(self, image: Array) -> tuple[Array, Array]:
        """The modulus where it is above 1."""
        above = (abs(image) > 1).astype(image.real.dtype)
        return above, np.zeros_like(above)


class PurePhase(_Distance):
    """`|O| = 1`: the sample takes no light."""

    def projected(self, image: Array) -> Array:
        """Every modulus becomes 1."""
        return _phase(image)

    def held(self, image: Array) -> tuple[Array, Array]:
        """The modulus, everywhere."""
        ones = np.ones_like(image.real)
        return ones, np.zeros_like(ones)


@dataclass(frozen=True, eq=False)
class Support(_Distance):
    """`O = 1` outside the sample."""

    sample: NDArray[np.bool_]
    """(H, W) True where the sample may be."""

    def projected(self, image: Array) -> Array:
        """Every pixel outside becomes 1."""
        return np.where(self.sample, image, np.ones((), image.dtype))

    def held(self, image: Array) -> tuple[Array, Array]:
        """Everything outside."""
        outside = (~self.sample).astype(image.real.dtype)
        return outside, outside


@dataclass(frozen=True, eq=False)
class Near:
    """`R = sum w |O - m|^2`: an object near to one that is given, pixel by pixel."""

    mean: Array
    """(H, W) complex, m."""
    weight: Array
    """(H, W), not negative, w."""

    def gradient(self, image: Array) -> tuple[Array, Array]:
        """R and its derivative."""
        away = image - self.mean.astype(image.dtype)
        pull = self.weight.astype(image.real.dtype) * away
        return _real_product(away, pull), pull

    def curvature(self, image: Array, move: Array) -> Array:
        """Half of the second derivative."""
        return np.asarray(self.weight * _squares(move))

    def weights(self, image: Array) -> tuple[Array, Array]:
        """Those of both parts."""
        weight = 2 * self.weight.astype(image.real.dtype)
        return weight, weight


@dataclass(frozen=True, eq=False)
class Sample:
    """Where the sample may be, on the pixel grid of a scan."""

    inside: NDArray[np.bool_]
    """(h, w) True where it may be; it is not beyond."""
    frame: ObjectFrame
    """Where these pixels lie."""

    def on(self, frame: ObjectFrame) -> NDArray[np.bool_]:
        """`(H, W)` of another frame of the same grid."""
        return _on(frame, self.inside, self.frame)


@dataclass(frozen=True, eq=False)
class Belief:
    """What an object is thought to be, on the pixel grid of a scan, and how surely."""

    mean: NDArray[np.complexfloating[Any, Any]]
    """(h, w) in the scale of the result."""
    weight: NDArray[np.floating[Any]]
    """(h, w) of the square of the distance, 0 where nothing is thought; it is 0 beyond."""
    frame: ObjectFrame
    """Where these pixels lie."""

    def on(self, frame: ObjectFrame) -> Near:
        """Of objects in another frame of the same grid."""
        return Near(_on(frame, self.mean, self.frame), _on(frame, self.weight, self.frame))


def _on(frame: ObjectFrame, values: Array, own: ObjectFrame) -> Array:
    """Values on the pixels of a frame, on those of another one; 0 beyond."""
    found = np.zeros(frame.shape, values.dtype)
    x, y = own.x0 - frame.x0, own.y0 - frame.y0
    here = found[max(y, 0) : y + own.height, max(x, 0) : x + own.width]
    there = values[max(-y, 0) :, max(-x, 0) :]
    height, width = (min(one, other) for one, other in zip(here.shape, there.shape, strict=True))
    here[:height, :width] = there[:height, :width]
    return found


PRIORS: dict[PriorName, Callable[[], Prior]] = {
    "tv": TotalVariation,
    "l1": FewPixels,
    "absorbing": Absorbing,
    "phase": PurePhase,
}
"""By the word that asks for it; a support needs its sample, and a network's what it thinks of the object."""


@dataclass(frozen=True, eq=False)
class ObjectPrior:
    """What is known of an object, and how strongly that is held.

    Args:
        name: of the prior.
        strength: its weight beside the sum over the patterns seen of the relative error of each; 0 or more.
        sample: of a support, and of nothing else.
        belief: of a network, and of nothing else.

    Raises:
        ConfigError: another name or strength; a support without a sample, a network without its belief, or the one or
            the other with another prior.
    """

    name: PriorName
    strength: float
    sample: Sample | None = None
    belief: Belief | None = None

    def __post_init__(self) -> None:
        if self.name not in get_args(PriorName):
            known = ", ".join(get_args(PriorName))
            raise ConfigError(f"object_prior: expected one of {known}, found {self.name!r}; correct it")
        if not 0 <= self.strength < np.inf:
            raise ConfigError(f"prior_strength: expected a number from 0 on, found {self.strength!r}; correct it")
        if (self.name == "support") != (self.sample is not None):
            raise ConfigError(f"object_prior: expected a sample with 'support' alone, found {self.name!r}; correct it")
        if (self.name == "network") != (self.belief is not None):
            raise ConfigError(f"object_prior: expected a belief with 'network' alone, found {self.name!r}; correct it")

    def on(self, frame: ObjectFrame) -> Prior:
        """The prior of objects in a frame."""
        if self.belief is not None:
            return self.belief.on(frame)
        return PRIORS[self.name]() if self.sample is None else Support(self.sample.on(frame))


def _phase(image: Array) -> Array:
    """`O / |O|`, 1 where O is 0."""
    modulus = abs(image)
    return np.where(modulus > 0, image / np.where(modulus > 0, modulus, 1), np.ones((), image.dtype))


def _squares(values: Array) -> Array:
    return np.asarray(values.real**2 + values.imag**2)


def _real_product(some: Array, others: Array) -> Array:
    return np.asarray(some.real * others.real + some.imag * others.imag)


def _length(*parts: Array) -> Array:
    """The root of the sum of squares and `SMOOTH^2`."""
    return np.sqrt(sum(_squares(one) for one in parts) + parts[0].real.dtype.type(SMOOTH**2))


def _slopes(image: Array) -> tuple[Array, Array]:
    """Differences to the next pixel of the row and of the column, 0 at the end."""
    across, down = np.zeros_like(image), np.zeros_like(image)
    np.subtract(image[:, 1:], image[:, :-1], out=across[:, :-1])
    np.subtract(image[1:], image[:-1], out=down[:-1])
    return across, down


def _slopes_adjoint(across: Array, down: Array) -> Array:
    """The adjoint of `_slopes`."""
    total = -(across + down)
    total[:, 1:] += across[:, :-1]
    total[1:] += down[:-1]
    return total
