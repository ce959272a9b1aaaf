"""Curves say what they show, in one unit at a time."""

from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ptycho.core.quality.ring_correlation import FrcCurve
from ptycho.figures.curves import draw_correlation, draw_errors, draw_ratios, ratio_limits
from ptycho.figures.drawing import png_bytes


@pytest.fixture
def axes() -> Axes:
    return Figure().subplots()


def test_errors_of_counts_are_a_curve_of_their_own(axes: Axes) -> None:
    draw_errors(axes, (0.4, 0.1, 0.0105, 0.0085, 0.008), counts_from=3)
    amplitudes, counts = axes.lines
    assert (list(amplitudes.get_xdata()), list(amplitudes.get_ydata())) == ([0, 1, 2], [0.4, 0.1, 0.0105])
    assert (list(counts.get_xdata()), list(counts.get_ydata())) == ([3, 4], [0.0085, 0.008])
    assert axes.get_title() == "Error of amplitudes: 0.4 to 0.0105,\nthen of counts: 0.0085 to 0.008"
    assert axes.get_legend() is None


@pytest.mark.parametrize(("counts_from", "name"), [(None, "amplitudes"), (0, "counts")])
def test_errors_of_one_kind_are_named_in_the_title(axes: Axes, counts_from: int | None, name: str) -> None:
    draw_errors(axes, (0.4, 0.1), counts_from)
    assert axes.get_title() == f"Error of {name}: 0.4 to 0.1"
    assert len(axes.lines) == 1 and axes.get_legend() is None


@pytest.mark.parametrize(("threshold", "level"), [("half-bit", 1 / 7), ("one-bit", 0.5)])
def test_a_correlation_has_the_threshold_of_its_kind(axes: Axes, threshold: str, level: float) -> None:
    curve = FrcCurve(np.array([0.0, 0.25, 0.5]), np.array([1.0, 0.9, 0.1]), np.array([1, 90, 200]))
    draw_correlation(axes, curve, threshold, 0.4)
    correlation, limit, straight, cutoff = axes.lines
    assert list(correlation.get_ydata()) == [0.9, 0.1]
    expected = curve.half_bit() if threshold == "half-bit" else curve.one_bit()
    np.testing.assert_array_equal(limit.get_ydata(), expected[1:])
    assert straight.get_ydata()[0] == level and cutoff.get_xdata()[0] == 0.4


def test_a_million_ratios_can_be_drawn(axes: Axes) -> None:
    """Agg refuses a band through so many."""
    ratio = np.linspace(0.9, 1.1, 1_000_000)
    ratio[7] = 40.0
    known = {"deviation": np.full(len(ratio), 0.1), "expected": np.ones(len(ratio)), "outliers": np.array([7])}
    draw_ratios(axes, SimpleNamespace(ratio=ratio, **known))  # type: ignore[arg-type]
    assert png_bytes(axes.figure, dpi=40)
    assert axes.get_ylim()[1] > 40.0 and [text.get_text() for text in axes.texts] == ["7"]


def test_the_limits_of_ratios_hold_one() -> None:
    assert ratio_limits(np.full(100, 5.0)) == (0.8, 5.0)
    assert ratio_limits(np.full(100, 0.5)) == (0.5, 2.0)
