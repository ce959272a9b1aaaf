"""Figures of merit and images under the names that callers import: they are the functions of the core."""

import csv
from pathlib import Path

import numpy as np
import pytest

from ptycho import evaluation
from ptycho.core.quality import metrics, registration
from ptycho.core.simulation.objects import make_object
from ptycho.core.stitching import stitch as stitching
from ptycho.errors import ConfigError, DataError
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


def test_a_label_is_kept_and_names_the_table(tmp_path: Path) -> None:
    truth = make_object("lines", (60, 64), np.random.default_rng(0))
    noisy = truth * np.exp(0.1j * np.random.default_rng(1).standard_normal(truth.shape))
    found = evaluation.eval_reconstruction(noisy, truth, label="PtychoPINN")
    assert found["label"] == "PtychoPINN"
    assert "label" not in evaluation.eval_reconstruction(noisy, truth)
    path = evaluation.save_metrics(noisy, truth, "PtychoPINN", tmp_path / "out")
    assert path == tmp_path / "out" / "metrics_PtychoPINN.csv"
    with path.open() as file:
        rows = {row["metric"]: (float(row["amplitude"]), float(row["phase"])) for row in csv.DictReader(file)}
    assert rows["mae"] == pytest.approx(found["mae"])
    assert rows["frc50"] == pytest.approx(found["frc50"])
    with pytest.raises(ConfigError, match="label: expected a word"):
        evaluation.save_metrics(noisy, truth, "../x", tmp_path)


def test_frc50_falls_with_the_noise() -> None:
    rng = np.random.default_rng(2)
    image = make_object("smooth", (64, 64), rng)
    assert evaluation.frc50(image, image) == 0.5
    assert 0 < evaluation.frc50(image + 0.2 * rng.standard_normal(image.shape), image) < 0.45


def test_a_planted_shift_is_registered_and_cut_off() -> None:
    truth = make_object("smooth", (50, 61), np.random.default_rng(3))
    moved = legacy_registration.shift_subpixel(truth, 2.25, -3.5)
    ours, theirs = legacy_registration.register_and_align(moved, truth)
    assert ours.shape == theirs.shape == (50 - 2 * 3, 61 - 2 * 4)
    np.testing.assert_array_equal(theirs, truth[3:-3, 4:-4])
    np.testing.assert_allclose(ours, theirs, atol=1e-3)
    same, whole = legacy_registration.register_and_align(truth, truth)
    assert same.shape == whole.shape == truth.shape
    with pytest.raises(DataError, match="expected one shape"):
        legacy_registration.register_and_align(truth[1:], truth)


def test_a_reconstruction_is_compared_where_it_was_scanned() -> None:
    truth = make_object("smooth", (80, 90), np.random.default_rng(4))
    part = 1.7 * np.exp(0.4j) * truth[10:70, 12:80]
    yx = np.array([[20.0, 25.0], [58.0, 30.0], [30.0, 66.0]])
    ours, theirs = cropping.align_for_evaluation(part, truth, yx)
    assert ours.shape == theirs.shape == (58 - 20 - 4, 66 - 25 - 4)
    np.testing.assert_allclose(theirs, truth[22:56, 27:64])
    np.testing.assert_allclose(ours, theirs, atol=1e-3)
