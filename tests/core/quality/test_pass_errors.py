"""Bars of a network's pass: planted errors, heavier in their tails than noise, are within as often as they say."""

from __future__ import annotations

import numpy as np
import pytest

from ptycho.core.quality.pass_errors import Drawn, PassErrors
from ptycho.errors import DataError

SHAPE = (90, 110)
COMMON, NOISE = 0.7, 0.02


def scene(rng: np.random.Generator) -> np.ndarray:
    return rng.uniform(0.4, 1.0, SHAPE) * np.exp(1j * rng.uniform(-1, 1, SHAPE))


def heavy(rng: np.random.Generator) -> np.ndarray:
    """A pass's own error: Laplace, four times as strong on the right as on the left, twice as strong across."""
    strong = np.linspace(0.01, 0.04, SHAPE[1])
    along, across = rng.laplace(size=(2, *SHAPE)) * strong
    return along + 2j * across


def noise(rng: np.random.Generator) -> np.ndarray:
    return NOISE * (rng.normal(size=SHAPE) + 1j * rng.normal(size=SHAPE))


def made_of(truth: np.ndarray, rng: np.random.Generator, own: float) -> tuple[np.ndarray, np.ndarray]:
    """A pass of a truth, with some of its own error and a part of the noise, and a refinement, with all of that."""
    unit, drawn = truth / abs(truth), noise(rng)
    return truth + unit * (own * heavy(rng) + COMMON * drawn), truth + unit * drawn


def drawn_from(truth: np.ndarray, rng: np.random.Generator, own: float) -> Drawn:
    """A draw of which the upper half alone is known: a part of the scan."""
    part = np.zeros(SHAPE, bool)
    part[: SHAPE[0] // 2] = True
    return Drawn(truth, *made_of(truth, rng, own), np.ones(SHAPE), part)


def plane(turn: float, right: float) -> np.ndarray:
    return np.exp(1j * (turn + right * np.arange(SHAPE[1]) / SHAPE[1]))


@pytest.mark.parametrize(("own", "tails"), [(0.0, (1.96, 1.96)), (0.5, (2.1, 2.35)), (1.0, (2.25, 2.5))])
def test_as_many_errors_lie_within_the_bars_as_they_say(
    rng: np.random.Generator, own: float, tails: tuple[float, float]
) -> None:
    truth, light = scene(rng), np.ones(SHAPE)
    passed, refined = made_of(truth, rng, own)
    again = refined + truth / abs(truth) * noise(rng)
    errors = PassErrors(passed, refined * plane(0.4, 0.3), light)
    bars = errors.bars(again, drawn_from(errors.nearest(again), rng, own))
    assert errors.moved(refined * plane(-1.0, 0.1), bars) < 1e-3
    along, phase = abs(abs(passed) - abs(truth)), abs(np.angle(passed * truth.conj()))
    found = (along, bars.amplitude, bars.wide_amplitude), (phase, bars.phase, bars.wide_phase)
    for (error, bar, wide), heavier in zip(found, tails, strict=True):
        assert np.mean(error < bar) == pytest.approx(0.68, abs=0.03)
        assert np.mean(error < wide * bar) == pytest.approx(0.95, abs=0.02)
        assert wide == pytest.approx(heavier, abs=0.12)
    if own:  # bars follow the errors across the field
        assert np.median(bars.amplitude[:, -20:]) > 1.2 * np.median(bars.amplitude[:, :20])


def test_a_pass_of_no_error_of_its_own_is_no_surer_than_its_noise(rng: np.random.Generator) -> None:
    truth = scene(rng)
    passed, refined = made_of(truth, rng, 0.0)
    again = refined + truth / abs(truth) * noise(rng)
    bars = PassErrors(passed, refined, np.ones(SHAPE)).bars(again, drawn_from(truth, rng, 0.0))
    assert np.median(bars.amplitude) == pytest.approx(COMMON * NOISE, rel=0.05)
    assert bars.noise == pytest.approx(1 / COMMON, rel=0.05)


def test_bars_are_in_the_unit_of_the_pass(rng: np.random.Generator) -> None:
    truth, light = scene(rng), np.ones(SHAPE)
    passed, refined = made_of(truth, rng, 1.0)
    again, drawn = refined + noise(rng), drawn_from(truth, rng, 1.0)
    plain, darker = (PassErrors(scale * passed, refined, light).bars(again, drawn) for scale in (1.0, 0.8))
    np.testing.assert_allclose(darker.amplitude, 0.8 * plain.amplitude, rtol=1e-4)
    np.testing.assert_allclose(darker.phase, plain.phase, rtol=1e-4)
    assert darker.noise == pytest.approx(plain.noise, rel=1e-4)


def test_the_nearest_object_lies_between_pass_and_reference(rng: np.random.Generator) -> None:
    """A pass that smooths away all structure is no truth, one that knows more than the counts nearly is."""
    truth, light = scene(rng), np.ones(SHAPE)
    unit = truth / abs(truth)
    refined = truth + unit * noise(rng)
    again = refined + unit * noise(rng)
    far, near = (np.asarray(truth + unit * size * heavy(rng)) for size in (10.0, 0.01))
    for passed, limit in ((far, 1.01), (near, 0.75)):
        found = PassErrors(passed, refined, light).nearest(again)
        assert np.std(found - truth) < limit * np.std(refined - truth)


def test_nothing_is_said_without_light(rng: np.random.Generator) -> None:
    truth = scene(rng)
    passed, refined = made_of(truth, rng, 1.0)
    light, within = np.ones(SHAPE), np.ones(SHAPE, bool)
    light[:10], within[:, :7] = 0.01, False
    bars = PassErrors(passed, refined, light, within).bars(refined + noise(rng), drawn_from(truth, rng, 1.0))
    assert np.isnan(bars.amplitude[:10]).all() and np.isnan(bars.phase[:, :7]).all()
    assert np.isfinite(bars.amplitude[10:, 7:]).all()
    with pytest.raises(DataError, match="of one shape"):
        PassErrors(passed, refined[1:], light)
