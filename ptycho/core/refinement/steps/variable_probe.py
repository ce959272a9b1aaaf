"""A probe that varies in a refinement: coefficients by Newton's steps, its modes along with the descent.

The modes of variation move as the probe does (`ptycho.core.refinement.device.kernels.Point.vectors`). Their
coefficients take a step of Gauss and Newton in every pattern, or all of them together where they are to be smooth along
the scan. Begun from nothing neither would move: the first modes are those that most of what the patterns ask of the
probe is made of, by a few rounds of a subspace iteration.

They are free enough to explain noise, so that they have a price: from two fifths of the iterations on they are there
only while they explain more than modes found in noise alone would. Sooner that cannot be told: an object that was found
without them has taken up most of what they explain, and gives it back as they grow.
"""

from __future__ import annotations

import logging
from functools import cached_property
from typing import Any

import numpy as np
import scipy.sparse
import scipy.sparse.linalg
from numpy.typing import NDArray
from scipy.interpolate import BSpline

from ptycho.core.physics.variable_probe import likeness, spanned
from ptycho.core.refinement.device.kernels import Point
from ptycho.core.refinement.steps.preconditioner import Preconditioner
from ptycho.core.refinement.steps.variation_gauge import kept_modes, level, number_of_modes, principal
from ptycho.core.refinement.sums.passes import Passes

__all__ = ["Variability"]

logger = logging.getLogger(__name__)

Array = NDArray[Any]

WAIT, EVERY = 6, 3
"""Coefficients move once the object has taken shape, and then in every third iteration: modes, which move in all of
them, are slower to find."""
ROUNDS = 4
"""Of the subspace iteration."""
SMALL = 0.01
"""Coefficients that a round begins with: modes are found by what is linear in them."""
TRUST = 0.3
"""Greatest change of a coefficient in one step."""
LEAST_SIGNAL = 0.05
"""Variance of a coefficient over that of its noise that is believed at least."""
DAMPING = 1e-3
"""Added to the curvature of a coefficient, relative to the mean over the scan."""
SURE = 1.8
"""Times what noise alone would explain, from which on a mode is believed: what grows in clean scans comes to 0.8 to 1.6
of it, since object and probe fit a part of the noise, and weak changes that are there to 2 and more."""
TRIAL = 0.4
"""Share of the iterations after which modes are judged; the others are for those that were given up to leave no trace.
"""
ROUGH = 2e-3
"""Share of the error that slopes of phase may cost that are taken away: more is what the modes do not hold, and the
step would be taken back."""
RIDGE = 1e-6
"""The same of coefficients that are smooth."""


