"""Priors: known values, gradients and curvatures as differences, projections that change nothing twice."""

import numpy as np
import pytest

from ptycho.core.geometry import ObjectFrame
from ptycho.core.refinement.priors.object_prior import (
    PRIORS,
    SMOOTH,
    Absorbing,
    Belief,
    FewPixels,
    Near,
    ObjectPrior,
    PurePhase,
    Sample,
    Support,
    TotalVariation,
)
from ptycho.errors import ConfigError

SHAPE = (7, 10)
INSIDE = np.indices(SHAPE).sum(axis=0) % 3 > 0
NEAR = Near(np.full(SHAPE, 1 + 0j), np.where(INSIDE, 0.7, 0.0))
ALL = {**{name: made() for name, made in PRIORS.items()}, "support": Support(INSIDE), "network": NEAR}
SETS = {name: prior for name, prior in ALL.items() if hasattr(prior, "projected")}


@pytest.fixture
def image(rng) -> np.ndarray:
    """Moduli well above and below 1, differences above and below the smoothing."""
    values = 1 + 0.4 * (rng.standard_normal(SHAPE) + 1j * rng.standard_normal(SHAPE))
    values[2:5, 3:7] = 0.8 + 0.1j
    return values


@pytest.mark.parametrize("name", ALL)
def test_gradients_and_curvatures_are_differences_of_the_value(name, image, rng) -> None:
    prior, step = ALL[name], 1e-5
    move = rng.standard_normal(SHAPE) + 1j * rng.standard_normal(SHAPE)
    values, gradient = prior.gradient(image)
    (above, up), (below, down) = (prior.gradient(image + sign * step * move) for sign in (1, -1))
    assert values.sum() > 0 and values.shape == gradient.shape == SHAPE
    assert 2 * np.vdot(gradient, move).real == pytest.approx((above - below).sum() / (2 * step), rel=1e-6)
    if name in ("tv", "l1", "support", "network"):  # the others have that of Gauss and Newton
        along = prior.curvature(image, move).sum()
        assert along == pytest.approx(np.vdot(up - down, move).real / (2 * step), rel=1e-5)


@pytest.mark.parametrize("name", ["absorbing", "phase"])
def test_curvatures_of_moduli_are_those_along_a_change_of_modulus(name, image, rng) -> None:
    prior, step = ALL[name], 1e-5
    phase = np.exp(1j * np.angle(image))
    move = rng.standard_normal(SHAPE) * phase
    (_, up), (_, down) = (prior.gradient(image + sign * step * move) for sign in (1, -1))
    along = prior.curvature(image, move).sum()
    assert along == pytest.approx(np.vdot(up - down, move).real / (2 * step), rel=1e-5)
    assert prior.curvature(image, 1j * phase) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("name", ALL)
def test_weights_bound_the_curvature_of_single_pixels(name, image) -> None:
    along, round_ = ALL[name].weights(image)
    for place in ((0, 0), (3, 5), (6, 9)):
        for weight, turn in ((along, 1), (round_, 1j)):
            move = np.zeros(SHAPE, complex)
            move[place] = turn * image[place] / abs(image[place])
            assert 0 <= 2 * ALL[name].curvature(image, move).sum() <= weight[place] * (1 + 1e-12) + 1e-30


@pytest.mark.parametrize("name", SETS)
def test_projections_change_nothing_twice(name, image) -> None:
    image[0, 0] = 0
    once = SETS[name].projected(image)
    np.testing.assert_allclose(SETS[name].projected(once), once, rtol=1e-15)
    values, gradient = SETS[name].gradient(once)
    assert values == pytest.approx(0, abs=1e-28) and abs(gradient).max() < 1e-15
    assert SETS[name].gradient(image)[0] == pytest.approx(abs(image - once) ** 2)


def value(prior, image) -> float:
    return float(prior.gradient(image)[0].sum())


