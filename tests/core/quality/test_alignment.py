"""The joint fit: phase, plane, shift and scale planted together are taken out together."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from ptycho.core.quality import alignment
from ptycho.core.quality.alignment import align, rough_correlation
from ptycho.core.quality.arithmetic import IN_NUMPY
from ptycho.core.quality.registration import shift_subpixel
from ptycho.core.simulation.objects import make_object
from ptycho.errors import DataError


def plane(shape: tuple[int, int], phase: float, ky: float, kx: float) -> np.ndarray:
    y, x = np.indices(shape)
    return np.exp(1j * (phase + 2 * np.pi * (ky * y + kx * x)))


def test_everything_at_once_is_taken_out(truth: np.ndarray) -> None:
    spoilt = 2.5 * shift_subpixel(truth, 0.43, -0.28) * plane(truth.shape, 0.7, 0.0051, -0.0072)
    found = align(spoilt, truth, region=(20, 55, 22, 70))
    assert found.region == (20, 55, 22, 70)
    assert found.shift == pytest.approx((-0.43, 0.28), abs=1e-3)
    assert found.plane == pytest.approx((0.0051, -0.0072), abs=1e-5)
    assert abs(found.factor) == pytest.approx(1 / 2.5, rel=1e-4)
    assert found.correlation == pytest.approx(1.0, abs=1e-6)
    np.testing.assert_allclose(found.truth, truth[20:55, 22:70])
    assert np.linalg.norm(found.image - found.truth) < 2e-3 * np.linalg.norm(found.truth)


def test_a_perfect_reconstruction_is_left_alone(truth: np.ndarray) -> None:
    found = align(truth, truth)
    assert found.region == (2, 73, 2, 88)
    assert found.shift == pytest.approx((0, 0), abs=1e-6)
    assert found.plane == pytest.approx((0, 0), abs=1e-8)
    assert found.factor == pytest.approx(1, abs=1e-9)


def test_a_reconstruction_of_another_frame_is_laid_where_it_belongs(rng: np.random.Generator) -> None:
    truth = make_object("lines", (90, 80), rng).astype(np.complex128)
    crop = truth[10:70, 5:77] * plane((60, 72), 0.4, 0.01, 0.0)
    for offset in ((10, 5), None):
        found = align(crop, truth, offset=offset)
        assert found.offset == (10, 5)
        assert found.region == (12, 68, 7, 75)
        np.testing.assert_allclose(found.image, truth[12:68, 7:75], atol=1e-4)


@pytest.mark.parametrize(("dy", "dx"), [(0.43, -0.37), (5.43, -3.37)])
def test_a_shift_is_taken_out_and_image_edges_do_not_wrap_into_the_region(dy: float, dx: float) -> None:
    wide = make_object("lines", (160, 160), np.random.default_rng(5)).astype(np.complex128)
    inside = (slice(40, 120), slice(40, 120))
    found = align(shift_subpixel(wide, dy, dx)[inside], wide[inside], region=(20, 60, 20, 60))
    assert found.shift == pytest.approx((-dy, -dx), abs=5e-4)
    error = np.linalg.norm(found.image - found.truth) / np.linalg.norm(found.truth)
    assert error < 1e-3  # 2e-3 when what surrounds the region is not faded out


def test_the_joint_fit_does_not_wander_off_after_chance_likenesses() -> None:
    rng = np.random.default_rng(1)
    truth = make_object("lines", (80, 80), rng).astype(np.complex128)
    slow = gaussian_filter(rng.standard_normal((80, 80)), 12)
    found = align(truth * np.exp(60j * slow), truth)  # the best likeness is 7.7 pixels away
    assert max(np.abs(found.shift)) <= 2


def noisy_pair(noise: float) -> tuple[np.ndarray, np.ndarray]:
    """Two objects with noise of their own, of odd, unequal sides; the first moved and levelled otherwise."""
    rng = np.random.default_rng(3)
    truth = make_object("dead_leaves", (151, 132), rng).astype(np.complex128)
    first, second = (noise * (rng.standard_normal((2, *truth.shape)) * [[[1]], [[1j]]]).sum(axis=0) for _ in range(2))
    return 2 * shift_subpixel(truth, 0.31, -0.22) * plane(truth.shape, 0.3, 3e-3, -1e-3) + first, truth + second


@pytest.mark.parametrize("noise", [0.01, 0.3, 0.6])
def test_noise_that_two_objects_do_not_share_costs_no_steps(noise: float, monkeypatch: pytest.MonkeyPatch) -> None:
    steps, normal = [], alignment._Place.normal
    monkeypatch.setattr(alignment._Place, "normal", lambda *args: steps.append(1) or normal(*args))
    found = align(*noisy_pair(noise), region=(30, 120, 31, 101))
    assert found.shift == pytest.approx((-0.31, 0.22), abs=2e-3 + 0.5 * noise)
    assert len(steps) <= 9  # three starts; 120 by the curvature of the first object alone, with noise in it


def test_no_better_place_is_near() -> None:
    region = (30, 120, 31, 101)
    pair = noisy_pair(0.6)
    found = align(*pair, region)
    fit = alignment._Fit.around(*pair, region, (0, 0), IN_NUMPY)
    best = np.array([*found.shift, *found.plane])
    assert fit.at(best).correlation == pytest.approx(found.correlation, abs=1e-14)
    for step in 1e-2 * np.diag(fit.unit):
        for sign in (1, -1):
            assert fit.at(best + sign * step).correlation < found.correlation


def test_the_pull_is_the_gradient_and_the_curvature_that_of_the_truth_where_both_are_alike() -> None:
    """Of half of `|c S_d[R exp(-2 pi i k.r)] - T|^2`, by differences; a plane is faded out beside the region."""
    pair, region = noisy_pair(0.3), (30, 120, 31, 101)
    fit = alignment._Fit.around(*pair, region, (0, 0), IN_NUMPY)
    place = fit.at(np.array([-0.2, 0.1, -2e-3, 4e-4]))
    _, pull = place.normal()

    def half_squared(step: np.ndarray) -> float:
        moved = fit.at(place.parameters + step[2:] * fit.unit).region
        error = place.factor * (1 + step[0] + 1j * step[1]) * moved - fit.truth
        return float(np.vdot(error, error).real) / 2

    steps = 1e-4 * np.eye(6)
    numerical = np.array([(half_squared(-step) - half_squared(step)) / 2e-4 for step in steps])
    assert np.abs(pull[2:]).min() > 1 > 1e6 * np.abs([*pull[:2], *numerical[:2]]).max()
    np.testing.assert_allclose(numerical[2:4], pull[2:4], rtol=1e-5)
    np.testing.assert_allclose(numerical[4:], pull[4:], rtol=2e-3)
    own = alignment._Fit.around(pair[1], pair[1], region, (0, 0), IN_NUMPY)
    curvature, pull = own.at(np.zeros(4)).normal()
    np.testing.assert_allclose(curvature, own.own.real, rtol=1e-12, atol=1e-12 * np.abs(own.own).max())
    np.testing.assert_allclose(pull, 0, atol=1e-10 * np.abs(curvature).max())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"reconstruction": np.full((75, 90), np.nan + 0j)}, "reconstruction: .* 6750"),
        ({"reconstruction": np.zeros((75, 90), complex)}, "only zeros"),
        ({"reconstruction": np.ones((1, 75, 90), complex)}, r"reconstruction: .*shape \(1, 75, 90\)"),
        ({"region": (0, 76, 0, 90)}, r"inside \(75, 90\), found \(0, 76, 0, 90\)"),
        ({"region": (9, 9, 0, 90), "offset": None}, r"found \(9, 9, 0, 90\)"),
        ({"offset": (-80, 0)}, r"overlap with the region, found shape \(75, 90\) at offset \(-80, 0\)"),
    ],
)
def test_what_cannot_be_aligned_is_refused(change: dict, words: str, truth: np.ndarray) -> None:
    with pytest.raises(DataError, match=words):
        align(**{"reconstruction": truth, "truth": truth, **change})


def test_a_rough_correlation_ranks_without_a_fit(rng: np.random.Generator) -> None:
    truth = make_object("lines", (90, 80), rng).astype(np.complex128)
    crop = truth[10:70, 5:77] * plane((60, 72), 0.4, 0.01, 0.0)
    assert rough_correlation(crop, truth) == pytest.approx(1.0, abs=1e-5)
    assert rough_correlation(crop[::-1], truth) < 0.995
    assert rough_correlation(np.zeros_like(crop), truth) == 0
