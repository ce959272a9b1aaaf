"""Losses and their gradients: both backends against the oracle, its finite differences, and each other."""

from __future__ import annotations

import numpy as np
import pytest

from ptycho.core import losses as oracle

NAMES = ["poisson_loss", "mae_loss"]
REALSPACE = ["total_variation", "realspace_mae"]


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


@pytest.fixture
def patches(rng: np.random.Generator) -> np.ndarray:
    """Two groups of three complex patches."""
    return rng.normal(size=(2, 3, 5, 7)) + 1j * rng.normal(size=(2, 3, 5, 7))


@pytest.fixture
def truth(patches: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The patches, disturbed, each group with a phase of its own."""
    disturbed = patches + 0.3 * (rng.normal(size=patches.shape) + 1j * rng.normal(size=patches.shape))
    return disturbed * np.exp(1j * np.array([0.4, -2.5]))[:, None, None, None]


def test_total_variation_by_hand(backend) -> None:
    """Differences of 3 and 4 at the first pixel make 5; at an edge one of them is left, at the corner none."""
    patch = np.array([[[0, 3j], [4, 0]]])
    for turned in (patch, patch * np.exp(0.7j)):
        assert float(backend.losses.total_variation(backend.array(turned))) == pytest.approx((5 + 3 + 4) / 4, rel=1e-6)


def test_realspace_mae_by_hand(backend) -> None:
    """The first group is the truth turned by i, the second is 3 against -1: after a half turn they are 2 apart."""
    patches, truth = np.array([[1, 2j], [3, 3]]), np.array([[1j, -2], [-1, -1]])
    found = backend.losses.realspace_mae(backend.array(patches), backend.array(truth))
    assert float(found) == pytest.approx((0 + 0 + 2 + 2) / 4, rel=1e-6)


def realspace_arguments(name: str, truth: np.ndarray) -> list[np.ndarray]:
    """What a real-space loss takes beside the patches."""
    return [truth] if name == "realspace_mae" else []


@pytest.mark.parametrize("name", REALSPACE)
def test_realspace_values(backend, agree, name, patches, truth) -> None:
    others = realspace_arguments(name, truth)
    found = getattr(backend.losses, name)(*map(backend.array, [patches, *others]))
    agree("function", name, found, getattr(oracle, name)(patches, *others))


@pytest.mark.parametrize("name", REALSPACE)
def test_realspace_gradients(both, dtype, agree, name, patches, truth) -> None:
    others, judge = realspace_arguments(name, truth), getattr(oracle, name)
    gradients = []
    for framework in both:
        function, given = getattr(framework.losses, name), [framework.array(other) for other in others]
        gradients.append(framework.gradient(lambda x, f=function, g=given: f(x, *g), patches))
    agree("gradient", name, gradients[1], gradients[0])
    for place in [(0, 0, 0, 0), (1, 2, 4, 6), (0, 1, 2, 3)]:
        slopes = []
        for direction in (1e-6, 1e-6j):
            step = np.zeros_like(patches)
            step[place] = direction
            slopes.append((judge(patches + step, *others) - judge(patches - step, *others)) / 2e-6)
        assert gradients[1][place] == pytest.approx(complex(*slopes), rel=2e-5 if dtype == "float32" else 1e-6)


@pytest.mark.parametrize("name", REALSPACE)
@pytest.mark.parametrize("level", [0.0, 1.0])
def test_realspace_gradients_are_finite_where_there_is_nothing_to_see(framework, name, level, truth) -> None:
    """A network begins flat; an empty group has no phase to be removed."""
    others = [framework.array(other) for other in realspace_arguments(name, truth)]
    function = getattr(framework.losses, name)
    gradient = framework.gradient(lambda x: function(x, *others), np.full(truth.shape, level + 0j))
    assert np.isfinite(gradient).all()
    if name == "total_variation":
        assert np.count_nonzero(gradient) == 0


@pytest.mark.parametrize(
    ("mode", "weights", "expected"),
    [("poisson", (1.0, 0.5), (1.0, 0.5)), ("mae", (1.0, 0.5), (0.0, 0.5)), ("mae", (1.0, 0.0), (0.0, 1.0))],
)
def test_the_mode_mae_leaves_the_absolute_error_alone(mode, weights, expected) -> None:
    assert oracle.detector_weights(*weights, mode) == expected
