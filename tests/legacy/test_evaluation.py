"""Figures of merit and images under the names that callers import: they are the functions of the core."""

import numpy as np
import pytest

from ptycho import evaluation
from ptycho.core.quality import metrics, registration
from ptycho.core.simulation.objects import make_object
from ptycho.core.stitching import stitch as stitching
from ptycho.image import cropping
from ptycho.image import registration as legacy_registration
from ptycho.image import stitching as legacy_stitching


def test_names_of_old_are_those_of_the_core() -> None:
    assert legacy_registration.register_subpixel is registration.register_subpixel
    assert legacy_stitching.reassemble_position is stitching.reassemble_position
    assert cropping.checked_region is registration.checked_region
    assert evaluation.ms_ssim is metrics.ms_ssim


def test_an_evaluation_has_pairs_of_amplitude_and_phase() -> None:
    truth = make_object("lines", (60, 64), np.random.default_rng(0))
    found = evaluation.eval_reconstruction((2 * truth * np.exp(1j))[..., None], truth)
    assert found["ssim"] == pytest.approx((1, 1), abs=1e-6)
    assert found["frc50"] == (0.5, 0.5)
    assert found["nrmse"] < 1e-5
    noisy = truth * np.exp(0.1j * np.random.default_rng(1).standard_normal(truth.shape))
    assert evaluation.eval_reconstruction(noisy[5:55, 7:60], truth)["mae"][1] == pytest.approx(0.08, rel=0.1)
