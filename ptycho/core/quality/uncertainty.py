"""How sure a reconstruction is: how far photon noise alone takes the amplitude and the phase of every pixel.

Of several objects that were found with the counts drawn anew (`ptycho.workflows.validation.uncertainty`), d is the
difference of one from the solution O, after what the patterns leave open has been taken out. To first order

    sd(|O|) = sd(Re[conj(O) d / |O|]),   sd(phase) = sd(Im[conj(O) d / |O|]) / |O|

A handful of draws gives the variance of a single pixel to some 60 %. But nearly all that makes it differ from pixel to
pixel is known: it goes as 1 over the light on the pixel, as the inverse of the diagonal of the Gauss-Newton operator
does. So the variance times the light, which varies slowly, is averaged over a window, and divided by the light again.

Sources: B. Efron & R. J. Tibshirani, An Introduction to the Bootstrap (1993), section 6.5, the parametric bootstrap;
the bound that it comes to at high dose, of Cramer and Rao: arXiv:2003.05475. Another way to variances, by belief
propagation: arXiv:2504.05668.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from ptycho.core.result import ByValue, plural
from ptycho.errors import DataError

__all__ = ["ObjectSpread", "Uncertainty", "without_gauge"]

Complex = NDArray[np.complexfloating[Any, Any]]
Real = NDArray[np.float64]
Mask = NDArray[np.bool_]

WINDOW_PX = 3.0
"""Standard deviation of the Gaussian window, pixels: it holds about as much as a square of 10.6 pixels a side."""
LEAST_LIGHT = 0.05
"""Light, relative to the brightest pixel, below which nothing is said: there an object is hardly begun."""
NOTHING_KNOWN_RAD = float(np.pi / np.sqrt(3))
"""Standard deviation of a phase of which nothing is known; no more than that is said."""
NORMAL = 1.96
"""Standard deviations that hold 95 % of what is normal."""
ROUNDS = 8
"""Of taking the gauge out, once the global phase is; each leaves the square of what was there."""


@dataclass(frozen=True, eq=False, repr=False)
class Uncertainty(ByValue):
    """One standard deviation of each pixel of an object, by photon noise; of a network's pass the bar that 68 % of its
    errors lie within, which are not of noise alone (`ptycho.core.quality.pass_errors`).

    It is that of the object against the truth once global phase, and where the probe moved, or of a pass, phase plane
    and scale too, are taken out of their difference: the patterns leave these open. Positions are held where they are.

    Raises:
        DataError: maps of two shapes.
    """

    amplitude: NDArray[np.float32]
    """(H, W) in the unit of the object; NaN where there is too little light, and outside of the scan positions."""
    phase: NDArray[np.float32]
    """(H, W) radians, at most pi / sqrt(3), where nothing is known of a phase; NaN as above."""
    draws: int
    """How often the counts were drawn anew."""
    iterations: int
    """Of refinement after each draw."""
    unfinished: float
    """How far as many iterations more on the scan itself move the object, of a pass its refinement: rms, in bars."""
    misfit: float
    """Error of the scan over that of the draws: 1 for a model that is right and an iteration at its end."""
    holds: bool
    """Whether the model explains the patterns so well that the numbers mean something."""
    remarks: tuple[str, ...] = ()
    """What makes them too small, a clause each; where they do not hold the first say why."""
    wide_amplitude: float = NORMAL
    """So many bars of the amplitude hold 95 % of the pixels."""
    wide_phase: float = NORMAL
    """The same of the phase."""
    of: Literal["solution", "pass"] = "solution"
    """What they are of: a solution of the patterns, or a network's pass, which is none."""

    def __post_init__(self) -> None:
        if self.amplitude.ndim != 2 or self.amplitude.shape != self.phase.shape:
            raise DataError(
                f"uncertainty: expected two maps of one shape (H, W), found {self.amplitude.shape} and "
                f"{self.phase.shape}; measure it again"
            )

    def __repr__(self) -> str:
        return f"Uncertainty({self.summary})"

    @property
    def known(self) -> Mask:
        """(H, W) where there is enough light to say something."""
        return np.isfinite(self.amplitude)

    @property
    def median_amplitude(self) -> float:
        """Of the pixels that something is said of, in the unit of the object."""
        return float(np.median(self.amplitude[self.known]))

    @property
    def median_phase_rad(self) -> float:
        """Of the pixels that something is said of, radians."""
        return float(np.median(self.phase[self.known]))

    @property
    def summary(self) -> str:
        """The numbers, and whether they hold, on one line."""
        numbers = f"amplitude {self.median_amplitude:.2g}, phase {self.median_phase_rad:.2g} rad (medians)"
        if self.holds:
            told = f"{numbers}; {self._law}"
        else:
            alone = "of photon noise alone" if self.of == "solution" else "were the model right"
            told = f"does not hold; {alone} it would be {numbers}"
        return "; ".join([told, *self.remarks])

    @property
    def _law(self) -> str:
        """How many pixels lie within which."""
        if self.of == "solution":
            return "68 % of the pixels lie within one such deviation of the truth, 95 % within 1.96"
        wide = f"{self.wide_amplitude:.2f} (amplitude) and {self.wide_phase:.2f} (phase)"
        return f"68 % of the pixels lie within one such bar of the truth, 95 % within {wide}"

    @property
    def method(self) -> str:
        """How it was found, in words."""
        if self.of == "pass":
            return (
                "how far the pass lies from its refinement, and by the pass of counts drawn anew from an object near "
                "both, whose errors are known"
            )
        return (
            f"counts drawn anew from the solution {plural(self.draws, 'time')}, {self.iterations} iterations from "
            "there after each"
        )


