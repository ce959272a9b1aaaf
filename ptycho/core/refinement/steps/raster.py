"""What the patterns of a regular raster cannot tell: a pattern with the period of the steps, in object and probe.

Where every position is a whole number of steps from the first, `O(r) f(r)` and `P(u) / f(u + r_j)` explain the patterns
as well as O and P for any f with the period of the steps: the factor c of `ptycho.core.refinement.steps.gauge` is the
mean of that freedom. A descent leaves it where its steps led, as a grid of bright and dark in the object. The object is
taken to have no more at the frequencies of the raster than beside them: f is what it has there beyond its mean over a
step,

    F_k = sum w (O - S) conj S exp(-i k r) / sum w |S|^2,   f = 1 + sum_k F_k exp(i k r),   S = O blurred over a step

with w = 1 in the area of the scan, and goes back to the probe.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

__all__ = ["Grid", "Raster", "find_grid", "raster_of", "scanned_area", "without_grid"]

Array = NDArray[Any]

REGULAR = 0.02
"""Distance of positions from those of a raster, rms, in steps, up to which it is regular."""
FEWEST = 4
"""Steps along each axis at least."""
BLUR = 0.75
"""Sigma of the mean, in steps: a millionth of the first frequency of the raster goes through."""
BESIDE = 0.4
"""How far from a frequency of the raster its neighbours lie, of the way to the next one."""
STANDS_OUT = 3.0
"""Ratio to the neighbours' from which on a frequency has a grid; that of a sample without one is 1, at most 3."""
FARTHEST = 6
"""Frequencies along each axis that are asked for the grid, in both directions."""
LEAST = 0.1
"""Least modulus of f: less would leave no light in the probe."""
ROUNDS = 10


class Raster(NamedTuple):
    """Positions in rows and columns along the axes: a whole number of steps from the first."""

    step_x: float
    step_y: float
    x0: float
    y0: float


class Grid(NamedTuple):
    """What an object has at the frequencies of a raster."""

    contrast: float
    """Root of the sum of the squares of what stands out, relative to the object."""
    ratio: float
    """Of the frequency that stands out most, to its neighbours."""


def raster_of(x: Array, y: Array) -> Raster | None:
    """The raster that positions (n,), pixels, lie on; None where they follow none, or by few steps."""
    axes = [_steps(np.asarray(values, np.float64)) for values in (x, y)]
    if axes[0] is None or axes[1] is None:
        return None
    return Raster(axes[0][0], axes[1][0], axes[0][1], axes[1][1])


def _steps(values: Array) -> tuple[float, float] | None:
    """Step and first position along one axis, by least squares from the median of the gaps between columns."""
    ordered = np.sort(values)
    gaps = np.diff(ordered)
    if not gaps.size or gaps.max() < 1:
        return None
    first = float(np.median(gaps[gaps > gaps.max() / 2]))
    number = np.rint((values - ordered[0]) / first)
    if number.max() < FEWEST:
        return None
    step, start = np.polyfit(number, values, 1)
    left = values - start - step * number
    if step < 2 or np.sqrt(np.mean(left**2)) > REGULAR * step:
        return None
    return float(step), float(start)


def find_grid(image: Array, raster: Raster, area: NDArray[np.bool_]) -> Grid:
    """How much an object `(H, W)` has at the frequencies of a raster, over what it has beside them.

    Args:
        image: the object.
        raster: in its pixels.
        area: (H, W) True where the scan lit it.
    """
    at, beside = _coefficients(image, raster, area)
    ratio = abs(at) / np.maximum(beside, 1e-30)
    out = ratio > STANDS_OUT
    return Grid(float(np.sqrt((abs(at[out]) ** 2).sum())), float(ratio.max(initial=0.0)))


