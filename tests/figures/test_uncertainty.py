"""The two maps of error bars: one each, of what is known, and with a word where they do not hold."""

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.figure import Figure

from ptycho.core.geometry import ObjectFrame
from ptycho.core.quality.uncertainty import Uncertainty
from ptycho.core.reconstruction import Reconstruction
from ptycho.figures.reconstruction import summary_figure
from ptycho.figures.uncertainty import deviation_maps, draw_uncertainty

SHAPE = (24, 30)


@pytest.fixture
def known(rng: np.random.Generator) -> Uncertainty:
    amplitude, phase = rng.uniform(0.01, 0.02, (2, *SHAPE)).astype(np.float32)
    amplitude[:3] = phase[:3] = np.nan
    return Uncertainty(amplitude, 2 * phase, 4, 8, 0.2, 1.0, True)


def test_colours_span_what_is_known(known: Uncertainty) -> None:
    (_, _, unit, first), (_, values, _, second) = deviation_maps(known)
    assert unit == "standard deviation" and values is known.phase
    assert first[0] == 0 and 0.018 < first[1] < 0.02 and 0.036 < second[1] < 0.04


@pytest.mark.usefixtures("pictures")
def test_both_maps_have_a_title_and_a_bar(known: Uncertainty) -> None:
    panels = (figure := Figure()).subplots(1, 2)
    draw_uncertainty(panels, known)
    assert [axes.get_title() for axes in panels] == ["Uncertainty of the amplitude", "Uncertainty of the phase"]
    assert panels[0].images[0].get_array().mask[:3].all()
    assert len(figure.axes) == 2 and all(len(axes.child_axes) == 1 for axes in panels)
    draw_uncertainty(panels, replace(known, holds=False))
    assert all(axes.get_title().endswith("(does not hold)") for axes in panels)


@pytest.mark.usefixtures("pictures")
def test_they_stand_beside_the_object_on_the_sheet(known: Uncertainty, rng: np.random.Generator) -> None:
    found = Reconstruction(
        object=rng.uniform(0.5, 1, SHAPE).astype(np.complex64),
        coverage=np.ones(SHAPE, np.float32),
        probe=np.ones((1, 8, 8), np.complex64),
        xcoords=np.array([5.0, 20.0]),
        ycoords=np.array([5.0, 18.0]),
        frame=ObjectFrame(*SHAPE, 0, 0),
        backend="numpy",
        method="refined",
        subpixel="fourier",
        network_object=None,
        error_history=(),
        timings={},
        synchronised=False,
        agreement=(float("nan"), float("nan")),
        uncertainty=replace(known, holds=False),
    )
    titles = [axes.get_title() for axes in summary_figure(found).axes]
    assert titles[-4:] == [
        *("Amplitude, refined", "Uncertainty of the amplitude (does not hold)"),
        *("Phase, refined", "Uncertainty of the phase (does not hold)"),
    ]
