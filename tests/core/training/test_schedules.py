"""The learning rate over a training, by hand and with a clock that tests wind."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from ptycho.core.training.schedules import WARMUP, one_cycle


def half_cosine(progress: float) -> float:
    return 0.5 * (1 + np.cos(np.pi * (progress - WARMUP) / (1 - WARMUP)))


def test_one_cycle_by_hand() -> None:
    factor = one_cycle(steps=9)
    assert [factor(0), factor(1), factor(5), factor(8)] == pytest.approx([0.5, 1.0, 0.5, half_cosine(0.9)], rel=1e-12)
    assert factor(9) == pytest.approx(0, abs=1e-15)
    assert factor(20) == pytest.approx(0, abs=1e-15)


@pytest.mark.parametrize("steps", [1, 7, 100])
def test_one_cycle_rises_then_falls_and_no_step_is_lost(steps) -> None:
    factor = one_cycle(steps)
    found = np.array([factor(step) for step in range(steps)])
    assert (found > 0).all()
    assert (found <= 1).all()
    top = int(found.argmax())
    assert (np.diff(found[: top + 1]) > 0).all()
    assert (np.diff(found[top:]) < 0).all()
    assert top <= WARMUP * (steps + 1)


def wound(*times: float) -> Iterator[float]:
    yield from times


def test_a_training_that_time_ends_gets_its_whole_cycle() -> None:
    """The clock starts with the first call, at 1000 s; 10 s are allowed, and the steps would never end."""
    times = wound(1000, 1000, 1001, 1002, 1006, 1010, 1025)
    factor = one_cycle(10**9, max_seconds=10.0, clock=lambda: next(times))
    found = [factor(step) for step in range(6)]
    assert found == pytest.approx([0, 0.5, 1, 0.5, 0, 0], abs=1e-8)


def test_whichever_is_further_counts() -> None:
    times = wound(0, 0, 1, 9)
    factor = one_cycle(9, max_seconds=10.0, clock=lambda: next(times))
    assert factor(5) == pytest.approx(0.5)
    assert factor(5) == pytest.approx(0.5)
    assert factor(5) == pytest.approx(half_cosine(0.9))


def test_without_a_limit_time_does_not_matter() -> None:
    times = wound(0, 1e9, 2e9)
    factor = one_cycle(9, clock=lambda: next(times))
    assert factor(0) == pytest.approx(0.5)
    assert factor(0) == pytest.approx(0.5)
