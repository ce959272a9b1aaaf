"""A probe that varies in a refinement: coefficients by Newton's steps, its modes along with the descent.

The modes of variation move as the probe does (`ptycho.core.refinement.kernels.Point.vectors`). Their coefficients take
a step of Gauss and Newton in every pattern, or all of them together where they are to be smooth along the scan. Begun
from nothing neither would move: the first modes are those that most of what the patterns ask of the probe is made of,
by a few rounds of a subspace iteration.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse
import scipy.sparse.linalg
from numpy.typing import NDArray
from scipy.interpolate import BSpline

from ptycho.core.physics.variable_probe import likeness, mixture, spanned
from ptycho.core.refinement.kernels import Point
from ptycho.core.refinement.passes import Passes
from ptycho.core.refinement.preconditioner import Preconditioner

__all__ = ["Variability", "principal"]

Array = NDArray[Any]

WAIT, EVERY = 3, 3
"""Coefficients move once the object has taken shape, and then in every third iteration: modes, which move in all of
them, are slower to find."""
ROUNDS = 3
"""Of the subspace iteration."""
SMALL = 0.01
"""Coefficients that a round begins with: modes are found by what is linear in them."""
TRUST = 0.3
"""Greatest change of a coefficient in one step."""
LEAST_SIGNAL = 0.05
"""Variance of a coefficient over that of its noise that is believed at least."""
DAMPING = 1e-3
"""Added to the curvature of a coefficient, relative to the mean over the scan."""
RIDGE = 1e-6
"""The same of coefficients that are smooth."""


class Variability:
    """Moves the coefficients of a probe that varies, and keeps its modes orthogonal.

    Args:
        passes: over the patterns.
        smooth: patterns that one piece of a smooth curve of coefficients is long; None: every pattern has its own.
    """

    def __init__(self, passes: Passes, smooth: float | None = None) -> None:
        self._passes, self._smooth = passes, smooth

    def moved(self, point: Point, iteration: int, preconditioner: Preconditioner) -> Point:
        """The point with other coefficients."""
        late = iteration - WAIT
        if late < 0 or late % EVERY:
            return point
        if not point.coefficients.any():
            return self._begun(point, preconditioner)
        return self._stepped(orthogonal(point))

    def _begun(self, point: Point, preconditioner: Preconditioner) -> Point:
        """The first modes and coefficients."""
        count, kinds = point.coefficients.shape
        coefficients = _first(count, kinds)
        for _ in range(ROUNDS):
            size = np.sqrt(np.mean(np.abs(coefficients) ** 2, axis=0))
            tried = point._replace(coefficients=SMALL * coefficients / np.where(size > 0, size, 1))
            gradient = self._passes.gradient(tried, True)[1].probe
            assert gradient is not None
            steps = preconditioner.variation_step(-gradient[len(point.probe) :], np.ones(kinds))
            if not np.any(steps):
                return point
            vectors, _, _ = spanned(np.concatenate([point.probe[:1], steps]), np.eye(kinds + 1))
            point = point._replace(variation=vectors[1:].astype(point.variation.dtype))
            coefficients = self._stepped(point).coefficients
        return point._replace(coefficients=coefficients)

    def _stepped(self, point: Point) -> Point:
        """A damped step of all coefficients."""
        found = list(self._passes.variation_terms(point))
        seen = np.concatenate([indices for indices, _ in found])
        gradient, curvature = (np.concatenate([terms[k] for _, terms in found]) for k in (0, 1))
        stiffness = np.trace(curvature, axis1=1, axis2=2).mean() / curvature.shape[-1]
        if not stiffness > 0:
            return point
        if self._smooth is not None:
            return point._replace(coefficients=self._smoothed(point.coefficients, seen, gradient, curvature))
        coefficients, noise = point.coefficients.copy(), self._passes.variance(point)
        known = np.concatenate([coefficients.real, coefficients.imag], axis=1)[seen]
        best = _likely(known, gradient, curvature + DAMPING * stiffness * np.eye(known.shape[1]), noise)
        coefficients[seen] += _bounded(_as_complex(best - known))
        return point._replace(coefficients=_foretold(coefficients, seen))

    def _smoothed(self, coefficients: Array, seen: Array, gradient: Array, curvature: Array) -> Array:
        """The best coefficients that are splines along the scan, by the parabolas of all patterns seen."""
        assert self._smooth is not None
        basis = _splines(len(coefficients), self._smooth)
        here, numbers = basis[seen], gradient.shape[1]
        values = np.concatenate([coefficients.real, coefficients.imag], axis=1)[seen]
        wanted = np.einsum("bij,bj->bi", curvature, values) - gradient
        blocks = [[here.T @ here.multiply(curvature[:, i, j, None]) for j in range(numbers)] for i in range(numbers)]
        normal = scipy.sparse.bmat(blocks, format="csc")
        ridge = RIDGE * normal.diagonal().mean()
        normal = normal + ridge * scipy.sparse.identity(normal.shape[0], format="csc")
        target = np.concatenate([here.T @ wanted[:, i] for i in range(numbers)])
        splines = scipy.sparse.linalg.spsolve(normal, target).reshape(numbers, -1)
        return coefficients + _bounded(_as_complex(basis @ splines.T) - coefficients)


def orthogonal(point: Point) -> Point:
    """The point with modes of variation that are orthogonal to its probe and have its energy.

    Of the energy of the probes their mean stays; the flux of the patterns is not touched.
    """
    first = np.concatenate([point.probe[:1], point.variation])
    vectors, coefficients, energy = spanned(first, mixture(point.coefficients))
    return _with_first(point, np.sqrt(energy.mean()) * vectors, coefficients)


def principal(point: Point) -> Point:
    """The same probes, the first of them the one that has most of their light, modes of variation by their shares."""
    if not point.coefficients.any():
        return point
    point = orthogonal(point)
    weights = mixture(point.coefficients)
    turned = np.linalg.eigh(weights.conj().T @ weights)[1][:, ::-1]
    held = weights @ turned
    vectors = np.tensordot(turned.conj().T, np.concatenate([point.probe[:1], point.variation]), 1)
    # no pattern tells its phase: that of the probe is kept near what it was
    phase = np.exp(1j * np.angle(turned[0, 0]))
    vectors[0] *= phase
    coefficients = held[:, 1:] / (held[:, :1] / phase)
    return _with_first(point, vectors, coefficients)


def _with_first(point: Point, vectors: Array, coefficients: Array) -> Point:
    """The point with another first mode, and modes of its variation."""
    return point._replace(
        probe=np.concatenate([vectors[:1], point.probe[1:]]).astype(point.probe.dtype),
        variation=vectors[1:].astype(point.variation.dtype),
        coefficients=coefficients,
    )


def _first(count: int, kinds: int) -> Array:
    """Coefficients to begin with (n, K): slow ones, and a little of everything, in case the probe only trembles."""
    along = np.pi * (np.arange(count)[:, None] + 0.5) / count * (1 + np.arange(kinds))
    noise = np.random.default_rng(0).standard_normal((2, count, kinds))
    return np.cos(along) + 0.5 * (noise[0] + 1j * noise[1])


def _likely(known: Array, gradient: Array, curvature: Array, noise: float) -> Array:
    """Numbers `(b, k)` by a step of Gauss and Newton, nearer to 0 by as much as their scatter may be noise.

    The variance of each over the patterns is that of what is there and that of noise, `noise / curvature`; the former
    is what a number is expected to be when nothing is measured (empirical Bayes).
    """
    target = np.einsum("bij,bj->bi", curvature, known) - gradient
    free = np.linalg.solve(curvature, target[..., None])[..., 0]
    scatter = noise * np.diagonal(np.linalg.inv(curvature), axis1=1, axis2=2).mean(axis=0)
    signal = np.maximum((free**2).mean(axis=0) - scatter, LEAST_SIGNAL * scatter)
    held = noise / np.maximum(signal, 1e-30) * np.eye(known.shape[1])
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
