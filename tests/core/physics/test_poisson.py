"""Moments of photon noise: against sums by hand, Monte Carlo, and the limits of many and of few photons."""

import doctest
import math

import numpy as np
import pytest

from ptycho.core.physics import poisson
from ptycho.core.physics.poisson import BRIGHT, exact_moments, poisson_moments


def by_hand(photons: float) -> list[float]:
    """Sums in plain Python, term by term."""
    chances = [math.exp(-photons)]
    for y in range(1, 60):
        chances.append(chances[-1] * photons / y)
    deviances = [2 * ((y * math.log(y / photons) if y else 0) - y + photons) for y in range(60)]
    mean = math.fsum(p * d for p, d in zip(chances, deviances, strict=True))
    square = math.fsum(p * d * d for p, d in zip(chances, deviances, strict=True))
    misfit = math.fsum(p * (math.sqrt(y) - math.sqrt(photons)) ** 2 for y, p in enumerate(chances))
    return [mean, square - mean**2, misfit]


@pytest.mark.parametrize("photons", [1e-6, 1e-3, 0.05, 0.5, 1.0, 3.7, 12.0])
def test_exact_sums(photons):
    np.testing.assert_allclose(exact_moments([photons])[0], by_hand(photons), rtol=1e-10)


def test_the_table_and_the_series_follow_the_exact_sums(rng):
    photons = np.sort(np.exp(rng.uniform(np.log(1e-8), np.log(3000), 300)))
    assert (photons > BRIGHT).sum() > 20
    np.testing.assert_allclose(poisson_moments(photons[:, None]), exact_moments(photons), rtol=1e-5)
    edges = np.nextafter(BRIGHT, [0, np.inf])
    np.testing.assert_allclose(*poisson_moments(edges[:, None]), rtol=3e-6)


@pytest.mark.parametrize("photons", [0.02, 0.7, 5.0, 140.0, 1e7])
def test_monte_carlo(rng, photons):
    n = 200_000
    y = rng.poisson(photons, n)
    deviance = 2 * (np.where(y > 0, y * np.log(np.maximum(y, 1) / photons), 0) - y + photons)
    mean, variance, misfit = poisson_moments([[photons]])[0]
    roots = (np.sqrt(y) - np.sqrt(photons)) ** 2
    for found, expected in ((deviance, mean), (roots, misfit), ((deviance - mean) ** 2, variance)):
        assert abs(found.mean() - expected) < 4.5 * found.std() / np.sqrt(n)


def test_limits():
    np.testing.assert_allclose(poisson_moments([[1e12]]), [[1, 2, 0.25]], rtol=1e-11)
    dim = 1e-7
    np.testing.assert_allclose(poisson_moments([[dim]])[0, [0, 2]], [-2 * dim * np.log(dim), 2 * dim], rtol=1e-3)
    assert (poisson_moments(np.zeros((2, 3))) == 0).all()


def test_patterns_are_summed_over_their_valid_pixels(rng):
    photons = np.exp(rng.uniform(-12, 12, (4, 5, 3)))
    valid = rng.random((5, 3)) < 0.6
    each = poisson_moments(photons.reshape(-1, 1)).reshape(4, 5, 3, 3)
    np.testing.assert_allclose(poisson_moments(photons), each.sum(axis=(1, 2)), rtol=1e-12)
    np.testing.assert_allclose(poisson_moments(photons, valid), each[:, valid].sum(axis=1), rtol=1e-12)
    several = rng.random((4, 5, 3)) < 0.6
    np.testing.assert_allclose(
        poisson_moments(photons, several), np.sum(each, axis=(1, 2), where=several[..., None]), rtol=1e-12
    )


def test_examples_in_the_docstrings():
    result = doctest.testmod(poisson)
    assert result.attempted >= 1 and result.failed == 0
