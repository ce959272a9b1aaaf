"""Ramps from slopes between pairs: a graph that a person can solve."""

import numpy as np

from ptycho.core.stitching.ramps import solve_ramps


def test_consistent_slopes_give_their_ramps_with_mean_0_in_each_region() -> None:
    """A triangle, a pair, and a node that nothing links."""
    true = np.array([[1.0, -2.0], [3.0, 0.0], [-4.0, 2.0], [0.5, 1.0], [-0.5, -1.0], [0.0, 0.0]])
    links = np.array([[0, 1], [1, 2], [0, 2], [3, 4]])
    slopes = true[links[:, 1]] - true[links[:, 0]]
    counts = np.array([[1.0, 2.0], [3.0, 1.0], [0.5, 1.0], [2.0, 2.0]])
    np.testing.assert_allclose(solve_ramps(slopes, counts, links, 6), true, atol=1e-5)


def test_contradictory_slopes_are_weighed_by_their_counts() -> None:
    """Two measurements of one link, 1 with the count 3 and 5 with the count 1: their mean is 2, a half on each side."""
    links, slopes = np.array([[0, 1], [0, 1]]), np.array([[1.0, 0.0], [5.0, 0.0]])
    counts = np.array([[3.0, 1.0], [1.0, 1.0]])
    np.testing.assert_allclose(solve_ramps(slopes, counts, links, 2), [[-1, 0], [1, 0]], atol=1e-6)
