"""Gradients in the numbers of each pattern; tests/parity/test_refinement_kernels.py has the others."""

import numpy as np
import pytest

from ptycho.core.refinement.device.kernels import Point


@pytest.mark.parametrize("likelihood", ["amplitude", "poisson"])
def test_gradients_of_the_positions(small, likelihood) -> None:
    passes, point = small.passes(likelihood), small.point
    energy = float((small.scan.amplitude().astype(float) ** 2).sum())
    (_, terms), *others = passes.position_terms(point)
    assert not others
    for j in (0, 3):
        for axis in range(2):
            move = Point(*(np.zeros_like(a) for a in point))
            (move.x, move.y)[axis][j] = 1
            found = small.slope(passes, move)
            assert found == pytest.approx(2 * terms.gradient[j, axis] / energy, rel=1e-5)
    assert (np.linalg.eigvalsh(terms.curvature) >= 0).all()