class ObjectSpread:
    """Gathers objects that were found with other counts, one by one, and says how far they spread.

    Args:
        image: (H, W) the solution.
        light: (H, W) on each pixel, in any unit.
        free: whether the probe moves, so that phase plane and scale are open beside the global phase.
        within: (H, W) where something is to be said; None: everywhere that has light.

    Raises:
        DataError: two shapes, or no light.

    >>> rng = np.random.default_rng(0)
    >>> spread = ObjectSpread(np.full((40, 40), 0.5 + 0j), np.ones((40, 40)), free=False)
    >>> for _ in range(6):
    ...     spread.add(0.5 + 0.01 * (rng.normal(size=(40, 40)) + 1j * rng.normal(size=(40, 40))))
    >>> [round(float(np.mean(values)), 3) for values in spread.deviations()]
    [0.01, 0.02]
    """

    def __init__(self, image: Complex, light: NDArray[Any], free: bool, within: Mask | None = None) -> None:
        if image.ndim != 2 or image.shape != light.shape or not light.max() > 0:
            raise DataError(
                f"uncertainty: expected an object (H, W) and the light on it, found {image.shape} and {light.shape}, "
                f"at most {light.max():.3g}; give those of one result"
            )
        self.image, self.free = image.astype(np.complex128), free
        self.light = light.astype(np.float64) / float(light.max())
        self.known: Mask = (self.light >= LEAST_LIGHT) & (True if within is None else within)
        modulus = np.abs(self.image)
        self.direction = np.where(modulus > 0, self.image, 1) / np.where(modulus > 0, modulus, 1)
        self._squares = np.zeros((2, *image.shape))
        self._count = 0

    def add(self, drawn: Complex) -> None:
        """One more object (H, W)."""
        difference = self.difference(drawn)
        self._squares += difference.real**2, difference.imag**2
        self._count += 1

    def difference(self, other: Complex) -> Complex:
        """(H, W) from the solution to another object, relative to the direction of the solution: what changes the
        amplitude is real; 0 where nothing is known.
        """
        weight = np.where(self.known, self.light, 0)
        freed = without_gauge(other.astype(np.complex128), self.image, weight, self.free)
        return np.where(self.known, self.direction.conj() * (freed - self.image), 0)

    def deviations(self) -> tuple[Real, Real]:
        """(H, W) standard deviation of the amplitude, in the unit of the object, and of the phase, radians; NaN where
        nothing is known.
        """
        along, across = (np.sqrt(self.averaged(squares / self._count)) for squares in self._squares)
        with np.errstate(divide="ignore"):
            phase = np.minimum(across / np.abs(self.image), NOTHING_KNOWN_RAD)
        return np.where(self.known, along, np.nan), np.where(self.known, phase, np.nan)

    def moved(self, other: Complex) -> float:
        """How far another object is from the solution: rms over the light, in standard deviations."""
        difference, total = self.difference(other), 0.0
        for part, squares in zip((difference.real, difference.imag), self._squares, strict=True):
            variance = np.maximum(self.averaged(squares / self._count), np.finfo(float).tiny)
            total += np.average(part**2 / variance, weights=np.where(self.known, self.light, 0)) / 2
        return float(np.sqrt(total))

    def averaged(self, variance: Real) -> Real:
        """A variance, its product with the light averaged over the window; 1 where nothing is known."""
        inside = self.known.astype(np.float64)
        total = gaussian_filter(variance * self.light * inside, WINDOW_PX)
        weight = gaussian_filter(inside, WINDOW_PX)
        return np.where(self.known, total / np.where(self.known, weight * self.light, 1), 1.0)


def without_gauge(image: Complex, reference: Complex, weight: Real, free: bool) -> NDArray[np.complex128]:
    """An object brought to a reference that it is near to, as far as the patterns leave that open.

    The global phase, and where `free` a phase plane and a scale, that leave the least `sum w |image - reference|^2`; by
    Gauss-Newton steps from where it is.

    Args:
        image, reference: (H, W).
        weight: (H, W), not negative, not 0 everywhere.
        free: whether plane and scale are open too.
    """
    y, x = (np.linspace(-1, 1, size) for size in image.shape)
    basis = [np.ones(image.shape)]
    if free:
        basis += [np.broadcast_to(x, image.shape), np.broadcast_to(y[:, None], image.shape)]
    found = image.astype(np.complex128)
    found *= np.exp(1j * np.angle(np.vdot(found * weight, reference)))
    for _ in range(ROUNDS):
        power = weight * np.abs(found) ** 2
        pull = weight * found.conj() * (reference - found)
        normal = np.array([[np.sum(power * one * other) for other in basis] for one in basis])
        angles = np.linalg.solve(normal, [np.sum(pull.imag * one) for one in basis])
        scale = pull.real.sum() / power.sum() if free else 0.0
        found = found * np.exp(scale + 1j * sum(angle * one for angle, one in zip(angles, basis, strict=True)))
    return found