def without_grid(image: Array, probe: Array, raster: Raster, area: NDArray[np.bool_]) -> tuple[Array, Array]:
    """Object `(H, W)` and probe `(M, N, N)` with the grid of the object in the probe, and the probe's energy as it was.

    The probe of a pattern lies with its middle at its position: a position of the raster is the middle of the probe.
    """
    n = probe.shape[-1]
    (height, width), r = image.shape, np.arange(n) - n // 2
    rows, cols = np.arange(height) - raster.y0, np.arange(width) - raster.x0
    found, carried = image.astype(np.complex128), probe.astype(np.complex128)
    best, left = (found, carried), np.inf
    for _ in range(ROUNDS):
        at, beside = _coefficients(found, raster, area)
        at = np.where(abs(at) > STANDS_OUT * beside, at, 0)
        if (now := float(np.linalg.norm(at))) >= left:
            break
        best, left = (found, carried), now
        if not left:
            break
        factor = _factor(at, raster, rows, cols)
        most = float(abs(factor - 1).max())
        if most > 1 - LEAST:
            at = at * ((1 - LEAST) / most)
            factor = _factor(at, raster, rows, cols)
        found, carried = found / factor, carried * _factor(at, raster, r, r)
    found, carried = best
    gain = float(np.linalg.norm(carried) / np.linalg.norm(probe))
    return (found * gain).astype(image.dtype), (carried / gain).astype(probe.dtype)


def scanned_area(shape: tuple[int, ...], x: Array, y: Array) -> NDArray[np.bool_]:
    """(H, W) True in the box around the positions (n,), pixels."""
    area = np.zeros(shape, bool)
    area[round(y.min()) : round(y.max()) + 1, round(x.min()) : round(x.max()) + 1] = True
    return area


def _orders(step: float) -> Array:
    """Numbers of the frequencies of an axis, below half a cycle per pixel."""
    most = min(FARTHEST, int(np.ceil(step / 2)) - 1)
    return np.arange(-most, most + 1)


def _waves(orders: Array, step: float, at: Array) -> Array:
    """`exp(2 pi i m r / s)` `(orders, positions)`."""
    return np.exp(2j * np.pi * np.outer(orders / step, at))


def _factor(at: Array, raster: Raster, rows: Array, cols: Array) -> Array:
    """The factor at these rows and columns, pixels from a position of the raster."""
    down, across = (_waves(_orders(step), step, line) for step, line in ((raster.step_y, rows), (raster.step_x, cols)))
    return np.asarray(1 + down.T @ at @ across)


def _coefficients(image: Array, raster: Raster, area: NDArray[np.bool_]) -> tuple[Array, Array]:
    """`F_k` (orders along y, along x), 0 at k = 0, and the root of the mean square of their neighbours."""
    blur = BLUR * raster.step_y, BLUR * raster.step_x
    mean = gaussian_filter(image.real, blur) + 1j * gaussian_filter(image.imag, blur)
    y, x = (np.flatnonzero(area.any(axis=axis)) for axis in (1, 0))
    box = np.ix_(y, x)
    # so that what is beside a frequency does not leak into it from afar
    window = np.hanning(len(y) + 2)[1:-1, None] * np.hanning(len(x) + 2)[None, 1:-1]
    light = window * abs(mean[box]) ** 2
    values = window * (image[box] - mean[box]) * mean[box].conj() / light.sum()
    rows, cols = y - raster.y0, x - raster.x0
    orders = _orders(raster.step_y), _orders(raster.step_x)

    def sums(dy: float, dx: float) -> Array:
        down = _waves(orders[0] + dy, raster.step_y, rows)
        across = _waves(orders[1] + dx, raster.step_x, cols)
        return np.asarray(down.conj() @ values @ across.conj().T)

    at = sums(0, 0)
    near = [sums(dy, dx) for dy in (-BESIDE, 0, BESIDE) for dx in (-BESIDE, 0, BESIDE) if dy or dx]
    at[len(orders[0]) // 2, len(orders[1]) // 2] = 0
    return at, np.sqrt(np.mean([abs(each) ** 2 for each in near], axis=0))
