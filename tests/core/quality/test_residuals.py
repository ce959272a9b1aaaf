"""Single patterns beside those predicted."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from ptycho.core.quality.residuals import residuals, telling_patterns
from ptycho.core.simulation.exposure import SimulatedScan
from ptycho.raw_data import RawData


@pytest.fixture
def truth(recorded: SimulatedScan) -> tuple[Any, ...]:
    """The true object, probe and positions."""
    return recorded.object, recorded.probe, (recorded.xcoords, recorded.ycoords)


def test_the_truth_predicts_what_was_measured(truth: tuple[Any, ...], patterns: RawData) -> None:
    made = residuals(*truth, [7, 0], patterns.amplitude, patterns.mask)
    assert [one.index for one in made] == [7, 0]
    for one in made:
        np.testing.assert_array_equal(one.measured, patterns.amplitude([one.index])[0])
        assert not one.measured[~one.valid].any() and not one.valid.all()
        gap = (one.measured - one.predicted)[one.valid]
        assert np.mean(np.square(gap)) < 0.3  # the root of a count varies by 1/4


def test_another_place_is_not_predicted(truth: tuple[Any, ...], patterns: RawData) -> None:
    right, wrong = residuals(*truth, [7, 8], patterns.amplitude, np.broadcast_to(patterns.mask, (49, 64, 64)))
    crossed = np.sum((right.measured - wrong.predicted)[right.valid] ** 2)
    assert crossed > 10 * np.sum((right.measured - right.predicted)[right.valid] ** 2)


def test_the_worst_and_the_median_are_the_telling_ones() -> None:
    trust = SimpleNamespace(ratio=np.array([1.0, 9.0, 3.0, 2.0, 5.0]))
    assert telling_patterns(trust, worst=1) == [1, 2]
    assert telling_patterns(SimpleNamespace(ratio=np.ones(1))) == [0]
