"""Numbers of patterns as a map over the object: where its light was when they were measured."""

from __future__ import annotations

import numpy as np
import scipy.fft
from numpy.typing import NDArray

__all__ = ["trust_map"]

Float = NDArray[np.float64]

_LIT = 1e-3  # of the most light a pixel gets: below it a map shows nothing


def trust_map(
    values: Float, weight: Float, xcoords: Float, ycoords: Float, shape: tuple[int, int]
) -> NDArray[np.float32]:
    """Mean over the patterns of their values, at every pixel of the object weighted by the light it got in each.

    `m(r) = sum_j w(r - r_j) v_j / sum_j w(r - r_j)`, the positions r_j rounded; the cost is that of two Fourier
    transforms of the object, however many patterns there are.

    Args:
        values: (n,) one number per pattern, such as the logarithm of `Trust.ratio`.
        weight: (N, N) light of the probe, `stitching.probe_weight(probe)`, any unit.
        xcoords, ycoords: (n,) patch centres, pixels of the object; those outside of it are left out.
        shape: (H, W) of the object.

    Returns:
        (H, W), NaN where the light is below a thousandth of its maximum.
    """
    row, column = np.rint(ycoords).astype(np.int64), np.rint(xcoords).astype(np.int64)
    inside = (row >= 0) & (row < shape[0]) & (column >= 0) & (column < shape[1])
    index, pixels = (row * shape[1] + column)[inside], shape[0] * shape[1]
    half = weight.shape[-1] // 2
    whole = [scipy.fft.next_fast_len(size + n - 1, real=True) for size, n in zip(shape, weight.shape, strict=True)]
    spectrum = scipy.fft.rfft2(weight / weight.max(), whole)

    def spread(numbers: Float | None) -> Float:
        points = np.bincount(index, numbers, pixels).reshape(shape).astype(np.float64)
        lit: Float = scipy.fft.irfft2(scipy.fft.rfft2(points, whole) * spectrum, whole)
        return lit[half : half + shape[0], half : half + shape[1]]

    light = spread(None)
    lit = light > _LIT * light.max()
    return np.divide(spread(values[inside]), light, out=np.full(shape, np.nan), where=lit).astype(np.float32)
