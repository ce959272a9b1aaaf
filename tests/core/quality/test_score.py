"""The score of a reconstruction: right by hand, blind to what no experiment knows, in plain numbers."""

import json
import math

import numpy as np
import pytest

from ptycho.core.quality.score import score
from ptycho.core.simulation.objects import make_object


def test_a_score_that_can_be_worked_out_by_hand() -> None:
    """Times 4 (1 + 0.1i s), s = +-1 in squares of 4 pixels, and a plane: the errors are those of the factor alone."""
    truth = make_object("smooth", (90, 100), np.random.default_rng(4)).astype(np.complex128)
    y, x = np.indices(truth.shape)
    squares = 1 - 2.0 * ((y // 4 + x // 4) % 2)
    plane = np.exp(1j * (0.3 + 2 * np.pi * (0.011 * y - 0.004 * x)))
    result = score(4 * truth * (1 + 0.1j * squares) * plane, truth, region=(10, 80, 10, 90))
    inside = truth[10:80, 10:90]
    assert result.scale == pytest.approx(0.25 / math.sqrt(1.01), rel=1e-4)
    assert result.complex_nrmse == pytest.approx(0.1 / math.sqrt(1.01), rel=1e-3)
    assert result.complex_nrmse_unscaled == pytest.approx(abs(4 * (1 + 0.1j) - 1), rel=1e-3)
    assert result.phase_mae == pytest.approx(math.atan(0.1), rel=1e-3)
    assert result.phase_range == pytest.approx(np.ptp(np.angle(inside)), rel=1e-6)
    assert result.phase_psnr == pytest.approx(20 * math.log10(result.phase_range / math.atan(0.1)), abs=0.01)
    assert result.amplitude_range == pytest.approx(np.ptp(np.abs(inside)), rel=1e-6)
    assert result.amplitude_mae < 1e-3
    assert result.amplitude_ssim > 0.999
    assert result.plane == pytest.approx((0.011, -0.004), abs=1e-5)
    assert result.shift == pytest.approx((0, 0), abs=0.03)
    assert result.region == (10, 80, 10, 90)


def test_a_score_says_up_to_where_a_reconstruction_is_right(rng: np.random.Generator) -> None:
    truth = make_object("lines", (132, 132), rng).astype(np.complex128)
    radius = np.hypot(*np.meshgrid(np.fft.fftfreq(132), np.fft.fftfreq(132)))
    spectrum = np.fft.fft2(truth)
    wrong = np.where(radius < 0.2, spectrum, spectrum.conj() * np.exp(2j * np.pi * rng.random((132, 132))))
    result = score(np.fft.ifft2(wrong), truth)
    for cutoff in (result.frc50_complex, result.frc50_mid, result.frc50_amplitude, result.frc_one_bit_complex):
        assert cutoff == pytest.approx(0.2, abs=0.015)
    assert score(truth, truth).frc50_complex == 0.5


def test_a_score_is_blind_to_what_no_experiment_knows(rng: np.random.Generator) -> None:
    truth = make_object("lines", (80, 90), rng).astype(np.complex128)
    blurred = truth + 0.1 * np.fft.ifft2(np.fft.fft2(rng.standard_normal((80, 90)))).real
    y, x = np.indices(truth.shape)
    turned = np.roll(blurred, (2, -3), (0, 1)) * np.exp(1j * (1 + 0.05 * y - 0.11 * x))
    region = (12, 68, 12, 78)
    plain, moved = score(blurred, truth, region).as_dict(), score(turned, truth, region, offset=None).as_dict()
    assert moved["shift"] == pytest.approx((plain["shift"][0] - 2, plain["shift"][1] + 3), abs=1e-3)
    for key in set(plain) - {"shift", "plane", "region"}:
        assert moved[key] == pytest.approx(plain[key], rel=1e-3, nan_ok=True), key


def test_the_scale_is_reported_and_does_count_where_it_should(rng: np.random.Generator) -> None:
    truth = make_object("lines", (60, 60), rng).astype(np.complex128)
    result = score(truth / 1.25, truth)
    assert result.scale == pytest.approx(1.25)
    assert result.complex_nrmse < 1e-9
    assert result.complex_nrmse_unscaled == pytest.approx(0.2)


def test_a_pure_phase_object_has_no_amplitude_figures() -> None:
    star = make_object("siemens_star", (64, 64), np.random.default_rng(0), amplitude=(1, 1))
    result = score(1.1 * star, star)
    assert result.amplitude_range == 0
    assert math.isnan(result.amplitude_psnr)
    assert math.isnan(result.amplitude_ssim)
    assert result.phase_ssim == pytest.approx(1.0, abs=1e-6)


def test_a_score_is_plain_numbers(rng: np.random.Generator) -> None:
    truth = make_object("lines", (40, 40), rng)
    values = json.loads(json.dumps(score(truth * 0.5, truth).as_dict()))
    assert values["scale"] == pytest.approx(2.0, rel=1e-5)
    assert values["region"] == [2, 38, 2, 38]


@pytest.mark.slow
def test_multi_scale_similarity_needs_room(rng: np.random.Generator) -> None:
    truth = make_object("lines", (184, 180), rng)
    noisy = truth * np.exp(0.05j * rng.standard_normal(truth.shape))
    assert 0.5 < score(noisy, truth).phase_ms_ssim < 0.999
    assert math.isnan(score(noisy, truth, region=(2, 177, 2, 178)).phase_ms_ssim)  # 175 rows
