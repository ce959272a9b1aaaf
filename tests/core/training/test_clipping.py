"""Adaptive gradient clipping by hand."""

import numpy as np
import pytest

from ptycho.core.training.clipping import adaptive_clip, clip_unit


@pytest.mark.parametrize(
    ("name", "rank", "unit"),
    [
        ("encoder/3/conv2/kernel", 4, "output"),
        ("encoder/3/conv2/bias", 1, "array"),
        ("stages/0/down/1/conv1/kernel", 4, "output"),
        ("encoder/0/gates/eca/kernel", 1, "array"),
        ("momentum", 1, "array"),
        ("amplitude/head/kernel", 4, None),
        ("stages/2/head/bias", 1, None),
    ],
)
def test_units(name, rank, unit) -> None:
    assert clip_unit(name, rank) == unit


def test_norms_by_hand() -> None:
    weights = np.array([[3.0, 0.0], [4.0, 0.0]])
    gradient = np.array([[0.0, 3e-3], [2.0, 4e-3]])
    expected = [[0.0, 6e-5], [0.5, 8e-5]]
    np.testing.assert_allclose(adaptive_clip(gradient, weights, 0.1, "output"), expected, rtol=1e-14)
    np.testing.assert_allclose(adaptive_clip(gradient, weights, 0.1, "array"), gradient * 0.5 / np.hypot(2, 5e-3))


def test_small_gradients_and_none_stay() -> None:
    weights = np.ones((2, 3))
    for gradient in (np.full((2, 3), 0.01), np.zeros((2, 3))):
        np.testing.assert_array_equal(adaptive_clip(gradient, weights, 0.5, "output"), gradient)
