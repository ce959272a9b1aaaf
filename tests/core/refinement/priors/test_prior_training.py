"""Training from photons that were not seen: derivatives, a planted optimum, time and seed."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import count

import numpy as np
import pytest

from ptycho.core.refinement.priors.network_prior import features, in_eights
from ptycho.core.refinement.priors.prior_training import Lesson, slope_of, taught
from ptycho.core.refinement.priors.prior_unet import shapes, unet

NOISE = 0.2


@pytest.fixture
def still() -> dict[str, np.ndarray]:
    """A network that gives what its last bias says, alone."""
    return {name: np.zeros(shape, np.float32) for name, shape in shapes().items()}


def lesson(
    rng: np.random.Generator, shape: tuple[int, int] = (16, 16), shift: float = 0.0, noise: float = NOISE
) -> Lesson:
    """An object of 1, seen with noise and brighter by `shift` times it; the other half sees 1 with noise of its own."""
    first, second = (noise * (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)) / 2**0.5 for _ in range(2))
    other = 1 + second
    ones = np.ones(shape)
    return Lesson(1 + shift * NOISE + first, NOISE * ones, 9 * ones, ones > 0, lambda image: image - other)


def steps(number: int) -> Iterator[float]:
    """A clock by which so many steps take a second."""
    return (k / number for k in count())


@pytest.mark.parametrize(("turns", "mirrored"), [(0, False), (1, True), (3, False)])
def test_the_derivative_is_that_of_the_error(rng, turns: int, mirrored: bool) -> None:
    """Of `sum |m - B|^2`, whatever way up the network sees it, on sides that are not by 8; dark pixels say nothing."""
    weights = {name: 0.1 * rng.standard_normal(shape) for name, shape in shapes().items()}
    made = lesson(rng, (12, 21), shift=0.3)
    made = replace(made, lit=rng.random((12, 21)) < 0.8)
    other = made.image - made.pull(made.image)

    def error(values: dict[str, np.ndarray]) -> float:
        seen, turn = features(made.image, made.sigma, made.sharing)
        seen = in_eights(seen)
        seen = np.rot90(seen[:, :, ::-1] if mirrored else seen, turns, axes=(1, 2)).astype(float)
        given = np.rot90(unet(values, np.ascontiguousarray(seen)), -turns, axes=(1, 2))
        real, imaginary, _ = (given[:, :, ::-1] if mirrored else given)[:, :12, :21]
        mean = made.image + made.sigma * turn * made.lit * (real + 1j * imaginary)
        return float(np.sum(abs(mean - other) ** 2))

    found = slope_of(weights, made, turns, mirrored)
    for name in ("head/bias", "head/kernel", "encoder/0/conv1/kernel", "decoder/1/conv2/bias"):
        move = 1e-4 * rng.standard_normal(weights[name].shape)
        ends = [error({**weights, name: weights[name] + sign * move}) for sign in (1, -1)]
        assert np.sum(found[name] * move) == pytest.approx((ends[0] - ends[1]) / 2, rel=1e-3), name


def test_it_finds_the_optimum_that_the_other_half_says(still, rng) -> None:
    """All of 0 but for the last bias the network adds a number; what is best is known: less what is too bright."""
    clock = steps(130)
    found, made = taught(still, lambda drawn: lesson(drawn, (8, 16), 0.05, 0.05), 1.0, clock=lambda: next(clock))
    assert made == 130
    real, imaginary, _ = found["head/bias"]
    assert real == pytest.approx(-0.05, abs=0.01) and abs(imaginary) < 0.01
    assert all(not found[name].any() for name in found if not name.startswith("head"))


def test_noise_that_is_alike_is_not_noise(still) -> None:
    """What both halves have is kept: the other half sees the same object with the same noise."""

    def same(drawn: np.random.Generator) -> Lesson:
        made = lesson(drawn)
        image = made.image
        return replace(made, pull=lambda mean: mean - image)

    clock = steps(5)
    found, _ = taught(still, same, 1.0, clock=lambda: next(clock))
    assert not any(values.any() for values in found.values())


def test_a_seed_says_it_all_and_what_is_given_stays(still) -> None:
    before = {name: values.copy() for name, values in still.items()}

    def after(seed: int) -> np.ndarray:
        clock = steps(3)
        return taught(still, lesson, 1.0, seed, clock=lambda: next(clock))[0]["head/bias"]

    np.testing.assert_array_equal(after(1), after(1))
    assert not np.array_equal(after(1), after(2))
    assert all(np.array_equal(still[name], before[name]) for name in still)


def test_one_step_is_made_in_no_time(still) -> None:
    assert taught(still, lesson, 0.0)[1] == 1
