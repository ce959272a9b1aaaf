"""The spread of objects that differ by noise: what is planted is found, and what is free does not count."""

from __future__ import annotations

import numpy as np
import pytest

from ptycho.core.quality.uncertainty import NOTHING_KNOWN_RAD, ObjectSpread, Uncertainty, without_gauge
from ptycho.errors import DataError

SHAPE = (57, 70)


def scene(rng: np.random.Generator) -> np.ndarray:
    return rng.uniform(0.4, 1.0, SHAPE) * np.exp(1j * rng.uniform(-1, 1, SHAPE))


def plane(turn: float, right: float, down: float) -> np.ndarray:
    y, x = (np.arange(size) / size for size in SHAPE)
    return np.exp(1j * (turn + right * x + down * y[:, None]))


def test_phase_plane_and_scale_are_taken_out_where_they_are_free(rng: np.random.Generator) -> None:
    image, light = scene(rng), rng.uniform(0, 1, SHAPE)
    np.testing.assert_allclose(without_gauge(1.2 * image * plane(2.5, 0.4, -0.3), image, light, free=True), image)
    np.testing.assert_allclose(without_gauge(image * plane(-3.0, 0, 0), image, light, free=False), image)


def test_a_held_probe_fixes_plane_and_scale(rng: np.random.Generator) -> None:
    image, light = scene(rng), np.ones(SHAPE)
    left = without_gauge(1.1 * image * plane(0.3, 0.2, 0), image, light, free=False)
    np.testing.assert_allclose(abs(left), 1.1 * abs(image))
    assert np.ptp(np.angle(left / image)) == pytest.approx(0.2, rel=0.02)


def test_planted_deviations_are_found_and_follow_the_light(rng: np.random.Generator) -> None:
    """Noise of the exit wave: as 1 over the root of the light, twice as strong across as along."""
    image, x = scene(rng), np.linspace(0.02, 1, SHAPE[1])
    light = np.broadcast_to(x, SHAPE)
    spread = ObjectSpread(image, light, free=True)
    for _ in range(6):
        along, across = rng.normal(size=(2, *SHAPE)) * 0.01 / np.sqrt(light)
        spread.add(image * (1 + (along + 2j * across) / abs(image)) * 1.3 * plane(1.0, 0.5, 0.5))
    amplitude, phase = spread.deviations()
    lit = light >= 0.05
    assert np.isnan(amplitude[~lit]).all() and np.isfinite(amplitude[lit]).all()
    for found, planted in ((amplitude, 0.01), (phase * abs(image), 0.02)):
        ratio = (found * np.sqrt(light) / planted)[lit]
        assert ratio.mean() == pytest.approx(1, abs=0.03)
        assert ratio.std() < 0.09  # a single pixel of six draws: 0.29


def test_of_a_phase_no_more_than_nothing_is_unknown(rng: np.random.Generator) -> None:
    image = scene(rng)
    image[20, 30] = 0
    spread = ObjectSpread(image, np.ones(SHAPE), free=False)
    for _ in range(3):
        spread.add(image + rng.normal(0, 0.01, SHAPE))
    assert spread.deviations()[1][20, 30] == pytest.approx(NOTHING_KNOWN_RAD)


def test_how_far_an_object_is_away_counts_in_deviations(rng: np.random.Generator) -> None:
    image, light = scene(rng), np.ones(SHAPE)

    def noisy() -> np.ndarray:
        return image + 0.01 * (rng.normal(size=SHAPE) + 1j * rng.normal(size=SHAPE))

    spread = ObjectSpread(image, light, free=False)
    for _ in range(6):
        spread.add(noisy())
    assert spread.moved(image * 1j) == pytest.approx(0, abs=1e-6)
    assert spread.moved(noisy()) == pytest.approx(1, abs=0.05)


def test_what_does_not_belong_together_is_refused() -> None:
    with pytest.raises(DataError, match="expected an object"):
        ObjectSpread(np.ones((3, 4), complex), np.ones((4, 3)), free=True)
    with pytest.raises(DataError, match="two maps of one shape"):
        Uncertainty(np.ones((3, 4), np.float32), np.ones((4, 3), np.float32), 4, 8, 0.1, 1.0, True)


def test_the_words_say_whether_the_numbers_hold() -> None:
    maps = np.array([[0.01, np.nan], [0.02, 0.03]], np.float32), np.array([[0.1, np.nan], [0.2, 0.3]], np.float32)
    good = Uncertainty(*maps, 4, 8, 0.1, 1.0, True, ("positions were held",))
    assert good.summary.startswith("amplitude 0.02, phase 0.2 rad (medians); 68 % of the pixels lie within")
    assert good.summary.endswith("; positions were held")
    bad = Uncertainty(*maps, 4, 8, 0.1, 1.5, False, ("why",))
    assert bad.summary.startswith("does not hold; of photon noise alone it would be amplitude 0.02")
    assert bad.summary.endswith("; why") and "68 %" not in bad.summary


def test_bars_of_a_pass_have_a_law_of_their_own() -> None:
    maps = np.full((2, 3), 0.02, np.float32), np.full((2, 3), 0.2, np.float32)
    known = Uncertainty(*maps, 2, 8, 0.1, 1.0, True, wide_amplitude=2.25, wide_phase=1.5, of="pass")
    assert known.summary.endswith(
        "68 % of the pixels lie within one such bar of the truth, 95 % within 2.25 (amplitude) and 1.50 (phase)"
    )
    assert known.method.startswith("how far the pass lies from its refinement")
    bad = Uncertainty(*maps, 2, 8, 0.1, 2.0, False, ("why",), of="pass")
    assert bad.summary.startswith("does not hold; were the model right it would be") and bad.summary.endswith("; why")
