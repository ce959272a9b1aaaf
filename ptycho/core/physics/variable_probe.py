"""A probe that changes during a scan: orthogonal probe relaxation, few modes of variation and their coefficients.

The first mode of the probe at pattern j is

    P_j = (P + sum_k a_jk U_k) / sqrt(1 + sum_k |a_jk|^2)

with modes of variation U_k that are orthogonal to P and to each other and have its energy, so that the energy of every
P_j is that of P: what changes the brightness is the flux. Nobody holds a probe for every pattern but of one batch.

Source of the method: M. Odstrcil et al., Opt. Express 24, 8360 (2016), where it is called OPR.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.errors import DataError

__all__ = ["ProbeVariation", "check_variation", "likeness", "mixture", "spanned"]

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class ProbeVariation:
    """How the first mode of the probe differs from pattern to pattern, for n patterns."""

    modes: NDArray[np.complexfloating[Any, Any]]
    """(K, N, N) U_k, in the unit of the probe."""
    coefficients: NDArray[np.complexfloating[Any, Any]]
    """(n, K) a_jk."""

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ProbeVariation):
            return NotImplemented
        return np.array_equal(self.modes, other.modes) and np.array_equal(self.coefficients, other.coefficients)

    def of(self, some: NDArray[np.integer[Any]] | slice) -> ProbeVariation:
        """That of some of the patterns."""
        return replace(self, coefficients=self.coefficients[some])

    def probes(self, probe: Array) -> Array:
        """The probe `(n, M, N, N)` of every pattern, from the common one `(M, N, N)`."""
        mixed = np.tensordot(mixture(self.coefficients), np.concatenate([probe[:1], self.modes]), 1)
        others = np.broadcast_to(probe[1:], (len(mixed), *probe[1:].shape))
        return np.concatenate([mixed[:, None], others], axis=1)

    @property
    def shares(self) -> NDArray[np.float64]:
        """(K,) of the energy of the first mode that is in each mode of variation, on average."""
        return np.asarray((np.abs(mixture(self.coefficients)[:, 1:]) ** 2).mean(axis=0), np.float64)


def mixture(coefficients: Array) -> Array:
    """Weights `(n, K + 1)` of P and of every U_k: `(1, a_j) / sqrt(1 + |a_j|^2)`.

    >>> mixture(np.array([[0.75j]]))
    array([[0.8+0.j , 0. +0.6j]])
    """
    weights = np.concatenate([np.ones_like(coefficients[:, :1]), coefficients], axis=1)
    return np.asarray(weights / np.linalg.norm(weights, axis=1, keepdims=True))


def likeness(coefficients: Array) -> NDArray[np.float64]:
    """(K,) how alike coefficients (n, K) of patterns are that follow each other: 1 the same, 0 unrelated."""
    products = (coefficients[1:] * coefficients[:-1].conj()).real.sum(axis=0)
    squares = (np.abs(coefficients) ** 2).sum(axis=0)
    return np.asarray(np.clip(products / np.maximum(squares, 1e-30), 0, 1), np.float64)


def spanned(vectors: Array, weights: Array) -> tuple[Array, Array, NDArray[np.float64]]:
    """The same sums of vectors by others that are orthogonal and have the energy of the first.

    Args:
        vectors: (K + 1, N, N), the first not 0.
        weights: (n, K + 1) of each in every sum.

    Returns:
        The vectors, the first a multiple of the first given; coefficients (n, K) of the others relative to the first,
        whose phase is that of no pattern; and the energy (n,) of every sum relative to the first vector's.
    """
    flat = vectors.reshape(len(vectors), -1)
    basis, mixing = np.linalg.qr(flat.T)
    energy = np.linalg.norm(flat[0])
    turn = mixing[0, 0] / energy
    held = weights @ mixing.T / energy
    first = np.where(np.abs(held[:, :1]) > 0, held[:, :1], 1)
    found = energy * basis.T
    found[0] *= turn
    return (
        np.asarray(found.reshape(vectors.shape), vectors.dtype),
        np.asarray(held[:, 1:] / first * turn),
        np.asarray((np.abs(held) ** 2).sum(axis=1), np.float64),
    )


def check_variation(found: ProbeVariation, count: int, n: int) -> ProbeVariation:
    """The variation of a scan of so many patterns of n pixels.

    Raises:
        DataError: other shapes, or numbers that are not finite.
    """
    modes, coefficients = found.modes, found.coefficients
    if modes.ndim != 3 or modes.shape[1:] != (n, n) or coefficients.shape != (count, len(modes)):
        raise DataError(
            f"variation: expected modes (K, {n}, {n}) and coefficients ({count}, K), found {modes.shape} and "
            f"{coefficients.shape}; give a coefficient for each pattern and mode"
        )
    if not (np.isfinite(modes).all() and np.isfinite(coefficients).all()):
        raise DataError("variation: expected finite numbers, found NaN or infinity; correct them")
    return found
