"""Adaptive gradient clipping: no layer's step is large beside its weights. The oracle of both backends, in NumPy.

A. Brock, S. De, S. L. Smith, K. Simonyan, "High-performance large-scale image recognition without normalization",
ICML 2021 (arXiv:2102.06171), section 4.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["WEIGHT_FLOOR", "Unit", "adaptive_clip", "clip_unit"]

WEIGHT_FLOOR = 1e-3
"""Least norm of the weights of a unit, so that weights which start at 0 can leave it."""

Unit = Literal["output", "array"]
"""What has a norm of its own: everything that makes one output channel, or the whole array."""


def clip_unit(name: str, rank: int) -> Unit | None:
    """The units of an array of a network by its canonical name and number of axes; None: it is not clipped.

    Kernels and matrices have one per output channel, biases and other vectors are one. The heads, the last layers,
    are left alone as in the paper; here they start at 0.

    >>> clip_unit("encoder/0/conv1/kernel", 4), clip_unit("encoder/0/conv1/bias", 1), clip_unit("phase/head/kernel", 4)
    ('output', 'array', None)
    """
    parts = name.split("/")
    if "head" in parts:
        return None
    return "output" if parts[-1] == "kernel" and rank > 1 else "array"


def adaptive_clip(gradient: NDArray[Any], weights: NDArray[Any], ratio: float, unit: Unit) -> NDArray[Any]:
    """Limit the norm of a gradient to `ratio` times that of the weights: `G min(1, ratio max(|W|, floor) / |G|)`.

    Args:
        gradient, weights: real arrays of one shape; with `unit="output"` the output channel is the last axis.
        ratio: largest `|G| / |W|`; the paper has 0.01 to 0.16.
        unit: what norms are taken over; the floor is `WEIGHT_FLOOR`.

    >>> gradient, weights = np.array([[3.0, 0.1], [4.0, 0.0]]), np.array([[1.0, 1.0], [0.0, 0.0]])
    >>> adaptive_clip(gradient, weights, 0.5, "output").round(6).tolist()
    [[0.3, 0.1], [0.4, 0.0]]
    """
    axes = tuple(range(gradient.ndim - 1)) if unit == "output" else None
    limit = ratio * np.maximum(_norm(weights, axes), WEIGHT_FLOOR)
    norm = _norm(gradient, axes)
    return np.asarray(gradient * np.where(norm > limit, limit / np.where(norm > 0, norm, 1.0), 1.0))


def _norm(values: NDArray[Any], axes: tuple[int, ...] | None) -> NDArray[Any]:
    return np.asarray(np.sqrt(np.square(values).sum(axis=axes, keepdims=True)))
