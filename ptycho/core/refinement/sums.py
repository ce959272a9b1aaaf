"""Sums over images that stay on one thread.

A product by BLAS is divided among all cores, which for images of this size takes longer than the product wherever
another program has one of them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["real_dot"]

Array = NDArray[Any]


def real_dot(one: Array, other: Array) -> float:
    """`Re sum conj(a) b` of complex arrays of one shape, summed in double precision."""
    product = one.real * other.real
    product += one.imag * other.imag
    return float(product.sum(dtype=np.float64))
