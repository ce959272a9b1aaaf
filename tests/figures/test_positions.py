"""Arrows of positions: as long as they are, or longer by a factor that is said."""

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.quiver import Quiver

from ptycho.figures.positions import draw_displacements, enlargement

X, Y = (each.ravel().astype(float) for each in np.meshgrid(np.arange(0, 101, 10), np.arange(0, 51, 10)))


@pytest.mark.parametrize(("pixels", "factor"), [(0.0, 1), (0.1, 100), (1.0, 10), (4.0, 2), (40.0, 1)])
def test_small_displacements_are_enlarged_to_be_seen(pixels: float, factor: int) -> None:
    """10 % of 100 pixels are 10."""
    assert enlargement(X, Y, np.full((len(X), 2), [pixels, 0.0])) == factor


def test_arrows_go_where_positions_went_with_y_down() -> None:
    axes = Figure().subplots()
    shift = np.full((len(X), 2), [0.0, 3.0])
    draw_displacements(axes, X, Y, shift, np.zeros_like(shift))
    (arrows,) = (each for each in axes.collections if isinstance(each, Quiver))
    assert (arrows.U == 0).all() and (arrows.V == 6).all()  # twice as long
    low, high = axes.get_ylim()
    assert low > high
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["found"]
