"""Losses and their gradients: both backends against the oracle, its finite differences, and each other."""

from __future__ import annotations

import numpy as np
import pytest

from ptycho.core import losses as oracle

NAMES = ["poisson_loss", "mae_loss"]


@pytest.fixture
def counts(rng: np.random.Generator) -> np.ndarray:
    """Dim enough that some pixels have no photon."""
    return rng.poisson(3.0, (2, 3, 5, 7)).astype(float)


@pytest.fixture
def expected(rng: np.random.Generator) -> np.ndarray:
    return rng.uniform(0.5, 6, (2, 3, 5, 7))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("masked", [False, True])
def test_values(backend, agree, name, masked, counts, expected, rng) -> None:
    mask = rng.random((3, 5, 7)) > 0.4 if masked else None
    valid = None if mask is None else backend.array(mask)
    found = getattr(backend.losses, name)(backend.array(expected), backend.array(counts), 3.0, valid)
    agree("function", name, found, getattr(oracle, name)(expected, counts, 3.0, mask))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("masked", [False, True])
def test_gradients(both, dtype, agree, name, masked, counts, expected, rng) -> None:
    mask = rng.random((5, 7)) > 0.4 if masked else None
    expected[0, 0, 0, 0] = 0.0
    gradients = []
    for framework in both:
        function, data = getattr(framework.losses, name), framework.array(counts)
        valid = None if mask is None else framework.array(mask)
        gradients.append(framework.gradient(lambda x, f=function, y=data, v=valid: f(x, y, 3.0, v), expected))
    assert np.isfinite(gradients[0]).all()
    agree("gradient", name, gradients[1], gradients[0])
    for place in [(0, 0, 0, 1), (1, 2, 4, 3), (0, 1, 2, 2)]:
        step = np.zeros_like(expected)
        step[place] = 1e-6
        judge = getattr(oracle, name)
        slope = (judge(expected + step, counts, 3.0, mask) - judge(expected - step, counts, 3.0, mask)) / 2e-6
        limit = 1e-5 if dtype == "float32" else 1e-6
        assert gradients[1][place] == pytest.approx(slope, rel=limit, abs=1e-9)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("content", [0.0, 1e9, 2.0**32 - 1, np.nan])
def test_masked_pixels_have_no_gradient_whatever_they_hold(framework, name, content, counts, expected) -> None:
    mask = np.ones((5, 7), bool)
    mask[2, 2] = False
    expected[..., 2, 2], counts[..., 2, 2] = 0, content
    data, valid = framework.array(counts), framework.array(mask)
    function = getattr(framework.losses, name)
    gradient = framework.gradient(lambda x: function(x, data, 3.0, valid), expected)
    assert np.isfinite(gradient).all()
    assert np.count_nonzero(gradient[..., 2, 2]) == 0
    assert np.isfinite(float(function(framework.array(expected), data, 3.0, valid)))


def test_digits_at_1e8_counts(framework) -> None:
    counts = np.full((8, 8), 1e8)
    exact = oracle.poisson_loss(counts * (1 + 1e-3), counts, 1.0)
    found = framework.losses.poisson_loss(framework.array(counts * (1 + 1e-3)), framework.array(counts), 1.0)
    assert float(found) == pytest.approx(exact, rel=2e-4)