def test_values_by_hand() -> None:
    step = np.ones((3, 4), complex)
    step[:, 2:] += 0.3
    assert value(TotalVariation(), step) == pytest.approx(3 * (np.hypot(0.3, SMOOTH) - SMOOTH))
    assert value(FewPixels(), step) == pytest.approx(6 * (np.hypot(0.3, SMOOTH) - SMOOTH))
    assert value(Absorbing(), step) == value(PurePhase(), step) == pytest.approx(6 * 0.3**2)
    assert value(Absorbing(), step / 2) == 0
    assert value(Support(np.ones((3, 4), bool)), step) == 0
    assert value(Support(np.zeros((3, 4), bool)), step) == pytest.approx(6 * 0.3**2)
    away = np.array([[1.0, 1 + 2j], [0.5, 1j]])
    assert value(Near(np.ones((2, 2), complex), np.array([[3.0, 1.0], [4.0, 0.0]])), away) == pytest.approx(4 + 1)
    assert all(value(prior, np.ones(SHAPE, complex)) == 0 for prior in ALL.values())


@pytest.mark.parametrize("name", ALL)
def test_rows_of_an_object_know_what_the_whole_knows_but_in_the_outermost(name, image) -> None:
    """What strips of an object are cut by: nothing sees farther than the next row."""
    frame = ObjectFrame(*SHAPE, 0, 0)
    beliefs = {"support": Sample(INSIDE, frame), "network": Belief(NEAR.mean, NEAR.weight, frame)}
    few = ObjectFrame(4, SHAPE[1], 0, 2)
    part = beliefs[name].on(few) if name in beliefs else ALL[name]
    part = Support(part) if name == "support" else part
    for found, expected in (
        (part.gradient(image[2:6]), ALL[name].gradient(image)),
        ([part.curvature(image[2:6], 1j * image[2:6])], [ALL[name].curvature(image, 1j * image)]),
        (part.weights(image[2:6]), ALL[name].weights(image)),
    ):
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_array_equal(one[1:-1], other[3:5])


@pytest.mark.parametrize("name", ALL)
def test_single_precision_stays(name, image) -> None:
    single = image.astype(np.complex64)
    assert ALL[name].gradient(single)[1].dtype == np.complex64
    assert all(weight.dtype == np.float32 for weight in ALL[name].weights(single))


def test_a_sample_is_cut_to_any_frame() -> None:
    sample = Sample(np.arange(12).reshape(3, 4) % 5 == 0, ObjectFrame(3, 4, 10, 20))
    np.testing.assert_array_equal(sample.on(ObjectFrame(3, 4, 10, 20)), sample.inside)
    larger = sample.on(ObjectFrame(6, 9, 8, 19))
    np.testing.assert_array_equal(larger[1:4, 2:6], sample.inside)
    assert larger.sum() == sample.inside.sum()
    np.testing.assert_array_equal(sample.on(ObjectFrame(2, 2, 12, 21)), sample.inside[1:, 2:])
    assert not sample.on(ObjectFrame(5, 5, 100, 100)).any() and not sample.on(ObjectFrame(5, 5, -90, 0)).any()


def test_a_belief_is_cut_to_any_frame_and_says_nothing_beyond() -> None:
    belief = Belief(np.arange(6).reshape(2, 3) * 1j, np.ones((2, 3)), ObjectFrame(2, 3, 5, 7))
    near = belief.on(ObjectFrame(3, 3, 6, 6))
    np.testing.assert_array_equal(near.mean, [[0, 0, 0], [1j, 2j, 0], [4j, 5j, 0]])
    np.testing.assert_array_equal(near.weight, [[0, 0, 0], [1, 1, 0], [1, 1, 0]])


def test_what_cannot_be_known_is_refused() -> None:
    sample = Sample(np.ones((2, 2), bool), ObjectFrame(2, 2, 0, 0))
    for name, strength, inside, said in (
        ("flat", 1.0, None, "object_prior: expected one of tv, l1, absorbing, phase, support, network, found 'flat'"),
        ("tv", -1.0, None, "prior_strength: expected a number from 0 on, found -1.0"),
        ("support", 1.0, None, "object_prior: expected a sample with 'support' alone"),
        ("tv", 1.0, sample, "object_prior: expected a sample with 'support' alone"),
        ("network", 1.0, None, "object_prior: expected a belief with 'network' alone"),
    ):
        with pytest.raises(ConfigError, match=said):
            ObjectPrior(name, strength, inside)  # type: ignore[arg-type]
