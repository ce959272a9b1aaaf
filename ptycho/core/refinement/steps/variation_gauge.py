"""What the patterns cannot tell of a probe that varies, and what it is held by.

The modes may be mixed with each other and with the probe, and their slopes of phase may go with those of the object.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.core.physics.variable_probe import mixture, spanned
from ptycho.core.refinement.device.kernels import Point

__all__ = ["kept_modes", "level", "number_of_modes", "orthogonal", "principal"]

Array = NDArray[Any]

STEEP = 1.0
"""Greatest change of the phase across a window that is taken away at once."""
LOST = 0.1
"""Share of that change which the modes may fail to hold."""


def number_of_modes(point: Point) -> int:
    """Modes of variation that any pattern has."""
    return int(np.count_nonzero(point.coefficients.any(axis=0)))


def kept_modes(point: Point, coefficients: Array, tells: NDArray[np.bool_]) -> Point:
    """The point with these coefficients, and no modes but those that tell."""
    variation = np.where(tells[:, None, None], point.variation, 0).astype(point.variation.dtype)
    return point._replace(variation=variation, coefficients=np.where(tells, coefficients, 0))


def orthogonal(point: Point) -> Point:
    """The point with modes of variation that are orthogonal to its probe and have its energy.

    Of the energy of the probes their mean stays; the flux of the patterns is not touched.
    """
    first = np.concatenate([point.probe[:1], point.variation])
    vectors, coefficients, energy = spanned(first, mixture(point.coefficients))
    return _with_first(point, np.sqrt(energy.mean()) * vectors, coefficients)


def principal(point: Point) -> Point:
    """The same probes, the first of them the one that has most of their light, modes of variation by their shares."""
    modes = number_of_modes(point)
    if not modes:
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
    # as many as before: of the others only rounding is there
    return kept_modes(_with_first(point, vectors, coefficients), coefficients, np.arange(len(vectors) - 1) < modes)


def level(point: Point, first_row: int = 0) -> Point:
    """The same exit waves, with probes whose phase slopes no more from one side of the scan to the other.

    For any symmetric C the object `O(r) exp(-i r C r / 2)` and the probes `P_j(u) exp(i (r_j C u + u C u / 2))` explain
    the patterns as well as O and P_j: no pattern tells how the slope of the phase of P_j, the mean of its spectrum,
    changes evenly with the place r_j. Left free, slow phases of the object go to probes that vary, and stay there. C is
    what takes that change away, to its first order, and as far as as many modes hold it. Further modes of the probe are
    the same in all patterns: with them this cannot be moved, and is told.

    Args:
        point: of a search.
        first_row: the row of the whole object that the first one of `point.object` is.
    """
    if len(point.probe) > 1 or not number_of_modes(point):
        return point
    n, vectors, weights = point.probe.shape[-1], point.vectors, mixture(point.coefficients)
    middle = np.array([point.x.mean(), point.y.mean()])
    place = np.stack([point.x, point.y], axis=1) - middle
    bend = -_evenly(_slopes(vectors, weights), place)
    bend *= min(1.0, STEEP / max(float(np.abs(place @ bend).max()) * n, 1e-30))
    slopes, u = 1j * place @ bend, np.arange(n) - n // 2
    bent = vectors * np.exp(0.5j * _parabola(u, u, bend))
    held = np.concatenate([weights, slopes[:, :1] * weights, slopes[:, 1:] * weights], axis=1)
    moved = np.concatenate([bent, bent * u, bent * u[:, None]])
    found = principal(point._replace(probe=moved[:1], variation=moved[1:], coefficients=held[:, 1:] / held[:, :1]))
    light = np.abs(vectors[0]) ** 2
    spread = np.array([(u**2 * light.sum(axis=axis)).sum() for axis in (0, 1)]) / light.sum()
    changed = float((np.abs(slopes) ** 2 @ spread).mean())
    lost = float((np.abs(mixture(found.coefficients)[:, 1 + number_of_modes(point) :]) ** 2).sum(axis=1).mean())
    if lost > LOST * changed:
        return point
    y, x = (np.arange(size) - at for size, at in zip(point.object.shape[-2:], middle[::-1], strict=True))
    y += first_row
    image = point.object * np.exp(-0.5j * _parabola(x, y, bend)).astype(point.object.dtype)
    kinds = len(point.variation)
    kept = np.arange(kinds) < number_of_modes(point)
    made = point._replace(object=image, probe=found.probe.astype(point.probe.dtype))
    made = made._replace(variation=found.variation[:kinds].astype(point.variation.dtype))
    return kept_modes(made, found.coefficients[:, :kinds], kept)


def _slopes(vectors: Array, weights: Array) -> NDArray[np.float64]:
    """(n, 2) mean frequency (x, y) of the sums of vectors (K, N, N) with weights (n, K), radians per pixel."""
    spectra = np.fft.fft2(vectors)
    k = 2 * np.pi * np.fft.fftfreq(vectors.shape[-1])
    energy = np.vdot(vectors[0], vectors[0]).real * vectors[0].size
    along = [np.tensordot(spectra.conj(), factor * spectra, ((1, 2), (1, 2))) / energy for factor in (k, k[:, None])]
    return np.stack([np.einsum("nk,kl,nl->n", weights.conj(), each, weights).real for each in along], axis=1)


def _evenly(slopes: Array, place: Array) -> NDArray[np.float64]:
    """The symmetric C (2, 2) of `slope = C place` that comes nearest, but for a constant."""
    x, y = place.T
    none = np.zeros_like(x)
    matrix = np.concatenate([np.stack([x, y, none], axis=1), np.stack([none, x, y], axis=1)])
    xx, xy, yy = np.linalg.lstsq(matrix, (slopes - slopes.mean(axis=0)).T.ravel(), rcond=None)[0]
    return np.array([[xx, xy], [xy, yy]])


def _parabola(x: Array, y: Array, bend: Array) -> Array:
    """`r C r` on a grid."""
    return np.asarray(bend[0, 0] * x**2 + 2 * bend[0, 1] * np.multiply.outer(y, x) + bend[1, 1] * y[:, None] ** 2)


def _with_first(point: Point, vectors: Array, coefficients: Array) -> Point:
    """The point with another first mode, and modes of its variation."""
    return point._replace(
        probe=np.concatenate([vectors[:1], point.probe[1:]]).astype(point.probe.dtype),
        variation=vectors[1:].astype(point.variation.dtype),
        coefficients=coefficients,
    )
