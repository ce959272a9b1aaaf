"""What the misfits of single patterns come down to, by hand."""

import numpy as np
import pytest

from ptycho.core.quality.misfits import Misfits


def test_by_hand():
    found = Misfits(
        deviance=np.array([30.0, 10, 0]),
        expected=np.array([10.0, 10, 0]),
        deviation=np.array([3.0, 4, 0]),
        misfit=np.array([7.0, 3, 0]),
        noise=np.array([2.0, 3, 0]),
        uniform=np.array([20.0, 5, 0]),
        counts=np.array([400.0, 100, 0]),
    )
    assert found.ratio.tolist() == [3, 1, 1] and found.overall_ratio == 2
    assert found.z.tolist() == pytest.approx([20 / 3, 0, 0]) and found.overall_z == pytest.approx(4)
    assert found.fourier_error == pytest.approx(0.02) and found.noise_level == pytest.approx(0.1)
    assert found.model_error == pytest.approx(0.1) and found.unexplained == pytest.approx(0.5)
    assert found.model_error_limit == pytest.approx(np.sqrt(0.01 + 2 * 5 / 4 / 500))
    assert found == found and found.outliers.tolist() == [0]