class Variability:
    """Moves the coefficients of a probe that varies, and keeps its modes orthogonal.

    Args:
        passes: over the patterns.
        kinds: modes of variation.
        iterations: of the refinement, at most.
        smooth: patterns that one piece of a smooth curve of coefficients is long; None: every pattern has its own.
    """

    def __init__(self, passes: Passes, kinds: int, iterations: int, smooth: float | None = None) -> None:
        self._passes, self._smooth = passes, smooth
        self._kinds = kinds
        self._judged_from = WAIT + EVERY * max(0, round(TRIAL * (iterations - WAIT) / EVERY))
        self._judges = False

    def charged(self, point: Point) -> float:
        """What the modes of a point have to explain, relative to the error.

        All that may come pay from the beginning on, until they are judged: no point is then worse for having begun one,
        and none for having given one up.
        """
        active = number_of_modes(point)
        return self.price * (active if self._judges else max(active, self._kinds))

    def moved(self, point: Point, iteration: int, preconditioner: Preconditioner) -> Point:
        """The point with other coefficients; once they are judged without modes that explain no more than noise."""
        late, self._judges = iteration - WAIT, iteration >= self._judged_from
        if late < 0 or late % EVERY:
            return point
        point = self._levelled(principal(point))
        active = number_of_modes(point)
        if active < self._kinds and not self._judges:
            return self._begun(point, active, preconditioner)
        if not active:
            return point
        coefficients, tells = self._solved(point)
        return kept_modes(point, coefficients, tells if self._judges else np.ones_like(tells))

    def without_noise(self, point: Point) -> Point:
        """The point without modes that explain no more than noise, all else as it is."""
        self._judges = True
        return kept_modes(point, point.coefficients, self._solved(point)[1]) if number_of_modes(point) else point

    def _levelled(self, point: Point) -> Point:
        """`level`, unless that costs more than it may."""
        found = level(point, self._passes.share.first_row)
        if found is point or self._passes.error(found) > (1 + ROUGH) * self._passes.error(point):
            return point
        return found

    def _begun(self, point: Point, k: int, preconditioner: Preconditioner) -> Point:
        """The point with a mode number k beside those that it has, where the patterns ask for any."""
        coefficients, given = point.coefficients.copy(), point
        coefficients[:, k] = _first(len(coefficients), self._kinds)[:, k]
        for _ in range(ROUNDS):
            size = max(float(np.sqrt(np.mean(np.abs(coefficients[:, k]) ** 2))), 1e-30)
            tried, variation = point.coefficients.copy(), point.variation.copy()
            tried[:, k] = SMALL * coefficients[:, k] / size
            gradient = self._passes.gradient(point._replace(coefficients=tried), True)[1].probe
            assert gradient is not None
            step = preconditioner.variation_step(-gradient[len(point.probe) :], np.ones(len(variation)))[k : k + 1]
            if not np.any(step):
                return given
            variation[k] = spanned(np.concatenate([point.probe[:1], variation[:k], step]), np.eye(k + 2))[0][-1]
            point = point._replace(variation=variation)
            coefficients = self._solved(point)[0]
        return point._replace(coefficients=coefficients)

    def _solved(self, point: Point) -> tuple[Array, NDArray[np.bool_]]:
        """Coefficients after a damped step, and which modes (K,) explain more than noise would.

        Every process solves the equations of its own patterns; what is known of all of them are sums.
        """
        seen, (gradient, curvature) = self._passes.variation_terms(point)
        stiffness = float(self._mean(np.trace(curvature, axis1=1, axis2=2))) / curvature.shape[-1]
        if not stiffness > 0:
            return point.coefficients, np.zeros(point.coefficients.shape[1], bool)
        coefficients, noise = point.coefficients.copy(), self._passes.variance(point)
        known = np.concatenate([coefficients.real, coefficients.imag], axis=1)[seen]
        if self._smooth is not None:
            basis = _splines(len(coefficients), self._smooth)
            wanted = np.einsum("bij,bj->bi", curvature, known) - gradient
            target = self._smoothed(basis, seen, wanted, curvature)
            numbers = np.concatenate([target.real, target.imag], axis=1)[seen]
            return coefficients + _bounded(target - coefficients), self._tell(numbers, curvature, noise)
        damped = curvature + DAMPING * stiffness * np.eye(known.shape[1])
        target = np.einsum("bij,bj->bi", damped, known) - gradient
        free = np.linalg.solve(damped, target[..., None])[..., 0]
        scatter = noise * self._mean(np.diagonal(np.linalg.inv(damped), axis1=1, axis2=2))
        likely = _likely(target, damped, noise, self._mean(free**2), scatter)
        told, moves = self._passes.told(seen, likely - known)
        coefficients[told] += _bounded(_as_complex(moves))
        return _foretold(coefficients, told), self._tell(free, damped, noise)

    def _mean(self, values: Array) -> Array:
        """The mean (...) of what all patterns seen have, from the values (b, ...) of those of this process."""
        return self._passes.total(values.sum(axis=0))[0] / self._passes.count()

    def _tell(self, numbers: Array, curvature: Array, noise: float) -> NDArray[np.bool_]:
        """Which modes (K,) explain more, by these coefficients, than noise would."""
        gains = self._passes.total(explained(numbers, curvature))[0] / max(noise * self._passes.values, 1e-30)
        logger.debug("probe that changes: explains %s times what noise would", np.round(SURE * gains / self.price, 2))
        return np.asarray(gains > self.price)

    @cached_property
    def price(self) -> float:
        """What a mode has to explain, relative to the error: `SURE` times what it would explain of noise.

        Of noise of variance s in a matrix of 2 n coefficients and 2 N^2 numbers of a mode the mode that explains most
        explains `s (sqrt(2 n) + sqrt(2 N^2))^2`.
        """
        count = self._passes.count()
        if self._smooth is not None:
            count = min(count, _splines(len(self._passes.scan), self._smooth).shape[1])
        return float(SURE * 2 * (np.sqrt(count) + self._passes.n) ** 2 / max(self._passes.values, 1))

    def _smoothed(self, basis: Any, seen: NDArray[np.int64], wanted: Array, curvature: Array) -> Array:
        """The best coefficients (n, K) that are splines along the scan, by the parabolas of all patterns seen.

        Args:
            basis: (n, S) cubic splines, sparse.
            seen: (b,) patterns of this process.
            wanted: (b, 2 K) curvature times coefficients where the likelihood of each has its minimum.
            curvature: (b, 2 K, 2 K).
        """
        here, numbers = basis[seen], wanted.shape[1]
        bands = np.zeros((numbers, numbers, 4, here.shape[1]))  # no more than four splines meet
        for i, j in np.ndindex(numbers, numbers):
            block = here.T @ scipy.sparse.diags(curvature[:, i, j]) @ here
            for k in range(4):
                bands[i, j, k, : here.shape[1] - k] = block.diagonal(k)
        bands, sums = self._passes.total(bands, here.T @ wanted)
        normal = scipy.sparse.bmat([[_symmetric(band) for band in row] for row in bands], format="csc")
        ridge = RIDGE * normal.diagonal().mean()
        normal = normal + ridge * scipy.sparse.identity(normal.shape[0], format="csc")
        splines = scipy.sparse.linalg.spsolve(normal, sums.T.ravel()).reshape(numbers, -1)
        return _as_complex(basis @ splines.T)


