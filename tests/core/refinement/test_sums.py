"""Sums over images that stay on one thread."""

import numpy as np
import pytest

from ptycho.core.refinement.sums import real_dot


@pytest.mark.parametrize("dtype, tolerance", [(np.complex64, 1e-6), (np.complex128, 1e-14)])
def test_a_product_is_the_real_part_of_that_of_vectors(dtype, tolerance, rng) -> None:
    one, other = (rng.standard_normal((2, 3, 5, 7)) + 1j * rng.standard_normal((2, 3, 5, 7))).astype(dtype)
    assert real_dot(one, other) == pytest.approx(np.vdot(one, other).real, rel=tolerance)
    assert real_dot(one, 1j * one) == pytest.approx(0, abs=1e-5)


def test_what_is_small_is_not_lost_beside_what_is_large() -> None:
    """In single precision 4096 numbers beside one of 1e8 would add nothing."""
    values = np.ones(4097, np.complex64)
    values[0] = 1e4
    assert real_dot(values, values) == 1e8 + 4096
