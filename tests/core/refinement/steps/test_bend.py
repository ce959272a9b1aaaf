"""A scan that is bent: the stretch of every pattern tells by how much, and the object goes along."""

import numpy as np
import pytest

from ptycho.core.refinement.device.kernels import Terms
from ptycho.core.refinement.steps.bend import bend_of


def normal_equations(slopes: np.ndarray) -> Terms:
    """Of patterns that are stretched by M (n, 2, 2) and hold its four numbers unequally."""
    curvature = np.tile(np.diag([2.0, 1.0, 1.0, 3.0]), (len(slopes), 1, 1))
    return Terms(-np.einsum("nij,nj->ni", curvature, slopes.reshape(-1, 4)), curvature)


@pytest.fixture
def places() -> tuple[np.ndarray, np.ndarray]:
    x, y = np.random.default_rng(2).uniform(10, 70, (2, 200))
    return x, y


def test_a_bend_is_found_from_its_slopes(places) -> None:
    """`D = (a x y, b x^2)` is one of the splines; where all is on average the patterns do not tell."""
    x, y = places
    u, v = (x - 40) / 30, (y - 40) / 30
    zero = np.zeros_like(u)
    slopes = np.stack([np.stack([v, u], axis=1), np.stack([2 * u, zero], axis=1)], axis=1) / 30
    found = bend_of(x, y, normal_equations(slopes), 20.0, ridge=1e-6).displacement(x, y)
    expected = np.stack([u * v, u**2], axis=1)
    np.testing.assert_allclose(found - found.mean(axis=0), expected - expected.mean(axis=0), atol=2e-3)


def test_nothing_is_bent_where_nothing_is_stretched(places) -> None:
    x, y = places
    assert not bend_of(x, y, normal_equations(np.zeros((200, 2, 2))), 20.0).displacement(x, y).any()


def test_the_object_goes_along(places) -> None:
    """A spot is found where the displacement took it."""
    x, y = places
    u, v = (x - 40) / 30, (y - 40) / 30
    slopes = np.stack([np.stack([v, u], axis=1), np.stack([2 * u, 0 * u], axis=1)], axis=1) / 15
    bend = bend_of(x, y, normal_equations(slopes), 20.0, ridge=1e-6)
    rows, cols = np.mgrid[:80, :80]
    spot = np.exp(-((rows - 55) ** 2 + (cols - 60) ** 2) / 18).astype(np.complex64)
    moved = bend.mapped(spot).real.astype(float)
    dx, dy = bend.displacement(np.array([60.0]), np.array([55.0]))[0]
    assert np.hypot(dx, dy) > 0.5
    middle = [float((moved * each).sum() / moved.sum()) for each in (cols, rows)]
    np.testing.assert_allclose(middle, [60 + dx, 55 + dy], atol=0.15)


def test_positions_on_a_line_are_bent_too() -> None:
    x = np.linspace(10.0, 70.0, 40)
    assert np.isfinite(bend_of(x, np.full(40, 20.0), normal_equations(np.full((40, 2, 2), 0.01)), 20.0)[1]).all()