def _symmetric(band: Array) -> Any:
    """The sparse matrix (S, S) of its diagonal and those above it (4, S)."""
    size = band.shape[1]
    return scipy.sparse.diags([band[abs(k), : size - abs(k)] for k in range(-3, 4)], range(-3, 4))


def _first(count: int, kinds: int) -> Array:
    """Coefficients to begin with (n, K): slow ones, and a little of everything, in case the probe only trembles."""
    along = np.pi * (np.arange(count)[:, None] + 0.5) / count * (1 + np.arange(kinds))
    noise = np.random.default_rng(0).standard_normal((2, count, kinds))
    return np.cos(along) + 0.5 * (noise[0] + 1j * noise[1])


def explained(numbers: Array, curvature: Array) -> NDArray[np.float64]:
    """(K,) by how much the likelihood would rise without each mode, the others moved to their best.

    Args:
        numbers: (b, 2 K) best coefficients, the real parts first.
        curvature: (b, 2 K, 2 K) of the likelihood.
    """
    kinds = numbers.shape[1] // 2
    covariance = np.linalg.pinv(curvature, hermitian=True)
    gains = np.zeros(kinds)
    for k in range(kinds):
        own = [k, k + kinds]
        alone = np.linalg.pinv(covariance[:, own][:, :, own], hermitian=True)
        gains[k] = np.einsum("bi,bij,bj->", numbers[:, own], alone, numbers[:, own])
    return gains


def _likely(target: Array, curvature: Array, noise: float, squares: Array, scatter: Array) -> Array:
    """Numbers `(b, k)` of a step of Gauss and Newton, nearer to 0 by as much as their scatter may be noise.

    The variance of each over the patterns is that of what is there and that of noise, `noise / curvature`; the former
    is what a number is expected to be when nothing is measured (empirical Bayes).

    Args:
        target: (b, k) curvature times the numbers of the free step.
        curvature: (b, k, k).
        noise: variance of the residuals.
        squares: (k,) of the free step, mean over all patterns.
        scatter: (k,) variance of each number by noise, likewise.
    """
    signal = np.maximum(squares - scatter, LEAST_SIGNAL * scatter)
    held = noise / np.maximum(signal, 1e-30) * np.eye(len(signal))
    return np.asarray(np.linalg.solve(curvature + held, target[..., None])[..., 0])


def _foretold(coefficients: Array, seen: Array) -> Array:
    """Coefficients (n, K) of the patterns seen, and of the others as far as those before and after tell them."""
    known = np.sort(seen)
    if len(known) == len(coefficients):
        return coefficients
    values, found = coefficients[known], coefficients.copy()
    others = np.setdiff1d(np.arange(len(coefficients)), known)
    for k, alike in enumerate(likeness(values)):
        between = np.interp(others, known, values[:, k].real) + 1j * np.interp(others, known, values[:, k].imag)
        found[others, k] = alike * between
    return found


def _as_complex(values: Array) -> Array:
    """From real parts and imaginary parts `(n, 2 K)`."""
    real, imaginary = np.split(values, 2, axis=1)
    return real + 1j * imaginary


def _bounded(step: Array) -> Array:
    """Steps no greater than `TRUST`."""
    size = np.abs(step)
    return step * (TRUST / np.maximum(size, TRUST))


def _splines(count: int, length: float) -> Any:
    """Cubic B-splines (n, pieces + 3) over the patterns of a scan, sparse."""
    pieces = max(1, round(count / length))
    knots = np.concatenate([[0.0] * 3, np.linspace(0, 1, pieces + 1), [1.0] * 3])
    return BSpline.design_matrix((np.arange(count) + 0.5) / count, knots, 3).tocsr()
