"""Cutting patches and adding them, in both backends."""

import numpy as np
import pytest
import tensorflow as tf
import torch

from ptycho.core.refinement.engine import find_engine
from ptycho.core.refinement.kernels_numpy import NumpyKernels
from ptycho.core.refinement.layers import Layers, layers_of
from ptycho.tf import patches as tf_patches
from ptycho_torch import patches as torch_patches


@pytest.mark.parametrize("name", ["pytorch", "tensorflow"])
def test_cutting_and_adding_are_the_oracles(name, rng) -> None:
    image = rng.standard_normal((9, 7)) + 1j * rng.standard_normal((9, 7))
    rows, cols = np.array([0, 3, 3, 5, 1]), np.array([2, 0, 0, 3, 1])
    oracle, framework = NumpyKernels("amplitude", 0.0), {"pytorch": torch, "tensorflow": tf}[name]
    expected = oracle.cut(image, oracle.corners(rows, cols), 4)
    ours = find_engine(name).kernels("amplitude", 0.0, {"dtype": framework.float64})
    corners = ours.corners(rows, cols)
    patches = ours.cut(ours.image(image), corners, 4)
    np.testing.assert_array_equal(ours.numpy(patches), expected)
    total = ours.numpy(ours.add(None, (9, 7), patches, corners))
    np.testing.assert_allclose(total, oracle.add(None, (9, 7), expected, oracle.corners(rows, cols)), rtol=1e-13)


def test_both_ways_to_add_patches_agree_and_are_adjoint_to_cutting() -> None:
    generator = torch.Generator().manual_seed(0)
    patches = torch.randn(5, 4, 4, dtype=torch.complex128, generator=generator)
    rows, cols = torch.tensor([0, 3, 3, 5, 1]), torch.tensor([2, 0, 0, 3, 1])
    canvas = torch.zeros(9, 7, dtype=torch.complex128)
    torch_patches.add_patches(canvas, patches, rows, cols)
    index = (rows[:, None, None] + torch.arange(4)[:, None]) * 7 + cols[:, None, None] + torch.arange(4)
    summed = torch.zeros(63, dtype=torch.complex128).index_add(0, index.reshape(-1), patches.reshape(-1))
    torch.testing.assert_close(canvas.reshape(-1), summed)
    other = torch.randn(9, 7, dtype=torch.complex128, generator=generator)
    left = torch.vdot(patches.reshape(-1), torch_patches.cut_patches(other, rows, cols, 4).reshape(-1))
    torch.testing.assert_close(left, torch.vdot(canvas.reshape(-1), other.reshape(-1)))


def test_adding_in_tensorflow_is_the_adjoint_of_cutting(rng) -> None:
    patches = tf.constant(rng.standard_normal((5, 4, 4)) + 1j * rng.standard_normal((5, 4, 4)))
    rows, cols = np.array([0, 3, 3, 5, 1]), np.array([2, 0, 0, 3, 1])
    canvas, other = np.zeros((9, 7), complex), rng.standard_normal((9, 7)) + 0j
    tf_patches.add_patches(canvas, patches, rows, cols)
    assert np.vdot(patches, tf_patches.cut_patches(other, rows, cols, 4)) == pytest.approx(
        np.vdot(canvas, other), rel=1e-12
    )


def test_adding_in_layers_is_adding(rng) -> None:
    """To rounding, and in the same bits again; other layers, other bits would be allowed."""
    rows, cols = rng.integers(0, 40, (2, 150))
    patches = torch.as_tensor(rng.standard_normal((150, 16, 16)) + 1j * rng.standard_normal((150, 16, 16)))
    order, sizes = layers_of(rows, cols, 16)
    places = torch.as_tensor(rows), torch.as_tensor(cols)
    plain, layered, again = torch.zeros(3, 56, 56, dtype=torch.complex128)
    torch_patches.add_patches(plain, patches, *places)
    for canvas in (layered, again):
        torch_patches.add_in_layers(canvas, patches, *places, Layers(torch.as_tensor(order), sizes))
    torch.testing.assert_close(layered, plain, rtol=1e-13, atol=1e-13)
    assert torch.equal(layered, again)
