"""Scan positions: raster, snake, spiral, Fermat spiral, random; how far apart for a given overlap; positioning errors.

A path is a function `(spans, step, rng) -> (x, y)`, two float64 `(n,)` arrays with `0 <= x <= width` and
`0 <= y <= height` of the field that the scan may use; each has one point per `step^2` of area.
`scan_positions` puts it into the object and adds the jitter. A new path is one function and one line in
`SCAN_PATHS`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.core.named_functions import chosen
from ptycho.core.physics.probes import probe_diameter
from ptycho.errors import ConfigError

__all__ = [
    "SCAN_PATHS",
    "displaced",
    "linear_overlap",
    "raster_positions",
    "scan_positions",
    "step_for_count",
    "step_for_overlap",
]

Positions = NDArray[np.float64]
Points = tuple[Positions, Positions]
Spans = tuple[float, float]
"""(width, height) of the field, pixels."""

_GOLDEN_ANGLE = math.pi * (3 - math.sqrt(5))


def scan_positions(
    path: str, shape: tuple[int, int], N: int, step: float, jitter: float, rng: np.random.Generator
) -> Points:
    """Positions along a path over the field in which every `N x N` patch fits into an object of `shape` (H, W).

    Each point of the path moves by up to `jitter` each way, evenly distributed, but never closer to an edge of
    the object than N/2 + 1 pixels.

    Args:
        path: 'raster', row by row, centred in the object;
            'snake', the same, one row to the right and the next one back;
            'spiral', from the middle outwards, neighbours along and across its turns about a step apart;
            'fermat', a Fermat spiral with the golden angle;
            'random', evenly distributed without order.
        shape: (H, W) of the object, pixels.
        N: side of a patch, pixels.
        step: distance of neighbours, pixels; all but rows have a point per `step^2` of area.
        jitter: largest displacement along each axis, pixels.
        rng: source of the jitter and of the random path.

    Returns:
        xcoords, ycoords: float64 (n,), pixels.

    Raises:
        ConfigError: an unknown path, a step that is not positive, a negative jitter, or an object below N + 2
            pixels a side.

    Source: Huang et al., Optimization of overlap uniformness for ptychography, Opt. Express 22 (2014) ('fermat').
    """
    points = chosen(SCAN_PATHS, "scan path", path)
    if not 0 < step < math.inf or not 0 <= jitter < math.inf:
        raise ConfigError(f"{path}: expected step > 0 and jitter >= 0, found {step} and {jitter}; correct them")
    spans, margin = _field(shape, N)
    x, y = points(spans, step, rng)
    xcoords = np.clip(margin + x + rng.uniform(-jitter, jitter, x.size), margin, margin + spans[0])
    ycoords = np.clip(margin + y + rng.uniform(-jitter, jitter, y.size), margin, margin + spans[1])
    return xcoords, ycoords


def raster_positions(shape: tuple[int, int], N: int, step: float, jitter: float, rng: np.random.Generator) -> Points:
    """Jittered raster: `scan_positions` with the path 'raster'."""
    return scan_positions("raster", shape, N, step, jitter, rng)


def displaced(xcoords: Positions, ycoords: Positions, sigma: float, rng: np.random.Generator) -> Points:
    """Positions with an error: a Gaussian of standard deviation `sigma` pixels added to each coordinate.

    Raises:
        ConfigError: a negative sigma.
    """
    if not 0 <= sigma < math.inf:
        raise ConfigError(f"position error: expected 0 or more pixels, found {sigma}; correct it")
    error_x, error_y = sigma * rng.standard_normal((2, xcoords.size))
    return xcoords + error_x, ycoords + error_y


def step_for_overlap(probe: NDArray[Any], overlap: float) -> float:
    """Step in pixels at which neighbouring probes overlap by the given linear fraction of their 90 % energy disks.

    `step = (1 - overlap) d90`, d90 the diameter of the disk that holds 90 % of the probe's energy.

    Args:
        probe: (N, N) or (M, N, N).
        overlap: below 1; 0 lets the disks touch, a negative one leaves a gap.

    Raises:
        ConfigError: an overlap of 1 or more.
    """
    if not overlap < 1:
        raise ConfigError(f"overlap: expected a fraction below 1, found {overlap}; for example 0.7")
    return (1 - overlap) * probe_diameter(probe, 0.9)


def linear_overlap(probe: NDArray[Any], step: float) -> float:
    """Overlap of neighbours `step` pixels apart, `1 - step / d90`: the inverse of `step_for_overlap`."""
    return 1 - step / probe_diameter(probe, 0.9)


def step_for_count(shape: tuple[int, int], N: int, count: int) -> float:
    """Step in pixels at which a path has one point per `step^2` for `count` points; 'random' meets it exactly.

    Raises:
        ConfigError: a count below 1, or an object below N + 2 pixels a side (no field to scan).
    """
    if count < 1:
        raise ConfigError(f"count: expected 1 scan point or more, found {count}; ask for more")
    (width, height), _ = _field(shape, N)
    return math.sqrt(max(width, 1.0) * max(height, 1.0) / count)


def _field(shape: tuple[int, int], N: int) -> tuple[Spans, int]:
    """(width, height) that positions may take, and the coordinate at which it begins."""
    if min(shape) < N + 2:
        raise ConfigError(f"scan: expected an object of at least {N + 2} pixels a side, found {shape}; enlarge it")
    margin = N // 2 + 1
    return (shape[1] - 2 * margin, shape[0] - 2 * margin), margin


def _raster(spans: Spans, step: float, rng: np.random.Generator) -> Points:
    del rng
    cols, rows = (span % step / 2 + step * np.arange(span // step + 1) for span in spans)
    y, x = (grid.ravel() for grid in np.meshgrid(rows, cols, indexing="ij"))
    return x, y


def _snake(spans: Spans, step: float, rng: np.random.Generator) -> Points:
    """The raster with every other row from right to left."""
    x, y = _raster(spans, step, rng)
    rows = x.reshape(np.unique(y).size, -1)
    rows[1::2] = rows[1::2, ::-1].copy()
    return rows.ravel(), y


def _spiral(spans: Spans, step: float, rng: np.random.Generator) -> Points:
    """Archimedean spiral `r = step theta / 2 pi`, a point about every `step` of its length."""
    del rng
    return _rolled(spans, step, lambda k: np.sqrt(4 * np.pi * k))


def _fermat(spans: Spans, step: float, rng: np.random.Generator) -> Points:
    del rng
    return _rolled(spans, step, lambda k: _GOLDEN_ANGLE * k)


def _rolled(spans: Spans, step: float, angle: Callable[[Positions], Positions]) -> Points:
    """Points at radius `step sqrt(k / pi)`, k = 0, 1, ..., around the middle, those inside the field."""
    middle_x, middle_y = spans[0] / 2, spans[1] / 2
    k = np.arange(1 + math.pi * (middle_x**2 + middle_y**2) / step**2)
    radius, theta = step * np.sqrt(k / np.pi), angle(k)
    x, y = radius * np.cos(theta), radius * np.sin(theta)
    inside = (np.abs(x) <= middle_x) & (np.abs(y) <= middle_y)
    return x[inside] + middle_x, y[inside] + middle_y


def _random(spans: Spans, step: float, rng: np.random.Generator) -> Points:
    count = max(1, round(max(spans[0], 1.0) * max(spans[1], 1.0) / step**2))
    x, y = rng.random((2, count)) * np.array(spans)[:, None]
    return x, y


SCAN_PATHS: dict[str, Callable[[Spans, float, np.random.Generator], Points]] = {
    "raster": _raster,
    "snake": _snake,
    "spiral": _spiral,
    "fermat": _fermat,
    "random": _random,
}
"""Every scan path by its name."""
