"""Cutting patches and adding them, in both backends."""

import numpy as np
import pytest
import tensorflow as tf
import torch

from ptycho.core.refinement.device.engine import find_engine
from ptycho.core.refinement.device.kernels_numpy import NumpyKernels
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


def added(patches: torch.Tensor, rows: torch.Tensor, cols: torch.Tensor, whole: bool = True) -> torch.Tensor:
    """Into a canvas that is not empty."""
    canvas = torch.full((56, 53), 0.25 - 0.5j, dtype=patches.dtype)
    add = torch_patches.add_whole_numbers if whole else torch_patches.add_patches
    add(canvas, patches, rows, cols)
    return canvas


def some_patches(dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """150 patches of 16 x 16 whose sizes range over six decades, and where they begin."""
    generator = torch.Generator().manual_seed(0)
    rows, cols = torch.randint(0, 37, (2, 150), generator=generator)
    sizes = 10 ** torch.empty(150, 1, 1).uniform_(-6, 0, generator=generator)
    return (sizes * torch.randn(150, 16, 16, dtype=dtype, generator=generator)).to(dtype), rows, cols


@pytest.mark.parametrize("dtype, rounding", [(torch.complex64, 2e-6), (torch.complex128, 1e-13)])
def test_adding_whole_numbers_is_adding(dtype, rounding) -> None:
    patches, rows, cols = some_patches(dtype)
    expected = added(patches, rows, cols, whole=False)
    assert float((added(patches, rows, cols) - expected).abs().max()) < rounding
    # a quantity in another unit: 1e-30 of it is far below what float32 has without an exponent
    tiny = added(patches * 1e-30, rows, cols) - 0.25 + 0.5j
    assert not tiny.any()
    canvas = torch.zeros(56, 53, dtype=dtype)
    torch_patches.add_whole_numbers(canvas, patches * 1e-30, rows, cols)
    assert float((canvas * 1e30 - expected + 0.25 - 0.5j).abs().max()) < rounding


def test_whole_numbers_have_the_same_sum_in_every_order() -> None:
    """To the bit, where sums of numbers that are rounded differ."""
    patches, rows, cols = some_patches(torch.complex64)
    generator = torch.Generator().manual_seed(1)
    once, plain = (added(patches, rows, cols, whole) for whole in (True, False))
    orders = [torch.randperm(150, generator=generator) for _ in range(5)]
    assert all(torch.equal(once, added(patches[k], rows[k], cols[k])) for k in orders)
    assert not all(torch.equal(plain, added(patches[k], rows[k], cols[k], whole=False)) for k in orders)


def test_whole_numbers_hold_the_largest_sum() -> None:
    """As many patches of the largest value at one place as there are: 62 bits are not too few."""
    patches = torch.full((4095, 1, 1), 3e38 / 4096 * (1 - 1j), dtype=torch.complex64)
    canvas, places = torch.zeros(1, 1, dtype=torch.complex64), torch.zeros(4095, dtype=torch.int64)
    torch_patches.add_whole_numbers(canvas, patches, places, places)
    expected = 4095 / 4096 * 3e38 * (1 - 1j)
    assert abs(complex(canvas[0, 0]) - expected) < 1e-6 * abs(expected)


def test_whole_numbers_of_nothing_are_nothing() -> None:
    patches, rows, cols = some_patches(torch.complex64)
    assert torch.equal(added(0 * patches, rows, cols), torch.full((56, 53), 0.25 - 0.5j, dtype=torch.complex64))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("part", ["real", "imag"])
def test_whole_numbers_do_not_hide_what_is_not_finite(value, part) -> None:
    patches, rows, cols = some_patches(torch.complex64)
    getattr(patches, part)[70, 3, 5] = value
    assert not added(patches, rows, cols).isfinite().any()
