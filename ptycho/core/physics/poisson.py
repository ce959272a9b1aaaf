"""What photon noise alone does to the misfit of a pixel, whatever its dose.

A pixel that expects L photons records Y, Poisson distributed. Three moments say what a correct model is to find
there; all of them fall to 0 where hardly a photon comes, so that no number of pixels can stand in for them:

* the mean of the deviance `D = 2 [Y log(Y / L) - Y + L]`: 1 in bright pixels, `-2 L log L` in dim ones;
* its variance: 2 in bright pixels;
* the mean of the squared misfit of amplitudes, `(sqrt Y - sqrt L)^2`: 1/4 in bright pixels, 2 L in dim ones.

Exact sums in between are tabulated over `log L`; above `BRIGHT` photons the series in 1/L take over.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammaln, xlogy

__all__ = ["BRIGHT", "DIM", "SERIES", "exact_moments", "moment_table", "poisson_moments"]

Float = NDArray[np.float64]

BRIGHT = 100.0
"""Photons above which the series are exact to 1e-6."""
DIM = 1e-9
"""Photons up to which a pixel counts for nothing."""
SERIES = ((1.0, 1 / 6, 1 / 6, 19 / 60), (2.0, 2 / 3, 4 / 3, 0.0), (1 / 4, 7 / 64, 75 / 512, 0.0))
"""Coefficients of 1, u, u^2 and u^3 in each of the three moments of bright pixels, u = 1 / L, from the central moments
of the Poisson distribution."""
_NODES = 4097  # of the table; between them it is linear, to 4e-6


def poisson_moments(expected: ArrayLike, valid: ArrayLike = True) -> Float:
    """Mean deviance, variance of the deviance and mean squared misfit of amplitudes, summed over each pattern.

    Args:
        expected: `(n, ...)` photons L >= 0 that the pixels of n patterns expect.
        valid: bool that broadcasts against them, True where a pixel counts.

    Returns:
        `(n, 3)` float64.

    >>> poisson_moments([[1e6], [1.0]]).round(3).tolist()
    [[1.0, 2.0, 0.25], [1.147, 1.365, 0.454]]
    """
    photons = np.asarray(expected, np.float64)
    photons = np.where(valid, photons, 0.0).reshape(len(photons), -1)
    return _tabulated(photons) + _series(photons)


def exact_moments(expected: ArrayLike) -> Float:
    """The moments of single pixels, `(n,)` photons above 0 to `(n, 3)`, by summing over all that can be recorded."""
    photons = np.asarray(expected, np.float64)[:, None]
    y = np.arange(int(np.max(photons) + 12 * np.sqrt(np.max(photons)) + 40))
    chance = np.exp(xlogy(y, photons) - photons - gammaln(y + 1))
    deviance = 2 * (xlogy(y, y / photons) - y + photons)
    mean = (chance * deviance).sum(axis=1)
    variance = (chance * (deviance - mean[:, None]) ** 2).sum(axis=1)
    return np.stack([mean, variance, (chance * (np.sqrt(y) - np.sqrt(photons)) ** 2).sum(axis=1)], axis=1)


def _tabulated(photons: Float) -> Float:
    """Sums over the pixels up to BRIGHT: each is shared out between two nodes, and the nodes are summed."""
    n, (start, step, table) = len(photons), moment_table()
    place = (np.log(np.clip(photons, DIM, BRIGHT)) - start) / step
    node = np.minimum(place.astype(np.intp), _NODES - 2)
    share, lit = place - node, (photons > DIM) & (photons <= BRIGHT)
    node += _NODES * np.arange(n)[:, None]
    count = np.bincount(node.ravel(), ((1 - share) * lit).ravel(), n * _NODES)
    count[1:] += np.bincount(node.ravel(), (share * lit).ravel(), n * _NODES)[:-1]
    return np.asarray(count.reshape(n, _NODES) @ table)


def _series(photons: Float) -> Float:
    """Sums over the pixels above BRIGHT."""
    bright = photons > BRIGHT
    u = np.divide(1.0, photons, out=np.zeros_like(photons), where=bright)
    square = u * u
    powers = [each.sum(axis=1) for each in (bright, u, square, square * u)]
    return np.asarray(np.stack(powers, axis=1) @ np.transpose(SERIES))


@cache
def moment_table() -> tuple[float, float, Float]:
    """First node and step in log L from DIM to BRIGHT, and the moments at the nodes `(K, 3)`; made on first use.

    Between two nodes moments are linear in log L.
    """
    nodes = np.linspace(np.log(DIM), np.log(BRIGHT), _NODES)
    parts = np.array_split(np.exp(nodes), 16)  # dim pixels need few terms
    step = float(nodes[-1] - nodes[0]) / (_NODES - 1)
    return float(nodes[0]), step, np.concatenate([exact_moments(part) for part in parts])
