"""The network's derivative against finite differences, with weights and images of double precision."""

import numpy as np
import pytest

from ptycho.core.refinement.priors.prior_unet import CHANNELS, pulled_unet, shapes, unet


@pytest.fixture
def weights(rng) -> dict[str, np.ndarray]:
    """Any, of a size that keeps values of the order of 1."""
    return {
        name: np.sqrt(2 / np.prod(shape[:-1])) * rng.standard_normal(shape)
        if len(shape) > 1
        else 0.1 * rng.standard_normal(shape)
        for name, shape in shapes().items()
    }


def test_what_is_given_is_the_same_with_a_way_back(weights, rng) -> None:
    seen = rng.standard_normal((CHANNELS, 8, 16))
    given, _ = pulled_unet(weights, seen)
    np.testing.assert_array_equal(given, unet(weights, seen))
    assert given.shape == (3, 8, 16)


def test_the_derivative_is_that_of_finite_differences(weights, rng) -> None:
    """Of every array by itself, along a random change; sides are unequal."""
    seen, slope = rng.standard_normal((CHANNELS, 16, 24)), rng.standard_normal((3, 16, 24))
    _, pull = pulled_unet(weights, seen)
    found = pull(slope)
    assert found.keys() == weights.keys()
    for name, values in weights.items():
        move = 1e-5 * rng.standard_normal(values.shape)
        ends = (float((unet({**weights, name: values + sign * move}, seen) * slope).sum()) for sign in (1, -1))
        assert np.sum(found[name] * move) == pytest.approx(np.subtract(*ends) / 2, rel=1e-5, abs=1e-9), name
