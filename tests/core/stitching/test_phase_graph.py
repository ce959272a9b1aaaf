"""Phases on a graph: planted ones come back on lattices, lines and regions apart, at any size."""

import doctest

import numpy as np
import pytest

from ptycho.core.stitching import phase_graph
from ptycho.core.stitching.phase_graph import agreement, count_regions, solve_phases


def unit(rng, n):
    return np.exp(2j * np.pi * rng.random(n))


def coherence(z, truth):
    """1 when z equals truth up to a common phase, about 0 when it has nothing to do with it."""
    return abs(np.vdot(truth, z)) / len(z)


def graph(rng, columns, rows, noise, reach=2):
    """Planted phases on a lattice, compared with all neighbours within `reach` steps."""
    x, y = (a.ravel().astype(float) for a in np.meshgrid(np.arange(columns), np.arange(rows)))
    index = np.arange(columns * rows).reshape(rows, columns)
    steps = [(dx, dy) for dx in range(reach + 1) for dy in range(reach + 1) if 0 < dx * dx + dy * dy <= reach**2]
    pairs = [np.stack([index[: rows - dy, : columns - dx], index[dy:, dx:]], -1).reshape(-1, 2) for dx, dy in steps]
    pairs += [
        np.stack([index[: rows - dy, dx:], index[dy:, : columns - dx]], -1).reshape(-1, 2)
        for dx, dy in steps
        if dx and dy
    ]
    pairs = np.concatenate(pairs)
    planted = unit(rng, len(x))
    error = rng.standard_normal((2, len(pairs)))
    products = planted[pairs[:, 0]] * planted[pairs[:, 1]].conj() + noise * (error[0] + 1j * error[1])
    return products, pairs, np.stack([x, y], axis=1), planted


@pytest.mark.parametrize("noise", [0.0, 0.3])
@pytest.mark.parametrize("size", [(1, 2), (5, 7), (13, 9), (23, 21), (90, 70)])
def test_planted_phases_on_a_lattice(rng, size, noise):
    products, pairs, places, planted = graph(rng, *size, noise)
    z = solve_phases(products, pairs, places)
    np.testing.assert_allclose(np.abs(z), 1, rtol=1e-12)
    assert coherence(z, planted) > (0.98 if noise else 1 - 1e-9)
    assert agreement(products, pairs, z) >= agreement(products, pairs, planted) - 1e-9
    slope = (products * z[pairs[:, 0]].conj() * z[pairs[:, 1]]).imag  # at the maximum no phase wants to turn
    turning = np.bincount(pairs[:, 0], slope, len(z)) - np.bincount(pairs[:, 1], slope, len(z))
    assert np.abs(turning).max() < 1e-3


@pytest.mark.slow
def test_a_hundred_thousand_phases(rng):
    products, pairs, places, planted = graph(rng, 316, 316, 0.3, 2)
    assert coherence(solve_phases(products, pairs, places), planted) > 0.98


def test_a_long_line(rng):
    planted = unit(rng, 3000)
    pairs = np.stack([np.arange(2999), np.arange(1, 3000)], axis=1)
    products = planted[pairs[:, 0]] * planted[pairs[:, 1]].conj()
    places = np.stack([np.arange(3000.0), np.zeros(3000)], axis=1)
    assert coherence(solve_phases(products, pairs, places), planted) == pytest.approx(1, abs=1e-5)


def test_links_that_leave_every_block(rng):
    """Positions that say nothing about who is linked to whom: slower, not wrong."""
    products, pairs, places, planted = graph(rng, 30, 20, 0.0)
    z = solve_phases(products, pairs, rng.permutation(places))
    assert coherence(z, planted) == pytest.approx(1, abs=1e-6)
    chain = np.stack([np.arange(500), np.arange(500, 1000)], axis=1)  # each link from one half to the other
    planted = unit(rng, 1000)
    places = np.stack([np.arange(1000.0) // 500, np.zeros(1000)], axis=1)
    z = solve_phases(planted[chain[:, 0]] * planted[chain[:, 1]].conj(), chain, places)
    np.testing.assert_allclose(z[:500] * z[500:].conj(), planted[:500] * planted[500:].conj(), atol=1e-9)


def test_the_weighted_mean_is_positive_in_each_region(rng):
    products, pairs, places, _ = graph(rng, 6, 5, 0.2)
    products = np.r_[products, products * 3j]
    pairs, places = np.r_[pairs, pairs + 30], np.r_[places, places + 50]
    z = solve_phases(products, pairs, places)
    degree = np.bincount(pairs.ravel(), np.repeat(np.abs(products), 2))
    for region in (slice(0, 30), slice(30, 60)):
        mean = (degree[region] * z[region]).sum()
        assert mean.real > 0 and abs(mean.imag) < 1e-9 * mean.real


def test_regions_are_counted_by_links_that_are_not_zero():
    pairs = np.array([(0, 1), (1, 2), (3, 4)])
    assert count_regions(np.array([1, 1j, -2]), pairs, 6) == 3
    assert count_regions(np.array([1, 0j, -2]), pairs, 6) == 4
    assert count_regions(np.zeros(0, complex), np.zeros((0, 2), int), 2) == 2


def test_examples_in_the_docstrings():
    result = doctest.testmod(phase_graph)
    assert result.attempted >= 2
    assert result.failed == 0
